//! Signed manifests: the format, and whose signature is accepted.

pub mod manifest;
pub mod signature;
