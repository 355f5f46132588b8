//! The cache of pulled models: one folder for each version, `<cache>/<id>/v<version>/`.
//!
//! The manifest is written last. A folder without a manifest is an incomplete download.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use edge_net_core::time::UnixTime;
use edge_net_core::transfer::eviction::{Kept, victims};
use edge_net_core::trust::manifest::is_id;
use edge_net_core::trust::newest::rank;
use indicatif::DecimalBytes;
use semver::Version;

use crate::config::{ConfigError, Settings};
use crate::document::MANIFEST;
use crate::files::{FileError, of_file};
use crate::lock::Lock;
use crate::staging;

/// The cache cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// A file or folder cannot be read or removed.
    #[error(transparent)]
    File(#[from] FileError),
    /// Nothing can be written there, and the model is not complete.
    #[error(
        "{0}; to pull into a folder of your own, give --output FOLDER, or set cache.directory to \
         such a folder"
    )]
    Unwritable(FileError),
    /// The size limit leaves no room for a model.
    #[error(
        "the cache has no room for {}: {} of {} are used{}; raise cache.maxSize, or pull with \
         --output",
        DecimalBytes(*need),
        DecimalBytes(*used),
        DecimalBytes(*limit),
        if *cleanup { "" } else {
            ", and cache.autoCleanup is off: `cache prune` and `cache clear` remove models"
        }
    )]
    NoRoom {
        /// Bytes of the model.
        need: u64,
        /// Bytes of the other models in the cache.
        used: u64,
        /// The limit, in bytes.
        limit: u64,
        /// Whether old models may be removed.
        cleanup: bool,
    },
}

/// The cache.
pub struct Cache {
    /// The folder of all models, if one is known.
    root: Option<PathBuf>,
}

/// A version of a model in the cache, complete or not.
pub struct Entry {
    /// Identifier of the model.
    pub id: String,
    /// The version.
    pub version: Version,
    /// The folder of the version.
    pub folder: PathBuf,
    /// Bytes on disk.
    pub bytes: u64,
    /// Time of the last use.
    pub used: SystemTime,
    /// Whether the download is complete.
    pub complete: bool,
}

/// The size limit of the cache.
#[derive(Clone, Copy)]
pub struct Limit {
    /// The limit, in bytes.
    pub bytes: u64,
    /// Whether old models may be removed to stay within the limit.
    pub cleanup: bool,
}

impl Limit {
    /// Returns the limit in the settings.
    pub const fn of(settings: &Settings) -> Self {
        Self { bytes: settings.cache_max_size.0, cleanup: settings.cache_auto_cleanup }
    }
}

impl Cache {
    /// Returns the cache that the settings name.
    pub fn new(settings: &Settings) -> Self {
        Self { root: settings.cache_directory.clone() }
    }

    /// Returns the folder of all models.
    ///
    /// # Errors
    /// [`ConfigError::NoHome`] when none is set, and there is no home folder.
    pub fn root(&self) -> Result<&Path, ConfigError> {
        self.root.as_deref().ok_or(ConfigError::NoHome {
            what: "pulled models",
            cure: "give --set cache.directory=FOLDER, or pull with --output FOLDER",
        })
    }

    /// Returns the folder of a version, which need not exist.
    ///
    /// # Errors
    /// See [`Self::root`].
    pub fn folder(&self, id: &str, version: &Version) -> Result<PathBuf, ConfigError> {
        Ok(self.root()?.join(id).join(format!("v{version}")))
    }

    /// Lists all versions, ordered by model and version.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn entries(&self) -> Result<Vec<Entry>, FileError> {
        let mut entries = Vec::new();
        let Some(root) = &self.root else { return Ok(entries) };
        for (id, model) in folders(root)?.into_iter().filter(|(name, _)| is_id(name)) {
            for (name, folder) in folders(&model)? {
                let Some(version) =
                    name.strip_prefix('v').and_then(|version| Version::parse(version).ok())
                else {
                    continue;
                };
                let (mut bytes, mut used) = (0, SystemTime::UNIX_EPOCH);
                measure(&folder, &mut bytes, &mut used)?;
                let complete = folder.join(MANIFEST).is_file();
                entries.push(Entry { id: id.clone(), version, folder, bytes, used, complete });
            }
        }
        entries.sort_by(|a, b| (&a.id, &a.version).cmp(&(&b.id, &b.version)));
        Ok(entries)
    }

    /// Finds a complete version of a model: the one that is asked for, or the newest.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn find(&self, id: &str, version: Option<&Version>) -> Result<Option<Entry>, FileError> {
        let mut entries = self.entries()?;
        entries.retain(|entry| {
            entry.complete
                && entry.id == id
                && version.is_none_or(|version| *version == entry.version)
        });
        Ok(entries.into_iter().max_by(|a, b| rank(&a.version).cmp(&rank(&b.version))))
    }

    /// Removes the least recently used versions until `need` bytes fit into the limit. The folder
    /// `target`, which the bytes are for, does not count and is not removed. Returns the removed
    /// versions.
    ///
    /// # Errors
    /// [`CacheError::NoRoom`] when the bytes do not fit, or nothing may be removed.
    pub fn make_room(
        &self,
        limit: Limit,
        target: &Path,
        need: u64,
    ) -> Result<Vec<Entry>, CacheError> {
        let entries: Vec<Entry> =
            self.entries()?.into_iter().filter(|entry| entry.folder != target).collect();
        let kept: Vec<Kept> = entries
            .iter()
            .map(|entry| Kept {
                bytes: entry.bytes,
                used: UnixTime::from_secs(seconds(entry.used)),
                held: Lock::try_take(&entry.folder).is_none(),
            })
            .collect();
        let Limit { bytes: limit, cleanup } = limit;
        let no_room = || CacheError::NoRoom {
            need,
            used: entries.iter().map(|entry| entry.bytes).sum(),
            limit,
            cleanup,
        };
        let victims = victims(&kept, limit, need).ok_or_else(no_room)?;
        if !victims.is_empty() && !cleanup {
            return Err(no_room());
        }
        let mut removed = Vec::new();
        for (at, entry) in entries.into_iter().enumerate() {
            if victims.contains(&at) && entry.remove()? {
                removed.push(entry);
            }
        }
        Ok(removed)
    }
}

impl Entry {
    /// Removes the version, unless another process uses it. Returns whether it was removed.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn remove(&self) -> Result<bool, FileError> {
        let Some(_lock) = Lock::try_take(&self.folder) else { return Ok(false) };
        // The manifest first: what is left after an interruption then counts as incomplete.
        let manifest = self.folder.join(MANIFEST);
        if self.complete {
            fs::remove_file(&manifest).map_err(of_file(&manifest))?;
        }
        fs::remove_dir_all(&self.folder).map_err(of_file(&self.folder))?;
        staging::discard(&self.folder);
        // Fails while the model has other versions.
        let _ = self.folder.parent().map(fs::remove_dir);
        Ok(true)
    }
}

/// Records that a version is used now, for the removal of the least recently used ones.
pub fn touch(folder: &Path) {
    // In a read-only cache this fails, and nothing is lost.
    let manifest = fs::File::options().append(true).open(folder.join(MANIFEST));
    let _ = manifest.and_then(|file| file.set_modified(SystemTime::now()));
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Lists the folders in a folder, with their names; none if it does not exist.
fn folders(folder: &Path) -> Result<Vec<(String, PathBuf)>, FileError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(of_file(folder)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(of_file(folder))?;
        // Skip symbolic links: we never create them.
        if entry.file_type().map_err(of_file(entry.path()))?.is_dir()
            && let Ok(name) = entry.file_name().into_string()
        {
            found.push((name, entry.path()));
        }
    }
    Ok(found)
}

/// Adds up the sizes of the files below a folder, and finds the time of the last use. Programs that
/// read a model leave no trace but the access times of its files, if the file system keeps those.
fn measure(folder: &Path, bytes: &mut u64, used: &mut SystemTime) -> Result<(), FileError> {
    let listed = match fs::read_dir(folder) {
        Ok(listed) => listed,
        // Another user's.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(()),
        Err(error) => return Err(of_file(folder)(error)),
    };
    for entry in listed {
        let entry = entry.map_err(of_file(folder))?;
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            // A running download renames its files.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(of_file(entry.path())(error)),
        };
        if metadata.is_dir() {
            measure(&entry.path(), bytes, used)?;
        } else {
            *bytes += metadata.len();
            let is_manifest = entry.file_name() == MANIFEST;
            let times =
                [metadata.modified().ok(), metadata.accessed().ok().filter(|_| !is_manifest)];
            *used = times.into_iter().flatten().fold(*used, SystemTime::max);
        }
    }
    Ok(())
}
