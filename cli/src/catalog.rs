//! The models of the registry and of the cache.

use std::collections::BTreeMap;
use std::fs;

use edge_net_core::http::registry::Summary;
use edge_net_core::trust::manifest::{Manifest, is_id};
use semver::Version;

use crate::cache::Cache;
use crate::config::Settings;
use crate::document::MANIFEST;
use crate::files::{FileError, of_file};
use crate::http::HttpError;
use crate::registry::Registry;

/// Returns the sort key of a model by the preferences in the settings: the preferred quantization
/// first, then by size.
pub fn preference(settings: &Settings, model: &Summary) -> (bool, u64) {
    let wanted = settings.prefer_quantization.as_deref();
    let preferred = wanted
        .zip(model.quantization.as_deref())
        .is_some_and(|(wanted, got)| wanted.eq_ignore_ascii_case(got));
    (!preferred, if settings.prefer_small_models { model.size } else { u64::MAX - model.size })
}

/// Returns the preferred model among those of the registry whose identifier is `name` and a suffix.
///
/// # Errors
/// [`HttpError`] when the registry cannot be read.
pub fn preferred(settings: &Settings, name: &str) -> Result<Option<String>, HttpError> {
    let Some(edge) = &settings.edge_url else { return Ok(None) };
    let models = Registry::new(&edge.0).list(&[("q", name)])?;
    let has_prefix =
        |model: &&Summary| model.id.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'));
    Ok(models
        .iter()
        .filter(has_prefix)
        .min_by_key(|model| preference(settings, model))
        .map(|model| model.id.clone()))
}

/// Returns the newest cached version of each model. Models with an unreadable manifest are left
/// out.
///
/// # Errors
/// [`FileError`] when the cache cannot be read.
pub fn cached(cache: &Cache) -> Result<BTreeMap<String, (Version, Summary)>, FileError> {
    let mut newest = BTreeMap::new();
    for entry in cache.entries()?.into_iter().filter(|entry| entry.complete) {
        let path = entry.folder.join(MANIFEST);
        let text = fs::read_to_string(&path).map_err(of_file(&path))?;
        if let Ok(manifest) = Manifest::parse(&text) {
            newest.insert(entry.id, (entry.version, Summary::of(&manifest)));
        }
    }
    Ok(newest)
}

/// Parses an identifier on the command line.
///
/// # Errors
/// The message for the user.
pub fn model_id(text: &str) -> Result<String, String> {
    let rule =
        "an identifier is made of a-z, 0-9, '.', '_', '-', and starts with a letter or digit";
    is_id(text).then(|| text.to_owned()).ok_or_else(|| rule.to_owned())
}
