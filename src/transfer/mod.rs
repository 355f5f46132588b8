//! The transfer of an artifact: the download machine, the sources, and which artifacts leave a full store.

pub mod download;
pub mod eviction;
mod health;
pub mod source;
