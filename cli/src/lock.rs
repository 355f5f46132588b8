//! One process at a time works on a folder of a model.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::error::{Error, of_file};

/// Holds a folder until it is dropped; the system lets go when the process ends, however it ends.
pub struct Lock {
    file: File,
    path: PathBuf,
}

/// Name of the file that is locked; no artifact can have it.
const NAME: &str = ".lock";

impl Lock {
    /// Takes the folder, which is made if it is not there; `waiting` is called when another process has it.
    pub fn take(folder: &Path, waiting: impl Fn()) -> Result<Self, Error> {
        let path = folder.join(NAME);
        loop {
            fs::create_dir_all(folder).map_err(of_file(folder))?;
            let file = match open(&path) {
                Ok(file) => file,
                // Whoever had it removed the folder since.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(of_file(&path)(error)),
            };
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    waiting();
                    file.lock().map_err(of_file(&path))?;
                }
                Err(TryLockError::Error(error)) => return Err(of_file(&path)(error)),
            }
            if is_at(&file, &path) {
                return Ok(Self { file, path });
            }
        }
    }

    /// Takes the folder if nobody has it.
    pub fn try_take(folder: &Path) -> Option<Self> {
        let path = folder.join(NAME);
        let file = open(&path).ok()?;
        file.try_lock().ok()?;
        is_at(&file, &path).then_some(Self { file, path })
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).open(path)
}

/// Whether the file that was locked still is the one with the name: who had it before removed it, perhaps.
fn is_at(file: &File, path: &Path) -> bool {
    let same = |a: &fs::Metadata, b: &fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    file.metadata().is_ok_and(|locked| fs::metadata(path).is_ok_and(|named| same(&locked, &named)))
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is locked, so that nobody else can have locked what is removed here.
        let _ = fs::remove_file(&self.path);
        let _ = self.file.unlock();
    }
}
