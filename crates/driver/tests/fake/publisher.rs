//! Signed manifests.

use base64ct::{Base64, Encoding as _};
use ed25519_dalek::SigningKey;
use edge_net_core::dag::cid::cid_text;
use edge_net_core::dag::digest::Digest;
use edge_net_core::dag::unixfs::{self};
use edge_net_core::trust::manifest::Manifest;
use edge_net_core::trust::signature::{PinnedKeys, endorse, sign};
use serde_json::{Value, json};

use super::Artifact;

/// The identifier of the model of all manifests.
pub const MODEL: &str = "tiny";

fn key(name: &str) -> SigningKey {
    SigningKey::from_bytes(&Digest::of(name.as_bytes()).0)
}

/// The public key of this name, in base64.
pub fn public_key(name: &str) -> String {
    Base64::encode_string(key(name).verifying_key().as_bytes())
}

/// The key `release`, pinned.
pub fn pinned() -> PinnedKeys {
    PinnedKeys::default().pin("release".into(), &public_key("release")).unwrap()
}

/// A manifest whose file `model.bin` is `artifact`, signed on the day `day` of January 2026.
pub fn document(artifact: &Artifact, version: &str, day: u8) -> Value {
    let root = unixfs::root(artifact.table.digests(), artifact.size());
    json!({
        "id": MODEL,
        "name": "Tiny",
        "version": version,
        "type": "embedding",
        "timestamp": format!("2026-01-{day:02}T00:00:00Z"),
        "artifacts": { "model": {
            "filename": "model.bin",
            "size": artifact.size(),
            "sha256": Digest::of(b"not read by clients").to_hex(),
            "cid": cid_text(&root),
        } },
    })
}

/// The text of a manifest, signed by the key `name`.
pub fn signed_by(name: &str, document: Value) -> String {
    let Value::Object(document) = document else { panic!("a manifest is an object") };
    Value::Object(sign(document, name, &key(name)).unwrap()).to_string()
}

/// The `endorsements` by which the key `new` replaces the key `old`.
#[allow(dead_code)] // Not all tests need it.
pub fn replaces(new: &str, old: &str) -> Value {
    json!([endorse(new, &public_key(new), old, &key(old))])
}

/// [`document`], signed by the pinned key.
pub fn signed(artifact: &Artifact, version: &str, day: u8) -> String {
    signed_by("release", document(artifact, version, day))
}

/// The manifest of `artifact`, without a check of its signature.
pub fn manifest(artifact: &Artifact) -> Manifest {
    Manifest::parse(&signed(artifact, "1.0.0", 1)).unwrap()
}
