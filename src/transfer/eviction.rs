//! Eviction from a full store: the least recently used artifacts, never one in use or pinned.

use crate::time::UnixTime;

/// An artifact in a store, wholly or in part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Its bytes in the store. A file that versions share is one artifact and counts once.
    pub bytes: u64,
    /// When it was last used.
    pub used: UnixTime,
    /// It is being read, or it is pinned.
    pub held: bool,
}

/// Indices in `kept` of the artifacts to evict so that `need` more bytes fit into `budget`: the
/// least recently used first, and no more than necessary. `None` when that is impossible.
#[must_use]
pub fn victims(kept: &[Kept], budget: u64, need: u64) -> Option<Vec<usize>> {
    let mut total = kept.iter().fold(need, |total, artifact| total.saturating_add(artifact.bytes));
    let mut victims = Vec::new();
    while total > budget {
        let candidates = (0..kept.len())
            .filter(|i| !kept[*i].held && kept[*i].bytes > 0 && !victims.contains(i));
        let oldest = candidates.min_by_key(|i| kept[*i].used)?;
        total -= kept[oldest].bytes;
        victims.push(oldest);
    }
    Some(victims)
}
