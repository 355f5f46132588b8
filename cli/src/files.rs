//! Files that are written whole or not at all.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use crate::error::{Error, of_file};

/// Writes a file whole or not at all.
pub fn replace(path: &Path, content: &[u8]) -> Result<(), Error> {
    let parent =
        path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(of_file(parent))?;
    let mut builder = tempfile::Builder::new();
    // As any file that is made, not as a secret one; what is there keeps its mode.
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
