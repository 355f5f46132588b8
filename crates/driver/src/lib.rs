//! Drives [`edge_net_core`] on any host with the web platform: a browser's service worker, a page,
//! or workerd. Fetches with `fetch`, hashes with WebCrypto, answers with a `ReadableStream`.
//!
//! The bytes stay in the host's memory: what crosses into WASM is digests, numbers, manifests and
//! leaf tables.

#![warn(missing_debug_implementations)]

pub mod host;
pub mod lease;
pub mod log;
pub mod lookup;
pub mod rows;
pub mod session;
mod stream;

pub use host::{HostBytes, hash_leaves, sleep};
pub use stream::into_stream;
