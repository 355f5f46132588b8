//! The configuration: the options of `register()` in `web/edge-net.js`.

use edge_net_core::transfer::source::{Source, SourceKind};
use edge_net_core::trust::signature::PinnedKeys;
use edge_net_driver::lookup::{Places, Public};
use js_sys::{Array, Object, Reflect};
use wasm_bindgen::prelude::*;

/// Configuration of the service worker.
pub struct Config {
    /// The sources, in the order they are asked.
    pub sources: Vec<Source>,
    /// The publishers whose manifests are accepted.
    pub keys: PinnedKeys,
    /// The path prefix of the requests that are answered; starts and ends with a slash.
    pub path: String,
    /// Bytes stored at most; `None`: as many as the browser allows.
    pub budget: Option<u64>,
    /// Concurrent requests for each artifact.
    pub lanes: usize,
    /// Whether all sources work at once; else one after the other, when one lags, fails or is
    /// wrong.
    pub share: bool,
}

impl Config {
    /// Reads the options object.
    ///
    /// # Errors
    /// A text that names the invalid option.
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
        let share = match text(options, "sources")?.as_deref() {
            None | Some("in-order") => false,
            Some("all") => true,
            Some(_) => return Err("the option sources must be 'in-order' or 'all'".into()),
        };
        let lanes = usize::try_from(lanes).unwrap_or(4);
        Ok(Self { sources, keys, path, budget, lanes, share })
    }

    /// The sources for a lookup that adds `init` to every `fetch`.
    pub fn places<'a>(&'a self, init: &'a Object) -> Places<'a, Public> {
        Places { sources: &self.sources, init, access: &Public }
    }
}

/// The options of every `fetch`: no credentials, and no second copy in the browser's own cache.
pub fn fetch_options() -> Object {
    let options = Object::new();
    for (name, value) in [("credentials", "omit"), ("cache", "no-store"), ("mode", "cors")] {
        // Fails for frozen objects only.
        let _ = Reflect::set(&options, &name.into(), &value.into());
    }
    options
}

fn option(options: &JsValue, name: &str) -> Option<JsValue> {
    Reflect::get(options, &name.into())
        .ok()
        .filter(|value| !value.is_undefined() && !value.is_null())
}

/// An option that is a whole number from `least` to `most`.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    clippy::float_cmp
)] // The casts are checked by the comparison.
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
