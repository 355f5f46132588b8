//! The options of all commands that are about settings.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use clap::Args;
use edge_net_core::trust::signature::PinnedKeys;

use crate::config::error::ConfigError;
use crate::config::file;
use crate::config::folders;
use crate::config::layers::Layers;
use crate::config::origin::Origin;
use crate::config::schema::{Settings, check, full_name};
use crate::files::of_file;
use crate::yaml::Raw;

/// The settings on the command line.
#[derive(Args, Debug, Clone, Default)]
pub struct Flags {
    /// Configuration file, instead of ~/.edge-net/models.yaml
    #[arg(
        long,
        global = true,
        env = "EDGE_NET_CONFIG",
        value_name = "FILE",
        help_heading = "Settings"
    )]
    config: Option<PathBuf>,
    /// Setting for this run, such as cache.maxSize=2GB; repeatable
    #[arg(long, global = true, value_name = "KEY=VALUE", help_heading = "Settings")]
    set: Vec<String>,
    /// Pinned keys: the JSON that keygen prints, or a file with it
    #[arg(long, global = true, value_name = "JSON|FILE", help_heading = "Settings")]
    keys: Option<String>,
}

impl Flags {
    /// Reads all settings of this run.
    ///
    /// # Errors
    /// [`ConfigError`] names the option, variable or line with an invalid value.
    pub fn settings(&self) -> Result<Settings, ConfigError> {
        let path = folders::config_file(self.config.as_deref());
        let text = match (&self.config, &path) {
            // A file that is named must exist.
            (Some(path), _) => Some(fs::read_to_string(path).map_err(of_file(path))?),
            (None, Some(path)) => file::text(path)?,
            (None, None) => None,
        };
        let path = path.unwrap_or_default();
        let entries = text.map(|text| file::parse(&path, &text)).transpose()?.unwrap_or_default();
        let mut flags = BTreeMap::new();
        for given in &self.set {
            let Some((name, value)) = given.split_once('=') else {
                let problem = format!("--set {given} must be KEY=VALUE");
                return Err(ConfigError::setting(&Origin::Flag, problem));
            };
            let (name, raw) = (full_name(name), Raw::One(value.to_owned()));
            check(name, &raw)?;
            flags.insert(name.to_owned(), raw);
        }
        if let Some(keys) = &self.keys {
            flags.extend(pinned(keys)?);
        }
        Settings::resolve(&Layers { flags, file: entries, path })
    }

    /// Sets one setting in the configuration file, and returns the setting's full name and the
    /// file's path.
    ///
    /// # Errors
    /// See [`file::set`].
    pub fn set_in_file<'a>(
        &self,
        name: &'a str,
        value: &str,
    ) -> Result<(&'a str, PathBuf), ConfigError> {
        let path = folders::config_file(self.config.as_deref())
            .ok_or(ConfigError::NoHome { what: "settings", cure: "give --config FILE" })?;
        let name = full_name(name);
        file::set(&path, name, value)?;
        Ok((name, path))
    }

    /// Returns whether keys are given on the command line.
    pub const fn names_keys(&self) -> bool {
        self.keys.is_some()
    }
}

/// Reads the value of `--keys` as settings `keys.<name>`.
fn pinned(keys: &str) -> Result<Vec<(String, Raw)>, ConfigError> {
    let json = if keys.trim_start().starts_with('{') {
        keys.to_owned()
    } else {
        fs::read_to_string(keys).map_err(of_file(keys))?
    };
    let fault = |problem: String| ConfigError::setting(&Origin::Flag, format!("--keys: {problem}"));
    // The edge worker reads its pinned keys with the same parser.
    PinnedKeys::parse(&json).map_err(|error| fault(error.to_string()))?;
    let keys: BTreeMap<String, String> =
        serde_json::from_str(&json).map_err(|error| fault(error.to_string()))?;
    Ok(keys.into_iter().map(|(id, key)| (format!("keys.{id}"), Raw::One(key))).collect())
}
