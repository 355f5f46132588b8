//! The sources of settings, and their precedence.

use std::collections::BTreeMap;
use std::env;
use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::config::error::ConfigError;
use crate::config::origin::Origin;
use crate::yaml::{Entry, Raw};

/// The variable that holds the pinned keys as one JSON object.
const KEYS: &str = "EDGE_NET_KEYS";

/// The settings of the command line and the configuration file, by name. Those of the environment
/// are read when they are asked for.
pub struct Layers {
    /// Settings of the command line.
    pub flags: BTreeMap<String, Raw>,
    /// Settings of the file.
    pub file: BTreeMap<String, Entry>,
    /// Path of the file.
    pub path: PathBuf,
}

/// A setting's full name, its value and its origin.
type Found = (String, Raw, Origin);

/// Returns the environment variable of a setting: `cache.maxSize` is `EDGE_NET_CACHE_MAX_SIZE`.
fn variable(name: &str) -> String {
    let mut variable = "EDGE_NET_".to_owned();
    for character in name.chars() {
        match character {
            '.' => variable.push('_'),
            upper if upper.is_ascii_uppercase() => variable.extend(['_', upper]),
            other => variable.push(other.to_ascii_uppercase()),
        }
    }
    variable
}

/// Returns the value of an environment variable; an empty one counts as unset.
fn environment(variable: &str) -> Option<String> {
    env::var(variable).ok().filter(|text| !text.is_empty())
}

impl Layers {
    /// Returns the value of a setting from the highest layer that has one.
    pub fn find(&self, name: &str) -> (Option<Raw>, Origin) {
        let variable = variable(name);
        if let Some(raw) = self.flags.get(name) {
            (Some(raw.clone()), Origin::Flag)
        } else if let Some(text) = environment(&variable) {
            (Some(Raw::One(text)), Origin::Environment(variable))
        } else if let Some(entry) = self.file.get(name) {
            (Some(entry.raw.clone()), Origin::File(self.path.clone(), entry.line))
        } else {
            (None, Origin::Default)
        }
    }

    /// Returns the settings `keys.<name>` of the highest layer that has any. Layers are not merged:
    /// keys on the command line replace all others.
    ///
    /// # Errors
    /// [`ConfigError::Setting`] when `EDGE_NET_KEYS` is not a JSON object of strings.
    pub fn keys(&self) -> Result<Vec<Found>, ConfigError> {
        let is_key = |name: &str| name.starts_with("keys.");
        let of_flags: Vec<Found> = self
            .flags
            .iter()
            .filter(|(name, _)| is_key(name))
            .map(|(name, raw)| (name.clone(), raw.clone(), Origin::Flag))
            .collect();
        if !of_flags.is_empty() {
            return Ok(of_flags);
        }
        if let Some(json) = environment(KEYS) {
            return keys_of_json(&json, &Origin::Environment(KEYS.into()));
        }
        let of_file = self.file.iter().filter(|(name, _)| is_key(name));
        let found = of_file.map(|(name, entry)| {
            (name.clone(), entry.raw.clone(), Origin::File(self.path.clone(), entry.line))
        });
        Ok(found.collect())
    }
}

fn keys_of_json(text: &str, origin: &Origin) -> Result<Vec<Found>, ConfigError> {
    let fault = |problem: String| ConfigError::setting(origin, format!("keys: {problem}"));
    let keys: Map<String, Value> =
        serde_json::from_str(text).map_err(|error| fault(error.to_string()))?;
    let key = |(id, key): (String, Value)| match key {
        Value::String(key) => Ok((format!("keys.{id}"), Raw::One(key), origin.clone())),
        _ => Err(fault(format!("{id:?} must be a string, the base64 of a public key"))),
    };
    keys.into_iter().map(key).collect()
}
