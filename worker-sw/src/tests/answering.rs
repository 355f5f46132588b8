//! Responses, and the events that go with them.

use serde_json::{Value, json};
use wasm_bindgen_test::wasm_bindgen_test;

use super::fake::publisher::signed;
use super::fake::{Artifact, Reply, on_fetch};
use super::{body, details, fresh_browser, get, get_with, idle, request, serve, worker};

const LEAF: usize = 262_144;

fn artifact() -> Artifact {
    Artifact::new(5 * LEAF + 3)
}

async fn problem(response: &web_sys::Response) -> Value {
    assert_eq!(
        response.headers().get("content-type").unwrap().as_deref(),
        Some("application/problem+json")
    );
    serde_json::from_slice(&body(response).await).unwrap()
}

#[wasm_bindgen_test]
async fn a_get_downloads_then_answers_from_the_store() {
    fresh_browser().await;
    let artifact = artifact();
    let requests = serve(signed(&artifact, "1.0.0", 1), &artifact);
    let (models, events) = worker(&json!({}));
    let response = get(&models, "tiny/model.bin?x=1").await;
    assert_eq!(response.status(), 200);
    assert!(response.headers().get("etag").unwrap().is_some());
    assert_eq!(body(&response).await, artifact.bytes);
    idle(&models).await;
    let segments = details(&events, "segment");
    assert_eq!((&segments[0]["segment"], &segments[0]["segments"]), (&json!(0), &json!(1)));
    assert_eq!(segments[0]["end"], json!(artifact.size()));
    assert_eq!(details(&events, "complete").len(), 1);
    assert_eq!(details(&events, "complete")[0]["file"], json!("model.bin"));

    requests.borrow_mut().clear();
    let (models, events) = worker(&json!({}));
    assert_eq!(body(&get(&models, "tiny/v1.0.0/model.bin").await).await, artifact.bytes);
    let urls: Vec<String> = requests.borrow().iter().map(|request| request.url.clone()).collect();
    assert_eq!(urls, ["https://edge.test/models/tiny/v1.0.0/manifest.json"]);
    let segments = details(&events, "segment");
    assert_eq!(
        (&segments[0]["source"], &segments[0]["origin"]),
        (&json!("cache"), &json!("cache"))
    );
}

#[wasm_bindgen_test]
async fn a_range_is_partial_content() {
    fresh_browser().await;
    let artifact = artifact();
    serve(signed(&artifact, "1.0.0", 1), &artifact);
    let (models, _) = worker(&json!({}));
    let init = json!({ "headers": { "range": "bytes=262140-262149" } });
    for _ in 0..2 {
        let response = get_with(&models, "tiny/model.bin", &init).await;
        assert_eq!(response.status(), 206);
        let range = response.headers().get("content-range").unwrap().unwrap();
        assert_eq!(range, format!("bytes 262140-262149/{}", artifact.size()));
        assert_eq!(body(&response).await, artifact.bytes[262_140..262_150]);
        // The second response comes from the store.
        body(&get(&models, "tiny/model.bin").await).await;
        idle(&models).await;
    }
}

#[wasm_bindgen_test]
async fn head_and_not_modified_have_no_body_and_fetch_no_bytes() {
    fresh_browser().await;
    let artifact = artifact();
    let requests = serve(signed(&artifact, "1.0.0", 1), &artifact);
    let (models, _) = worker(&json!({}));
    let head = get_with(&models, "tiny/model.bin", &json!({ "method": "HEAD" })).await;
    let length = head.headers().get("content-length").unwrap().unwrap();
    assert_eq!((head.status(), length), (200, artifact.size().to_string()));
    let tag = head.headers().get("etag").unwrap().unwrap();
    let init = json!({ "headers": { "if-none-match": tag } });
    let not_modified = get_with(&models, "tiny/model.bin", &init).await;
    assert_eq!(not_modified.status(), 304);
    assert!(body(&head).await.is_empty() && body(&not_modified).await.is_empty());
    assert_eq!(requests.borrow().len(), 1, "the manifest");
}

#[wasm_bindgen_test]
async fn the_manifest_and_the_leaf_table_are_files_too() {
    fresh_browser().await;
    let artifact = artifact();
    let text = signed(&artifact, "1.0.0", 1);
    serve(text.clone(), &artifact);
    let (models, _) = worker(&json!({}));
    assert_eq!(body(&get(&models, "tiny/manifest.json").await).await, text.as_bytes());
    let table = body(&get(&models, "tiny/model.bin.leaves").await).await;
    assert_eq!(table, artifact.table.to_bytes());
}

#[wasm_bindgen_test]
async fn what_does_not_exist_is_a_404_with_a_problem() {
    fresh_browser().await;
    let artifact = artifact();
    serve(signed(&artifact, "1.0.0", 1), &artifact);
    let (models, events) = worker(&json!({}));
    for (path, detail) in [("", "names no model file"), ("tiny/other.bin", "no file")] {
        let response = get(&models, path).await;
        assert_eq!(response.status(), 404);
        let problem = problem(&response).await;
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{problem}");
    }
    on_fetch(|_| Reply::status(404));
    assert_eq!(get(&models, "missing/model.bin").await.status(), 404);
    assert!(events.borrow().is_empty());
}

#[wasm_bindgen_test]
async fn a_failure_is_an_error_and_an_event() {
    fresh_browser().await;
    on_fetch(|_| Reply::unreachable());
    let (models, events) = worker(&json!({}));
    assert!(models.answer(request("tiny/model.bin", &json!({})), None).await.is_err());
    let failed = details(&events, "failed");
    assert_eq!((&failed[0]["model"], &failed[0]["file"]), (&json!("tiny"), &json!("model.bin")));
    assert!(failed[0]["message"].as_str().unwrap().contains("no source"));
}

#[wasm_bindgen_test]
async fn a_source_with_wrong_bytes_is_reported() {
    fresh_browser().await;
    let artifact = artifact();
    let (bytes, table) = (artifact.bytes.clone(), artifact.table.to_bytes());
    let manifest = signed(&artifact, "1.0.0", 1);
    on_fetch(move |request| match request.url.rsplit('/').next() {
        Some("manifest.json") => Reply::whole(manifest.as_bytes()),
        Some("model.bin.leaves") => Reply::whole(&table),
        _ if request.is_to("edge") => Reply::range(&vec![0; bytes.len()], request),
        _ => Reply::range(&bytes, request),
    });
    let (models, events) = worker(&json!({}));
    assert_eq!(body(&get(&models, "tiny/model.bin").await).await, artifact.bytes);
    let refused = details(&events, "refused");
    assert_eq!((&refused[0]["source"], &refused[0]["segment"]), (&json!("edge"), &json!(0)));
    assert!(refused[0]["reason"].as_str().unwrap().contains("wrong bytes in leaf"));
    assert_eq!(details(&events, "segment")[0]["source"], json!("gcs"));
}
