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

use std::collections::{BTreeMap, VecDeque};
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
    /// What is still to be handed over.
    left: Range<u64>,
    wants: bool,
    /// Nothing is fetched for a reader that never pulled.
    started: bool,
}

struct Segment<B> {
    /// Verified runs of leaves, in order.
    parts: Vec<VerifiedLeaves<B>>,
    phase: Phase,
    /// Failures of each source with this segment.
    attempts: Vec<u32>,
    origins: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Loading,
    Wanted,
    Fetching(FetchId),
    Ready,
}

struct Fetch {
    segment: u64,
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
    readers: BTreeMap<ReaderId, Reader>,
    segments: BTreeMap<u64, Segment<B>>,
    fetches: BTreeMap<FetchId, Fetch>,
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
            readers: BTreeMap::new(),
            segments: BTreeMap::new(),
            fetches: BTreeMap::new(),
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
                self.readers.insert(reader, Reader { left, wants: false, started: false });
            }
            Event::Pulled(reader) => {
                if let Some(reader) = self.readers.get_mut(&reader) {
                    reader.wants = true;
                    reader.started = true;
                }
            }
            Event::Cancelled(reader) => {
                self.readers.remove(&reader);
            }
            Event::Loaded { segment, found } => self.loaded(segment, found),
            Event::Progressed(fetch) => {
                if let Some(fetch) = self.fetches.get_mut(&fetch) {
                    fetch.progressed = self.now;
                }
            }
            Event::Fetched { fetch, hashed, origin } => self.fetched(fetch, &hashed, origin),
            Event::Failed { fetch, failure } => {
                if let Some(fetch) = self.fetches.remove(&fetch) {
                    self.failed(&fetch, failure);
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
        let stalls = self.fetches.values().map(|fetch| fetch.progressed + self.config.stall);
        let waiting = self.segments.values().any(|segment| segment.phase == Phase::Wanted);
        let retries = self.sources.iter().filter(|source| waiting && !source.set_aside && source.retry_at > self.now);
        stalls.chain(retries.map(|source| source.retry_at)).min()
    }

    /// Whether nobody reads any more.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.readers.is_empty()
    }

    fn loaded(&mut self, index: u64, found: Option<Hashed<B>>) {
        let Some(segment) = self.segments.get_mut(&index).filter(|segment| segment.phase == Phase::Loading) else {
            return;
        };
        segment.phase = Phase::Wanted;
        if let Some(hashed) = found {
            let verdict = self.table.verify_leaves(self.table.layout().leaves_of_segment(index), &hashed);
            segment.parts = verdict.good;
            if verdict.bad.is_empty() {
                segment.phase = Phase::Ready;
                self.actions.push_back(Action::Report(Report::Verified { segment: index, origins: Vec::new() }));
            } else {
                self.actions.push_back(Action::Forget(index));
            }
        }
    }

    fn fetched(&mut self, id: FetchId, hashed: &Hashed<B>, origin: String) {
        let Some(fetch) = self.fetches.remove(&id) else {
            return;
        };
        let verdict = self.table.verify_leaves(fetch.leaves.clone(), hashed);
        if let Some(segment) = self.segments.get_mut(&fetch.segment) {
            if !verdict.good.is_empty() && !segment.origins.contains(&origin) {
                segment.origins.push(origin);
            }
            segment.parts.extend(verdict.good);
            segment.parts.sort_by_key(|part| part.leaves().start);
            segment.phase = Phase::Wanted;
        }
        if let Some(bad) = verdict.bad.first() {
            self.failed(&fetch, Failure::BadLeaf(*bad));
        } else {
            self.sources[fetch.source].failures = 0;
        }
        if self.missing(fetch.segment).is_none() {
            self.completed(fetch.segment);
        }
    }

    fn completed(&mut self, index: u64) {
        let Some(segment) = self.segments.get_mut(&index) else {
            return;
        };
        segment.phase = Phase::Ready;
        let origins = std::mem::take(&mut segment.origins);
        self.actions.push_back(Action::Report(Report::Verified { segment: index, origins }));
        if self.config.store {
            self.actions.push_back(Action::Store { segment: index, parts: segment.parts.clone() });
        }
    }

    fn failed(&mut self, fetch: &Fetch, failure: Failure) {
        if let Some(segment) = self.segments.get_mut(&fetch.segment) {
            segment.attempts[fetch.source] += 1;
            segment.phase = Phase::Wanted;
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
        self.actions.push_back(Action::Report(Report::Refused { segment: fetch.segment, source: fetch.source, failure }));
    }

    fn abort_stalled(&mut self) {
        let late = |fetch: &Fetch| fetch.progressed + self.config.stall <= self.now;
        let stalled: Vec<FetchId> = self.fetches.iter().filter(|(_, fetch)| late(fetch)).map(|(id, _)| *id).collect();
        for id in stalled {
            if let Some(fetch) = self.fetches.remove(&id) {
                self.actions.push_back(Action::Abort(id));
                self.failed(&fetch, Failure::Stalled);
            }
        }
    }

    /// Gives each reader that has room the rest of its next segment, if that is ready.
    fn hand_over(&mut self) {
        let layout = self.table.layout();
        let mut ended = Vec::new();
        for (id, reader) in &mut self.readers {
            if reader.wants && !reader.left.is_empty() {
                let index = layout.segments_of_bytes(&reader.left).start;
                let Some(segment) = self.segments.get(&index).filter(|segment| segment.phase == Phase::Ready) else {
                    continue;
                };
                for bytes in segment.parts.iter().filter_map(|part| part.intersect(&reader.left)) {
                    self.actions.push_back(Action::Emit { reader: *id, bytes });
                }
                reader.left.start = layout.bytes_of_segment(index).end.min(reader.left.end);
                reader.wants = false;
            }
            if reader.left.is_empty() {
                self.actions.push_back(Action::Close(*id));
                ended.push(*id);
            }
        }
        for id in ended {
            self.readers.remove(&id);
        }
    }

    /// Lets go of what no reader is near any more.
    fn release(&mut self) {
        let near = self.in_order();
        let gone: Vec<u64> = self.segments.keys().copied().filter(|index| !near.contains(index)).collect();
        for index in gone {
            if let Some(Segment { phase: Phase::Fetching(id), .. }) = self.segments.remove(&index) {
                self.fetches.remove(&id);
                self.actions.push_back(Action::Abort(id));
            }
        }
    }

    /// The segments to have now, the most urgent first, as many as may be held.
    fn in_order(&self) -> Vec<u64> {
        let layout = self.table.layout();
        let mut readers: Vec<&Reader> = self.readers.values().filter(|reader| reader.started).collect();
        readers.sort_by_key(|reader| reader.left.end - reader.left.start);
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
        for index in self.in_order() {
            if !self.segments.contains_key(&index) {
                let phase = if self.config.store { Phase::Loading } else { Phase::Wanted };
                let attempts = vec![0; self.sources.len()];
                self.segments.insert(index, Segment { parts: Vec::new(), phase, attempts, origins: Vec::new() });
                if self.config.store {
                    self.actions.push_back(Action::Load(index));
                }
            }
            if self.segments[&index].phase == Phase::Wanted {
                self.ask_a_source(index);
            }
        }
        if self.readers.is_empty() {
            self.release();
        }
    }

    fn ask_a_source(&mut self, index: u64) {
        let segment = &self.segments[&index];
        let hopeful = |source: &usize| !self.sources[*source].set_aside && segment.attempts[*source] < self.config.attempts;
        let candidates: Vec<usize> = (0..self.sources.len()).filter(hopeful).collect();
        if candidates.is_empty() {
            self.give_up(index);
            return;
        }
        let rested = candidates.into_iter().find(|source| self.sources[*source].retry_at <= self.now);
        let (Some(source), Some(leaves)) = (rested, self.missing(index)) else {
            return;
        };
        if self.fetches.len() >= self.config.lanes {
            return;
        }
        let fetch = self.next_fetch;
        self.next_fetch += 1;
        let bytes = self.table.layout().bytes_of_leaves(&leaves);
        self.fetches.insert(fetch, Fetch { segment: index, leaves, source, started: self.now, progressed: self.now });
        if let Some(segment) = self.segments.get_mut(&index) {
            segment.phase = Phase::Fetching(fetch);
        }
        self.actions.push_back(Action::Fetch { fetch, source, bytes });
    }

    /// Fails the readers whose next segment this is.
    fn give_up(&mut self, index: u64) {
        let layout = self.table.layout();
        let stuck = |reader: &Reader| reader.started && layout.segments_of_bytes(&reader.left).start == index;
        let readers: Vec<ReaderId> = self.readers.iter().filter(|(_, reader)| stuck(reader)).map(|(id, _)| *id).collect();
        let known = self.sources.iter().filter_map(|source| Some((source.name.clone(), source.last.clone()?)));
        let leaves = self.missing(index).unwrap_or_else(|| layout.leaves_of_segment(index));
        let error = DownloadError { bytes: layout.bytes_of_leaves(&leaves), failures: known.collect() };
        if !readers.is_empty() {
            self.actions.push_back(Action::Report(Report::Failed(error.clone())));
        }
        for reader in readers {
            self.readers.remove(&reader);
            self.actions.push_back(Action::Fail { reader, error: error.clone() });
        }
    }

    /// The first run of leaves of a segment that are not there yet.
    fn missing(&self, index: u64) -> Option<Range<u64>> {
        let mut missing = self.table.layout().leaves_of_segment(index);
        for part in self.segments.get(&index).map_or(&[][..], |segment| &segment.parts) {
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
