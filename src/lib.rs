//! Verified delivery of AI model files, without I/O.
//!
//! Bytes of a model are good exactly when they belong to the Merkle tree that a pinned publisher
//! signed. Untrusted input becomes trusted in three steps:
//!
//! | from | to | decided in |
//! |---|---|---|
//! | JSON text from anywhere | [`VerifiedManifest`] | [`trust::signature`] |
//! | a leaf table from anywhere | [`LeafTable`] | [`dag::verify`] |
//! | bytes from anywhere | [`VerifiedLeaves`] | [`dag::verify`] |
//!
//! [`VerifiedManifest`]: trust::signature::VerifiedManifest
//! [`LeafTable`]: dag::verify::LeafTable
//! [`VerifiedLeaves`]: dag::verify::VerifiedLeaves
//!
//! The crate does no I/O: it does not fetch, store, sleep, read a clock or draw random numbers. A
//! driver does, and reports to the download machine what happened; see [the run
//! loop](transfer::download#run-loop).
//!
//! # Modules
//!
//! | module | contents |
//! |---|---|
//! | [`trust`] | manifests, their signatures, pinned keys, protection against rollback |
//! | [`dag`] | leaves, segments, leaf tables, CIDs, blocks and CAR archives of an artifact |
//! | [`transfer`] | the download machine, sources and their URLs, eviction from a full store |
//! | [`http`] | HTTP semantics of a server: ranges, preconditions, links, gateway, registry |
//! | [`embeddable`] | which models embed text |
//! | [`time`] | points in time |
//!
//! # Example
//!
//! ```
//! use ed25519_dalek::SigningKey;
//! use edge_net_core::dag::cid::cid_text;
//! use edge_net_core::dag::digest::Digest;
//! use edge_net_core::dag::hasher::FileHasher;
//! use edge_net_core::dag::verify::{Hashed, LeafTable};
//! use edge_net_core::trust::signature::{PinnedKeys, VerifiedManifest, sign};
//! # use base64ct::{Base64, Encoding as _};
//! # use serde_json::{Value, json};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // The publisher hashes a file and signs a manifest.
//! let file: Vec<u8> = vec![7; 600_000];
//! let mut hasher = FileHasher::default();
//! hasher.update(&file);
//! let found = hasher.finish();
//! let manifest = json!({
//!     "id": "my-model", "name": "My model", "version": "1.0.0", "type": "embedding",
//!     "timestamp": "2026-01-03T00:00:00Z",
//!     "artifacts": { "model": {
//!         "filename": "model.onnx", "size": found.size,
//!         "sha256": found.sha256.to_hex(), "cid": cid_text(&found.cid),
//!     } },
//! });
//! let key = SigningKey::from_bytes(&[1; 32]);
//! let Value::Object(manifest) = manifest else { unreachable!() };
//! let text = serde_json::to_string(&sign(manifest, "my-team", &key)?)?;
//! let table: Vec<u8> = found.leaves.iter().flat_map(|leaf| leaf.0).collect();
//!
//! // A client trusts the manifest, then the leaf table, then the bytes.
//! let public_key = Base64::encode_string(key.verifying_key().as_bytes());
//! let keys = PinnedKeys::default().pin("my-team".to_owned(), &public_key)?;
//! let manifest = VerifiedManifest::verify(&text, &keys)?.about("my-model", None)?;
//! let artifact = manifest.artifact("model.onnx").expect("the manifest lists it");
//! let table = LeafTable::verify(&table, artifact.size, &artifact.cid)?;
//! let verdict = table.verify_leaves(0..3, &Hashed::here(file.into()));
//! assert!(verdict.bad.is_empty());
//! # Ok(())
//! # }
//! ```

#![warn(missing_debug_implementations)]

pub mod dag;
pub mod embeddable;
pub mod http;
pub mod time;
pub mod transfer;
pub mod trust;
