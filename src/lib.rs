//! Verified delivery of AI model files, without I/O.
//!
//! One idea runs through the crate: bytes of a model are good when, and only when, they belong to the
//! tree that a pinned publisher signed. The way from untrusted to trusted, in order:
//!
//! | from | to | decided in |
//! |---|---|---|
//! | JSON text from anywhere | [`VerifiedManifest`](trust::signature::VerifiedManifest) | [`trust::signature`] |
//! | a leaf table from anywhere | [`LeafTable`](dag::verify::LeafTable) | [`dag::verify`] |
//! | bytes from anywhere | [`VerifiedLeaves`](dag::verify::VerifiedLeaves) | [`dag::verify`] |
//!
//! [`transfer::download`] is the state machine that plans what to fetch from which source, and [`http`] the
//! HTTP semantics of what is answered; [`http::gateway`] is the same for other IPFS clients, who are given
//! [`dag::blocks`], alone or as a [`dag::car`]. Nothing here fetches, stores, sleeps or draws random numbers:
//! drivers do, and tell the machine what happened.

#![warn(missing_debug_implementations)]

pub mod dag;
pub mod embeddable;
pub mod http;
pub mod time;
pub mod transfer;
pub mod trust;
