//! Signed manifests: their format, and the signatures that are accepted.

pub mod manifest;
pub mod signature;
