//! What the page configured: the options of `register()` in `web/edge-net.js`.

use edge_net_core::transfer::source::{Source, SourceKind};
use edge_net_core::trust::signature::PinnedKeys;
use js_sys::{Array, Object, Reflect};
use wasm_bindgen::prelude::*;

/// Configuration of the service worker.
pub struct Config {
    /// Where things come from, in the order they are asked.
    pub sources: Vec<Source>,
    /// Whose manifests are accepted.
    pub keys: PinnedKeys,
    /// Path prefix that is answered, with a slash at both ends.
    pub path: String,
    /// Bytes kept at the most; without, the browser decides.
    pub budget: Option<u64>,
    /// Requests under way at once for each artifact.
    pub lanes: usize,
}

impl Config {
    /// Reads the options object.
    ///
    /// # Errors
    /// A text that names the option at fault.
    pub fn read(options: &JsValue) -> Result<Self, String> {
        let edge = text(options, "edge")?.unwrap_or_default();
        let edge = format!("{}/models", edge.trim_end_matches('/'));
        let mut sources = vec![Source::new(SourceKind::Edge, &edge)];
        sources.extend(text(options, "gcs")?.map(|base| Source::new(SourceKind::Gcs, &base)));
        for gateway in option(options, "ipfs")
            .map(|gateways| Array::from(&gateways))
            .unwrap_or_default()
            .iter()
        {
            let base = gateway.as_string().ok_or("the option ipfs must be an array of URLs")?;
            sources.push(Source::new(SourceKind::Ipfs, &base));
        }
        let Some(Ok(pinned)) = option(options, "keys").map(JsValue::dyn_into::<Object>) else {
            return Err(
                "the option keys is missing; it must be {keyId: base64 of the public key}".into()
            );
        };
        let mut keys = PinnedKeys::default();
        for id in Object::keys(&pinned).iter().filter_map(|id| id.as_string()) {
            let key = text(&pinned, &id)?.unwrap_or_default();
            keys = keys.pin(id, &key).map_err(|error| error.to_string())?;
        }
        let path = text(options, "path")?.unwrap_or_else(|| "/models/".into());
        if !path.starts_with('/') || !path.ends_with('/') {
            return Err(format!("the option path is \"{path}\"; it must start and end with '/'"));
        }
        let budget = count(options, "budget", 0, 1 << 53)?;
        let lanes = count(options, "lanes", 1, 6)?.unwrap_or(4);
        Ok(Self { sources, keys, path, budget, lanes: usize::try_from(lanes).unwrap_or(4) })
    }
}

fn option(options: &JsValue, name: &str) -> Option<JsValue> {
    Reflect::get(options, &name.into())
        .ok()
        .filter(|value| !value.is_undefined() && !value.is_null())
}

/// A whole number from `least` to `most`.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    clippy::float_cmp
)] // Checked.
fn count(options: &JsValue, name: &str, least: u64, most: u64) -> Result<Option<u64>, String> {
    let Some(value) = option(options, name) else { return Ok(None) };
    match value.as_f64().map(|value| (value, value as u64)) {
        Some((value, whole)) if whole as f64 == value && (least..=most).contains(&whole) => {
            Ok(Some(whole))
        }
        _ => Err(format!("the option {name} must be a whole number from {least} to {most}")),
    }
}

fn text(options: &JsValue, name: &str) -> Result<Option<String>, String> {
    let value = option(options, name);
    value
        .map(|value| value.as_string().ok_or_else(|| format!("the option {name} must be a string")))
        .transpose()
}
