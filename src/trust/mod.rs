//! Signed manifests: their format, their signatures, and which of them are accepted.

pub mod acceptance;
pub mod manifest;
mod names;
pub mod newest;
mod numbers;
pub mod signature;
mod unambiguous;
