//! Exclusive access of one process to a model's folder.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::files::{FileError, of_file};

/// A lock on a folder, held until it is dropped. The operating system releases it when the process
/// ends, also when it is killed.
pub struct Lock {
    file: File,
    path: PathBuf,
    /// Whether other processes are kept out: not every file system has locks.
    pub exclusive: bool,
}

/// Name of the locked file; artifacts cannot have a hidden name.
pub const NAME: &str = ".lock";

impl Lock {
    /// Locks a folder, and creates it if it is missing. Calls `waiting` before it waits for another
    /// process.
    ///
    /// # Errors
    /// [`FileError`] when the folder or the lock file cannot be created.
    pub fn take(folder: &Path, waiting: impl Fn()) -> Result<Self, FileError> {
        let path = folder.join(NAME);
        loop {
            fs::create_dir_all(folder).map_err(of_file(folder))?;
            let file = match open(&path) {
                Ok(file) => file,
                // The previous holder removed the folder in between.
                Err(error)
                    if error.kind() == ErrorKind::NotFound
                        && fs::symlink_metadata(&path).is_err() =>
                {
                    continue;
                }
                Err(error) => return Err(of_file(&path)(error)),
            };
            let exclusive = match file.try_lock() {
                Ok(()) => true,
                Err(TryLockError::WouldBlock) => {
                    waiting();
                    file.lock().is_ok()
                }
                Err(TryLockError::Error(_)) => false,
            };
            if is_at(&file, &path) {
                return Ok(Self { file, path, exclusive });
            }
        }
    }

    /// Locks a folder if no process holds it.
    pub fn try_take(folder: &Path) -> Option<Self> {
        let path = folder.join(NAME);
        let file = open(&path).ok()?;
        let exclusive = match file.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => return None,
            Err(TryLockError::Error(_)) => false,
        };
        is_at(&file, &path).then_some(Self { file, path, exclusive })
    }

    /// Records that the locked folders have exchanged their names.
    pub fn exchange(&mut self, other: &mut Self) {
        std::mem::swap(&mut self.path, &mut other.path);
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    let opened = OpenOptions::new().create(true).truncate(false).write(true).open(path);
    match opened {
        // Another user left it, or nothing can be written here. Reading is enough for a lock.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            File::open(path).map_err(|_| error)
        }
        opened => opened,
    }
}

/// Returns whether the locked file still has its name. The previous holder may have removed it
/// before this process got the lock.
fn is_at(file: &File, path: &Path) -> bool {
    let same = |a: &fs::Metadata, b: &fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    file.metadata().is_ok_and(|locked| fs::metadata(path).is_ok_and(|named| same(&locked, &named)))
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Remove before unlocking: no other process can hold a lock on the file that is removed.
        let _ = fs::remove_file(&self.path);
        let _ = self.file.unlock();
    }
}
