//! Runs [`edge_net_core`] on a host with the web platform: a service worker, a page, or workerd. It
//! fetches with `fetch`, hashes with WebCrypto and returns bytes as a `ReadableStream`.
//!
//! Bytes of artifacts stay in the host's memory. Only digests, numbers, manifests and leaf tables
//! enter WebAssembly.
//!
//! | module | contents |
//! |---|---|
//! | [`host`] | bindings to the host: `fetch`, streams, WebCrypto, clock and timers |
//! | [`lookup`] | finds and verifies manifests and leaf tables |
//! | [`session`] | runs one download machine for any number of readers |
//! | [`rows`] | a session that reads consecutive segments from one response |
//! | [`log`] | structured log lines |

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
