//! The download of one artifact, as a state machine without I/O.
//!
//! A driver tells it what happened ([`Download::handle`]) and does what it asks ([`Download::poll`]):
//! load a segment from the store, fetch leaves from a source, hand bytes to a reader. Bytes are opaque
//! handles; only those that [`LeafTable::verify_leaves`] passed reach a reader or the store.
//!
//! The rules:
//! - readers pull; a segment is fetched when it lies within [`Config::held`] segments of a reader's
//!   cursor, the next segment of every reader before any that is only looked ahead at, and the reader
//!   with the least left to read first, so that a range jumps the queue;
//! - all readers of the artifact share the segments;
//! - all sources work at once: a segment goes to the source that is going to have brought it first, by
//!   what it took for earlier ones; a source never asked is tried with a few leaves;
//! - the end of what a reader wants is asked for in pieces, if the source is near, so that it comes in order;
//! - a segment that takes far longer than another source would need is asked of that one too, and the
//!   first to bring it wins;
//! - bad leaves are fetched again, alone, from another source, and the source that sent them is not
//!   asked again; other failures are retried with exponential backoff and jitter, or when the source
//!   says (`Retry-After`);
//! - a reader fails when no source is left for its next segment. It never ends short.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::dag::layout::LEAVES_PER_SEGMENT;
use crate::dag::verify::{Bytes, Hashed, LeafTable, VerifiedLeaves};
use crate::time::{Instant, millis};
use crate::transfer::health::Health;
pub use crate::transfer::health::Pace;
use crate::transfer::source::Failure;

/// Limits of a download.
#[derive(Debug, Clone)]
pub struct Config {
    /// Requests under way at once; one whose bytes have all come, and are being verified, leaves its place to the next.
    pub lanes: usize,
    /// Segments in memory at once, in flight or waiting for their reader.
    pub held: usize,
    /// Times a source is asked for the same segment.
    pub attempts: u32,
    /// How long a request may bring no bytes.
    pub stall: Duration,
    /// Wait after a source's first failure; doubles with each further one, up to 16 times this.
    pub backoff: Duration,
    /// What a request is taken to need at a source never asked before.
    pub guess: Duration,
    /// Leaves that a source never asked before is asked for first; and no request is for less, to have the end of it sooner.
    pub probe: u64,
    /// Whether readers wait for whole segments; else they are handed what there is of one.
    pub whole: bool,
    /// Whether all sources work at once; else one does, at first the first, until it fails or lags.
    pub share: bool,
    /// Whether there is a store to load segments from and to store them in.
    pub store: bool,
    /// Seed of the jitter.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lanes: 4,
            held: 8,
            // Six attempts outlast an outage of 4 s: 125 + 250 + … + 2,000 ms at the least.
            attempts: 6,
            stall: Duration::from_secs(20),
            backoff: Duration::from_millis(250),
            guess: Duration::from_secs(8),
            probe: 4,
            whole: false,
            share: true,
            store: true,
            seed: 0,
        }
    }
}

/// What a request may be late before another source is asked too: besides twice what that needs.
const GRACE: Duration = Duration::from_secs(1);

/// Segments before the end of what a reader wants that are asked for in pieces. Whole ones share the link and come out of order;
/// then there is much left to hand over when the last byte came, and nothing left to wait for meanwhile.
const LAST: u64 = 8;

/// Names a reader; the driver chooses it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReaderId(pub u64);

/// Names a fetch; the machine chooses it and never uses it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FetchId(u64);

/// Names a source of a download.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(usize);

impl SourceId {
    /// The place of the source in the list that [`Download::new`] was given.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0
    }
}

/// What happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<B> {
    /// Someone wants these bytes of the artifact.
    Opened {
        /// The reader's new name.
        reader: ReaderId,
        /// Byte range of the artifact.
        bytes: Range<u64>,
    },
    /// The reader has room for more.
    Pulled(ReaderId),
    /// The reader went away.
    Cancelled(ReaderId),
    /// The store answered [`Action::Load`].
    Loaded {
        /// The segment.
        segment: u64,
        /// Its bytes, not yet trusted, if the store has them.
        found: Option<Hashed<B>>,
    },
    /// Bytes came for a request that is still under way.
    Progressed {
        /// The request.
        fetch: FetchId,
        /// How many came since it started.
        bytes: u64,
    },
    /// A request brought all its bytes, not yet trusted.
    Fetched {
        /// The request.
        fetch: FetchId,
        /// Its bytes.
        hashed: Hashed<B>,
        /// Where they came from, for [`Report::Verified`].
        origin: String,
    },
    /// A request failed.
    Failed {
        /// The request.
        fetch: FetchId,
        /// Why.
        failure: Failure,
        /// For how long the source asked to be left alone (`Retry-After`).
        rest: Option<Duration>,
    },
    /// Time passed; see [`Download::next_timeout`].
    Tick,
}

/// What the driver is to do. Exhaustive: a driver has to obey every action.
#[derive(Debug)]
pub enum Action<B> {
    /// Look for a segment in the store and answer [`Event::Loaded`].
    Load(u64),
    /// Remove a segment from the store: its bytes are not good.
    Forget(u64),
    /// Fetch bytes and answer [`Event::Fetched`] or [`Event::Failed`].
    Fetch {
        /// The request's name.
        fetch: FetchId,
        /// The source.
        source: SourceId,
        /// Byte range of the artifact: whole leaves.
        bytes: Range<u64>,
        /// The source is known to need far less than the stall limit for this: it need not be watched while it sends.
        quick: bool,
    },
    /// Stop a request; no answer is expected.
    Abort(FetchId),
    /// Put a whole segment, in parts, in order, into the store.
    Store {
        /// The segment.
        segment: u64,
        /// Its verified bytes.
        parts: Vec<VerifiedLeaves<B>>,
    },
    /// Hand verified bytes to a reader.
    Emit {
        /// The reader.
        reader: ReaderId,
        /// The bytes, as the reader's range cuts them.
        bytes: B,
    },
    /// The reader has everything.
    Close(ReaderId),
    /// The reader cannot be given what it wants.
    Fail {
        /// The reader.
        reader: ReaderId,
        /// Why.
        error: DownloadError,
    },
    /// Something worth telling the user.
    Report(Report),
}

/// Something worth telling the user.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Report {
    /// Bytes came, not yet verified.
    Received {
        /// How many, since the last report of this request.
        bytes: u64,
    },
    /// A segment is complete and verified.
    Verified {
        /// The segment.
        segment: u64,
        /// Where its leaves came from; empty when from the store.
        origins: Vec<String>,
    },
    /// A source failed, and another or the same will be asked.
    Refused {
        /// The segment that was asked for.
        segment: u64,
        /// The source.
        source: SourceId,
        /// Why.
        failure: Failure,
    },
    /// Readers were failed.
    Failed(DownloadError),
}

/// No source has a good copy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no source has a good copy of bytes {}-{}: {}", bytes.start, bytes.end.saturating_sub(1), describe(failures))]
pub struct DownloadError {
    /// Bytes of the artifact that nobody gave.
    pub bytes: Range<u64>,
    /// The last failure of each source, by its name.
    pub failures: Vec<(String, Failure)>,
}

fn describe(failures: &[(String, Failure)]) -> String {
    if failures.is_empty() {
        return "there are no sources".into();
    }
    failures
        .iter()
        .map(|(name, failure)| format!("{name}: {failure}"))
        .collect::<Vec<_>>()
        .join("; ")
}

#[derive(Debug)]
struct Reader {
    id: ReaderId,
    /// What is still to be handed over.
    left: Range<u64>,
    wants: bool,
    /// Nothing is fetched for a reader that never pulled.
    started: bool,
}

#[derive(Debug)]
struct Segment<B> {
    index: u64,
    /// Verified runs of leaves, in order.
    parts: Vec<VerifiedLeaves<B>>,
    phase: Phase,
    /// Requests under way for leaves that it misses; two for the same ones when the first lags.
    fetches: Vec<Fetch>,
    /// Of each source.
    attempts: Vec<Attempts>,
    origins: Vec<String>,
}

/// What a source failed to do with a segment.
#[derive(Debug, Clone, Copy, Default)]
struct Attempts {
    failed: u32,
    /// When it failed last.
    at: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Loading,
    Missing,
    Ready,
}

#[derive(Debug)]
struct Fetch {
    id: FetchId,
    leaves: Range<u64>,
    source: SourceId,
    started: Instant,
    /// When the first bytes came.
    answered: Option<Instant>,
    /// When the last bytes came.
    progressed: Instant,
    /// How many bytes came.
    got: u64,
}

/// The machine; see the [module](self).
#[derive(Debug)]
pub struct Download<B> {
    table: Arc<LeafTable>,
    config: Config,
    sources: Vec<Health>,
    /// The one that sent something last.
    latest: SourceId,
    readers: Vec<Reader>,
    /// Few: see [`Config::held`].
    segments: Vec<Segment<B>>,
    next_fetch: u64,
    jitter: u64,
    now: Instant,
    actions: VecDeque<Action<B>>,
}

impl<B: Bytes> Download<B> {
    /// A download of the artifact of `table` from `sources`, named in the order they are preferred.
    #[must_use]
    pub fn new(table: impl Into<Arc<LeafTable>>, sources: Vec<String>, config: Config) -> Self {
        Self {
            table: table.into(),
            jitter: config.seed,
            config,
            sources: sources.into_iter().map(Health::new).collect(),
            latest: SourceId(0),
            readers: Vec::new(),
            segments: Vec::new(),
            next_fetch: 0,
            now: Instant::EPOCH,
            actions: VecDeque::new(),
        }
    }

    /// How quick each source is, as far as this download knows: another one may start with it.
    #[must_use]
    pub fn paces(&self) -> Vec<Option<Pace>> {
        self.sources.iter().map(|source| source.pace).collect()
    }

    /// Starts with what an earlier download from the same sources knew.
    #[must_use]
    pub fn knowing(mut self, paces: &[Option<Pace>]) -> Self {
        for (source, pace) in self.sources.iter_mut().zip(paces) {
            source.pace = *pace;
        }
        self
    }

    /// Takes what happened at `now`.
    pub fn handle(&mut self, now: Instant, event: Event<B>) {
        self.now = self.now.max(now);
        match event {
            Event::Opened { reader, bytes } => {
                let left = bytes.start..bytes.end.min(self.table.layout().size());
                self.readers.push(Reader { id: reader, left, wants: false, started: false });
            }
            Event::Pulled(reader) => {
                if let Some(reader) = self.readers.iter_mut().find(|other| other.id == reader) {
                    reader.wants = true;
                    reader.started = true;
                }
            }
            Event::Cancelled(reader) => {
                self.readers.retain(|other| other.id != reader);
            }
            Event::Loaded { segment, found } => self.loaded(segment, found),
            Event::Progressed { fetch, bytes } => {
                let now = self.now;
                let fetches = self.segments.iter_mut().flat_map(|segment| &mut segment.fetches);
                for fetch in fetches.filter(|under_way| under_way.id == fetch) {
                    fetch.answered.get_or_insert(now);
                    fetch.progressed = now;
                    self.latest = fetch.source;
                    self.actions.push_back(Action::Report(Report::Received {
                        bytes: bytes.saturating_sub(fetch.got),
                    }));
                    fetch.got = bytes;
                }
            }
            Event::Fetched { fetch, hashed, origin } => self.fetched(fetch, &hashed, origin),
            Event::Failed { fetch, failure, rest } => {
                if let Some((at, fetch)) = self.end_fetch(|under_way| under_way.id == fetch) {
                    self.failed(at, &fetch, failure, rest);
                }
            }
            Event::Tick => self.abort_stalled(),
        }
        self.hand_over();
        self.release();
        self.start();
    }

    /// What to do next, if anything.
    pub fn poll(&mut self) -> Option<Action<B>> {
        self.actions.pop_front()
    }

    /// When [`Event::Tick`] is due, on the clock of [`Download::handle`].
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let stalls = self.fetches().map(|fetch| fetch.progressed + self.config.stall);
        let waiting = self
            .segments
            .iter()
            .any(|segment| segment.phase == Phase::Missing && segment.fetches.is_empty());
        let rests = self
            .sources
            .iter()
            .filter(|source| waiting && !source.set_aside)
            .map(|source| source.retry_at);
        let free = self.receiving().count() < self.config.lanes;
        let lags = self.segments.iter().filter(|_| free).filter_map(|segment| {
            let fetch = segment.alone()?;
            Some(self.lags_from(fetch, self.choose(segment, &fetch.leaves)?))
        });
        stalls.chain(rests.chain(lags).filter(|at| *at > self.now)).min()
    }

    /// Whether nobody reads any more.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.readers.is_empty()
    }

    fn loaded(&mut self, index: u64, found: Option<Hashed<B>>) {
        let verdict = found.map(|hashed| {
            self.table.verify_leaves(self.table.layout().leaves_of_segment(index), &hashed)
        });
        let Some(segment) =
            self.segment_mut(index).filter(|segment| segment.phase == Phase::Loading)
        else {
            return;
        };
        segment.phase = Phase::Missing;
        let Some(verdict) = verdict else { return };
        // Good leaves of an altered entry are good; only the others are fetched.
        segment.parts = verdict.good;
        if verdict.bad.is_empty() {
            segment.phase = Phase::Ready;
            self.actions.push_back(Action::Report(Report::Verified {
                segment: index,
                origins: Vec::new(),
            }));
        } else {
            self.actions.push_back(Action::Forget(index));
        }
    }

    fn fetched(&mut self, id: FetchId, hashed: &Hashed<B>, origin: String) {
        let Some((at, fetch)) = self.end_fetch(|under_way| under_way.id == id) else {
            return;
        };
        let verdict = self.table.verify_leaves(fetch.leaves.clone(), hashed);
        if let Some(bad) = verdict.bad.first() {
            self.failed(at, &fetch, Failure::BadLeaf(*bad), None);
        } else {
            let answered = fetch.answered.unwrap_or(self.now);
            self.sources[fetch.source.0].brought(
                fetch.count(),
                answered.duration_since(fetch.started),
                self.now.duration_since(fetch.started),
            );
        }
        let segment = &mut self.segments[at];
        if !verdict.good.is_empty() && !segment.origins.contains(&origin) {
            segment.origins.push(origin);
        }
        for run in &verdict.good {
            segment.add(run);
        }
        // What another request brought is not waited for any more.
        while let Some(at) =
            segment.fetches.iter().position(|fetch| segment.gap(&fetch.leaves, &[]).is_none())
        {
            let late = segment.fetches.remove(at);
            self.sources[late.source.0]
                .overtaken(late.count(), self.now.duration_since(late.started));
            self.actions.push_back(Action::Abort(late.id));
        }
        let index = segment.index;
        if segment.gap(&self.table.layout().leaves_of_segment(index), &[]).is_none() {
            segment.phase = Phase::Ready;
            let origins = std::mem::take(&mut segment.origins);
            self.actions.push_back(Action::Report(Report::Verified { segment: index, origins }));
            if self.config.store {
                self.actions
                    .push_back(Action::Store { segment: index, parts: segment.parts.clone() });
            }
        }
    }

    fn failed(&mut self, at: usize, fetch: &Fetch, failure: Failure, rest: Option<Duration>) {
        let segment = &mut self.segments[at];
        let attempts = &mut segment.attempts[fetch.source.0];
        // Requests that fail together are one attempt.
        attempts.failed += u32::from(fetch.started >= attempts.at);
        attempts.at = self.now;
        let jitter = next_random(&mut self.jitter);
        self.sources[fetch.source.0].failed(
            self.now,
            fetch.started,
            failure.clone(),
            rest,
            self.config.backoff,
            jitter,
        );
        self.actions.push_back(Action::Report(Report::Refused {
            segment: segment.index,
            source: fetch.source,
            failure,
        }));
    }

    fn abort_stalled(&mut self) {
        let (now, stall) = (self.now, self.config.stall);
        while let Some((at, fetch)) = self.end_fetch(|fetch| fetch.progressed + stall <= now) {
            self.actions.push_back(Action::Abort(fetch.id));
            self.failed(at, &fetch, Failure::Stalled, None);
        }
    }

    /// Gives each reader that has room what there is, without a gap, of its next segment.
    fn hand_over(&mut self) {
        let layout = self.table.layout();
        for reader in &mut self.readers {
            if reader.wants && !reader.left.is_empty() {
                let index = layout.segments_of_bytes(&reader.left).start;
                let may_serve =
                    |segment: &&Segment<B>| segment.phase == Phase::Ready || !self.config.whole;
                let segment =
                    self.segments.iter().find(|segment| segment.index == index).filter(may_serve);
                for part in segment.map_or(&[][..], |segment| &segment.parts) {
                    if part.offset() <= reader.left.start
                        && let Some(bytes) = part.intersect(&reader.left)
                    {
                        reader.left.start += bytes.len();
                        reader.wants = false;
                        self.actions.push_back(Action::Emit { reader: reader.id, bytes });
                    }
                }
            }
            if reader.left.is_empty() {
                self.actions.push_back(Action::Close(reader.id));
            }
        }
        self.readers.retain(|reader| !reader.left.is_empty());
    }

    /// Lets go of what no reader is near any more.
    fn release(&mut self) {
        let near = self.in_order();
        let actions = &mut self.actions;
        self.segments.retain(|segment| {
            let keep = near.contains(&segment.index);
            if !keep {
                actions.extend(segment.fetches.iter().map(|fetch| Action::Abort(fetch.id)));
            }
            keep
        });
    }

    /// The segments to have now, the most urgent first, as many as may be held.
    fn in_order(&self) -> Vec<u64> {
        let layout = self.table.layout();
        let remaining = |reader: &Reader| reader.left.end - reader.left.start;
        let mut readers: Vec<&Reader> = Vec::new();
        for reader in self.readers.iter().filter(|reader| reader.started) {
            let at = readers.partition_point(|other| remaining(other) <= remaining(reader));
            readers.insert(at, reader);
        }
        let mut order = Vec::new();
        // Every reader's next segment is had, however many readers there are: nobody starves.
        for ahead in 0..self.config.held as u64 {
            for reader in &readers {
                let wanted = layout.segments_of_bytes(&reader.left);
                let index = wanted.start + ahead;
                let room = ahead == 0 || order.len() < self.config.held;
                if wanted.contains(&index) && room && !order.contains(&index) {
                    order.push(index);
                }
            }
        }
        order
    }

    /// Starts what can be started.
    fn start(&mut self) {
        let mut order = self.in_order().into_iter();
        while let Some(index) = order.next() {
            if self.segment(index).is_none() {
                let phase = if self.config.store { Phase::Loading } else { Phase::Missing };
                let attempts = vec![Attempts::default(); self.sources.len()];
                let (parts, fetches, origins) = (Vec::new(), Vec::new(), Vec::new());
                self.segments.push(Segment { index, parts, phase, fetches, attempts, origins });
                if self.config.store {
                    self.actions.push_back(Action::Load(index));
                }
            }
            if self.ask(index) {
                // Readers are gone: what was for them goes too, and makes room for the others.
                self.release();
                order = self.in_order().into_iter();
            }
        }
    }

    /// Asks sources for what a segment misses, as far as they are to be asked now. Whether readers were failed instead.
    fn ask(&mut self, index: u64) -> bool {
        while let Some(segment) =
            self.segment(index).filter(|segment| segment.phase == Phase::Missing)
        {
            if segment.fetches.is_empty()
                && !self.source_ids().any(|source| self.is_hopeful(segment, source))
            {
                return self.give_up(index);
            }
            if self.receiving().count() >= self.config.lanes {
                break;
            }
            let Some((mut leaves, source)) = self.next_of(segment) else { break };
            let expected = self.sources[source.0].expected(leaves.end - leaves.start);
            if expected.is_none() || self.in_pieces(index, source) {
                leaves.end = leaves.end.min(leaves.start + self.config.probe);
            }
            let quick = expected.is_some_and(|expected| expected < self.config.stall / 8);
            let id = FetchId(self.next_fetch);
            self.next_fetch += 1;
            let bytes = self.table.layout().bytes_of_leaves(&leaves);
            let fetch = Fetch {
                id,
                leaves,
                source,
                started: self.now,
                answered: None,
                progressed: self.now,
                got: 0,
            };
            if let Some(segment) = self.segment_mut(index) {
                segment.fetches.push(fetch);
            }
            self.actions.push_back(Action::Fetch { fetch: id, source, bytes, quick });
        }
        false
    }

    /// What to ask for next of a segment, and whom: leaves that nobody was asked for, or those that a source is late with.
    fn next_of(&self, segment: &Segment<B>) -> Option<(Range<u64>, SourceId)> {
        let unasked =
            segment.gap(&self.table.layout().leaves_of_segment(segment.index), &segment.fetches);
        let late = if unasked.is_none() { Some(segment.alone()?) } else { None };
        let leaves = unasked.or_else(|| segment.gap(&late?.leaves, &[]))?;
        let source = self.choose(segment, &leaves)?;
        late.is_none_or(|fetch| self.lags(fetch, source)).then_some((leaves, source))
    }

    /// Whether a segment is asked for in pieces: the last ones that a reader wants, of a source where that takes hardly longer.
    fn in_pieces(&self, index: u64, source: SourceId) -> bool {
        let is_last = |reader: &Reader| {
            let wanted = self.table.layout().segments_of_bytes(&reader.left);
            wanted.contains(&index) && wanted.end - index <= LAST
        };
        self.sources[source.0].is_near() && self.readers.iter().any(is_last)
    }

    /// Whether a source may yet bring what a segment misses.
    fn is_hopeful(&self, segment: &Segment<B>, source: SourceId) -> bool {
        !self.sources[source.0].set_aside
            && segment.attempts[source.0].failed < self.config.attempts
    }

    /// The source that is going to have brought these leaves first, of those that may be asked now and are not asked yet.
    fn choose(&self, segment: &Segment<B>, leaves: &Range<u64>) -> Option<SourceId> {
        let asked = |source: SourceId| {
            segment.fetches.iter().any(|fetch| fetch.source == source && fetch.meets(leaves))
        };
        let rested = |source: &SourceId| {
            let idle = !asked(*source) && self.sources[source.0].retry_at <= self.now;
            idle && self.is_hopeful(segment, *source)
        };
        let candidates = self.source_ids().filter(rested);
        if !self.config.share {
            return candidates.min_by_key(|source| (*source != self.latest, *source));
        }
        let busy = |source: SourceId| {
            let receiving = self.receiving().filter(|fetch| fetch.source == source).count();
            u32::try_from(receiving).unwrap_or(u32::MAX)
        };
        // Among equals the first: sources are named in the order they are preferred.
        candidates.min_by_key(|source| {
            match (self.sources[source.0].expected(leaves.end - leaves.start), busy(*source)) {
                (Some(expected), busy) => expected.saturating_mul(busy.saturating_add(1)),
                (None, 0) => Duration::ZERO,
                (None, _) => Duration::MAX,
            }
        })
    }

    /// What a source is taken to need for these leaves.
    fn needs(&self, source: SourceId, leaves: &Range<u64>) -> Duration {
        self.sources[source.0].expected(leaves.end - leaves.start).unwrap_or(self.config.guess)
    }

    /// When the only request for its leaves is late enough to ask `other` too.
    fn lags_from(&self, fetch: &Fetch, other: SourceId) -> Instant {
        let twice = self.needs(other, &fetch.leaves).saturating_mul(2);
        fetch.started + GRACE.saturating_add(twice)
    }

    /// Whether it is late, and still going to need longer than `other` would.
    fn lags(&self, fetch: &Fetch, other: SourceId) -> bool {
        let bytes = self.table.layout().bytes_of_leaves(&fetch.leaves);
        let left = (bytes.end - bytes.start).saturating_sub(fetch.got);
        let elapsed = millis(self.now.duration_since(fetch.started));
        let remaining = (elapsed * left).checked_div(fetch.got).map(Duration::from_millis);
        self.now >= self.lags_from(fetch, other)
            && remaining.is_none_or(|remaining| remaining > self.needs(other, &fetch.leaves))
    }

    /// Fails the readers whose next segment this is. Whether there were any.
    fn give_up(&mut self, index: u64) -> bool {
        let layout = self.table.layout();
        let stuck = |reader: &Reader| {
            reader.started && layout.segments_of_bytes(&reader.left).start == index
        };
        let readers: Vec<ReaderId> =
            self.readers.iter().filter(|reader| stuck(reader)).map(|reader| reader.id).collect();
        if readers.is_empty() {
            return false;
        }
        let known = self
            .sources
            .iter()
            .filter_map(|source| Some((source.name.clone(), source.last.clone()?)));
        let all = layout.leaves_of_segment(index);
        let leaves = self.segment(index).and_then(|segment| segment.gap(&all, &[])).unwrap_or(all);
        let error =
            DownloadError { bytes: layout.bytes_of_leaves(&leaves), failures: known.collect() };
        self.actions.push_back(Action::Report(Report::Failed(error.clone())));
        for reader in readers {
            self.readers.retain(|other| other.id != reader);
            self.actions.push_back(Action::Fail { reader, error: error.clone() });
        }
        true
    }

    /// All sources, the preferred ones first.
    fn source_ids(&self) -> impl Iterator<Item = SourceId> + use<B> {
        (0..self.sources.len()).map(SourceId)
    }

    fn segment(&self, index: u64) -> Option<&Segment<B>> {
        self.segments.iter().find(|segment| segment.index == index)
    }

    fn segment_mut(&mut self, index: u64) -> Option<&mut Segment<B>> {
        self.segments.iter_mut().find(|segment| segment.index == index)
    }

    /// Requests whose bytes still come.
    fn receiving(&self) -> impl Iterator<Item = &Fetch> {
        let layout = self.table.layout();
        let awaited = move |fetch: &&Fetch| {
            let bytes = layout.bytes_of_leaves(&fetch.leaves);
            fetch.got < bytes.end - bytes.start
        };
        self.fetches().filter(awaited)
    }

    fn fetches(&self) -> impl Iterator<Item = &Fetch> {
        self.segments.iter().flat_map(|segment| &segment.fetches)
    }

    /// Ends the first request that `matches`: where its segment stands, and what it was.
    fn end_fetch(&mut self, matches: impl Fn(&Fetch) -> bool) -> Option<(usize, Fetch)> {
        self.segments.iter_mut().enumerate().find_map(|(at, segment)| {
            let ended = segment.fetches.iter().position(&matches)?;
            Some((at, segment.fetches.remove(ended)))
        })
    }
}

impl Fetch {
    /// How many leaves it is for.
    const fn count(&self) -> u64 {
        self.leaves.end - self.leaves.start
    }

    fn meets(&self, leaves: &Range<u64>) -> bool {
        self.leaves.start < leaves.end && leaves.start < self.leaves.end
    }
}

impl<B: Bytes> Segment<B> {
    /// The first run of `leaves` that are neither there nor `asked` for.
    fn gap(&self, leaves: &Range<u64>, asked: &[Fetch]) -> Option<Range<u64>> {
        let first = self.index * LEAVES_PER_SEGMENT;
        // A bit for each leaf of the segment.
        let bits =
            |leaves: &Range<u64>| (1_u32 << (leaves.end - first)) - (1 << (leaves.start - first));
        let there = self.parts.iter().map(VerifiedLeaves::leaves);
        let taken = there
            .chain(asked.iter().map(|fetch| &fetch.leaves))
            .fold(0, |taken, run| taken | bits(run));
        let left = bits(leaves) & !taken;
        if left == 0 {
            return None;
        }
        let start = left.trailing_zeros();
        let run = (left >> start).trailing_ones();
        Some(first + u64::from(start)..first + u64::from(start + run))
    }

    /// The oldest request for leaves that no other request is for.
    fn alone(&self) -> Option<&Fetch> {
        self.fetches.iter().find(|fetch| {
            self.fetches.iter().filter(|other| other.meets(&fetch.leaves)).count() == 1
        })
    }

    /// Adds what is new in a verified run: of two requests for the same leaves, the second brings some again.
    fn add(&mut self, run: &VerifiedLeaves<B>) {
        while let Some(new) = self.gap(run.leaves(), &[]).and_then(|gap| run.cut(&gap)) {
            let at = self.parts.partition_point(|part| part.leaves().start < new.leaves().start);
            self.parts.insert(at, new);
        }
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014): enough for jitter.
const fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
