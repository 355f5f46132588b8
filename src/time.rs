//! Points in time. The core reads no clock: a driver says what time it is.
//!
//! Both types count whole milliseconds, which is what the clocks of browsers and workers resolve.
//! Lengths of time are [`Duration`]s.

use std::fmt;
use std::ops::Add;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A point in time on a monotonic clock, as the time since an epoch that the driver chooses.
///
/// It stands in for [`std::time::Instant`], which panics on `wasm32-unknown-unknown`. A native
/// driver takes its start as the epoch:
///
/// ```
/// use edge_net_core::time::Instant;
///
/// let start = std::time::Instant::now();
/// let now = || Instant::since_epoch(start.elapsed());
/// assert!(now() >= Instant::EPOCH);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The epoch of the driver's clock.
    pub const EPOCH: Self = Self(0);

    /// The point in time `elapsed` after the epoch; fractions of a millisecond are cut off.
    #[must_use]
    pub const fn since_epoch(elapsed: Duration) -> Self {
        Self(millis(elapsed))
    }

    /// The point in time `millis` milliseconds after the epoch.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The time that passed since `earlier`; zero when `earlier` is later.
    #[must_use]
    pub const fn duration_since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Saturates.
    fn add(self, length: Duration) -> Self {
        Self(self.0.saturating_add(millis(length)))
    }
}

/// A point in time on the wall clock, as the time since 1970-01-01T00:00:00Z without leap seconds.
///
/// Displayed as RFC 3339 in UTC.
///
/// ```
/// use edge_net_core::time::UnixTime;
///
/// let signed = UnixTime::parse_rfc3339("2026-01-03T00:00:00Z").unwrap();
/// assert_eq!(signed, UnixTime::from_secs(1_767_398_400));
/// assert_eq!(signed.to_string(), "2026-01-03T00:00:00Z");
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(u64);

impl UnixTime {
    /// The last second that RFC 3339 can write: 9999-12-31T23:59:59Z.
    const LAST_RFC3339: u64 = 253_402_300_799_000;

    /// The point in time `millis` milliseconds after the epoch.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// The point in time `secs` seconds after the epoch; saturates.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since the epoch.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0 / 1000
    }

    /// The time that passed since `earlier`; zero when `earlier` is later.
    #[must_use]
    pub const fn duration_since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Reads an RFC 3339 time in UTC; `None` for anything else, and for times before 1970.
    #[must_use]
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let time = humantime::parse_rfc3339(text).ok()?;
        Some(Self(millis(time.duration_since(UNIX_EPOCH).ok()?)))
    }
}

impl Add<Duration> for UnixTime {
    type Output = Self;

    /// Saturates.
    fn add(self, length: Duration) -> Self {
        Self(self.0.saturating_add(millis(length)))
    }
}

impl From<SystemTime> for UnixTime {
    /// Times before 1970 become the epoch.
    fn from(time: SystemTime) -> Self {
        Self(time.duration_since(UNIX_EPOCH).map_or(0, millis))
    }
}

impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Clamped: times come from storage too, which may hold any number.
        let since = Duration::from_millis(self.0.min(Self::LAST_RFC3339));
        humantime::format_rfc3339(UNIX_EPOCH + since).fmt(f)
    }
}

/// The whole milliseconds of a length of time; saturates. [`Duration::as_millis`] has 128 bits,
/// whose arithmetic is large in WebAssembly.
pub(crate) const fn millis(length: Duration) -> u64 {
    let rest = length.subsec_millis() as u64; // `From` is not const.
    length.as_secs().saturating_mul(1000).saturating_add(rest)
}
