//! Which manifest is accepted.

use std::cell::Cell;
use std::rc::Rc;

use edge_net_driver::lookup::NoManifest;
use js_sys::Function;
use semver::Version;
use serde_json::json;
use wasm_bindgen::JsValue;
use wasm_bindgen_test::wasm_bindgen_test;

use super::fake::publisher::{MODEL, document, public_key, replaces, signed, signed_by};
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

/// Lets time pass for `Date.now`.
fn later(minutes: f64) {
    let pass = "const now = Date.now; Date.now = () => now() + minutes * 60000";
    Function::new_with_args("minutes", pass).call1(&JsValue::NULL, &minutes.into()).unwrap();
}

#[wasm_bindgen_test]
async fn the_floor_is_kept_in_memory_as_well() {
    fresh_browser().await;
    let newest_first = Cell::new(true);
    let (new, old) = (signed(&artifact(), "1.1.0", 2), signed(&artifact(), "1.0.0", 1));
    on_fetch(move |_| {
        Reply::whole(if newest_first.replace(false) { &new } else { &old }.as_bytes())
    });
    let (manifests, events) = manifests();
    assert_eq!(newest(&manifests).await.unwrap(), "1.1.0");
    // The storage is gone, and the minute over.
    put(MODEL, "").await;
    put(&format!("{MODEL}#floor"), "").await;
    later(2.0);
    assert_eq!(newest(&manifests).await.unwrap(), "1.1.0");
    assert_eq!(details(&events, "refused").len(), 1);
    later(-2.0);
}

#[wasm_bindgen_test]
async fn a_replaced_key_stays_replaced_where_both_are_pinned() {
    fresh_browser().await;
    let both = json!({ "keys": {
        "release": public_key("release"), "second": public_key("second"),
    } });
    let started = || Manifests::new(config(&both), teller().0);
    // A version by the old key was kept before.
    put(&format!("{MODEL}@1.0.0"), &signed(&artifact(), "1.0.0", 1)).await;
    let mut rotated = document(&artifact(), "1.1.0", 2);
    rotated["endorsements"] = replaces("second", "release");
    on_fetch(always(signed_by("second", rotated)));
    assert_eq!(newest(&started()).await.unwrap(), "1.1.0");

    on_fetch(always(signed_by("second", document(&artifact(), "1.2.0", 3))));
    assert_eq!(newest(&started()).await.unwrap(), "1.2.0", "without the endorsement");

    on_fetch(always(signed(&artifact(), "2.0.0", 4)));
    let error = newest(&started()).await.unwrap_err();
    assert!(error.to_string().contains("which was replaced by another"), "{error}");
    let version = Version::new(1, 0, 0);
    on_fetch(always(signed(&artifact(), "1.0.0", 1)));
    let error = started().find(MODEL, Some(&version)).await.err().unwrap();
    assert!(error.to_string().contains("which was replaced by another"), "kept: {error}");
}

#[wasm_bindgen_test]
async fn a_manifest_of_the_far_future_locks_nobody_out() {
    fresh_browser().await;
    let mut early = document(&artifact(), "1.0.0", 1);
    early["timestamp"] = json!("2090-01-01T00:00:00Z");
    on_fetch(always(signed_by("release", early)));
    let (manifests, _) = manifests();
    let error = newest(&manifests).await.unwrap_err();
    assert!(error.to_string().contains("the clock of this device is behind"), "{error}");
    on_fetch(always(signed(&artifact(), "1.0.0", 1)));
    assert_eq!(newest(&manifests).await.unwrap(), "1.0.0");
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
