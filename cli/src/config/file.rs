//! The configuration file.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::config::error::ConfigError;
use crate::config::origin::Origin;
use crate::config::schema::{NAMES, check, unknown};
use crate::files::{of_file, replace};
use crate::yaml::{self, Entry, Raw};

/// Reads the text of a file; `None` when the file does not exist.
///
/// # Errors
/// [`ConfigError::File`].
pub fn text(path: &Path) -> Result<Option<String>, ConfigError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(of_file(path)(error).into()),
    }
}

/// Parses the text of a file and checks that all its settings are known.
///
/// # Errors
/// [`ConfigError::Setting`] names the line.
pub fn parse(path: &Path, text: &str) -> Result<BTreeMap<String, Entry>, ConfigError> {
    let at = |line: usize| Origin::File(path.to_owned(), line);
    let mut entries =
        yaml::read(text).map_err(|bad| ConfigError::setting(&at(bad.line), bad.problem))?;
    if let Some(version) =
        entries.remove("version").filter(|version| version.raw != Raw::One("1".into()))
    {
        let problem = "version must be 1; it is the version of the file format";
        return Err(ConfigError::setting(&at(version.line), problem));
    }
    let is_known = |name: &str| NAMES.contains(&name) || name.starts_with("keys.");
    match entries.iter().find(|(name, _)| !is_known(name)) {
        Some((name, entry)) => Err(ConfigError::setting(&at(entry.line), unknown(name))),
        None => Ok(entries),
    }
}

/// Sets one setting in a file and leaves all other lines as they are. A missing file is created.
///
/// # Errors
/// [`ConfigError::Setting`] for an invalid value or an invalid file; [`ConfigError::NotEditable`]
/// when the file's notation does not let one setting change alone; [`ConfigError::File`].
pub fn set(path: &Path, name: &str, value: &str) -> Result<(), ConfigError> {
    let raw = match name {
        "ipfs.gateways" => Raw::Many(value.split(',').map(|item| item.trim().to_owned()).collect()),
        _ => Raw::One(value.to_owned()),
    };
    check(name, &raw)?;
    let before = text(path)?.unwrap_or_else(|| "version: 1\n".into());
    // An invalid file is reported, not changed.
    parse(path, &before)?;
    let parts: Vec<&str> = name.splitn(2, '.').collect();
    let changed = yaml::set(&before, &parts, &raw)
        .ok_or_else(|| ConfigError::NotEditable { path: path.to_owned(), key: name.to_owned() })?;
    Ok(replace(&target(path), changed.as_bytes())?)
}

/// Returns the file that a link leads to, so that the link stays one.
fn target(path: &Path) -> PathBuf {
    if let Ok(target) = fs::canonicalize(path) {
        return target;
    }
    // The target of a link may be missing.
    match fs::read_link(path) {
        Ok(target) => path.parent().unwrap_or(Path::new("")).join(target),
        Err(_) => path.to_owned(),
    }
}
