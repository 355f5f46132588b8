//! What a download knows of a source: how quick it is, and when it may be asked again.

use crate::dag::layout::LEAVES_PER_SEGMENT;
use crate::transfer::source::Failure;

/// The longest that a source's `Retry-After` is believed, in milliseconds.
const LONGEST_REST: u64 = 300_000;

/// The health of one source within one download. Times are in milliseconds.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    /// The source's name, for people.
    pub(crate) name: String,
    /// Its last failure.
    pub(crate) last: Option<Failure>,
    /// It sent bad bytes, or said for good that it has none: it is not asked again.
    pub(crate) set_aside: bool,
    /// It rests until then.
    pub(crate) retry_at: u64,
    /// Failures in a row; requests that fail together count once.
    failures: u32,
    failed_at: u64,
    /// How quick it is, if it ever brought anything.
    pub(crate) pace: Option<Pace>,
}

/// How quick a source is; smoothed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// What a request takes before its first bytes, in milliseconds.
    latency: u64,
    /// What it takes then for each leaf, in microseconds.
    leaf: u64,
}

impl Health {
    pub(crate) const fn new(name: String) -> Self {
        Self {
            name,
            last: None,
            set_aside: false,
            retry_at: 0,
            failures: 0,
            failed_at: 0,
            pace: None,
        }
    }

    /// What a request for `leaves` leaves is going to take, if that is known.
    pub(crate) fn expected(&self, leaves: u64) -> Option<u64> {
        self.pace.map(|pace| pace.latency + pace.leaf * leaves / 1000)
    }

    /// Whether asking twice for half as much takes hardly longer.
    pub(crate) fn is_near(&self) -> bool {
        self.pace.is_some_and(|pace| pace.latency * 4000 <= pace.leaf * LEAVES_PER_SEGMENT)
    }

    /// A request brought `leaves` leaves: the first bytes after `latency`, the last after `elapsed`.
    pub(crate) fn brought(&mut self, leaves: u64, latency: u64, elapsed: u64) {
        self.failures = 0;
        let leaf = elapsed.saturating_sub(latency) * 1000 / leaves.max(1);
        // A quarter of each new measurement: a hiccup does not decide, a change does after a few.
        let smooth = |old: u64, new: u64| (3 * old + new) / 4;
        let known = self.pace.unwrap_or(Pace { latency, leaf });
        self.pace =
            Some(Pace { latency: smooth(known.latency, latency), leaf: smooth(known.leaf, leaf) });
    }

    /// A request for `leaves` leaves was overtaken by another source after `elapsed`: it takes longer than that.
    pub(crate) fn overtaken(&mut self, leaves: u64, elapsed: u64) {
        if self.expected(leaves).is_none_or(|expected| expected < elapsed) {
            self.pace = Some(Pace { latency: 0, leaf: elapsed * 1000 / leaves.max(1) });
        }
    }

    /// A request that started at `started` failed. It rests for `backoff`, doubled with each failure in a row up to 16 times,
    /// of which half is left to `jitter` (so that many clients do not come back at once); or as long as it asked for.
    pub(crate) fn failed(
        &mut self,
        now: u64,
        started: u64,
        failure: Failure,
        rest: Option<u64>,
        backoff: u64,
        jitter: u64,
    ) {
        if failure.is_final() {
            self.set_aside = true;
        } else if self.failures == 0 || started >= self.failed_at {
            let wait = backoff << self.failures.min(4);
            self.failures += 1;
            self.failed_at = now;
            self.retry_at = self.retry_at.max(now + wait / 2 + jitter % (wait / 2 + 1));
        }
        self.retry_at = self.retry_at.max(now + rest.unwrap_or(0).min(LONGEST_REST));
        self.last = Some(failure);
    }
}
