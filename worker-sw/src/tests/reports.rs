//! The events of a download.

use edge_net_core::transfer::download::Report;
use edge_net_core::trust::manifest::Manifest;
use serde_json::json;
use wasm_bindgen_test::wasm_bindgen_test;

use super::fake::Artifact;
use super::fake::publisher::signed;
use super::{details, teller};
use crate::reports::of_download;

#[wasm_bindgen_test]
async fn the_head_of_a_response_is_no_progress() {
    let manifest = Manifest::parse(&signed(&Artifact::new(100), "1.0.0", 1)).ok().unwrap();
    let (teller, events) = teller();
    let report = of_download(teller, &manifest, &manifest.artifacts[0], Vec::new(), || {});
    // Progress is told every 100 ms.
    edge_net_driver::sleep(150).await;
    report(Report::Received { bytes: 0 });
    assert!(details(&events, "progress").is_empty());
    report(Report::Received { bytes: 60 });
    let progress = details(&events, "progress");
    assert_eq!(progress[0]["received"], json!(60));
    assert!(progress[0]["rate"].as_f64().unwrap() > 0.0);
}
