//! What a driver and the download machine tell each other.

use std::ops::Range;
use std::time::Duration;

use crate::dag::verify::{Hashed, VerifiedLeaves};
use crate::transfer::source::Failure;

/// Limits of a download.
#[derive(Debug, Clone)]
pub struct Config {
    /// Fetches that receive bytes at once. A fetch whose bytes have all arrived, and are being
    /// verified, no longer counts. While a source lags, there may be one more: at another source.
    pub lanes: usize,
    /// The same, in order, while the source is quick and near: its response time is far below what
    /// a segment takes. Two fill the link, and the fewer share it, the sooner the first one is
    /// complete.
    pub near: usize,
    /// Segments in memory at once: being fetched, or waiting for their reader.
    pub held: usize,
    /// How often a source may fail with the same segment.
    pub attempts: u32,
    /// How long a fetch may receive no bytes.
    pub stall: Duration,
    /// Wait after a source's first failure. It doubles with each failure in a row, up to 16 times.
    pub backoff: Duration,
    /// How long a fetch is expected to take at a source that has delivered nothing yet.
    pub guess: Duration,
    /// Leaves in the first fetches from a source, and in each piece of a segment that is fetched in
    /// pieces.
    pub probe: u64,
    /// Whether readers wait for whole segments; else they get the verified leaves of a segment as
    /// they arrive.
    pub whole: bool,
    /// Whether all sources work at once; else they work in order: the preferred source works alone,
    /// and another one when it lags, fails or is wrong.
    pub share: bool,
    /// In order: bytes a second of a source that is well. One that delivers less lags: the next
    /// source is asked for a few leaves, and takes over if it is more than twice as quick, until
    /// the preferred one is tried again. With 0, paces do not matter, and a source that took over
    /// goes on while it delivers: for drivers whose open response has the following bytes.
    pub enough: u64,
    /// Whether the driver has a store to load segments from and to save them in.
    pub store: bool,
    /// Seed of the jitter.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lanes: 4,
            near: 2,
            held: 8,
            // Six attempts outlast an outage of 4 s: their waits are at least 125 + … + 2,000 ms.
            attempts: 6,
            stall: Duration::from_secs(20),
            backoff: Duration::from_millis(250),
            guess: Duration::from_secs(8),
            probe: 4,
            whole: false,
            share: false,
            enough: 8 << 20,
            store: true,
            seed: 0,
        }
    }
}

/// A download cannot work with its configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the download's limit `{0}` is 0; it must be at least 1")]
pub struct BadConfig(pub &'static str);

impl Config {
    /// Checks that a download with these limits can make progress.
    ///
    /// # Errors
    /// [`BadConfig`] names the limit at fault.
    pub const fn check(&self) -> Result<(), BadConfig> {
        Err(BadConfig(match self {
            Self { lanes: 0, .. } => "lanes",
            Self { near: 0, .. } => "near",
            Self { held: 0, .. } => "held",
            Self { attempts: 0, .. } => "attempts",
            Self { probe: 0, .. } => "probe",
            Self { stall: Duration::ZERO, .. } => "stall",
            _ => return Ok(()),
        }))
    }
}

/// Names a reader; the driver chooses it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReaderId(pub u64);

/// Names a fetch; the machine chooses it and never uses it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FetchId(pub(super) u64);

/// Names a source of a download.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub(super) usize);

impl SourceId {
    /// The index of the source in the list that `Download::new` got.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0
    }
}

/// What happened, as a driver reports it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<B> {
    /// A reader wants these bytes of the artifact.
    Opened {
        /// The reader's new name.
        reader: ReaderId,
        /// Byte range of the artifact. An end beyond the artifact's means the artifact's. A reader
        /// of which no byte exists fails, unless it wants none or all from the end to `u64::MAX`.
        bytes: Range<u64>,
    },
    /// The reader has room for more bytes.
    Pulled(ReaderId),
    /// The reader left.
    Cancelled(ReaderId),
    /// The result of [`Action::Load`].
    Loaded {
        /// Index of the segment.
        segment: u64,
        /// Its bytes, unverified, if the store has them.
        found: Option<Hashed<B>>,
    },
    /// Bytes arrived for a fetch that goes on.
    Progressed {
        /// The fetch.
        fetch: FetchId,
        /// Bytes that arrived since it started.
        bytes: u64,
    },
    /// All bytes of a fetch arrived.
    Fetched {
        /// The fetch.
        fetch: FetchId,
        /// Its bytes, unverified.
        hashed: Hashed<B>,
        /// Where they came from, for [`Report::Verified`].
        origin: String,
    },
    /// A fetch failed.
    Failed {
        /// The fetch.
        fetch: FetchId,
        /// Why.
        failure: Failure,
        /// How long the source wants no requests (`Retry-After`).
        rest: Option<Duration>,
    },
    /// Time passed; see `Download::next_timeout`.
    Tick,
}

/// What a driver is to do. Exhaustive: a driver has to obey every action.
#[derive(Debug)]
pub enum Action<B> {
    /// Look for a segment in the store and report [`Event::Loaded`].
    Load(u64),
    /// Remove a segment from the store: it has bad bytes.
    Forget(u64),
    /// Fetch bytes and report [`Event::Fetched`] or [`Event::Failed`].
    Fetch {
        /// The fetch's name.
        fetch: FetchId,
        /// The source.
        source: SourceId,
        /// Byte range of the artifact: whole leaves.
        bytes: Range<u64>,
        /// The source is known to need far less than the stall limit for these bytes. The driver
        /// may omit [`Event::Progressed`] while they arrive.
        quick: bool,
    },
    /// Stop a fetch; no event is expected.
    Abort(FetchId),
    /// Save a whole segment in the store.
    Store {
        /// Index of the segment.
        segment: u64,
        /// Its verified bytes, in order.
        parts: Vec<VerifiedLeaves<B>>,
    },
    /// Hand verified bytes to a reader.
    Emit {
        /// The reader.
        reader: ReaderId,
        /// The reader's next bytes.
        bytes: B,
    },
    /// The reader has all its bytes.
    Close(ReaderId),
    /// The reader cannot get its next bytes.
    Fail {
        /// The reader.
        reader: ReaderId,
        /// Why.
        error: DownloadError,
    },
    /// Tell the user, if that is of interest.
    Report(Report),
}

/// Progress and trouble of a download, for users and logs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Report {
    /// Bytes arrived, unverified.
    Received {
        /// Bytes since the last report of the same fetch.
        bytes: u64,
    },
    /// A segment is complete and verified.
    Verified {
        /// Index of the segment.
        segment: u64,
        /// Where its leaves came from; empty when they came from the store.
        origins: Vec<String>,
    },
    /// A source failed; the machine tries again or asks another source.
    Refused {
        /// Index of the segment.
        segment: u64,
        /// The source.
        source: SourceId,
        /// Why.
        failure: Failure,
    },
    /// Readers failed.
    Failed(DownloadError),
}

/// Bytes that a reader cannot get.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", describe(.bytes, .failures, *.past))]
pub struct DownloadError {
    /// Bytes of the artifact that no source delivered.
    pub bytes: Range<u64>,
    /// The last failure of each source, with the source's name.
    pub failures: Vec<(String, Failure)>,
    /// The artifact's size, if the bytes are past its end: no source was asked.
    pub past: Option<u64>,
}

fn describe(bytes: &Range<u64>, failures: &[(String, Failure)], past: Option<u64>) -> String {
    let wanted = format!("{}-{}", bytes.start, bytes.end.saturating_sub(1));
    if let Some(size) = past {
        return format!("bytes {wanted} are past the end: the artifact has {size} bytes");
    }
    let reasons = if failures.is_empty() {
        "there are no sources".to_owned()
    } else {
        let reason = |(name, failure): &(String, Failure)| format!("{name}: {failure}");
        failures.iter().map(reason).collect::<Vec<_>>().join("; ")
    };
    format!("no source has a good copy of bytes {wanted}: {reasons}")
}
