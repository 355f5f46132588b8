//! What is stored, evicted, pinned and verified.

use std::collections::BTreeMap;

use edge_net_core::dag::cid::cid_text;
use futures::lock::Mutex;
use js_sys::{Function, Uint8Array};
use serde_json::json;
use wasm_bindgen::prelude::*;
use wasm_bindgen_test::wasm_bindgen_test;
use web_sys::Blob;

use super::fake::publisher::{manifest, signed};
use super::fake::{Artifact, Request};
use super::{body, fresh_browser, from_js, get, get_with, idle, parts, serve, set_quota, worker};
use crate::Models;
use crate::store::{self, Budget, Piece, number};

/// Bytes of each artifact in the tests of the budget.
const SIZE: usize = 1000;

fn budget(limit: Option<u64>) -> Budget {
    Budget { limit, turn: Mutex::default() }
}

/// Stores the only segment of the artifact `cid`, a moment after the one before.
async fn save(budget: &Budget, cid: &str, in_use: &str) {
    edge_net_driver::sleep(2).await;
    let size = SIZE as u64;
    let blob = Blob::new_with_u8_array_sequence(&parts(&[1; SIZE])).unwrap();
    budget.save(cid, size, &Piece { segments: 0..1, blob }, |cid: &str| cid == in_use).await;
}

/// The artifacts that have stored bytes.
async fn kept() -> BTreeMap<String, u64> {
    let rows = store::index().await;
    rows.into_iter().filter(|row| row.bytes > 0).map(|row| (row.cid, row.bytes)).collect()
}

async fn kept_cids() -> Vec<String> {
    kept().await.into_keys().collect()
}

#[wasm_bindgen_test]
async fn the_least_recently_used_artifact_is_evicted() {
    fresh_browser().await;
    let budget = budget(Some(2500));
    for cid in ["a", "b"] {
        save(&budget, cid, "").await;
    }
    edge_net_driver::sleep(2).await;
    store::note_use("a", number(SIZE as u64)).await;
    save(&budget, "c", "").await;
    assert_eq!(kept_cids().await, ["a", "c"]);
}

#[wasm_bindgen_test]
async fn pinned_artifacts_and_those_in_use_are_not_evicted() {
    fresh_browser().await;
    let budget = budget(Some(2500));
    store::pin("a", number(SIZE as u64), true).await;
    for cid in ["a", "b"] {
        save(&budget, cid, "").await;
    }
    save(&budget, "c", "b").await;
    assert_eq!(kept_cids().await, ["a", "b"], "there is no room for c");
    save(&budget, "c", "").await;
    assert_eq!(kept_cids().await, ["a", "c"]);
}

#[wasm_bindgen_test]
async fn concurrent_writes_stay_within_the_budget() {
    fresh_browser().await;
    let budget = budget(Some(2500));
    futures::join!(
        save(&budget, "a", ""),
        save(&budget, "b", ""),
        save(&budget, "c", ""),
        save(&budget, "d", "")
    );
    assert_eq!(kept().await.values().sum::<u64>(), 2000);
}

#[wasm_bindgen_test]
async fn a_full_disk_evicts_one_artifact_at_a_time() {
    fresh_browser().await;
    set_quota(2500.0);
    let budget = budget(None);
    for cid in ["a", "b", "c"] {
        save(&budget, cid, "").await;
    }
    assert_eq!(kept_cids().await, ["b", "c"]);
    set_quota(500.0);
    save(&budget, "d", "").await;
    assert!(kept().await.is_empty(), "nothing fits");
}

/// Downloads and stores an artifact of three leaves.
async fn stored(models: &Models) -> (Artifact, std::rc::Rc<std::cell::RefCell<Vec<Request>>>) {
    let artifact = Artifact::new(3 * 262_144);
    let requests = serve(signed(&artifact, "1.0.0", 1), &artifact);
    assert_eq!(body(&get(models, "tiny/model.bin").await).await, artifact.bytes);
    idle(models).await;
    requests.borrow_mut().clear();
    (artifact, requests)
}

fn names_of_entries() -> serde_json::Value {
    let names = Function::new_no_args("return namesOfEntries()").call0(&JsValue::NULL).unwrap();
    from_js(&names)
}

/// A worker without stored bytes, and an artifact of three segments that its sources serve.
async fn three_segments() -> (Models, Artifact) {
    fresh_browser().await;
    let artifact = Artifact::of_equal_leaves(2 * 16 + 1);
    serve(signed(&artifact, "1.0.0", 1), &artifact);
    (worker(&json!({})).0, artifact)
}

#[wasm_bindgen_test]
async fn segments_that_arrive_together_are_written_once_as_a_pack() {
    let (models, artifact) = three_segments().await;
    assert_eq!(body(&get(&models, "tiny/model.bin").await).await, artifact.bytes);
    idle(&models).await;
    assert_eq!(names_of_entries(), json!(["pack-0"]));
    assert_eq!(kept().await.into_values().collect::<Vec<_>>(), [artifact.size()]);
}

#[wasm_bindgen_test]
async fn a_segment_does_not_wait_for_ever_for_the_others_of_its_pack() {
    let (models, artifact) = three_segments().await;
    let range = json!({ "headers": { "range": "bytes=0-4194303" } });
    let response = get_with(&models, "tiny/model.bin", &range).await;
    assert_eq!(body(&response).await, artifact.bytes[..4_194_304]);
    idle(&models).await;
    assert_eq!(names_of_entries(), json!(["0"]));
    assert_eq!(kept().await.into_values().collect::<Vec<_>>(), [4_194_304]);
}

#[wasm_bindgen_test]
async fn stored_files_are_listed_pinned_and_removed() {
    fresh_browser().await;
    let (models, _) = worker(&json!({ "budget": 9_000_000 }));
    let (artifact, _) = stored(&models).await;
    models.pin("tiny".into(), true).await.ok().unwrap();
    let rows = from_js(models.list().await.as_ref());
    let row = &rows[0];
    let cid = cid_text(&manifest(&artifact).artifacts[0].cid);
    assert_eq!(row["cid"], json!(cid));
    assert_eq!((&row["model"], &row["version"]), (&json!("tiny"), &json!("1.0.0")));
    assert_eq!((&row["file"], &row["pinned"]), (&json!("model.bin"), &json!(true)));
    assert_eq!((&row["size"], &row["cachedBytes"]), (&json!(786_432), &json!(786_432)));
    let usage = from_js(&models.usage().await);
    let expected =
        json!({ "bytes": 786_432, "budget": 9_000_000, "quota": 1000, "usage": 786_432 });
    assert_eq!(usage, expected);

    models.remove("other".into()).await;
    assert_eq!(models.list().await.length(), 1);
    models.remove("tiny".into()).await;
    assert_eq!(models.list().await.length(), 0);
    assert_eq!(from_js(&models.usage().await)["bytes"], json!(0));
}

#[wasm_bindgen_test]
async fn verify_finds_and_deletes_bad_segments() {
    fresh_browser().await;
    let (models, _) = worker(&json!({}));
    let (artifact, requests) = stored(&models).await;
    let verify = async || from_js(models.verify("tiny".into()).await.ok().unwrap().as_ref());
    let good = json!([{ "file": "model.bin", "segments": 1, "good": 1, "bad": [] }]);
    assert_eq!(verify().await, good);

    let mut altered = artifact.bytes.clone();
    altered[300_000] ^= 1;
    let set = Function::new_with_args("bytes", "setCached('/0', bytes)");
    set.call1(&JsValue::NULL, &Uint8Array::from(&*altered)).unwrap();
    let bad = json!([{ "file": "model.bin", "segments": 1, "good": 0, "bad": [0] }]);
    assert_eq!(verify().await, bad);
    assert!(kept().await.is_empty());

    // The next request downloads it again.
    assert_eq!(body(&get(&models, "tiny/model.bin").await).await, artifact.bytes);
    assert!(requests.borrow().iter().any(|request| request.url.ends_with("/model.bin")));
}

#[wasm_bindgen_test]
async fn altered_segments_are_not_delivered() {
    fresh_browser().await;
    let (models, _) = worker(&json!({}));
    let (artifact, _) = stored(&models).await;
    let set = Function::new_with_args("bytes", "setCached('/0', bytes)");
    set.call1(&JsValue::NULL, &Uint8Array::from(&*vec![0; artifact.bytes.len()])).unwrap();
    let (models, _) = worker(&json!({}));
    assert_eq!(body(&get(&models, "tiny/model.bin").await).await, artifact.bytes);
}

#[wasm_bindgen_test]
async fn a_file_larger_than_the_budget_is_delivered_but_not_stored() {
    fresh_browser().await;
    let budget = budget(Some(2500));
    save(&budget, "a", "").await;
    let (models, _) = worker(&json!({ "budget": 2500 }));
    stored(&models).await;
    assert_eq!(kept_cids().await, ["a"]);
}

#[wasm_bindgen_test]
async fn clear_deletes_bytes_and_keeps_the_floor() {
    fresh_browser().await;
    let (models, _) = worker(&json!({}));
    stored(&models).await;
    models.clear().await;
    assert!(kept().await.is_empty());
    assert_eq!(crate::acceptance::stored().await.len(), 1);
}
