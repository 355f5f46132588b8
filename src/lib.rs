//! Verified delivery of AI model files, without I/O.
//!
//! One idea runs through the crate: bytes of a model are good when, and only when, they belong to the
//! tree that a pinned publisher signed. The way from untrusted to trusted, in order:
//!
//! | from | to | decided in |
//! |---|---|---|
//! | JSON text from anywhere | [`VerifiedManifest`](signature::VerifiedManifest) | [`signature`] |
//! | a leaf table from anywhere | [`LeafTable`](verify::LeafTable) | [`verify`] |
//! | bytes from anywhere | [`VerifiedLeaves`](verify::VerifiedLeaves) | [`verify`] |
//!
//! [`download`] is the state machine that plans what to fetch from which source, and [`http`] the
//! HTTP semantics of what is answered; [`gateway`] is the same for other IPFS clients, who are given [`blocks`],
//! alone or as a [`car`]. Nothing here fetches, stores, sleeps or draws random numbers:
//! drivers do, and tell the machine what happened.

pub mod blocks;
pub mod car;
pub mod dag;
pub mod download;
pub mod embeddable;
pub mod eviction;
pub mod gateway;
pub mod gcs;
mod health;
pub mod http;
pub mod layout;
pub mod link;
pub mod manifest;
pub mod openai;
pub mod range;
pub mod registry;
pub mod signature;
pub mod source;
pub mod verify;
