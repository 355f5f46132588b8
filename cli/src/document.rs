//! The text form of a manifest.

use serde_json::{Map, Value};

/// Returns a manifest as it is published: indented JSON.
pub fn text_of(document: &Map<String, Value>) -> String {
    serde_json::to_string_pretty(document).unwrap_or_default()
}

/// Returns a member that is a string.
pub fn string_member(document: &Map<String, Value>, name: &str) -> Option<String> {
    document.get(name)?.as_str().map(str::to_owned)
}

/// Name of the manifest in a model's folder.
pub const MANIFEST: &str = "manifest.json";

/// Suffix of the manifest file beside a single signed file: `model.onnx.manifest.json`.
pub const BESIDE: &str = ".manifest.json";
