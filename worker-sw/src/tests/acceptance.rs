//! Which manifest is accepted.

use std::rc::Rc;

use edge_net_driver::lookup::NoManifest;
use semver::Version;
use serde_json::json;
use wasm_bindgen_test::wasm_bindgen_test;

use super::fake::publisher::{MODEL, document, public_key, signed, signed_by};
use super::fake::{Artifact, Reply, Request, on_fetch};
use super::{Events, config, details, fresh_browser, teller};
use crate::acceptance::{Manifests, stored};
use crate::config::Config;
use crate::store::{self, MANIFESTS};

fn artifact() -> Artifact {
    Artifact::new(100)
}

/// The manifests of a worker that was just started.
fn manifests() -> (Manifests, Events) {
    let (teller, events) = teller();
    (Manifests::new(config(&json!({})), teller), events)
}

fn always(text: String) -> impl Fn(&Request) -> Reply + 'static {
    move |_| Reply::whole(text.as_bytes())
}

async fn newest(manifests: &Manifests) -> Result<String, NoManifest> {
    manifests.find(MODEL, None).await.map(|accepted| accepted.manifest.version.to_string())
}

async fn put(name: &str, text: &str) {
    store::put(MANIFESTS, name, &text.into()).await;
}

#[wasm_bindgen_test]
async fn the_newest_is_looked_up_once_a_minute_for_all_who_ask() {
    fresh_browser().await;
    let requests = on_fetch(always(signed(&artifact(), "1.0.0", 1)));
    let (manifests, _) = manifests();
    let (a, b) = futures::join!(newest(&manifests), newest(&manifests));
    assert_eq!((a.unwrap(), b.unwrap()), ("1.0.0".into(), "1.0.0".into()));
    newest(&manifests).await.unwrap();
    assert_eq!(requests.borrow().len(), 1);
}

#[wasm_bindgen_test]
async fn a_newer_manifest_replaces_the_stored_one() {
    fresh_browser().await;
    put(MODEL, &signed(&artifact(), "1.0.0", 1)).await;
    on_fetch(always(signed(&artifact(), "1.1.0", 2)));
    assert_eq!(newest(&manifests().0).await.unwrap(), "1.1.0");
    let versions: Vec<String> =
        stored().await.iter().map(|manifest| manifest.version.to_string()).collect();
    assert_eq!(versions, ["1.1.0"]);
}

#[wasm_bindgen_test]
async fn the_stored_manifest_is_the_floor() {
    fresh_browser().await;
    put(MODEL, &signed(&artifact(), "1.1.0", 2)).await;
    on_fetch(always(signed(&artifact(), "1.0.0", 1)));
    let (manifests, events) = manifests();
    assert_eq!(newest(&manifests).await.unwrap(), "1.1.0");
    let refused = details(&events, "refused");
    assert_eq!(
        (&refused[0]["model"], &refused[0]["file"]),
        (&json!(MODEL), &json!("manifest.json"))
    );
}

#[wasm_bindgen_test]
async fn the_stored_manifest_holds_while_no_source_has_one() {
    for status in [404, 503] {
        fresh_browser().await;
        put(MODEL, &signed(&artifact(), "1.0.0", 1)).await;
        on_fetch(move |_| Reply::status(status));
        let (manifests, events) = manifests();
        assert_eq!(newest(&manifests).await.unwrap(), "1.0.0");
        assert!(events.borrow().is_empty());
    }
}

#[wasm_bindgen_test]
async fn the_stored_manifest_does_not_hold_after_it_expires() {
    fresh_browser().await;
    let mut expired = document(&artifact(), "1.0.0", 1);
    expired["expires"] = json!("2026-01-02T00:00:00Z");
    put(MODEL, &signed_by("release", expired)).await;
    on_fetch(|_| Reply::unreachable());
    let error = newest(&manifests().0).await.unwrap_err();
    assert!(matches!(error, NoManifest::Refused(_)), "{error}");
}

#[wasm_bindgen_test]
async fn a_manifest_by_another_key_is_an_error_despite_a_stored_one() {
    fresh_browser().await;
    put(MODEL, &signed(&artifact(), "1.0.0", 1)).await;
    on_fetch(always(signed_by("other", document(&artifact(), "2.0.0", 3))));
    let error = newest(&manifests().0).await.unwrap_err();
    assert!(matches!(error, NoManifest::Refused(_)), "{error}");
}

#[wasm_bindgen_test]
async fn a_stored_manifest_is_verified_again() {
    fresh_browser().await;
    on_fetch(|_| Reply::unreachable());
    let text = signed(&artifact(), "1.0.0", 1);
    put(MODEL, &text.replace("\"Tiny\"", "\"Other\"")).await;
    let error = newest(&manifests().0).await.unwrap_err();
    assert!(matches!(error, NoManifest::Unreachable(_)), "altered: {error}");

    put(MODEL, &text).await;
    let others = json!({ "keys": { "other": public_key("other") } });
    let config = Config::read(&super::options(&others)).unwrap();
    let manifests = Manifests::new(Rc::new(config), teller().0);
    let error = newest(&manifests).await.unwrap_err();
    assert!(matches!(error, NoManifest::Unreachable(_)), "not pinned any more: {error}");
}

#[wasm_bindgen_test]
async fn a_version_is_looked_up_once_and_below_the_floor_too() {
    fresh_browser().await;
    put(MODEL, &signed(&artifact(), "2.0.0", 9)).await;
    let requests = on_fetch(always(signed(&artifact(), "1.0.0", 1)));
    let version = Version::new(1, 0, 0);
    for _ in 0..2 {
        let (manifests, _) = manifests();
        let accepted = manifests.find(MODEL, Some(&version)).await.ok().unwrap();
        assert_eq!(accepted.manifest.version, version);
    }
    assert_eq!(requests.borrow().len(), 1, "the second worker finds it stored");
}
