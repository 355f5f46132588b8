//! The replacement of a model's folder by another version.
//!
//! The new version is put together in a folder of its own, beside the old one, which stays as it is
//! for its readers. When all files are verified, the two folders exchange their names in one step.
//! File systems that cannot do this rename twice: for a moment there is no folder, and a kill in
//! that moment is undone by the next run.
//!
//! If the folder is a mount point, or nothing can be created beside it, the new version is put
//! together inside of it. Then its files are renamed one after the other, while the folder has no
//! manifest and so counts as incomplete. The next run finishes this after a kill.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use edge_net_core::trust::manifest::Manifest;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::document::MANIFEST;
use crate::files::{FileError, of_file};
use crate::lock::{self, Lock};

/// Marks a folder that is not in use yet; its text is the manifest of the version. Artifacts cannot
/// have hidden names.
const MARK: &str = ".staged";
/// Marks a folder inside the model's folder whose files are all complete.
const READY: &str = ".ready";
/// Name of the folder inside the model's folder.
const INSIDE: &str = ".new";
/// The manifest of the version that is being replaced.
const PREVIOUS: &str = ".previous";

/// A folder for the next version of a model.
pub struct Staging {
    /// The model's folder.
    live: PathBuf,
    /// The new folder.
    pub tree: PathBuf,
    /// Held on a new folder beside the old one.
    lock: Option<Lock>,
}

/// Returns the path of the folder beside `live` with this ending.
fn beside(live: &Path, ending: &str) -> PathBuf {
    let name = live.file_name().unwrap_or_default().to_string_lossy();
    live.with_file_name(format!(".{name}.{ending}"))
}

/// Undoes a replacement that ended between two renames. To be called before `live` is locked,
/// because that creates it.
///
/// # Errors
/// [`FileError`].
pub fn undo(live: &Path) -> Result<(), FileError> {
    let old = beside(live, "old");
    while !live.exists() && old.is_dir() {
        // Otherwise another process is between its two renames.
        if let Some(_lock) = Lock::try_take(&old) {
            fs::rename(&old, live).map_err(of_file(live))?;
            let _ = fs::remove_file(live.join(lock::NAME));
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    Ok(())
}

/// Finishes a replacement that was interrupted. `live` must be locked.
///
/// # Errors
/// [`FileError`].
pub fn finish(live: &Path) -> Result<(), FileError> {
    if live.join(INSIDE).join(READY).exists() {
        put(&live.join(INSIDE), live)?;
    }
    for old in [beside(live, "old"), beside(live, "new")] {
        if fs::symlink_metadata(&old).is_ok() && !old.join(MARK).exists() {
            retire(&old, live)?;
        }
    }
    remove(&live.join(MARK))
}

/// Removes what an unfinished replacement left beside a folder.
pub fn discard(live: &Path) {
    let _ = wipe(&beside(live, "new"));
}

impl Staging {
    /// Opens the folder for the version with the manifest `text`. What an interrupted run for the
    /// same version left there is kept. `live` must be locked.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn open(live: &Path, text: &str) -> Result<Self, FileError> {
        let tree = beside(live, "new");
        let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
        let parent = live.parent().filter(|parent| !parent.as_os_str().is_empty());
        let movable = device(live) == device(parent.unwrap_or(Path::new(".")));
        if movable {
            match Self::prepare(&tree, text) {
                Ok(()) => {
                    let lock = Some(Lock::take(&tree, || {})?);
                    return Ok(Self { live: live.to_owned(), tree, lock });
                }
                Err(error) if error.error.kind() == ErrorKind::PermissionDenied => {}
                Err(error) => return Err(error),
            }
        }
        let tree = live.join(INSIDE);
        Self::prepare(&tree, text)?;
        Ok(Self { live: live.to_owned(), tree, lock: None })
    }

    fn prepare(tree: &Path, text: &str) -> Result<(), FileError> {
        let mark = tree.join(MARK);
        if fs::read_to_string(&mark).is_ok_and(|marked| marked == text) {
            return Ok(());
        }
        // It belongs to another version.
        wipe(tree)?;
        fs::create_dir_all(tree).map_err(of_file(tree))?;
        fs::write(&mark, text).map_err(of_file(&mark))
    }

    /// Makes the new folder the model's folder. `lock` is the lock on the latter.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn switch(mut self, lock: &mut Lock) -> Result<(), FileError> {
        let (live, tree) = (&self.live, &self.tree);
        let Some(own) = &mut self.lock else {
            let ready = tree.join(READY);
            fs::write(&ready, "").map_err(of_file(&ready))?;
            return put(tree, live);
        };
        if let Ok(metadata) = fs::metadata(live) {
            fs::set_permissions(tree, metadata.permissions()).map_err(of_file(tree))?;
        }
        match renameat_with(CWD, tree, CWD, live, RenameFlags::EXCHANGE) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => rename_twice(tree, live)?,
            exchanged => exchanged.map_err(|error| of_file(live)(error.into()))?,
        }
        lock.exchange(own);
        remove(&live.join(MARK))?;
        retire(tree, live)
    }
}

/// Exchanges the names of two folders in three steps.
fn rename_twice(tree: &Path, live: &Path) -> Result<(), FileError> {
    let old = beside(live, "old");
    fs::rename(live, &old).map_err(of_file(live))?;
    fs::rename(tree, live).map_err(of_file(live))?;
    fs::rename(&old, tree).map_err(of_file(&old))
}

/// Moves the complete files of `tree` into `live`, one after the other.
fn put(tree: &Path, live: &Path) -> Result<(), FileError> {
    let (manifest, previous) = (live.join(MANIFEST), tree.join(PREVIOUS));
    if tree.join(MANIFEST).exists() && !previous.exists() && manifest.exists() {
        fs::rename(&manifest, &previous).map_err(of_file(&manifest))?;
    }
    let mut files: Vec<PathBuf> = below(tree)?;
    // The manifest comes last: it says that the folder is complete.
    files.sort_by_key(|file| file == Path::new(MANIFEST));
    for file in files.iter().filter(|file| !is_own(file)) {
        let to = live.join(file);
        clear(live, file)?;
        fs::rename(tree.join(file), &to).map_err(of_file(&to))?;
    }
    for stale in names(&previous).difference(&names(&manifest)) {
        remove(&live.join(stale))?;
    }
    wipe(tree)
}

/// Makes room for a file: its folders exist, and none of them is a link or a file.
fn clear(live: &Path, file: &Path) -> Result<(), FileError> {
    let mut folders: Vec<&Path> = file.ancestors().skip(1).collect();
    folders.pop();
    for folder in folders.into_iter().rev().map(|folder| live.join(folder)) {
        if fs::symlink_metadata(&folder).is_ok_and(|metadata| !metadata.is_dir()) {
            remove(&folder)?;
        }
        fs::create_dir_all(&folder).map_err(of_file(&folder))?;
    }
    Ok(())
}

/// Moves what is not of the model from an old folder into the new one, and removes the old one.
fn retire(old: &Path, live: &Path) -> Result<(), FileError> {
    // A link in place of the folder: its target is somebody else's.
    if fs::symlink_metadata(old).is_ok_and(|metadata| metadata.is_symlink()) {
        // Our lock is in it.
        remove(&old.join(lock::NAME))?;
        return remove(old);
    }
    let mut ours = names(&old.join(MANIFEST));
    ours.extend(names(&live.join(MANIFEST)));
    for file in below(old)? {
        let to = live.join(&file);
        if is_own(&file) || ours.contains(&file) || fs::symlink_metadata(&to).is_ok() {
            continue;
        }
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).map_err(of_file(folder))?;
        }
        fs::rename(old.join(&file), &to).map_err(of_file(&to))?;
    }
    wipe(old)
}

/// Removes a folder, last of all the files that tell what it is.
fn wipe(folder: &Path) -> Result<(), FileError> {
    let last = [MANIFEST, MARK, PREVIOUS, READY];
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let removed = match entry.file_type() {
            _ if last.iter().any(|name| entry.file_name() == *name) => Ok(()),
            Ok(kind) if kind.is_dir() => fs::remove_dir_all(&path),
            _ => fs::remove_file(&path),
        };
        removed.map_err(of_file(&path))?;
    }
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(of_file(folder)(error)),
        _ => Ok(()),
    }
}

/// Returns whether the tool uses a file while it works.
fn is_own(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    [MARK, READY, PREVIOUS, lock::NAME].contains(&&*name)
        || (name.starts_with('.') && name.ends_with(".part"))
}

/// Returns the names of a version's files; none if the manifest cannot be read.
fn names(manifest: &Path) -> BTreeSet<PathBuf> {
    let text = fs::read_to_string(manifest).unwrap_or_default();
    let Ok(manifest) = Manifest::parse(&text) else { return BTreeSet::new() };
    let files = manifest.artifacts.iter().map(|artifact| artifact.filename.as_str());
    let files = files.flat_map(|file| [file.to_owned(), format!("{file}.leaves")]);
    files.chain([MANIFEST.to_owned()]).map(PathBuf::from).collect()
}

/// Lists all files and links below a folder, relative to it.
fn below(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut folders = vec![PathBuf::new()];
    let mut files = Vec::new();
    while let Some(next) = folders.pop() {
        let path = folder.join(&next);
        for entry in fs::read_dir(&path).map_err(of_file(&path))? {
            let entry = entry.map_err(of_file(&path))?;
            let kind = entry.file_type().map_err(of_file(entry.path()))?;
            let list = if kind.is_dir() { &mut folders } else { &mut files };
            list.push(next.join(entry.file_name()));
        }
    }
    Ok(files)
}

/// Removes a file or a link, if there is one.
fn remove(file: &Path) -> Result<(), FileError> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(of_file(file)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use tempfile::TempDir;

    use super::{INSIDE, MARK, READY, beside, finish, put, rename_twice, undo};

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn a_kill_between_two_renames_is_undone() {
        let folder = TempDir::new().unwrap();
        let live = folder.path().join("tiny");
        write(&live.join("a"), "old");
        write(&beside(&live, "new").join("a"), "new");
        fs::rename(&live, beside(&live, "old")).unwrap();
        undo(&live).unwrap();
        assert_eq!(fs::read_to_string(live.join("a")).unwrap(), "old");
        rename_twice(&beside(&live, "new"), &live).unwrap();
        assert_eq!(fs::read_to_string(live.join("a")).unwrap(), "new");
        assert_eq!(fs::read_to_string(beside(&live, "new").join("a")).unwrap(), "old");
    }

    #[test]
    fn a_replacement_inside_the_folder_is_finished_and_follows_no_link() {
        let folder = TempDir::new().unwrap();
        let (live, other) = (folder.path().join("tiny"), folder.path().join("other"));
        write(&other.join("b"), "somebody else's");
        write(&live.join("a"), "old");
        std::os::unix::fs::symlink(&other, live.join("onnx")).unwrap();
        let tree = live.join(INSIDE);
        for (file, text) in [("a", "new"), ("onnx/b", "new"), (MARK, ""), (READY, "")] {
            write(&tree.join(file), text);
        }
        finish(&live).unwrap();
        assert_eq!(fs::read_to_string(live.join("a")).unwrap(), "new");
        assert_eq!(fs::read_to_string(live.join("onnx/b")).unwrap(), "new");
        assert_eq!(fs::read_to_string(other.join("b")).unwrap(), "somebody else's");
        assert!(!tree.exists());
        write(&tree.join("c"), "unfinished");
        finish(&live).unwrap();
        assert!(!live.join("c").exists());
        put(&tree, &live).unwrap();
        assert!(live.join("c").exists());
    }
}
