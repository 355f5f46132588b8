//! Records of the newest accepted version of each model. They prevent rollbacks: a source cannot
//! present an older manifest as the newest one, even if its signature is valid.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use edge_net_core::time::UnixTime;
use edge_net_core::trust::signature::{Floor, VerifiedManifest};
use semver::Version;
use serde_json::{Value, json};

use crate::config::{ConfigError, state_directory};
use crate::files::{FileError, of_file, replace};

/// A record cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum AcceptedError {
    /// The file of the record cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is no folder for records.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The content of the record is invalid.
    #[error(
        "{0} is not a valid record of accepted versions, which prevent rollbacks; remove the file \
         only if you know why it is damaged"
    )]
    Invalid(PathBuf),
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
    /// [`AcceptedError::File`] and [`AcceptedError::Invalid`].
    pub fn read(&self, id: &str) -> Result<Option<Floor>, AcceptedError> {
        let path = self.path(id);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(of_file(&path)(error).into()),
        };
        // An invalid record is an error: whoever damaged it may want it to be ignored.
        floor(&text).map(Some).ok_or(AcceptedError::Invalid(path))
    }

    /// Updates the record of a model after a manifest was accepted. Nothing in a record ever goes
    /// down.
    ///
    /// # Errors
    /// [`AcceptedError::File`].
    pub fn raise(
        &self,
        id: &str,
        before: Option<&Floor>,
        manifest: &VerifiedManifest,
    ) -> Result<(), AcceptedError> {
        let mut floor = manifest.floor();
        if let Some(before) = before {
            floor.version = floor.version.max(before.version.clone());
            floor.timestamp = floor.timestamp.max(before.timestamp);
            let replaced = manifest.floor().replaced;
            let lost = before.replaced.iter().filter(|key| !replaced.contains(key));
            floor.replaced.extend(lost.cloned());
        }
        if before == Some(&floor) {
            return Ok(());
        }
        let Floor { version, timestamp, replaced } = floor;
        let (version, timestamp) = (version.to_string(), timestamp.as_millis());
        let record = json!({ "version": version, "timestamp": timestamp, "replaced": replaced });
        Ok(replace(&self.path(id), record.to_string().as_bytes())?)
    }
}

/// Parses a record.
fn floor(text: &str) -> Option<Floor> {
    let value: Value = serde_json::from_str(text).ok()?;
    let replaced = value["replaced"].as_array()?.iter().map(|key| key.as_str().map(str::to_owned));
    Some(Floor {
        version: Version::parse(value["version"].as_str()?).ok()?,
        timestamp: UnixTime::from_millis(value["timestamp"].as_u64()?),
        replaced: replaced.collect::<Option<_>>()?,
    })
}
