//! Errors of reading and changing settings.

use std::path::PathBuf;

use edge_net_core::trust::signature::PinnedKeysError;

use crate::config::origin::Origin;
use crate::files::FileError;

/// The settings cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The configuration file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A setting has an invalid name or value.
    #[error("{origin}: {problem}")]
    Setting {
        /// The place where it is set.
        origin: Origin,
        /// The setting and its fault.
        problem: String,
    },
    /// There is no home folder, so there is no default folder.
    #[error("HOME is not set, so there is no default folder for {what}; {cure}")]
    NoHome {
        /// The content of the folder.
        what: &'static str,
        /// What the user can do.
        cure: &'static str,
    },
    /// The file's notation does not let one setting change alone.
    #[error("{path}: {key} cannot be changed without rewriting other lines; edit the file by hand")]
    NotEditable {
        /// The configuration file.
        path: PathBuf,
        /// The setting.
        key: String,
    },
    /// The pinned keys are invalid.
    #[error(transparent)]
    Keys(#[from] PinnedKeysError),
}

impl ConfigError {
    /// A fault of a setting from `origin`.
    pub fn setting(origin: &Origin, problem: impl Into<String>) -> Self {
        Self::Setting { origin: origin.clone(), problem: problem.into() }
    }
}
