//! One segment of a download: its verified leaves, and the fetches for the missing ones.

use std::ops::Range;
use std::time::Duration;

use crate::dag::layout::LEAVES_PER_SEGMENT;
use crate::dag::verify::{Bytes, VerifiedLeaves};
use crate::time::{Instant, millis};
use crate::transfer::download::protocol::{FetchId, SourceId};

/// A segment that a reader is near.
#[derive(Debug)]
pub(super) struct Segment<B> {
    pub(super) index: u64,
    /// Verified runs of leaves, in order.
    pub(super) parts: Vec<VerifiedLeaves<B>>,
    pub(super) phase: Phase,
    /// Fetches of missing leaves; two for the same leaves when the first lags.
    pub(super) fetches: Vec<Fetch>,
    /// Failures of each source, by its index.
    pub(super) attempts: Vec<Attempts>,
    /// Where the verified leaves came from.
    pub(super) origins: Vec<String>,
}

/// How often a source failed with a segment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Attempts {
    pub(super) failed: u32,
    /// When the last of these failures happened.
    pub(super) at: Instant,
}

/// How far a segment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The store looks for it.
    Loading,
    /// Leaves are missing.
    Missing,
    /// Every leaf is verified.
    Ready,
}

/// A fetch under way.
#[derive(Debug)]
pub(super) struct Fetch {
    pub(super) id: FetchId,
    pub(super) leaves: Range<u64>,
    pub(super) source: SourceId,
    pub(super) started: Instant,
    /// When the first bytes arrived.
    pub(super) answered: Option<Instant>,
    /// When the last bytes arrived.
    pub(super) progressed: Instant,
    /// Bytes that arrived.
    pub(super) got: u64,
    /// The most fetches that received bytes from the source at once, itself included.
    pub(super) beside: u64,
    /// When it is expected to be done, if the driver reports no progress.
    pub(super) quick: Option<Duration>,
    /// It lags: see the module `lag`.
    pub(super) late: bool,
}

impl Fetch {
    /// Number of leaves.
    pub(super) const fn count(&self) -> u64 {
        self.leaves.end - self.leaves.start
    }

    /// How long the rest of its `bytes` bytes takes at its pace so far; `None` without bytes.
    pub(super) fn remaining(&self, bytes: u64, now: Instant) -> Option<Duration> {
        let elapsed = millis(now.duration_since(self.started));
        let left = bytes.saturating_sub(self.got);
        (elapsed * left).checked_div(self.got).map(Duration::from_millis)
    }

    /// Whether it fetches some of `leaves`.
    pub(super) fn meets(&self, leaves: &Range<u64>) -> bool {
        self.leaves.start < leaves.end && leaves.start < self.leaves.end
    }
}

impl<B: Bytes> Segment<B> {
    /// A segment without leaves; `sources` is the number of sources.
    pub(super) fn new(index: u64, phase: Phase, sources: usize) -> Self {
        Self {
            index,
            parts: Vec::new(),
            phase,
            fetches: Vec::new(),
            attempts: vec![Attempts::default(); sources],
            origins: Vec::new(),
        }
    }

    /// The first run of `leaves` that are neither verified nor part of `fetches`.
    pub(super) fn gap(&self, leaves: &Range<u64>, fetches: &[Fetch]) -> Option<Range<u64>> {
        let first = self.index * LEAVES_PER_SEGMENT;
        // A bit for each leaf of the segment.
        let bits =
            |leaves: &Range<u64>| (1_u32 << (leaves.end - first)) - (1 << (leaves.start - first));
        let verified = self.parts.iter().map(VerifiedLeaves::leaves);
        let taken = verified
            .chain(fetches.iter().map(|fetch| &fetch.leaves))
            .fold(0, |taken, run| taken | bits(run));
        let left = bits(leaves) & !taken;
        if left == 0 {
            return None;
        }
        let start = left.trailing_zeros();
        let run = (left >> start).trailing_ones();
        Some(first + u64::from(start)..first + u64::from(start + run))
    }

    /// Removes the fetches whose leaves are all verified.
    pub(super) fn take_obsolete(&mut self) -> Vec<Fetch> {
        let fetches = std::mem::take(&mut self.fetches);
        let (open, obsolete): (Vec<_>, Vec<_>) =
            fetches.into_iter().partition(|fetch| self.gap(&fetch.leaves, &[]).is_some());
        self.fetches = open;
        obsolete
    }

    /// The oldest fetch of leaves that no other fetch covers.
    pub(super) fn alone(&self) -> Option<&Fetch> {
        self.fetches.iter().find(|fetch| {
            self.fetches.iter().filter(|other| other.meets(&fetch.leaves)).count() == 1
        })
    }

    /// Adds the leaves of a verified run that are new: of two fetches of the same leaves, the
    /// second brings some again.
    pub(super) fn add(&mut self, run: &VerifiedLeaves<B>) {
        while let Some(new) = self.gap(run.leaves(), &[]).and_then(|gap| run.cut(&gap)) {
            let at = self.parts.partition_point(|part| part.leaves().start < new.leaves().start);
            self.parts.insert(at, new);
        }
    }
}
