//! The transfer of an artifact: the download machine, its sources, and eviction from a full store.

pub mod download;
pub mod eviction;
mod health;
pub mod lookup;
pub mod source;
