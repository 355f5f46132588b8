//! Files: I/O errors that name the file, and atomic replacement.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// An I/O error and the file or folder that it is about.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {error}")]
pub struct FileError {
    /// The file or folder, or a phrase such as "standard output".
    pub path: PathBuf,
    /// The error of the operating system.
    pub error: io::Error,
}

/// Adds the path to an I/O error; for `map_err`.
pub fn of_file(path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> FileError {
    move |error| FileError { path: path.as_ref().to_owned(), error }
}

/// Writes a file atomically: a reader sees the old content or the new one. Missing folders are
/// created. An existing file keeps its mode; a new file gets the usual one, 0666 less the umask.
///
/// # Errors
/// [`FileError`] names the file or the folder that could not be written.
pub fn replace(path: &Path, content: &[u8]) -> Result<(), FileError> {
    let parent =
        path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(of_file(parent))?;
    let mut builder = tempfile::Builder::new();
    // Without this, tempfile creates the file with mode 0600.
    let mode = fs::metadata(path).map(|metadata| metadata.permissions()).ok();
    #[cfg(unix)]
    let mode = mode.or_else(|| Some(std::os::unix::fs::PermissionsExt::from_mode(0o666)));
    if let Some(mode) = mode {
        builder.permissions(mode);
    }
    let mut file = builder.tempfile_in(parent).map_err(of_file(parent))?;
    file.write_all(content).map_err(of_file(path))?;
    file.persist(path).map_err(|error| of_file(path)(error.error))?;
    Ok(())
}
