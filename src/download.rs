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
//! - a source that brings a segment within a quarter of a second is asked for two at a time, and, if it is near, for the end of what a
//!   reader wants in ever smaller pieces;
//! - a segment that takes far longer than another source would need is asked of that one too, and the
//!   first to bring it wins;
//! - bad leaves are fetched again, alone, from another source, and the source that sent them is not
//!   asked again; other failures are retried with exponential backoff and jitter, or when the source
//!   says (`Retry-After`);
//! - a reader fails when no source is left for its next segment. It never ends short.

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;

use crate::health::Health;
pub use crate::health::Pace;
use crate::layout::LEAVES_PER_SEGMENT;
use crate::source::Failure;
use crate::verify::{Bytes, Hashed, LeafTable, VerifiedLeaves};

/// Limits of a download. Times are in milliseconds.
#[derive(Debug, Clone)]
pub struct Config {
    /// Requests under way at once; one whose bytes have all come, and are being verified, leaves its place to the next.
    pub lanes: usize,
    /// Segments in memory at once, in flight or waiting for their reader.
    pub held: usize,
    /// Times a source is asked for the same segment.
    pub attempts: u32,
    /// How long a request may bring no bytes.
    pub stall: u64,
    /// Wait after a source's first failure; doubles with each further one, up to 16 times this.
    pub backoff: u64,
    /// What a request is taken to need at a source never asked before.
    pub guess: u64,
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
        let (stall, backoff, guess) = (20_000, 250, 8_000);
        // Six attempts outlast an outage of 4 s: 125 + 250 + … + 2,000 ms at the least.
        Self { lanes: 4, held: 8, attempts: 6, stall, backoff, guess, probe: 4, whole: false, share: true, store: true, seed: 0 }
    }
}

/// What a request may be late before another source is asked too, in milliseconds: besides twice what that needs.
const GRACE: u64 = 1_000;

/// A source that brings a segment within this, in milliseconds, fills the link with few requests: more would only delay the one
/// that the reader waits for.
const BRISK: u64 = 250;
/// Requests at once that are enough for such a source.
const ENOUGH: u64 = 2;

/// Names a reader; the driver chooses it.
pub type ReaderId = u64;
/// Names a request; the machine chooses it.
pub type FetchId = u64;

/// What happened.
#[derive(Debug)]
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
        /// For how long the source asked to be left alone, in milliseconds (`Retry-After`).
        rest: Option<u64>,
    },
    /// Time passed; see [`Download::next_timeout`].
    Tick,
}

/// What the driver is to do.
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
        /// Index of the source.
        source: usize,
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
        /// Index of the source.
        source: usize,
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
    failures.iter().map(|(name, failure)| format!("{name}: {failure}")).collect::<Vec<_>>().join("; ")
}

struct Reader {
    id: ReaderId,
    /// What is still to be handed over.
    left: Range<u64>,
    wants: bool,
    /// Nothing is fetched for a reader that never pulled.
    started: bool,
}

struct Segment<B> {
    index: u64,
    /// Verified runs of leaves, in order.
    parts: Vec<VerifiedLeaves<B>>,
    phase: Phase,
    /// Requests under way for leaves that it misses; two when the first lags.
    fetches: Vec<Fetch>,
    /// Failures of each source with this segment.
    attempts: Vec<u32>,
    origins: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Loading,
    Missing,
    Ready,
}

#[derive(Clone)]
struct Fetch {
    id: FetchId,
    leaves: Range<u64>,
    source: usize,
    started: u64,
    /// When the first bytes came.
    answered: Option<u64>,
    /// When the last bytes came.
    progressed: u64,
    /// How many bytes came.
    got: u64,
}

/// The machine; see the [module](self).
pub struct Download<B> {
    table: Rc<LeafTable>,
    config: Config,
    sources: Vec<Health>,
    /// The one that sent something last.
    latest: usize,
    readers: Vec<Reader>,
    /// Few: see [`Config::held`].
    segments: Vec<Segment<B>>,
    next_fetch: FetchId,
    jitter: u64,
    now: u64,
    actions: VecDeque<Action<B>>,
}

impl<B: Bytes> Download<B> {
    /// A download of the artifact of `table` from `sources`, named in the order they are preferred.
    #[must_use]
    pub fn new(table: impl Into<Rc<LeafTable>>, sources: Vec<String>, config: Config) -> Self {
        Self {
            table: table.into(),
            jitter: config.seed,
            config,
            sources: sources.into_iter().map(Health::new).collect(),
            latest: 0,
            readers: Vec::new(),
            segments: Vec::new(),
            next_fetch: 0,
            now: 0,
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

    /// Takes what happened at `now`, in milliseconds of any clock that does not go back.
    pub fn handle(&mut self, now: u64, event: Event<B>) {
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
                    self.actions.push_back(Action::Report(Report::Received { bytes: bytes.saturating_sub(fetch.got) }));
                    fetch.got = bytes;
                }
            }
            Event::Fetched { fetch, hashed, origin } => self.fetched(fetch, &hashed, origin),
            Event::Failed { fetch, failure, rest } => {
                if let Some((index, fetch)) = self.end_fetch(|under_way| under_way.id == fetch) {
                    self.failed(index, &fetch, failure, rest);
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

    /// When [`Event::Tick`] is due, in milliseconds of the clock of [`Download::handle`].
    #[must_use]
    pub fn next_timeout(&self) -> Option<u64> {
        let stalls = self.fetches().map(|fetch| fetch.progressed + self.config.stall);
        let waiting = self.segments.iter().any(|segment| segment.phase == Phase::Missing && segment.fetches.is_empty());
        let rests = self.sources.iter().filter(|source| waiting && !source.set_aside).map(|source| source.retry_at);
        let lags = self.segments.iter().filter_map(|segment| {
            let other = self.choose(segment, self.missing(segment)?).filter(|_| self.receiving().count() < self.config.lanes)?;
            self.lags_from(segment, other)
        });
        stalls.chain(rests.chain(lags).filter(|at| *at > self.now)).min()
    }

    /// Whether nobody reads any more.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.readers.is_empty()
    }

    fn loaded(&mut self, index: u64, found: Option<Hashed<B>>) {
        let verdict = found.map(|hashed| self.table.verify_leaves(self.table.layout().leaves_of_segment(index), &hashed));
        let Some(segment) = self.segment_mut(index).filter(|segment| segment.phase == Phase::Loading) else {
            return;
        };
        segment.phase = Phase::Missing;
        let Some(verdict) = verdict else { return };
        // Good leaves of an altered entry are good; only the others are fetched.
        segment.parts = verdict.good;
        if verdict.bad.is_empty() {
            segment.phase = Phase::Ready;
            self.actions.push_back(Action::Report(Report::Verified { segment: index, origins: Vec::new() }));
        } else {
            self.actions.push_back(Action::Forget(index));
        }
    }

    fn fetched(&mut self, id: FetchId, hashed: &Hashed<B>, origin: String) {
        let Some((index, fetch)) = self.end_fetch(|under_way| under_way.id == id) else {
            return;
        };
        let verdict = self.table.verify_leaves(fetch.leaves.clone(), hashed);
        if let Some(segment) = self.segment_mut(index) {
            if !verdict.good.is_empty() && !segment.origins.contains(&origin) {
                segment.origins.push(origin);
            }
            for run in &verdict.good {
                segment.add(run);
            }
        }
        if let Some(bad) = verdict.bad.first() {
            self.failed(index, &fetch, Failure::BadLeaf(*bad), None);
        } else {
            let answered = fetch.answered.unwrap_or(self.now);
            let leaves = fetch.leaves.end - fetch.leaves.start;
            self.sources[fetch.source].brought(leaves, answered - fetch.started, self.now - fetch.started);
        }
        if self.segment(index).is_some_and(|segment| self.missing(segment).is_none()) {
            self.completed(index);
        }
    }

    fn completed(&mut self, index: u64) {
        let Some(segment) = self.segment_mut(index) else {
            return;
        };
        segment.phase = Phase::Ready;
        let origins = std::mem::take(&mut segment.origins);
        let parts = segment.parts.clone();
        for late in std::mem::take(&mut segment.fetches) {
            self.sources[late.source].overtaken(late.leaves.end - late.leaves.start, self.now - late.started);
            self.actions.push_back(Action::Abort(late.id));
        }
        self.actions.push_back(Action::Report(Report::Verified { segment: index, origins }));
        if self.config.store {
            self.actions.push_back(Action::Store { segment: index, parts });
        }
    }

    fn failed(&mut self, index: u64, fetch: &Fetch, failure: Failure, rest: Option<u64>) {
        if let Some(segment) = self.segment_mut(index) {
            segment.attempts[fetch.source] += 1;
        }
        let jitter = next_random(&mut self.jitter);
        self.sources[fetch.source].failed(self.now, fetch.started, failure.clone(), rest, self.config.backoff, jitter);
        self.actions.push_back(Action::Report(Report::Refused { segment: index, source: fetch.source, failure }));
    }

    fn abort_stalled(&mut self) {
        let (now, stall) = (self.now, self.config.stall);
        while let Some((index, fetch)) = self.end_fetch(|fetch| fetch.progressed + stall <= now) {
            self.actions.push_back(Action::Abort(fetch.id));
            self.failed(index, &fetch, Failure::Stalled, None);
        }
    }

    /// Gives each reader that has room what there is, without a gap, of its next segment.
    fn hand_over(&mut self) {
        let layout = self.table.layout();
        for reader in &mut self.readers {
            if reader.wants && !reader.left.is_empty() {
                let index = layout.segments_of_bytes(&reader.left).start;
                let may_serve = |segment: &&Segment<B>| segment.phase == Phase::Ready || !self.config.whole;
                let segment = self.segments.iter().find(|segment| segment.index == index).filter(may_serve);
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
                let attempts = vec![0; self.sources.len()];
                let (parts, fetches, origins) = (Vec::new(), Vec::new(), Vec::new());
                self.segments.push(Segment { index, parts, phase, fetches, attempts, origins });
                if self.config.store {
                    self.actions.push_back(Action::Load(index));
                }
            }
            if self.ask_a_source(index) {
                // Readers are gone: what was for them goes too, and makes room for the others.
                self.release();
                order = self.in_order().into_iter();
            }
        }
    }

    /// Asks a source for what a segment misses, if one is to be asked now. Whether readers were failed instead.
    fn ask_a_source(&mut self, index: u64) -> bool {
        let Some(segment) = self.segment(index).filter(|segment| segment.phase == Phase::Missing) else {
            return false;
        };
        if segment.fetches.is_empty() && !(0..self.sources.len()).any(|source| self.is_hopeful(segment, source)) {
            return self.give_up(index);
        }
        let Some(mut leaves) = self.missing(segment).filter(|_| self.receiving().count() < self.config.lanes) else {
            return false;
        };
        let source = self.choose(segment, leaves.clone());
        let late = |other: &usize| segment.fetches.is_empty() || self.lags(segment, *other);
        let Some(source) = source.filter(late) else {
            return false;
        };
        let expected = self.sources[source].expected(leaves.end - leaves.start);
        let most = match expected {
            None => self.config.probe,
            // In ever smaller pieces: when the last byte comes, little is left to verify and to hand over.
            Some(_) if self.is_last(index) && self.sources[source].is_near() => {
                ((leaves.end - leaves.start) / 2).max(self.config.probe)
            }
            Some(_) => u64::MAX,
        };
        leaves.end = leaves.end.min(leaves.start.saturating_add(most));
        let quick = expected.is_some_and(|expected| expected < self.config.stall / 8);
        let id = self.next_fetch;
        self.next_fetch += 1;
        let bytes = self.table.layout().bytes_of_leaves(&leaves);
        let fetch = Fetch { id, leaves, source, started: self.now, answered: None, progressed: self.now, got: 0 };
        if let Some(segment) = self.segment_mut(index) {
            segment.fetches.push(fetch);
        }
        self.actions.push_back(Action::Fetch { fetch: id, source, bytes, quick });
        false
    }

    /// Whether a segment is one of the last that a reader wants.
    fn is_last(&self, index: u64) -> bool {
        self.readers.iter().any(|reader| {
            let wanted = self.table.layout().segments_of_bytes(&reader.left);
            wanted.contains(&index) && wanted.end - index <= ENOUGH
        })
    }

    /// Whether a source may yet bring what a segment misses.
    fn is_hopeful(&self, segment: &Segment<B>, source: usize) -> bool {
        !self.sources[source].set_aside && segment.attempts[source] < self.config.attempts
    }

    /// The source that is going to have brought these leaves first, of those that may be asked now and are not asked yet.
    fn choose(&self, segment: &Segment<B>, leaves: Range<u64>) -> Option<usize> {
        let asked = |source: usize| segment.fetches.iter().any(|fetch| fetch.source == source);
        let rested = |source: &usize| {
            let idle = !asked(*source) && self.sources[*source].retry_at <= self.now;
            idle && self.is_hopeful(segment, *source)
        };
        let candidates = (0..self.sources.len()).filter(rested);
        if !self.config.share {
            return candidates.min_by_key(|source| (*source != self.latest, *source));
        }
        let busy = |source: usize| self.receiving().filter(|fetch| fetch.source == source).count() as u64;
        // Among equals the first: sources are named in the order they are preferred.
        let best =
            candidates.min_by_key(|source| match (self.sources[*source].expected(leaves.end - leaves.start), busy(*source)) {
                (Some(expected), busy) => expected * (busy + 1),
                (None, 0) => 0,
                (None, _) => u64::MAX,
            });
        best.filter(|source| {
            busy(*source) < ENOUGH || self.sources[*source].expected(LEAVES_PER_SEGMENT).is_none_or(|expected| expected > BRISK)
        })
    }

    /// What a source is taken to need for these leaves.
    fn needs(&self, source: usize, leaves: &Range<u64>) -> u64 {
        self.sources[source].expected(leaves.end - leaves.start).unwrap_or(self.config.guess)
    }

    /// When the one request for a segment is late enough to ask `other` too.
    fn lags_from(&self, segment: &Segment<B>, other: usize) -> Option<u64> {
        let [fetch] = segment.fetches.as_slice() else { return None };
        Some(fetch.started + GRACE + 2 * self.needs(other, &fetch.leaves))
    }

    /// Whether it is late, and still going to need longer than `other` would.
    fn lags(&self, segment: &Segment<B>, other: usize) -> bool {
        let (Some(from), [fetch]) = (self.lags_from(segment, other), segment.fetches.as_slice()) else {
            return false;
        };
        let bytes = self.table.layout().bytes_of_leaves(&fetch.leaves);
        let left = (bytes.end - bytes.start).saturating_sub(fetch.got);
        let remaining = ((self.now - fetch.started) * left).checked_div(fetch.got);
        self.now >= from && remaining.is_none_or(|remaining| remaining > self.needs(other, &fetch.leaves))
    }

    /// Fails the readers whose next segment this is. Whether there were any.
    fn give_up(&mut self, index: u64) -> bool {
        let layout = self.table.layout();
        let stuck = |reader: &Reader| reader.started && layout.segments_of_bytes(&reader.left).start == index;
        let readers: Vec<ReaderId> = self.readers.iter().filter(|reader| stuck(reader)).map(|reader| reader.id).collect();
        if readers.is_empty() {
            return false;
        }
        let known = self.sources.iter().filter_map(|source| Some((source.name.clone(), source.last.clone()?)));
        let leaves = self.segment(index).and_then(|segment| self.missing(segment));
        let leaves = leaves.unwrap_or_else(|| layout.leaves_of_segment(index));
        let error = DownloadError { bytes: layout.bytes_of_leaves(&leaves), failures: known.collect() };
        self.actions.push_back(Action::Report(Report::Failed(error.clone())));
        for reader in readers {
            self.readers.retain(|other| other.id != reader);
            self.actions.push_back(Action::Fail { reader, error: error.clone() });
        }
        true
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

    /// Ends the first request that `matches`.
    fn end_fetch(&mut self, matches: impl Fn(&Fetch) -> bool) -> Option<(u64, Fetch)> {
        self.segments.iter_mut().find_map(|segment| {
            let at = segment.fetches.iter().position(&matches)?;
            Some((segment.index, segment.fetches.remove(at)))
        })
    }

    /// The first run of leaves of a segment that are not there yet.
    fn missing(&self, segment: &Segment<B>) -> Option<Range<u64>> {
        segment.gap(self.table.layout().leaves_of_segment(segment.index))
    }
}

impl<B: Bytes> Segment<B> {
    /// The first of `leaves` that are not there yet.
    fn gap(&self, mut leaves: Range<u64>) -> Option<Range<u64>> {
        for part in self.parts.iter().map(VerifiedLeaves::leaves) {
            if part.start > leaves.start {
                leaves.end = leaves.end.min(part.start);
                break;
            }
            leaves.start = leaves.start.max(part.end);
        }
        (!leaves.is_empty()).then_some(leaves)
    }

    /// Adds what is new in a verified run: of two requests for the same leaves, the second brings some again.
    fn add(&mut self, run: &VerifiedLeaves<B>) {
        while let Some(new) = self.gap(run.leaves().clone()).and_then(|gap| run.cut(&gap)) {
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
