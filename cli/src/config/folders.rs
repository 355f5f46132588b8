//! Default folders, by the XDG base directory specification
//! (<https://specifications.freedesktop.org/basedir-spec/latest/>) or else below the home folder.

use std::env;
use std::path::{Path, PathBuf};

use crate::config::error::ConfigError;

/// Returns the home folder.
pub fn home() -> Option<PathBuf> {
    env::home_dir().filter(|home| home.is_absolute())
}

/// Returns our folder below the one that an XDG variable names.
fn xdg(variable: &str) -> Option<PathBuf> {
    // The specification says to ignore relative paths.
    env::var_os(variable)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .map(|path| path.join("edge-net"))
}

fn xdg_or_home(variable: &str) -> Option<PathBuf> {
    xdg(variable).or_else(|| home().map(|home| home.join(".edge-net")))
}

/// Returns the default folder of pulled models.
pub fn default_cache() -> Option<PathBuf> {
    xdg_or_home("XDG_CACHE_HOME").map(|folder| folder.join("models"))
}

/// Returns the folder of records about accepted manifests.
///
/// # Errors
/// [`ConfigError::NoHome`] when neither HOME nor `XDG_STATE_HOME` is set.
pub fn state_directory() -> Result<PathBuf, ConfigError> {
    xdg_or_home("XDG_STATE_HOME").ok_or(ConfigError::NoHome {
        what: "the records of accepted versions, which prevent rollbacks",
        cure: "set XDG_STATE_HOME to a folder that you can write, or name a --version",
    })
}

/// Returns the path of the configuration file, which need not exist. The first of: the `given`
/// path, an existing file in the XDG or home folder, the path in the XDG folder, the path in the
/// home folder.
pub fn config_file(given: Option<&Path>) -> Option<PathBuf> {
    let in_xdg = xdg("XDG_CONFIG_HOME").map(|folder| folder.join("models.yaml"));
    let in_home = home().map(|home| home.join(".edge-net/models.yaml"));
    let existing = || [&in_xdg, &in_home].into_iter().flatten().find(|path| path.exists()).cloned();
    given
        .map(Path::to_owned)
        .or_else(existing)
        .or_else(|| in_xdg.clone())
        .or_else(|| in_home.clone())
}
