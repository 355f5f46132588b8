//! What a download knows of a source: how quick it is, and when it may be asked again.

use std::time::Duration;

use crate::dag::layout::LEAVES_PER_SEGMENT;
use crate::time::{Instant, millis};
use crate::transfer::source::Failure;

/// The longest that a source's `Retry-After` is believed.
const LONGEST_REST: Duration = Duration::from_mins(5);

/// The health of one source within one download.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    /// The source's name, for people.
    pub(crate) name: String,
    /// Its last failure.
    pub(crate) last: Option<Failure>,
    /// It sent bad bytes, or said for good that it has none: it is not asked again.
    pub(crate) set_aside: bool,
    /// It rests until then.
    pub(crate) retry_at: Instant,
    /// Failures in a row; requests that fail together count once.
    failures: u32,
    failed_at: Instant,
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
            retry_at: Instant::EPOCH,
            failures: 0,
            failed_at: Instant::EPOCH,
            pace: None,
        }
    }

    /// What a request for `leaves` leaves is going to take, if that is known.
    pub(crate) fn expected(&self, leaves: u64) -> Option<Duration> {
        self.pace.map(|pace| Duration::from_millis(pace.latency + pace.leaf * leaves / 1000))
    }

    /// Whether asking twice for half as much takes hardly longer.
    pub(crate) fn is_near(&self) -> bool {
        self.pace.is_some_and(|pace| pace.latency * 4000 <= pace.leaf * LEAVES_PER_SEGMENT)
    }

    /// A request brought `leaves` leaves: the first bytes after `latency`, the last after `elapsed`.
    pub(crate) fn brought(&mut self, leaves: u64, latency: Duration, elapsed: Duration) {
        self.failures = 0;
        let leaf = micros_each(elapsed.saturating_sub(latency), leaves);
        let latency = millis(latency);
        // A quarter of each new measurement: a hiccup does not decide, a change does after a few.
        let smooth = |old: u64, new: u64| (3 * old + new) / 4;
        let known = self.pace.unwrap_or(Pace { latency, leaf });
        self.pace =
            Some(Pace { latency: smooth(known.latency, latency), leaf: smooth(known.leaf, leaf) });
    }

    /// A request for `leaves` leaves was overtaken by another source after `elapsed`: it takes longer than that.
    pub(crate) fn overtaken(&mut self, leaves: u64, elapsed: Duration) {
        if self.expected(leaves).is_none_or(|expected| expected < elapsed) {
            self.pace = Some(Pace { latency: 0, leaf: micros_each(elapsed, leaves) });
        }
    }

    /// A request that started at `started` failed. It rests for `backoff`, doubled with each failure in a row up to 16 times,
    /// of which half is left to `jitter` (so that many clients do not come back at once); or as long as it asked for.
    pub(crate) fn failed(
        &mut self,
        now: Instant,
        started: Instant,
        failure: Failure,
        rest: Option<Duration>,
        backoff: Duration,
        jitter: u64,
    ) {
        if failure.is_final() {
            self.set_aside = true;
        } else if self.failures == 0 || started >= self.failed_at {
            let wait = millis(backoff) << self.failures.min(4);
            self.failures += 1;
            self.failed_at = now;
            self.retry_at =
                self.retry_at.max(now + Duration::from_millis(wait / 2 + jitter % (wait / 2 + 1)));
        }
        self.retry_at = self.retry_at.max(now + rest.unwrap_or_default().min(LONGEST_REST));
        self.last = Some(failure);
    }
}

/// The microseconds that each of `leaves` leaves took.
fn micros_each(elapsed: Duration, leaves: u64) -> u64 {
    millis(elapsed) * 1000 / leaves.max(1)
}
