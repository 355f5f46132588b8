//! What a download knows of a source: its pace, and when it may be asked again.

use std::time::Duration;

use crate::dag::layout::{LEAF_SIZE, LEAVES_PER_SEGMENT};
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
    /// Fetches that shared the source when this was measured.
    beside: u64,
    /// When it was measured.
    at: Instant,
    /// Whether fetches that delivered were measured; else it is a guess about late ones.
    sure: bool,
}

impl Pace {
    /// How long a fetch of `leaves` leaves is expected to take.
    pub(crate) const fn expected(&self, leaves: u64) -> Duration {
        Duration::from_millis(self.latency.saturating_add(self.leaf.saturating_mul(leaves) / 1000))
    }

    /// Bytes a second of all fetches together.
    pub(crate) const fn rate(&self) -> u64 {
        match (LEAF_SIZE * 1_000_000 * self.beside).checked_div(self.leaf) {
            Some(rate) => rate,
            None => u64::MAX,
        }
    }

    /// Whether it was measured less than `age` before `now`.
    pub(crate) fn is_fresh(&self, now: Instant, age: Duration) -> bool {
        self.at + age > now
    }

    /// Whether fetches that delivered were measured.
    pub(crate) const fn is_sure(&self) -> bool {
        self.sure
    }
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

    /// Whether its response time is at most a quarter of what a segment takes.
    pub(crate) fn is_near(&self) -> bool {
        self.pace.is_some_and(|pace| pace.latency * 4000 <= pace.leaf * LEAVES_PER_SEGMENT)
    }

    /// Notes that a fetch delivered `leaves` leaves at `now`: the first bytes after `latency`, the
    /// last after `elapsed`, `beside` others, itself included.
    pub(crate) fn brought(
        &mut self,
        now: Instant,
        leaves: u64,
        latency: Duration,
        elapsed: Duration,
        beside: u64,
    ) {
        self.failures = 0;
        let leaf = micros_each(elapsed.saturating_sub(latency), leaves);
        let new = Pace { latency: millis(latency), leaf, beside, at: now, sure: true };
        let known = self.pace.filter(|known| known.sure).unwrap_or(new);
        // A new measurement counts a quarter: one hiccup changes little, a lasting change shows
        // soon.
        let smooth = |old: u64, new: u64| (3 * old + new) / 4;
        self.pace = Some(Pace {
            latency: smooth(known.latency, new.latency),
            leaf: smooth(known.leaf, new.leaf),
            ..new
        });
    }

    /// Notes that a fetch of `leaves` leaves was not done after `elapsed`: because another source
    /// overtook it, or because it lags. The pace is slower than that.
    pub(crate) fn outlasted(&mut self, now: Instant, leaves: u64, elapsed: Duration, beside: u64) {
        let leaf = micros_each(elapsed, leaves);
        let slower = Pace { latency: 0, leaf, beside, at: now, sure: false };
        let known = self.pace.filter(|pace| pace.expected(leaves) >= elapsed);
        self.pace = Some(known.map_or(slower, |known| Pace { at: now, ..known }));
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
    millis(elapsed).saturating_mul(1000) / leaves.max(1)
}
