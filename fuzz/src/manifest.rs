//! Manifests: parsing, canonical bytes and signatures.

use std::sync::LazyLock;

use base64ct::{Base64, Encoding as _};
use ed25519_dalek::SigningKey;
use edge_net_core::dag::cid::{DAG_PB, RAW};
use edge_net_core::dag::digest::Digest;
use edge_net_core::dag::layout::LEAF_SIZE;
use edge_net_core::trust::manifest::{MAX_ARTIFACTS, MAX_SIZE, Manifest, is_filename, is_id};
use edge_net_core::trust::signature::{PinnedKeys, VerifiedManifest, sign};
use serde_json::{Map, Value};

/// The manifest of the demo model, whose publisher's private key is not here.
const DEMO: &str = include_str!("../../manifests/minilm-l6-v2-q8.json");

/// The demo manifest's signed bytes, and its key pinned.
static PUBLISHED: LazyLock<(String, PinnedKeys)> = LazyLock::new(|| {
    let document = object(DEMO).expect("the demo manifest is an object");
    let key = document["signature"]["publicKey"].as_str().expect("the demo manifest is signed");
    let keys = PinnedKeys::default().pin("development".into(), key).expect("its key is a key");
    (signed_part(&document), keys)
});

/// The key that signs whatever can be parsed.
static SIGNER: LazyLock<(SigningKey, PinnedKeys)> = LazyLock::new(|| {
    let key = SigningKey::from_bytes(&[7; 32]);
    let public = Base64::encode_string(key.verifying_key().as_bytes());
    let keys = PinnedKeys::default().pin("signer".into(), &public).expect("the key is a key");
    (key, keys)
});

/// Input: the text of a manifest.
///
/// - What verifies against the key of the demo manifest has the content of the demo manifest.
/// - The fields of a parsed manifest are within their limits.
/// - The canonical form of a parsed manifest is a fixed point, and parses to the same fields.
/// - Every parsed manifest can be signed, verifies then, and verifies no more when a member
///   changes.
///
/// # Panics
/// When a property does not hold.
pub fn manifest(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (published, keys) = &*PUBLISHED;
    if let Ok(verified) = VerifiedManifest::verify(text, keys) {
        assert_eq!(signed_part(verified.document()), *published, "a forged manifest");
    }
    let Ok(manifest) = Manifest::parse(text) else { return };
    assert_limits(&manifest);
    assert_canonical_form(&manifest);
    assert_signature(&manifest, data.len());
}

fn assert_limits(manifest: &Manifest) {
    assert!(is_id(&manifest.id));
    assert!(!manifest.name.is_empty() && !manifest.kind.is_empty());
    assert!((1..=MAX_ARTIFACTS).contains(&manifest.artifacts.len()));
    for artifact in &manifest.artifacts {
        assert!(is_filename(&artifact.filename));
        assert!(artifact.size <= MAX_SIZE);
        let codec = if artifact.size <= LEAF_SIZE { RAW } else { DAG_PB };
        assert_eq!(artifact.cid.codec(), codec);
        assert!(Digest::of_cid(&artifact.cid).is_some());
        let found = manifest.artifact(&artifact.filename).map(|found| &found.role);
        assert_eq!(found, Some(&artifact.role), "two artifacts of one name");
    }
}

fn assert_canonical_form(manifest: &Manifest) {
    let text = canonical(manifest.document());
    let again = Manifest::parse(&text).expect("the canonical form is a manifest");
    assert_eq!(canonical(again.document()), text);
    assert_eq!(fields(&again), fields(manifest));
}

fn assert_signature(manifest: &Manifest, choice: usize) {
    let (key, keys) = &*SIGNER;
    let mut signed = sign(manifest.document().clone(), "signer", key).expect("it was parsed");
    let verified = VerifiedManifest::verify(&text(&signed), keys).expect("it was just signed");
    assert_eq!(fields(&verified), fields(manifest));
    assert_eq!(signed_part(verified.document()), signed_part(manifest.document()));

    let names: Vec<String> = signed.keys().filter(|name| *name != "signature").cloned().collect();
    let name = &names[choice % names.len()];
    match signed.get_mut(name) {
        Some(Value::String(value)) => value.push('0'),
        Some(value @ Value::Null) => *value = Value::Bool(true),
        Some(value) => *value = Value::Null,
        None => unreachable!("the name is a key of the object"),
    }
    assert!(VerifiedManifest::verify(&text(&signed), keys).is_err(), "{name} was changed");
}

/// All that a client reads of a manifest.
fn fields(manifest: &Manifest) -> String {
    let Manifest { id, name, version, kind, timestamp, expires, artifacts, .. } = manifest;
    format!("{id:?} {name:?} {version} {kind:?} {timestamp:?} {expires:?} {artifacts:?}")
}

fn object(text: &str) -> Option<Map<String, Value>> {
    serde_json::from_str(text).ok()
}

fn text(document: &Map<String, Value>) -> String {
    serde_json::to_string(document).expect("JSON values are JSON")
}

fn canonical(document: &Map<String, Value>) -> String {
    serde_json_canonicalizer::to_string(document).expect("parsed numbers are finite")
}

/// The text that a signature covers.
fn signed_part(document: &Map<String, Value>) -> String {
    let mut document = document.clone();
    document.remove("signature");
    canonical(&document)
}
