//! Paths below `/models/`.

use edge_net_core::http::answer::{Freshness, ModelPath, Resource};
use edge_net_core::http::path::decoded;
use edge_net_core::trust::manifest::{is_filename, is_id};

/// Input: a path.
///
/// - A path that is read names a valid id and a valid file name, so it never climbs or hides.
/// - The plain path of what was read is read as the same, where it is not of the hub's form.
/// - Whatever is not of the hub's form was its own plain path once percent-decoded: nothing was
///   dropped.
///
/// # Panics
/// When a property does not hold.
pub fn model_path(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some(path) = ModelPath::parse(text) else {
        assert_eq!(ModelPath::parse_hub(text), None);
        return;
    };
    let file = match &path.resource {
        Resource::Manifest => "manifest.json".to_owned(),
        Resource::LeafTable(file) => format!("{file}.leaves"),
        Resource::Artifact(file) => file.clone(),
    };
    assert!(is_id(&path.id));
    match &path.resource {
        Resource::Manifest => {}
        Resource::LeafTable(file) | Resource::Artifact(file) => assert!(is_filename(file)),
    }
    assert!(file.split('/').all(|piece| !piece.is_empty() && !piece.starts_with('.')));
    let decoded = decoded(text).expect("it is UTF-8");
    assert!(decoded.is_ascii() && !decoded.contains(['%', '\\', '\0', '?', '#', ' ']));
    assert_eq!(path.freshness() == Freshness::Immutable, path.version.is_some());

    let version = path.version.as_ref().map_or_else(String::new, |version| format!("v{version}/"));
    let plain = format!("{}/{version}{file}", path.id);
    if ModelPath::parse_hub(&plain).is_none() {
        assert_eq!(ModelPath::parse(&plain), Some(path));
    }
    if ModelPath::parse_hub(text).is_none() {
        assert_eq!(plain, decoded);
    }
}
