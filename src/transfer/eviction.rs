//! What to let go when there is no room: the least recently used artifacts, never one in use or pinned.

use crate::time::UnixTime;

/// An artifact that is kept, wholly or in part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Bytes kept of it. What versions share is one artifact here, so it counts once.
    pub bytes: u64,
    /// When it was last used.
    pub used: UnixTime,
    /// Somebody reads it now, or pinned it.
    pub held: bool,
}

/// Which of `kept` to let go, by index, so that `need` more bytes fit into `budget`; the least recently
/// used first, and no more of them than that takes. `None` when it cannot be done: then nothing is let go.
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
