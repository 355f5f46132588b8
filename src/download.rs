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
//! - bad leaves are fetched again, alone, from another source, and the source that sent them is not
//!   asked again; other failures are retried with exponential backoff and jitter;
//! - a reader fails when no source is left for its next segment. It never ends short.

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;

use crate::source::Failure;
use crate::verify::{Bytes, Hashed, LeafTable, VerifiedLeaves};

/// Limits of a download. Times are in milliseconds.
#[derive(Debug, Clone)]
pub struct Config {
    /// Requests under way at once.
    pub lanes: usize,
    /// Segments in memory at once, in flight or waiting for their reader.
    pub held: usize,
    /// Times a source is asked for the same segment.
    pub attempts: u32,
    /// How long a request may bring no bytes.
    pub stall: u64,
    /// Wait after a source's first failure; doubles with each further one, up to 16 times this.
    pub backoff: u64,
    /// Whether there is a store to load segments from and to store them in.
    pub store: bool,
    /// Seed of the jitter.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { lanes: 4, held: 8, attempts: 4, stall: 20_000, backoff: 250, store: true, seed: 0 }
    }
}

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
    Progressed(FetchId),
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
    /// Failures of each source with this segment.
    attempts: Vec<u32>,
    origins: Vec<String>,
}

#[derive(Clone, PartialEq, Eq)]
enum Phase {
    Loading,
    Wanted,
    Fetching(Fetch),
    Ready,
}

#[derive(Clone, PartialEq, Eq)]
struct Fetch {
    id: FetchId,
    leaves: Range<u64>,
    source: usize,
    started: u64,
    progressed: u64,
}

struct SourceHealth {
    name: String,
    /// Failures in a row; requests that fail together count once.
    failures: u32,
    failed_at: u64,
    retry_at: u64,
    last: Option<Failure>,
    /// Never to be asked again.
    set_aside: bool,
}

/// The machine; see the [module](self).
pub struct Download<B> {
    table: Rc<LeafTable>,
    config: Config,
    sources: Vec<SourceHealth>,
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
        let health = |name| SourceHealth { name, failures: 0, failed_at: 0, retry_at: 0, last: None, set_aside: false };
        Self {
            table: table.into(),
            jitter: config.seed,
            config,
            sources: sources.into_iter().map(health).collect(),
            readers: Vec::new(),
            segments: Vec::new(),
            next_fetch: 0,
            now: 0,
            actions: VecDeque::new(),
        }
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
            Event::Progressed(fetch) => {
                let now = self.now;
                if let Some(fetch) = self.fetches_mut().find(|under_way| under_way.id == fetch) {
                    fetch.progressed = now;
                }
            }
            Event::Fetched { fetch, hashed, origin } => self.fetched(fetch, &hashed, origin),
            Event::Failed { fetch, failure } => {
                if let Some((index, fetch)) = self.end_fetch(|under_way| under_way.id == fetch) {
                    self.failed(index, &fetch, failure);
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
        let waiting = self.segments.iter().any(|segment| segment.phase == Phase::Wanted);
        let retries = self.sources.iter().filter(|source| waiting && !source.set_aside && source.retry_at > self.now);
        stalls.chain(retries.map(|source| source.retry_at)).min()
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
        segment.phase = Phase::Wanted;
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
            // What was missing lay in one gap, so what came goes there, in order.
            let gap = segment.parts.partition_point(|part| part.leaves().start < fetch.leaves.start);
            segment.parts.splice(gap..gap, verdict.good);
        }
        if let Some(bad) = verdict.bad.first() {
            self.failed(index, &fetch, Failure::BadLeaf(*bad));
        } else {
            self.sources[fetch.source].failures = 0;
        }
        if self.missing(index).is_none() {
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
        self.actions.push_back(Action::Report(Report::Verified { segment: index, origins }));
        if self.config.store {
            self.actions.push_back(Action::Store { segment: index, parts });
        }
    }

    fn failed(&mut self, index: u64, fetch: &Fetch, failure: Failure) {
        if let Some(segment) = self.segment_mut(index) {
            segment.attempts[fetch.source] += 1;
        }
        let source = &mut self.sources[fetch.source];
        if failure.is_final() {
            source.set_aside = true;
        } else if source.failures == 0 || fetch.started >= source.failed_at {
            let wait = self.config.backoff << source.failures.min(4);
            source.failures += 1;
            source.failed_at = self.now;
            source.retry_at = self.now + wait / 2 + next_random(&mut self.jitter) % (wait / 2 + 1);
        }
        source.last = Some(failure.clone());
        self.actions.push_back(Action::Report(Report::Refused { segment: index, source: fetch.source, failure }));
    }

    fn abort_stalled(&mut self) {
        let (now, stall) = (self.now, self.config.stall);
        while let Some((index, fetch)) = self.end_fetch(|fetch| fetch.progressed + stall <= now) {
            self.actions.push_back(Action::Abort(fetch.id));
            self.failed(index, &fetch, Failure::Stalled);
        }
    }

    /// Gives each reader that has room the rest of its next segment, if that is ready.
    fn hand_over(&mut self) {
        let layout = self.table.layout();
        for reader in &mut self.readers {
            if reader.wants && !reader.left.is_empty() {
                let index = layout.segments_of_bytes(&reader.left).start;
                let ready = |segment: &&Segment<B>| segment.index == index && segment.phase == Phase::Ready;
                let Some(segment) = self.segments.iter().find(ready) else {
                    continue;
                };
                for bytes in segment.parts.iter().filter_map(|part| part.intersect(&reader.left)) {
                    self.actions.push_back(Action::Emit { reader: reader.id, bytes });
                }
                reader.left.start = layout.bytes_of_segment(index).end.min(reader.left.end);
                reader.wants = false;
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
            if let (false, Phase::Fetching(fetch)) = (keep, &segment.phase) {
                actions.push_back(Action::Abort(fetch.id));
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
                let phase = if self.config.store { Phase::Loading } else { Phase::Wanted };
                let attempts = vec![0; self.sources.len()];
                self.segments.push(Segment { index, parts: Vec::new(), phase, attempts, origins: Vec::new() });
                if self.config.store {
                    self.actions.push_back(Action::Load(index));
                }
            }
            let wanted = self.segment(index).is_some_and(|segment| segment.phase == Phase::Wanted);
            if wanted && self.ask_a_source(index) {
                // Readers are gone: what was for them goes too, and makes room for the others.
                self.release();
                order = self.in_order().into_iter();
            }
        }
    }

    /// Asks a source for what a segment misses, if one is to be asked now. Whether readers were failed instead.
    fn ask_a_source(&mut self, index: u64) -> bool {
        let Some(segment) = self.segment(index) else {
            return false;
        };
        let hopeful = |source: &usize| !self.sources[*source].set_aside && segment.attempts[*source] < self.config.attempts;
        let candidates: Vec<usize> = (0..self.sources.len()).filter(hopeful).collect();
        if candidates.is_empty() {
            return self.give_up(index);
        }
        let rested = candidates.into_iter().find(|source| self.sources[*source].retry_at <= self.now);
        let (Some(source), Some(leaves)) = (rested, self.missing(index)) else {
            return false;
        };
        if self.fetches().count() >= self.config.lanes {
            return false;
        }
        let id = self.next_fetch;
        self.next_fetch += 1;
        let bytes = self.table.layout().bytes_of_leaves(&leaves);
        let fetch = Fetch { id, leaves, source, started: self.now, progressed: self.now };
        if let Some(segment) = self.segment_mut(index) {
            segment.phase = Phase::Fetching(fetch);
        }
        self.actions.push_back(Action::Fetch { fetch: id, source, bytes });
        false
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
        let leaves = self.missing(index).unwrap_or_else(|| layout.leaves_of_segment(index));
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

    fn fetches(&self) -> impl Iterator<Item = &Fetch> {
        self.segments.iter().filter_map(|segment| match &segment.phase {
            Phase::Fetching(fetch) => Some(fetch),
            _ => None,
        })
    }

    fn fetches_mut(&mut self) -> impl Iterator<Item = &mut Fetch> {
        self.segments.iter_mut().filter_map(|segment| match &mut segment.phase {
            Phase::Fetching(fetch) => Some(fetch),
            _ => None,
        })
    }

    /// Ends the first request that `matches`; its segment is wanted again.
    fn end_fetch(&mut self, matches: impl Fn(&Fetch) -> bool) -> Option<(u64, Fetch)> {
        self.segments.iter_mut().find_map(|segment| match &segment.phase {
            Phase::Fetching(fetch) if matches(fetch) => {
                let fetch = fetch.clone();
                segment.phase = Phase::Wanted;
                Some((segment.index, fetch))
            }
            _ => None,
        })
    }

    /// The first run of leaves of a segment that are not there yet.
    fn missing(&self, index: u64) -> Option<Range<u64>> {
        let mut missing = self.table.layout().leaves_of_segment(index);
        for part in self.segment(index).map_or(&[][..], |segment| &segment.parts) {
            if part.leaves().start > missing.start {
                missing.end = part.leaves().start;
                break;
            }
            missing.start = part.leaves().end;
        }
        (!missing.is_empty()).then_some(missing)
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
