//! Records of the newest accepted version of each model. They prevent rollbacks: a source cannot
//! present an older manifest as the newest one, even if its signature is valid.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use edge_net_core::trust::signature::Floor;

use crate::config::{ConfigError, state_directory};
use crate::files::{FileError, of_file, replace};

/// A record cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum AcceptedError {
    /// There is no folder for records.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The record cannot be read or written.
    #[error(
        "{0}; accepted versions are recorded there to prevent rollbacks: set XDG_STATE_HOME to a \
         folder that you can write, or name a --version"
    )]
    Unusable(FileError),
    /// The content of the record is invalid.
    #[error(
        "{0} is not a valid record of accepted versions, which prevent rollbacks; remove the file \
         only if you know why it is damaged"
    )]
    Invalid(PathBuf),
}

impl AcceptedError {
    /// Returns whether somebody may have damaged a record to make a client forget it.
    pub const fn is_suspicious(&self) -> bool {
        matches!(self, Self::Invalid(_))
    }
}

/// The folder of the records.
pub struct AcceptedVersions {
    folder: PathBuf,
}

impl AcceptedVersions {
    /// Returns the records of this user.
    ///
    /// # Errors
    /// [`AcceptedError::Config`] when there is no home folder.
    pub fn open() -> Result<Self, AcceptedError> {
        Ok(Self { folder: state_directory()?.join("accepted") })
    }

    fn path(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }

    /// Reads the record of a model; `None` when no version was accepted before.
    ///
    /// # Errors
    /// [`AcceptedError::Unusable`] and [`AcceptedError::Invalid`].
    pub fn read(&self, id: &str) -> Result<Option<Floor>, AcceptedError> {
        let path = self.path(id);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(AcceptedError::Unusable(of_file(&path)(error))),
        };
        // An invalid record is an error: whoever damaged it may want it to be ignored.
        Floor::from_json(&text).map(Some).ok_or(AcceptedError::Invalid(path))
    }

    /// Updates the record of a model after a manifest was accepted: `floor` is the new record,
    /// `before` the old one.
    ///
    /// # Errors
    /// [`AcceptedError::Unusable`].
    pub fn raise(
        &self,
        id: &str,
        before: Option<&Floor>,
        floor: Option<&Floor>,
    ) -> Result<(), AcceptedError> {
        match floor {
            Some(floor) if before != Some(floor) => {
                replace(&self.path(id), floor.to_json().as_bytes()).map_err(AcceptedError::Unusable)
            }
            _ => Ok(()),
        }
    }
}
