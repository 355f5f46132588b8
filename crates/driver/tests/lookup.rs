//! Lookups of manifests and leaf tables against a fake host.

#![cfg(target_arch = "wasm32")]

mod fake;

use edge_net_core::dag::blocks::{Blocks, Position};
use edge_net_core::dag::cid::parse_cid;
use edge_net_core::transfer::source::{Failure, Source, SourceKind};
use edge_net_core::trust::signature::Floor;
use edge_net_driver::lookup::{self, Accepted, Access, NoManifest, Places, Public};
use js_sys::{Object, Reflect};
use semver::Version;
use std::sync::Arc;
use wasm_bindgen::prelude::*;
use wasm_bindgen_test::wasm_bindgen_test;

use fake::publisher::{MODEL, document, manifest, pinned, signed, signed_by};
use fake::{Artifact, Reply, Request, on_fetch};

fn sources() -> [Source; 3] {
    [
        Source::new(SourceKind::Edge, "https://edge.test/models"),
        Source::new(SourceKind::Gcs, "https://gcs.test/bucket"),
        Source::new(SourceKind::Ipfs, "https://ipfs.test/ipfs"),
    ]
}

async fn find(version: Option<&Version>, floor: Option<&Floor>) -> Result<Accepted, NoManifest> {
    let (sources, init) = (sources(), Object::new());
    let places = Places { sources: &sources, init: &init, access: &Public };
    lookup::manifest(&places, &pinned(), MODEL, version, floor).await
}

/// Answers the edge by `edge` and the bucket by `gcs`.
fn answer(
    edge: impl Fn() -> Reply + 'static,
    gcs: impl Fn() -> Reply + 'static,
) -> impl Fn(&Request) -> Reply + 'static {
    move |request| match request {
        request if request.is_to("edge") => edge(),
        request if request.is_to("gcs") => gcs(),
        _ => Reply::status(404),
    }
}

fn small() -> Artifact {
    Artifact::new(1000)
}

#[wasm_bindgen_test]
async fn sources_are_asked_in_order_until_one_has_the_manifest() {
    let text = signed(&small(), "1.0.0", 1);
    let sent = text.clone();
    let requests = on_fetch(answer(|| Reply::status(404), move || Reply::whole(sent.as_bytes())));
    let accepted = find(None, None).await.unwrap();
    assert_eq!((accepted.text, accepted.manifest.id.as_str()), (text, MODEL));
    let urls: Vec<String> = requests.borrow().iter().map(|request| request.url.clone()).collect();
    assert_eq!(
        urls,
        [
            "https://edge.test/models/tiny/manifest.json",
            "https://gcs.test/bucket/tiny/manifest.json"
        ]
    );
}

#[wasm_bindgen_test]
async fn a_version_is_asked_for_by_its_own_url() {
    let text = signed(&small(), "1.0.0", 1);
    let sent = text.clone();
    let requests = on_fetch(answer(move || Reply::whole(sent.as_bytes()), || Reply::status(404)));
    find(Some(&Version::new(1, 0, 0)), None).await.unwrap();
    assert_eq!(requests.borrow()[0].url, "https://edge.test/models/tiny/v1.0.0/manifest.json");
    let refused = find(Some(&Version::new(1, 0, 1)), None).await.err().unwrap();
    assert!(matches!(refused, NoManifest::Refused(_)), "{refused}");
}

#[wasm_bindgen_test]
async fn a_refused_manifest_does_not_hide_a_good_one() {
    let (bad, good) =
        (signed_by("other", document(&small(), "9.0.0", 9)), signed(&small(), "1.0.0", 1));
    on_fetch(answer(move || Reply::whole(bad.as_bytes()), move || Reply::whole(good.as_bytes())));
    assert_eq!(find(None, None).await.unwrap().manifest.version, Version::new(1, 0, 0));
}

#[wasm_bindgen_test]
async fn the_error_says_why_each_source_has_no_manifest() {
    let bad = signed_by("other", document(&small(), "1.0.0", 1));
    on_fetch(answer(move || Reply::whole(bad.as_bytes()), || Reply::status(404)));
    let error = find(None, None).await.err().unwrap();
    assert!(matches!(&error, NoManifest::Refused(why) if why.starts_with("edge: ")), "{error}");

    on_fetch(|_| Reply::status(404));
    let error = find(None, None).await.err().unwrap();
    let NoManifest::NotFound(why) = &error else { panic!("{error}") };
    assert!(why.contains("edge") && why.contains("gcs"), "{why}");

    on_fetch(answer(|| Reply::status(404), Reply::unreachable));
    let error = find(None, None).await.err().unwrap();
    let NoManifest::Unreachable(why) = &error else { panic!("{error}") };
    assert!(why.contains("gcs: no answer (fetch failed)"), "{why}");
}

#[wasm_bindgen_test]
async fn a_manifest_older_than_the_floor_is_refused_unless_its_version_is_named() {
    let keys = pinned();
    let acceptance = lookup::acceptance(&keys, MODEL, None, None);
    let newer = acceptance.offered(signed(&small(), "1.1.0", 2)).unwrap();
    let floor = newer.manifest.floor();
    let older = signed(&small(), "1.0.0", 1);
    let sent = older.clone();
    on_fetch(answer(move || Reply::whole(sent.as_bytes()), || Reply::status(404)));
    let error = find(None, Some(&floor)).await.err().unwrap();
    assert!(matches!(error, NoManifest::Older(_)), "{error}");
    find(Some(&Version::new(1, 0, 0)), Some(&floor)).await.unwrap();

    let bad = signed_by("other", document(&small(), "2.0.0", 3));
    on_fetch(answer(move || Reply::whole(older.as_bytes()), move || Reply::whole(bad.as_bytes())));
    let error = find(None, Some(&floor)).await.err().unwrap();
    assert!(matches!(error, NoManifest::Refused(_)), "not only older ones: {error}");
}

#[wasm_bindgen_test]
async fn an_expired_manifest_is_refused_unless_its_version_is_named() {
    let mut expired = document(&small(), "1.0.0", 1);
    expired["expires"] = "2026-01-02T00:00:00Z".into();
    let text = signed_by("release", expired);
    on_fetch(answer(move || Reply::whole(text.as_bytes()), || Reply::status(404)));
    let error = find(None, None).await.err().unwrap();
    assert!(matches!(error, NoManifest::Refused(_)), "{error}");
    find(Some(&Version::new(1, 0, 0)), None).await.unwrap();
}

#[wasm_bindgen_test]
async fn a_manifest_of_the_far_future_is_refused_with_a_word_about_clocks() {
    let mut early = document(&small(), "1.0.0", 1);
    early["timestamp"] = "9000-01-01T00:00:00Z".into();
    let text = signed_by("release", early);
    on_fetch(answer(move || Reply::whole(text.as_bytes()), || Reply::status(404)));
    let error = find(None, None).await.err().unwrap();
    assert!(error.to_string().contains("the clock of this device is behind"), "{error}");
}

#[wasm_bindgen_test]
async fn more_than_a_manifest_can_have_is_not_read() {
    on_fetch(|_| Reply::whole(&vec![b' '; (1 << 20) + 1]));
    let error = find(None, None).await.err().unwrap();
    assert!(matches!(error, NoManifest::Unreachable(_)), "{error}");
}

/// Signs URLs of the bucket; has no key for the edge.
struct Keys;

impl Access for Keys {
    async fn admit(&self, source: &Source, url: String) -> Result<String, Failure> {
        match source.kind {
            SourceKind::Gcs => Ok(format!("{url}?signature=1")),
            _ => Err(Failure::Unreachable("no key".into())),
        }
    }
}

#[wasm_bindgen_test]
async fn urls_are_signed_and_options_passed_on() {
    let text = signed(&small(), "1.0.0", 1);
    let requests = on_fetch(move |_| Reply::whole(text.as_bytes()));
    let (sources, init) = (sources(), Object::new());
    Reflect::set(&init, &"mode".into(), &"cors".into()).unwrap();
    let places = Places { sources: &sources, init: &init, access: &Keys };
    lookup::manifest(&places, &pinned(), MODEL, None, None).await.unwrap();
    let requests = requests.borrow();
    let [request] = &**requests else { panic!("the edge is not asked without its key") };
    assert!(request.url.ends_with("/tiny/manifest.json?signature=1"));
    let mode: JsValue = Reflect::get(&request.init, &"mode".into()).unwrap();
    assert_eq!(mode.as_string().as_deref(), Some("cors"));
}

async fn leaf_table(artifact: &Artifact) -> Result<Vec<u8>, String> {
    let (sources, init) = (sources(), Object::new());
    let places = Places { sources: &sources, init: &init, access: &Public };
    let manifest = manifest(artifact);
    let found = lookup::leaf_table(&places, &manifest, &manifest.artifacts[0]).await;
    found.map(|table| table.to_bytes()).map_err(|error| error.to_string())
}

#[wasm_bindgen_test]
async fn the_cid_of_a_single_leaf_is_its_leaf_table() {
    let requests = on_fetch(|_| Reply::status(404));
    let artifact = small();
    assert_eq!(leaf_table(&artifact).await.unwrap(), artifact.table.to_bytes());
    assert!(requests.borrow().is_empty());
}

#[wasm_bindgen_test]
async fn a_wrong_leaf_table_is_refused_and_the_next_source_asked() {
    let artifact = Artifact::of_equal_leaves(3);
    let good = artifact.table.to_bytes();
    let bad = vec![0; good.len()];
    let requests = on_fetch(answer(move || Reply::whole(&bad), move || Reply::whole(&good)));
    assert_eq!(leaf_table(&artifact).await.unwrap(), artifact.table.to_bytes());
    assert_eq!(requests.borrow()[1].url, "https://gcs.test/bucket/tiny/v1.0.0/model.bin.leaves");
}

/// A gateway that has the inner blocks of an artifact.
fn gateway(artifact: &Artifact) -> impl Fn(&Request) -> Reply + 'static {
    let blocks = Blocks::over(Arc::clone(&artifact.table));
    move |request| {
        let path = request.url.strip_prefix("https://ipfs.test/ipfs/");
        let cid = path.and_then(|path| parse_cid(path.strip_suffix("?format=raw")?));
        match cid.and_then(|cid| blocks.find(&cid)) {
            Some(Position::Inner(inner)) => Reply::whole(&blocks.inner(inner)),
            _ => Reply::status(404),
        }
    }
}

#[wasm_bindgen_test]
async fn a_gateway_gives_the_leaf_table_in_the_blocks_of_the_dag() {
    let artifact = Artifact::of_equal_leaves(3);
    on_fetch(gateway(&artifact));
    assert_eq!(leaf_table(&artifact).await.unwrap(), artifact.table.to_bytes());
}

#[wasm_bindgen_test]
async fn the_error_says_why_each_source_has_no_leaf_table() {
    let artifact = Artifact::of_equal_leaves(3);
    on_fetch(answer(|| Reply::whole(b"short"), Reply::unreachable));
    let error = leaf_table(&artifact).await.unwrap_err();
    for part in ["model.bin", "edge: ", "gcs: no answer (fetch failed)", "ipfs: status 404"] {
        assert!(error.contains(part), "{error}");
    }
}
