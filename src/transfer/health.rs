//! What a download knows of a source: its pace, and when it may be asked again.

use std::time::Duration;

use crate::dag::layout::LEAVES_PER_SEGMENT;
use crate::time::{Instant, millis};
use crate::transfer::source::Failure;

/// The longest `Retry-After` that is obeyed.
const LONGEST_REST: Duration = Duration::from_mins(5);

/// The health of one source within one download.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    /// The source's name.
    pub(crate) name: String,
    /// Its last failure.
    pub(crate) last: Option<Failure>,
    /// It sent bad bytes, or failed for good: it gets no more requests.
    pub(crate) set_aside: bool,
    /// It gets no requests before this time.
    pub(crate) retry_at: Instant,
    /// Failures in a row; fetches that fail together count once.
    failures: u32,
    failed_at: Instant,
    /// Its pace, once it has delivered leaves.
    pub(crate) pace: Option<Pace>,
}

/// The pace of a source, smoothed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Milliseconds until the first bytes of a fetch.
    latency: u64,
    /// Microseconds for each leaf after that.
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

    /// How long a fetch of `leaves` leaves is expected to take, if that is known.
    pub(crate) fn expected(&self, leaves: u64) -> Option<Duration> {
        self.pace.map(|pace| Duration::from_millis(pace.latency + pace.leaf * leaves / 1000))
    }

    /// Whether several small fetches take hardly longer than a large one.
    pub(crate) fn is_near(&self) -> bool {
        self.pace.is_some_and(|pace| pace.latency * 4000 <= pace.leaf * LEAVES_PER_SEGMENT)
    }

    /// Notes that a fetch delivered `leaves` leaves: the first bytes after `latency`, the last
    /// after `elapsed`.
    pub(crate) fn brought(&mut self, leaves: u64, latency: Duration, elapsed: Duration) {
        self.failures = 0;
        let leaf = micros_each(elapsed.saturating_sub(latency), leaves);
        let latency = millis(latency);
        // A new measurement counts a quarter: one hiccup changes little, a lasting change shows
        // soon.
        let smooth = |old: u64, new: u64| (3 * old + new) / 4;
        let known = self.pace.unwrap_or(Pace { latency, leaf });
        self.pace =
            Some(Pace { latency: smooth(known.latency, latency), leaf: smooth(known.leaf, leaf) });
    }

    /// Notes that another source overtook a fetch of `leaves` leaves after `elapsed`: the pace is
    /// slower than that.
    pub(crate) fn overtaken(&mut self, leaves: u64, elapsed: Duration) {
        if self.expected(leaves).is_none_or(|expected| expected < elapsed) {
            self.pace = Some(Pace { latency: 0, leaf: micros_each(elapsed, leaves) });
        }
    }

    /// Notes that a fetch failed at `now`, which had started at `started`. The source rests for
    /// `backoff`, doubled with each failure in a row, up to 16 times. Half of that is left to
    /// `jitter`, so that many clients do not return at once. It rests longer if it asked for a
    /// longer `rest`.
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
