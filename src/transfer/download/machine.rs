//! The download machine.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::dag::verify::{Bytes, Hashed, LeafTable};
use crate::time::Instant;
use crate::transfer::download::protocol::{
    Action, BadConfig, Config, DownloadError, Event, FetchId, ReaderId, Report, SourceId,
};
use crate::transfer::download::segment::{Fetch, Phase, Segment};
use crate::transfer::health::{Health, Pace};
use crate::transfer::source::Failure;

/// How late a fetch must be before another source is asked too, besides twice what that source
/// needs.
const GRACE: Duration = Duration::from_secs(1);

/// Bytes a second of a source that fills the link with [`Config::near`] fetches.
const QUICK: u64 = 32 << 20;

#[derive(Debug)]
struct Reader {
    id: ReaderId,
    /// Bytes that it has not got yet.
    left: Range<u64>,
    /// It has room for more bytes.
    wants: bool,
    /// It pulled at least once: nothing is fetched for a reader that never did.
    started: bool,
    /// It has got bytes.
    served: bool,
}

/// The download machine; see the [module](crate::transfer::download).
#[derive(Debug)]
pub struct Download<B> {
    table: Arc<LeafTable>,
    pub(super) config: Config,
    pub(super) sources: Vec<Health>,
    /// The source that sent bytes last.
    latest: SourceId,
    readers: Vec<Reader>,
    /// At most [`Config::held`], or one for each reader.
    pub(super) segments: Vec<Segment<B>>,
    next_fetch: u64,
    jitter: u64,
    pub(super) now: Instant,
    /// No fetch counts as late before.
    pub(super) judge_from: Instant,
    pub(super) actions: VecDeque<Action<B>>,
}

impl<B: Bytes> Download<B> {
    /// A download of the artifact of `table` from `sources`: their names, the preferred ones first.
    ///
    /// # Errors
    /// [`BadConfig`] when it could make no progress with this configuration.
    pub fn new(
        table: impl Into<Arc<LeafTable>>,
        sources: Vec<String>,
        config: Config,
    ) -> Result<Self, BadConfig> {
        config.check()?;
        Ok(Self {
            table: table.into(),
            jitter: config.seed,
            config,
            sources: sources.into_iter().map(Health::new).collect(),
            latest: SourceId(0),
            readers: Vec::new(),
            segments: Vec::new(),
            next_fetch: 0,
            now: Instant::EPOCH,
            judge_from: Instant::EPOCH,
            actions: VecDeque::new(),
        })
    }

    /// The pace of each source, where known: another download may start with it.
    #[must_use]
    pub fn paces(&self) -> Vec<Option<Pace>> {
        self.sources.iter().map(|source| source.pace).collect()
    }

    /// The same download with the paces that an earlier one from the same sources measured.
    #[must_use]
    pub fn knowing(mut self, paces: &[Option<Pace>]) -> Self {
        for (source, pace) in self.sources.iter_mut().zip(paces) {
            source.pace = *pace;
        }
        self
    }

    /// Reports an event that happened at `now`. Earlier times than in earlier calls count as those.
    pub fn handle(&mut self, now: Instant, event: Event<B>) {
        self.now = self.now.max(now);
        self.excuse_host(self.now);
        match event {
            Event::Opened { reader, bytes } => self.open(reader, bytes),
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
        self.judge();
        self.start();
    }

    /// The next action; the driver has to obey all of them before it reports another event.
    pub fn poll(&mut self) -> Option<Action<B>> {
        self.actions.pop_front()
    }

    /// When [`Event::Tick`] is due, on the clock of [`Download::handle`]; `None` when time alone
    /// changes nothing.
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
        let free = self.receiving().count() < self.lanes();
        let lags = self.segments.iter().filter(|_| free).filter_map(|segment| {
            let fetch = segment.alone()?;
            Some(self.lags_from(fetch, self.choose(segment, &fetch.leaves)?))
        });
        let timeouts = rests.chain(lags).chain(self.next_late());
        stalls.chain(timeouts.filter(|at| *at > self.now)).min()
    }

    /// Whether no reader is left.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.readers.is_empty()
    }

    fn open(&mut self, reader: ReaderId, bytes: Range<u64>) {
        let size = self.table.layout().size();
        let is_rest = bytes == (size..u64::MAX);
        if bytes.start > size || bytes.start == size && !bytes.is_empty() && !is_rest {
            let error = DownloadError { bytes, failures: Vec::new(), past: Some(size) };
            self.actions.push_back(Action::Fail { reader, error });
            return;
        }
        let left = bytes.start..bytes.end.min(size);
        self.readers.push(Reader { id: reader, left, wants: false, started: false, served: false });
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
        // The good leaves of a damaged entry are kept; only the bad ones are fetched.
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
                self.now,
                fetch.count(),
                answered.duration_since(fetch.started),
                self.now.duration_since(fetch.started),
                fetch.beside,
            );
        }
        let segment = &mut self.segments[at];
        if !verdict.good.is_empty() && !segment.origins.contains(&origin) {
            segment.origins.push(origin);
        }
        for run in &verdict.good {
            segment.add(run);
        }
        // Fetches of leaves that this one delivered are obsolete.
        let obsolete = segment.take_obsolete();
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
        for late in obsolete {
            if let Some(takes) = self.overtaken(&late) {
                let health = &mut self.sources[late.source.0];
                health.outlasted(self.now, late.count(), takes, late.beside);
            }
            self.actions.push_back(Action::Abort(late.id));
        }
    }

    fn failed(&mut self, at: usize, fetch: &Fetch, failure: Failure, rest: Option<Duration>) {
        let segment = &mut self.segments[at];
        let attempts = &mut segment.attempts[fetch.source.0];
        // Fetches that fail together are one attempt: those that started before the last attempt
        // failed.
        if fetch.started >= attempts.at {
            attempts.failed += 1;
            attempts.at = self.now;
        }
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

    /// Hands each reader that has room the verified bytes of its next segment, up to the first gap.
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
                        reader.served = true;
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

    /// Drops segments that no reader is near any more.
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

    /// The segments to have in memory now, the most urgent first.
    pub(super) fn in_order(&self) -> Vec<u64> {
        let layout = self.table.layout();
        let remaining = |reader: &Reader| reader.left.end - reader.left.start;
        let mut readers: Vec<&Reader> = Vec::new();
        for reader in self.readers.iter().filter(|reader| reader.started) {
            let at = readers.partition_point(|other| remaining(other) <= remaining(reader));
            readers.insert(at, reader);
        }
        let mut order = Vec::new();
        // The next segment of every reader is always included, so that no reader starves.
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

    /// Starts every load and fetch that can start now.
    fn start(&mut self) {
        let mut order = self.in_order().into_iter();
        while let Some(index) = order.next() {
            if self.segment(index).is_none() {
                let phase = if self.config.store { Phase::Loading } else { Phase::Missing };
                self.segments.push(Segment::new(index, phase, self.sources.len()));
                if self.config.store {
                    self.actions.push_back(Action::Load(index));
                }
            }
            if self.fetch_missing(index) {
                // Readers failed: their segments make room for those of others.
                self.release();
                order = self.in_order().into_iter();
            }
        }
        if let Some((index, leaves, source)) = self.next_comparison() {
            self.fetch(index, leaves, source);
        }
    }

    /// Starts fetches of a segment's missing leaves, as far as lanes and sources are free. Returns
    /// whether readers failed instead.
    fn fetch_missing(&mut self, index: u64) -> bool {
        while let Some(segment) =
            self.segment(index).filter(|segment| segment.phase == Phase::Missing)
        {
            if segment.fetches.is_empty()
                && !self.source_ids().any(|source| self.is_hopeful(segment, source))
            {
                return self.give_up(index);
            }
            if self.receiving().count() >= self.lanes() {
                break;
            }
            let Some((mut leaves, source)) = self.next_of(segment) else { break };
            if self.pace(source).is_none() || self.is_first(index, source) {
                leaves.end = leaves.end.min(leaves.start + self.config.probe);
            }
            self.fetch(index, leaves, source);
        }
        false
    }

    /// Starts a fetch of leaves of a segment.
    fn fetch(&mut self, index: u64, leaves: Range<u64>, source: SourceId) {
        let pace = self.pace(source).filter(|pace| pace.is_sure() && !self.is_slow(source));
        let expected = pace.map(|pace| pace.expected(leaves.end - leaves.start));
        let quick = expected.filter(|expected| *expected < self.config.stall / 8);
        let beside = self.receiving().filter(|fetch| fetch.source == source).count() as u64 + 1;
        let id = FetchId(self.next_fetch);
        self.next_fetch += 1;
        let bytes = self.table.layout().bytes_of_leaves(&leaves);
        for other in self.segments.iter_mut().flat_map(|segment| &mut segment.fetches) {
            if other.source == source {
                other.beside = other.beside.max(beside);
            }
        }
        let fetch = Fetch {
            id,
            leaves,
            source,
            started: self.now,
            answered: None,
            progressed: self.now,
            got: 0,
            beside,
            quick,
            late: false,
        };
        if let Some(segment) = self.segment_mut(index) {
            segment.fetches.push(fetch);
        }
        self.actions.push_back(Action::Fetch { fetch: id, source, bytes, quick: quick.is_some() });
    }

    /// The next fetch of a segment: leaves that no source was asked for, or those of a lagging
    /// fetch, and the source to ask.
    fn next_of(&self, segment: &Segment<B>) -> Option<(Range<u64>, SourceId)> {
        let missing =
            segment.gap(&self.table.layout().leaves_of_segment(segment.index), &segment.fetches);
        let late = if missing.is_none() { Some(segment.alone()?) } else { None };
        let leaves = missing.or_else(|| segment.gap(&late?.leaves, &[]))?;
        let source = self.choose(segment, &leaves)?;
        late.is_none_or(|fetch| self.lags(fetch, source)).then_some((leaves, source))
    }

    /// Whether a segment has the first bytes that a reader waits for, and the source is near: then
    /// it is fetched in pieces, so that they come soon.
    fn is_first(&self, index: u64, source: SourceId) -> bool {
        let layout = self.table.layout();
        let first = |reader: &Reader| layout.segments_of_bytes(&reader.left).start;
        self.sources[source.0].is_near()
            && self.readers.iter().any(|reader| !reader.served && first(reader) == index)
    }

    /// Fetches that may receive bytes at once. A slower source may limit each connection, so it
    /// gets all lanes.
    fn lanes(&self) -> usize {
        let quick = |fetch: &Fetch| {
            let rate = self.pace(fetch.source).map_or(0, |pace| pace.rate());
            rate >= QUICK && self.sources[fetch.source.0].is_near()
        };
        let few = !self.config.share && self.receiving().all(quick);
        self.config.lanes.min(if few { self.config.near } else { usize::MAX })
    }

    /// Whether a source may still deliver missing leaves of a segment.
    fn is_hopeful(&self, segment: &Segment<B>, source: SourceId) -> bool {
        !self.sources[source.0].set_aside
            && segment.attempts[source.0].failed < self.config.attempts
    }

    /// Whether a source may be asked for leaves of a segment now.
    pub(super) fn may_ask(&self, segment: &Segment<B>, source: SourceId) -> bool {
        self.sources[source.0].retry_at <= self.now && self.is_hopeful(segment, source)
    }

    /// The source to ask for these leaves, of those that are free to be asked: the first in order
    /// that none outdoes, or the one that is expected to deliver first.
    pub(super) fn choose(&self, segment: &Segment<B>, leaves: &Range<u64>) -> Option<SourceId> {
        let asked = |source: SourceId| {
            segment.fetches.iter().any(|fetch| fetch.source == source && fetch.meets(leaves))
        };
        let candidates =
            self.source_ids().filter(|source| !asked(*source) && self.may_ask(segment, *source));
        if !self.config.share {
            if self.config.enough == 0 {
                return candidates.min_by_key(|source| (*source != self.latest, *source));
            }
            let better = |best, other| if self.outdoes(other, best) { other } else { best };
            return candidates.reduce(better);
        }
        let busy = |source: SourceId| {
            let receiving = self.receiving().filter(|fetch| fetch.source == source).count();
            u32::try_from(receiving).unwrap_or(u32::MAX)
        };
        // Among equals the first: the preferred one.
        candidates.min_by_key(|source| match (self.pace(*source), busy(*source)) {
            (Some(pace), busy) => {
                let expected = pace.expected(leaves.end - leaves.start);
                expected.saturating_mul(busy.saturating_add(1))
            }
            (None, 0) => Duration::ZERO,
            (None, _) => Duration::MAX,
        })
    }

    /// How long a source is expected to take for these leaves.
    fn needs(&self, source: SourceId, leaves: &Range<u64>) -> Duration {
        let pace = self.pace(source);
        pace.map_or(self.config.guess, |pace| pace.expected(leaves.end - leaves.start))
    }

    /// When a fetch is late enough to ask `other` for its leaves too.
    fn lags_from(&self, fetch: &Fetch, other: SourceId) -> Instant {
        let twice = self.needs(other, &fetch.leaves).saturating_mul(2);
        fetch.started + GRACE.saturating_add(twice)
    }

    /// Whether a fetch is late and is expected to need longer than `other` would.
    fn lags(&self, fetch: &Fetch, other: SourceId) -> bool {
        let remaining = fetch.remaining(self.bytes_of(&fetch.leaves), self.now);
        self.now >= self.lags_from(fetch, other)
            && remaining.is_none_or(|remaining| remaining > self.needs(other, &fetch.leaves))
    }

    /// Fails the readers whose next segment this is. Returns whether there were any.
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
        let error = DownloadError {
            bytes: layout.bytes_of_leaves(&leaves),
            failures: known.collect(),
            past: None,
        };
        self.actions.push_back(Action::Report(Report::Failed(error.clone())));
        for reader in readers {
            self.readers.retain(|other| other.id != reader);
            self.actions.push_back(Action::Fail { reader, error: error.clone() });
        }
        true
    }

    /// All sources, the preferred ones first.
    pub(super) fn source_ids(&self) -> impl Iterator<Item = SourceId> + use<B> {
        (0..self.sources.len()).map(SourceId)
    }

    pub(super) fn segment(&self, index: u64) -> Option<&Segment<B>> {
        self.segments.iter().find(|segment| segment.index == index)
    }

    fn segment_mut(&mut self, index: u64) -> Option<&mut Segment<B>> {
        self.segments.iter_mut().find(|segment| segment.index == index)
    }

    /// Fetches whose bytes still arrive.
    pub(super) fn receiving(&self) -> impl Iterator<Item = &Fetch> {
        self.fetches().filter(|fetch| fetch.got < self.bytes_of(&fetch.leaves))
    }

    /// The number of bytes of some leaves.
    pub(super) fn bytes_of(&self, leaves: &Range<u64>) -> u64 {
        let bytes = self.table.layout().bytes_of_leaves(leaves);
        bytes.end - bytes.start
    }

    pub(super) fn fetches(&self) -> impl Iterator<Item = &Fetch> {
        self.segments.iter().flat_map(|segment| &segment.fetches)
    }

    /// Removes the first fetch that `matches`: its segment's place in `segments`, and the fetch.
    fn end_fetch(&mut self, matches: impl Fn(&Fetch) -> bool) -> Option<(usize, Fetch)> {
        self.segments.iter_mut().enumerate().find_map(|(at, segment)| {
            let ended = segment.fetches.iter().position(&matches)?;
            Some((at, segment.fetches.remove(ended)))
        })
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014), which is good enough for jitter.
const fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
