//! The options of `register()`.

use edge_net_core::transfer::source::SourceKind;
use serde_json::{Value, json};
use wasm_bindgen_test::wasm_bindgen_test;

use super::fake::publisher::public_key;
use crate::config::Config;

fn read(options: &Value) -> Result<Config, String> {
    Config::read(&super::json(options))
}

fn keys() -> Value {
    json!({ "release": public_key("release") })
}

#[wasm_bindgen_test]
fn keys_are_enough() {
    let config = read(&json!({ "keys": keys() })).unwrap();
    let [edge] = &*config.sources else { panic!("one source") };
    assert_eq!((edge.kind, edge.base.as_str()), (SourceKind::Edge, "/models"));
    assert_eq!((config.path.as_str(), config.budget, config.lanes), ("/models/", None, 4));
    assert!(!config.keys.is_empty() && !config.share);
}

#[wasm_bindgen_test]
fn sources_are_edge_bucket_and_gateways_in_order() {
    let config = read(&json!({
        "keys": keys(), "edge": "https://edge.test/", "gcs": "https://gcs.test/bucket/",
        "ipfs": ["https://a.test/ipfs", "https://b.test/ipfs"],
        "path": "/m/", "budget": 5, "lanes": 6,
    }));
    let config = config.unwrap();
    let sources = config.sources.iter().map(|source| (source.kind, source.base.as_str()));
    let expected = [
        (SourceKind::Edge, "https://edge.test/models"),
        (SourceKind::Gcs, "https://gcs.test/bucket"),
        (SourceKind::Ipfs, "https://a.test/ipfs"),
        (SourceKind::Ipfs, "https://b.test/ipfs"),
    ];
    assert!(sources.eq(expected));
    assert_eq!((config.path.as_str(), config.budget, config.lanes), ("/m/", Some(5), 6));
}

#[wasm_bindgen_test]
fn sources_work_all_at_once_if_wanted() {
    for (sources, share) in [("in-order", false), ("all", true)] {
        assert_eq!(read(&json!({ "keys": keys(), "sources": sources })).unwrap().share, share);
    }
}

#[wasm_bindgen_test]
fn errors_name_the_invalid_option() {
    for (option, value) in [
        ("keys", json!(null)),
        ("keys", json!("key")),
        ("edge", json!(5)),
        ("gcs", json!(["https://gcs.test"])),
        ("ipfs", json!([1])),
        ("path", json!("models/")),
        ("path", json!("/models")),
        ("budget", json!(-1)),
        ("budget", json!(0.5)),
        ("sources", json!("some")),
        ("sources", json!(["all"])),
        ("lanes", json!(0)),
        ("lanes", json!(7)),
        ("lanes", json!("4")),
    ] {
        let mut options = json!({ "keys": keys() });
        options[option] = value;
        let error = read(&options).err().unwrap();
        assert!(error.contains(&format!("option {option} ")), "{options}: {error}");
    }
    let error = read(&json!({ "keys": { "release": "not a key" } })).err().unwrap();
    assert!(error.contains("release"), "{error}");
}
