//! Simulated downloads from faulty sources: a virtual clock, and one seed for all events.
//!
//! `SEED=n` replays one seed and prints what happens; `SEEDS=n` runs more of them than usual.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use edge_net_core::dag::digest::Digest;
use edge_net_core::dag::hasher::FileHasher;
use edge_net_core::dag::layout::{LEAF_SIZE, LEAVES_PER_SEGMENT, Layout, SEGMENT_SIZE};
use edge_net_core::dag::unixfs;
use edge_net_core::dag::verify::{Bytes, Hashed, LeafTable, VerifiedLeaves};
use edge_net_core::time::Instant;
use edge_net_core::transfer::download::{
    Action, Config, Download, DownloadError, Event, FetchId, Pace, ReaderId, Report, SourceId,
};
use edge_net_core::transfer::source::Failure;

/// The largest delay of a timer in milliseconds.
const MAX_LATE: u64 = 200;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.below(range.end - range.start)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()].clone()
    }
}

/// Consecutive bytes from `start` of the artifact, unless they are spoilt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Run {
    start: u64,
    length: u64,
    /// 0 for the artifact's bytes; other numbers stand for other bytes.
    spoilt: u64,
}

/// A description of bytes, so that hundreds of megabytes cost nothing. The machine sees a handle,
/// as in a browser.
#[derive(Clone, Debug)]
struct Described {
    runs: Vec<Run>,
    /// Counts as memory of this segment while any handle lives.
    held: Rc<Held>,
}

/// The number of live handles to each segment's bytes.
type Memory = Rc<RefCell<BTreeMap<u64, usize>>>;

#[derive(Debug)]
struct Held(Memory, u64);

impl Held {
    fn new(memory: &Memory, segment: u64) -> Rc<Self> {
        *memory.borrow_mut().entry(segment).or_default() += 1;
        Rc::new(Self(Rc::clone(memory), segment))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut memory = self.0.borrow_mut();
        *memory.get_mut(&self.1).unwrap() -= 1;
        memory.retain(|_, handles| *handles > 0);
    }
}

fn cut(runs: &[Run], range: &Range<u64>) -> Vec<Run> {
    let mut at = 0;
    let mut cut: Vec<Run> = Vec::new();
    for run in runs {
        let (start, end) = (range.start.max(at), range.end.min(at + run.length));
        if start < end {
            let piece =
                Run { start: run.start + (start - at), length: end - start, spoilt: run.spoilt };
            match cut.last_mut() {
                Some(last)
                    if last.spoilt == piece.spoilt && last.start + last.length == piece.start =>
                {
                    last.length += piece.length;
                }
                _ => cut.push(piece),
            }
        }
        at += run.length;
    }
    cut
}

/// The leaves of bytes that start at a leaf.
fn leaves_of(bytes: &Range<u64>) -> Range<u64> {
    bytes.start / LEAF_SIZE..bytes.end.div_ceil(LEAF_SIZE)
}

/// The leaf table of the honest artifact.
fn table_of(layout: Layout) -> LeafTable {
    let leaves = (0..layout.leaves())
        .map(|leaf| digest(&honest(&layout.bytes_of_leaves(&(leaf..leaf + 1)))));
    let leaves: Vec<Digest> = leaves.collect();
    let cid = unixfs::root(&leaves, layout.size());
    LeafTable::from_digests(leaves, layout.size(), &cid).unwrap()
}

fn length(runs: &[Run]) -> u64 {
    runs.iter().map(|run| run.length).sum()
}

impl Bytes for Described {
    fn len(&self) -> u64 {
        length(&self.runs)
    }

    fn slice(&self, range: Range<u64>) -> Self {
        assert!(
            range.start < range.end && range.end <= self.len(),
            "cut {range:?} of {}",
            self.len()
        );
        Self { runs: cut(&self.runs, &range), held: Rc::clone(&self.held) }
    }
}

/// A digest of a description: equal for equal bytes.
fn digest(runs: &[Run]) -> Digest {
    let description: Vec<u8> = runs
        .iter()
        .flat_map(|run| [run.start, run.length, run.spoilt])
        .flat_map(u64::to_le_bytes)
        .collect();
    Digest::of(&description)
}

/// Hashes bytes that arrived, as a host does.
fn hash(runs: Vec<Run>, memory: &Memory, segment: u64) -> Hashed<Described> {
    let leaves = length(&runs).div_ceil(LEAF_SIZE);
    let digests = (0..leaves)
        .map(|leaf| digest(&cut(&runs, &(leaf * LEAF_SIZE..(leaf + 1) * LEAF_SIZE))))
        .collect();
    Hashed::by_host(Described { runs, held: Held::new(memory, segment) }, digests)
}

fn honest(bytes: &Range<u64>) -> Vec<Run> {
    vec![Run { start: bytes.start, length: bytes.end - bytes.start, spoilt: 0 }]
}

/// Spoils bytes in some of the leaves of `bytes`; in at least one leaf if `some`.
fn spoil(random: &mut Random, bytes: &Range<u64>, percent: u64, some: bool) -> Vec<Run> {
    let leaves = (bytes.end - bytes.start).div_ceil(LEAF_SIZE);
    let surely = if some { random.below(leaves) } else { leaves };
    let mut runs = Vec::new();
    for leaf in 0..leaves {
        let start = bytes.start + leaf * LEAF_SIZE;
        let length = LEAF_SIZE.min(bytes.end - start);
        if leaf == surely || random.chance(percent) {
            let at = random.below(length);
            let spoilt = Run {
                start: start + at,
                length: random.within(1..length - at + 1),
                spoilt: random.within(1..100),
            };
            runs.extend(honest(&(start..start + at)));
            runs.push(spoilt);
            runs.extend(honest(&(spoilt.start + spoilt.length..start + length)));
        } else {
            runs.extend(honest(&(start..start + length)));
        }
    }
    cut(&runs, &(0..u64::MAX))
}

/// How a source behaves.
#[derive(Debug, Clone, PartialEq)]
enum Profile {
    Honest,
    /// Honest, but takes longer than the stall limit.
    Slow,
    /// Spoils each leaf with this probability in percent.
    Corrupt(u64),
    /// Sends other bytes of the artifact than the requested ones under a correct head.
    OtherBytes,
    /// Sends too few bytes under a correct head.
    Short,
    Fails(Failure),
    /// Honest, but slower than any other source.
    Drips,
    /// Responds 503 in every other interval of this many milliseconds.
    Flaps(u64),
    /// Responds 429 with `Retry-After` in every other interval of this many milliseconds.
    Limits(u64),
    /// Does not respond.
    Stalls,
    /// Sends half of the bytes, then breaks or stalls.
    DiesHalfWay,
    /// Honest until this time, then like the other profile.
    TurnsInto(u64, Box<Profile>),
}

impl Profile {
    fn any(random: &mut Random) -> Self {
        let failures = [
            Failure::Status(404),
            Failure::Status(500),
            Failure::Status(429),
            Failure::Status(501),
            Failure::RangeIgnored,
            Failure::WrongRange,
            Failure::WrongLength { got: 7, want: 9 },
            Failure::Unreachable("no route".into()),
            Failure::Unreachable("redirected too often".into()),
        ];
        match random.below(15) {
            0 | 1 => Self::Honest,
            2 => Self::Slow,
            3 | 4 => Self::Corrupt(random.pick(&[1, 5, 50, 100])),
            5 => Self::OtherBytes,
            6 => Self::Short,
            7 | 8 => Self::Fails(random.pick(&failures)),
            9 => Self::Flaps(random.within(50..20_000)),
            10 => Self::Stalls,
            11 => Self::DiesHalfWay,
            12 => Self::Drips,
            13 => Self::Limits(random.within(50..20_000)),
            _ => Self::TurnsInto(random.below(30_000), Box::new(Self::any(random))),
        }
    }

    fn is_honest(&self) -> bool {
        match self {
            Self::Honest | Self::Slow | Self::Drips => true,
            Self::TurnsInto(_, then) => then.is_honest(),
            _ => false,
        }
    }

    /// Whether every request to it fails or delivers no good leaf.
    fn is_hopeless(&self) -> bool {
        match self {
            Self::Corrupt(percent) => *percent == 100,
            Self::OtherBytes | Self::Short | Self::Fails(_) | Self::Stalls | Self::DiesHalfWay => {
                true
            }
            _ => false,
        }
    }
}

/// A planned event.
#[derive(Debug, Clone)]
enum What {
    Progress(FetchId, u64),
    Brings(FetchId, Vec<Run>),
    Fails(FetchId, Failure, Option<u64>),
    /// The worker dies with all its memory; its readers open again.
    Dies,
    Loads(u64),
    Opens(ReaderId),
    Pulls(ReaderId),
    Cancels(ReaderId),
}

impl What {
    /// The fetch of the event.
    fn fetch(&self) -> Option<FetchId> {
        match self {
            Self::Progress(id, _) | Self::Brings(id, _) | Self::Fails(id, ..) => Some(*id),
            _ => None,
        }
    }
}

struct Reader {
    bytes: Range<u64>,
    /// Position of the next byte that it must get.
    at: u64,
    /// Pulls since the last bytes; the machine may treat several as one.
    pulls: u32,
    /// It got bytes for those pulls.
    served: bool,
    started: bool,
    /// Stops pulling at this position, as a tab in the background does.
    stops_at: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Open,
    Closed,
    Failed,
    Cancelled,
}

struct Flight {
    source: SourceId,
    bytes: Range<u64>,
    started: u64,
    /// When it started, or last received bytes.
    heard: u64,
}

/// Counts of events over all seeds: a simulation without a kind of event proves nothing about it.
#[derive(Debug, Default)]
struct Tally {
    closed: u64,
    failed: u64,
    past: u64,
    cancelled: u64,
    aborted: u64,
    outdone: u64,
    hedged: u64,
    rested: u64,
    died: u64,
    stalled: u64,
    bad_leaves: u64,
    healed: u64,
    stored: u64,
    loaded: u64,
    forgotten: u64,
    bytes: u64,
}

struct Simulation<'a> {
    random: Random,
    config: Config,
    layout: Layout,
    download: Download<Described>,
    sources: Vec<Profile>,
    table: Arc<LeafTable>,
    /// Sources that sent bad bytes.
    caught: BTreeSet<SourceId>,
    /// Sources that asked for a rest, and until when.
    resting: BTreeMap<SourceId, u64>,
    store: BTreeMap<u64, Vec<Run>>,
    /// The store saves nothing, as a full disk does.
    store_is_full: bool,
    readers: BTreeMap<ReaderId, Reader>,
    flights: BTreeMap<FetchId, Flight>,
    loading: BTreeSet<u64>,
    /// Good leaves that arrived for each segment since it was last loaded.
    came: BTreeMap<u64, BTreeSet<u64>>,
    /// How often each source failed with a segment since then, and when it failed last.
    failed: BTreeMap<(u64, SourceId), (u32, u64)>,
    memory: Memory,
    now: u64,
    agenda: BinaryHeap<Reverse<(u64, u64)>>,
    what: BTreeMap<u64, What>,
    verbose: bool,
    tally: &'a mut Tally,
}

impl<'a> Simulation<'a> {
    fn new(seed: u64, verbose: bool, tally: &'a mut Tally) -> Self {
        let mut random = Random(seed);
        let segments = random.pick(&[0, 1, 2, 3, 5, 9, 20]);
        let size = match random.below(4) {
            _ if segments == 0 => 0,
            0 => segments * SEGMENT_SIZE,
            1 => (segments - 1) * SEGMENT_SIZE + 1,
            2 => segments * SEGMENT_SIZE - random.below(LEAF_SIZE),
            _ => (segments - 1) * SEGMENT_SIZE + random.within(1..SEGMENT_SIZE),
        };
        let layout = Layout::new(size);
        let table = Arc::new(table_of(layout));

        let mut sources: Vec<Profile> =
            (0..random.below(5)).map(|_| Profile::any(&mut random)).collect();
        // In half of the seeds one source is certainly honest.
        if random.chance(50) {
            let at = usize::try_from(random.below(sources.len() as u64 + 1)).unwrap();
            sources.insert(at, random.pick(&[Profile::Honest, Profile::Slow, Profile::Drips]));
        }
        let config = Config {
            lanes: random.pick(&[1, 2, 4, 6]),
            near: random.pick(&[1, 2, 4]),
            held: random.pick(&[1, 2, 4, 8]),
            attempts: random.pick(&[1, 2, 4]),
            stall: Duration::from_millis(random.within(5_000..20_000)),
            backoff: Duration::from_millis(random.pick(&[0, 1, 250])),
            guess: Duration::from_millis(random.pick(&[0, 500, 8_000])),
            probe: random.pick(&[1, 4, 16]),
            whole: random.chance(30),
            share: random.chance(50),
            enough: random.pick(&[0, 1 << 20, 8 << 20, u64::MAX]),
            store: random.chance(70),
            seed: random.next(),
        };
        let mut simulation = Self {
            download: Download::new(Arc::clone(&table), names(&sources), config.clone()).unwrap(),
            table,
            layout,
            sources,
            caught: BTreeSet::new(),
            resting: BTreeMap::new(),
            store: BTreeMap::new(),
            store_is_full: random.chance(10),
            readers: BTreeMap::new(),
            flights: BTreeMap::new(),
            loading: BTreeSet::new(),
            came: BTreeMap::new(),
            failed: BTreeMap::new(),
            memory: Memory::default(),
            now: random.below(1_000_000),
            agenda: BinaryHeap::new(),
            what: BTreeMap::new(),
            verbose,
            config,
            random,
            tally,
        };
        simulation.fill_store();
        simulation.invite_readers();
        if simulation.random.chance(20) {
            let after = simulation.random.pick(&[1, 300, 5_000, 60_000]);
            simulation.plan(after, What::Dies);
        }
        simulation
    }

    fn fill_store(&mut self) {
        let percent = self.random.pick(&[0, 0, 30, 100]);
        for segment in 0..self.layout.segments() {
            let bytes = self.layout.bytes_of_segment(segment);
            if bytes.is_empty() || !self.random.chance(percent) {
                continue;
            }
            let runs = match self.random.below(6) {
                0 => spoil(&mut self.random, &bytes, 20, true),
                1 => cut(&honest(&bytes), &(0..self.random.below(bytes.end - bytes.start))),
                2 => honest(&(bytes.start + 1..bytes.end + 1)),
                _ => honest(&bytes),
            };
            self.store.insert(segment, runs);
        }
    }

    fn invite_readers(&mut self) {
        let size = self.layout.size();
        for id in 0..self.random.within(1..6) {
            let start = self.random.below(size + 2);
            let bytes = match self.random.below(6) {
                0 | 1 => 0..size,
                2 => start..u64::MAX,
                3 => start..start,
                4 => start..start + self.random.below(100),
                _ => start..start + self.random.below(size + 2),
            };
            let bytes = bytes.start.min(size)..bytes.end.max(bytes.start);
            let stops_at =
                if self.random.chance(15) { self.random.below(size + 1) } else { u64::MAX };
            let reader = Reader {
                at: bytes.start,
                bytes,
                pulls: 0,
                served: false,
                started: false,
                stops_at,
                state: State::Waiting,
            };
            let id = ReaderId(id);
            self.readers.insert(id, reader);
            let opens = self.random.pick(&[0, 0, 100, 10_000, 60_000]);
            self.plan(opens, What::Opens(id));
            if self.random.chance(20) {
                let later = self.random.below(30_000);
                self.plan(opens + later, What::Cancels(id));
            }
        }
    }

    /// Plans an event; events of the same time happen in random order.
    fn plan(&mut self, after: u64, what: What) {
        let key = loop {
            let key = self.random.next();
            if !self.what.contains_key(&key) {
                break key;
            }
        };
        self.what.insert(key, what);
        self.agenda.push(Reverse((self.now + after, key)));
    }

    fn next_timeout(&self) -> Option<u64> {
        self.download.next_timeout().map(Instant::as_millis)
    }

    fn run(mut self) {
        for step in 0.. {
            assert!(step < 100_000, "it never ends");
            let planned = self.agenda.peek().map(|Reverse((at, _))| *at);
            match (planned, self.next_timeout()) {
                (None, None) => break,
                (planned, Some(timeout)) if planned.is_none_or(|planned| timeout < planned) => {
                    // Timers are late; planned events are not.
                    let late = if self.random.chance(30) { self.random.below(MAX_LATE) } else { 0 };
                    self.now = planned.unwrap_or(u64::MAX).min(timeout + late).max(self.now);
                    self.tell(Event::Tick);
                    let next = self.next_timeout();
                    assert!(
                        next.is_none_or(|next| next > self.now),
                        "ticks at {next:?} without end"
                    );
                }
                _ => {
                    let Reverse((at, key)) = self.agenda.pop().unwrap();
                    self.now = self.now.max(at);
                    let what = self.what.remove(&key).unwrap();
                    self.happens(what);
                }
            }
        }
        self.check_the_end();
    }

    fn happens(&mut self, what: What) {
        let event = match what {
            What::Opens(id) => {
                let reader = self.readers.get_mut(&id).unwrap();
                reader.state = State::Open;
                let bytes = reader.bytes.clone();
                if self.random.chance(90) {
                    let after = self.random.pick(&[0, 5, 3_000]);
                    self.plan(after, What::Pulls(id));
                }
                Event::Opened { reader: id, bytes }
            }
            What::Pulls(id) => {
                let reader = self.readers.get_mut(&id).unwrap();
                reader.pulls += 1;
                reader.started = true;
                Event::Pulled(id)
            }
            What::Cancels(id) => {
                let reader = self.readers.get_mut(&id).unwrap();
                if matches!(reader.state, State::Waiting | State::Open) {
                    reader.state = State::Cancelled;
                    self.tally.cancelled += 1;
                }
                Event::Cancelled(id)
            }
            What::Loads(segment) => {
                let found = self.store.get(&segment).cloned();
                // A segment that was dropped and is wanted again is loaded twice; the first result
                // counts.
                let first = self.loading.remove(&segment);
                if let Some(runs) = found.as_ref().filter(|_| first) {
                    self.note_good_leaves(segment, &self.layout.bytes_of_segment(segment), runs);
                }
                Event::Loaded {
                    segment,
                    found: found.map(|runs| hash(runs, &self.memory, segment)),
                }
            }
            What::Dies => return self.die(),
            What::Progress(fetch, bytes) => {
                if let Some(flight) = self.flights.get_mut(&fetch) {
                    flight.heard = self.now;
                }
                Event::Progressed { fetch, bytes }
            }
            What::Brings(fetch, runs) => {
                let mut segment = u64::MAX;
                if let Some(flight) = self.flights.remove(&fetch) {
                    segment = flight.bytes.start / SEGMENT_SIZE;
                    if runs != honest(&flight.bytes) {
                        self.caught.insert(flight.source);
                        self.note_failure(&flight);
                    }
                    self.note_good_leaves(segment, &flight.bytes, &runs);
                }
                Event::Fetched {
                    fetch,
                    hashed: hash(runs, &self.memory, segment),
                    origin: format!("of fetch {fetch:?}"),
                }
            }
            What::Fails(fetch, failure, rest) => {
                if let Some(flight) = self.flights.remove(&fetch) {
                    self.note_failure(&flight);
                    if let Some(rest) = rest {
                        self.resting.insert(flight.source, self.now + rest);
                        self.tally.rested += 1;
                    }
                }
                Event::Failed { fetch, failure, rest: rest.map(Duration::from_millis) }
            }
        };
        self.tell(event);
    }

    fn die(&mut self) {
        self.tally.died += 1;
        self.what.retain(|_, what| matches!(what, What::Opens(_) | What::Cancels(_)));
        self.agenda.retain(|Reverse((_, key))| self.what.contains_key(key));
        self.download =
            Download::new(Arc::clone(&self.table), names(&self.sources), self.config.clone())
                .unwrap();
        assert!(self.memory.borrow().is_empty(), "what nobody holds is freed");
        self.flights.clear();
        self.loading.clear();
        self.caught.clear();
        self.resting.clear();
        self.failed.clear();
        self.came.clear();
        let open: Vec<ReaderId> = self
            .readers
            .iter()
            .filter(|(_, reader)| reader.state == State::Open)
            .map(|(id, _)| *id)
            .collect();
        for id in open {
            let reader = self.readers.get_mut(&id).unwrap();
            *reader = Reader {
                at: reader.bytes.start,
                bytes: reader.bytes.clone(),
                pulls: 0,
                started: false,
                state: State::Waiting,
                ..*reader
            };
            self.plan(10, What::Opens(id));
        }
    }

    /// Notes a failure; fetches that fail together are one failure.
    fn note_failure(&mut self, flight: &Flight) {
        let (failures, last) =
            self.failed.entry((flight.bytes.start / SEGMENT_SIZE, flight.source)).or_default();
        if flight.started >= *last {
            *failures += 1;
            *last = self.now;
        }
    }

    /// Notes the good leaves of a response of the right length.
    fn note_good_leaves(&mut self, segment: u64, asked: &Range<u64>, runs: &[Run]) {
        if length(runs) != asked.end - asked.start {
            return;
        }
        let leaves = leaves_of(asked);
        let good = leaves.filter(|leaf| {
            let bytes = self.layout.bytes_of_leaves(&(*leaf..leaf + 1));
            cut(runs, &(bytes.start - asked.start..bytes.end - asked.start)) == honest(&bytes)
        });
        self.came.entry(segment).or_default().extend(good);
    }

    fn tell(&mut self, event: Event<Described>) {
        if self.verbose {
            eprintln!("{:>8} {event:.0?}", self.now);
        }
        self.download.handle(Instant::from_millis(self.now), event);
        while let Some(action) = self.download.poll() {
            if self.verbose {
                eprintln!("           {action:.0?}");
            }
            self.act(action);
        }
        self.pull_again();
        self.check_limits();
    }

    fn act(&mut self, action: Action<Described>) {
        match action {
            Action::Load(segment) => self.load(segment),
            Action::Forget(segment) => self.forget(segment),
            Action::Fetch { fetch, source, bytes, .. } => self.fetch(fetch, source, bytes),
            Action::Abort(fetch) => self.abort(fetch),
            Action::Store { segment, parts } => self.save(segment, &parts),
            Action::Emit { reader, bytes } => self.emit(reader, &bytes),
            Action::Close(id) => self.close(id),
            Action::Fail { reader, error } => self.fail(reader, &error),
            Action::Report(report) => self.note(report),
        }
    }

    fn load(&mut self, segment: u64) {
        assert!(self.config.store, "there is no store");
        self.assert_near_a_reader(segment);
        self.failed.retain(|(of, _), _| *of != segment);
        self.came.insert(segment, BTreeSet::new());
        self.loading.insert(segment);
        let after = self.random.pick(&[0, 1, 30]);
        self.plan(after, What::Loads(segment));
    }

    fn forget(&mut self, segment: u64) {
        let removed = self.store.remove(&segment);
        assert_ne!(
            removed,
            Some(honest(&self.layout.bytes_of_segment(segment))),
            "a good entry was thrown away"
        );
        self.tally.forgotten += 1;
    }

    fn abort(&mut self, fetch: FetchId) {
        let flight = self.flights.remove(&fetch).expect("only what is under way is stopped");
        let came = self.came.get(&(flight.bytes.start / SEGMENT_SIZE));
        if !came.is_some_and(|came| leaves_of(&flight.bytes).all(|leaf| came.contains(&leaf))) {
            // A fetch that lags may make room for a quicker source; that is no failure.
            if self.now >= flight.heard + milliseconds(self.config.stall) {
                self.note_failure(&flight);
            } else {
                self.tally.outdone += u64::from(self.in_order());
            }
        }
        self.tally.aborted += 1;
        // Usually no event follows; sometimes one was already on its way.
        if self.random.chance(70) {
            self.what.retain(|_, what| what.fetch() != Some(fetch));
            self.agenda.retain(|Reverse((_, key))| self.what.contains_key(key));
        }
    }

    fn save(&mut self, segment: u64, parts: &[VerifiedLeaves<Described>]) {
        let bytes = self.layout.bytes_of_segment(segment);
        let mut at = bytes.start;
        for part in parts {
            assert_eq!(
                (part.offset(), &part.bytes().runs),
                (at, &honest(&(at..at + part.bytes().len()))),
                "stored as it is"
            );
            at += part.bytes().len();
        }
        assert_eq!(at, bytes.end, "segment {segment} is stored whole");
        if !self.store_is_full {
            self.store.insert(segment, honest(&bytes));
        }
        self.tally.stored += 1;
    }

    fn close(&mut self, id: ReaderId) {
        let reader = self.open_reader(id);
        reader.state = State::Closed;
        let end = reader.bytes.end.min(self.layout.size());
        let bytes = &self.readers[&id].bytes;
        assert!(
            bytes.is_empty() || bytes.start < self.layout.size() || bytes.end == u64::MAX,
            "reader {id:?} was closed past the end"
        );
        assert!(
            self.readers[&id].at >= end,
            "reader {id:?} was closed at {} of {end}",
            self.readers[&id].at
        );
        self.tally.closed += 1;
    }

    fn fail(&mut self, reader: ReaderId, error: &DownloadError) {
        let size = self.layout.size();
        let open = self.open_reader(reader);
        open.state = State::Failed;
        let is_past = open.bytes.start >= size && !open.bytes.is_empty();
        if let Some(past) = error.past {
            assert!(is_past && past == size, "reader {reader:?}: {error}");
            self.tally.past += 1;
            return;
        }
        assert!(!is_past, "reader {reader:?}: {error}");
        self.tally.failed += 1;
        assert!(
            !self.sources.iter().any(Profile::is_honest),
            "there was an honest source: {error}"
        );
        let message = error.to_string();
        for i in 0..self.sources.len() {
            assert!(
                message.contains(&format!("source-{i}: ")),
                "{message:?} does not say what was wrong with source {i}"
            );
        }
        assert!(!self.sources.is_empty() || message.ends_with("there are no sources"), "{message}");
        let (missing, next) =
            (error.bytes.start / SEGMENT_SIZE, self.readers[&reader].at / SEGMENT_SIZE);
        assert_eq!(
            missing, next,
            "reader {reader:?} failed for a segment that is not its next: {message}"
        );
    }

    fn note(&mut self, report: Report) {
        match report {
            Report::Verified { segment, origins } => {
                self.tally.loaded += u64::from(origins.is_empty());
                self.tally.healed += u64::from(origins.len() > 1);
                let all = self.layout.leaves_of_segment(segment);
                assert!(
                    !self.config.store || self.came[&segment].iter().copied().eq(all),
                    "{:?}",
                    self.came[&segment]
                );
            }
            Report::Refused { failure: Failure::BadLeaf(_), source, .. } => {
                assert!(self.caught.contains(&source), "source {source:?} sent nothing bad");
                self.tally.bad_leaves += 1;
            }
            Report::Refused { failure, .. } => {
                self.tally.stalled += u64::from(failure == Failure::Stalled);
            }
            Report::Received { .. } | Report::Failed(_) => {}
            other => panic!("the simulation does not know {other:?}"),
        }
    }

    fn open_reader(&mut self, id: ReaderId) -> &mut Reader {
        let reader = self.readers.get_mut(&id).unwrap();
        assert_eq!(reader.state, State::Open, "reader {id:?}");
        reader
    }

    fn emit(&mut self, id: ReaderId, bytes: &Described) {
        let size = self.layout.size();
        let reader = self.open_reader(id);
        assert!(reader.pulls > 0, "reader {id:?} had no room");
        assert_eq!(
            bytes.runs,
            honest(&(reader.at..reader.at + bytes.len())),
            "reader {id:?} was handed other bytes than are next"
        );
        reader.at += bytes.len();
        let end = reader.bytes.end.min(size);
        assert!(
            !bytes.is_empty() && reader.at <= end,
            "reader {id:?} was handed {} beyond its end",
            reader.at
        );
        reader.served = true;
        self.tally.bytes += bytes.len();
    }

    /// Readers that got bytes pull again: a pull is good for the bytes of one segment.
    fn pull_again(&mut self) {
        let served: Vec<ReaderId> =
            self.readers.iter().filter(|(_, reader)| reader.served).map(|(id, _)| *id).collect();
        for id in served {
            let reader = self.readers.get_mut(&id).unwrap();
            (reader.served, reader.pulls) = (false, 0);
            if reader.state == State::Open && reader.at < reader.stops_at {
                let after = self.random.pick(&[0, 0, 10, 2_000]);
                self.plan(after, What::Pulls(id));
                if self.random.chance(10) {
                    self.plan(after + 1, What::Pulls(id));
                }
            }
        }
    }

    fn fetch(&mut self, fetch: FetchId, source: SourceId, bytes: Range<u64>) {
        let segment = bytes.start / SEGMENT_SIZE;
        let leaves = leaves_of(&bytes);
        assert_eq!(self.layout.bytes_of_leaves(&leaves), bytes, "whole leaves");
        assert!(
            !leaves.is_empty() && leaves.end <= (segment + 1) * LEAVES_PER_SEGMENT,
            "of one segment"
        );
        self.assert_near_a_reader(segment);
        assert!(!self.caught.contains(&source), "source {source:?} sent bad bytes before");
        let mut others = self
            .flights
            .values()
            .filter(|flight| flight.bytes.start < bytes.end && bytes.start < flight.bytes.end);
        if let Some(first) = others.next() {
            assert!(others.next().is_none(), "{bytes:?} is under way twice already");
            let patience = if self.in_order() { 50 } else { 1000 };
            assert!(
                first.source != source && self.now >= first.started + patience,
                "{bytes:?} is under way already"
            );
            self.tally.hedged += 1;
        }
        let rests_until = self.resting.get(&source).copied().unwrap_or_default();
        assert!(
            self.now >= rests_until,
            "source {source:?} wants to be left alone until {rests_until}"
        );
        if self.config.store {
            let came = &self.came[&segment];
            assert!(
                !leaves.clone().any(|leaf| came.contains(&leaf)),
                "leaves of {leaves:?} came already: {came:?}"
            );
            let (failed, _) = self.failed.get(&(segment, source)).copied().unwrap_or_default();
            assert!(
                failed < self.config.attempts,
                "source {source:?} failed {failed} times with segment {segment}"
            );
        }
        assert!(
            self.flights
                .insert(
                    fetch,
                    Flight { source, bytes: bytes.clone(), started: self.now, heard: self.now }
                )
                .is_none(),
            "names are not used again"
        );
        let mut profile = self.sources[source.index()].clone();
        while let Profile::TurnsInto(at, then) = profile {
            profile = if self.now >= at { *then } else { Profile::Honest };
        }
        self.answer(fetch, &bytes, profile);
    }

    fn answer(&mut self, fetch: FetchId, bytes: &Range<u64>, profile: Profile) {
        let latency = self.random.within(1..400);
        let length = bytes.end - bytes.start;
        let runs = match profile {
            Profile::Flaps(interval) if (self.now / interval).is_multiple_of(2) => {
                return self.plan(latency, What::Fails(fetch, Failure::Status(503), None));
            }
            Profile::Limits(interval) if (self.now / interval).is_multiple_of(2) => {
                let rest = interval - self.now % interval;
                return self.plan(latency, What::Fails(fetch, Failure::Status(429), Some(rest)));
            }
            Profile::Honest | Profile::Flaps(_) | Profile::Limits(_) | Profile::TurnsInto(..) => {
                honest(bytes)
            }
            Profile::Slow | Profile::Drips => {
                let beats = if profile == Profile::Slow { self.random.within(2..6) } else { 40 };
                let beat = milliseconds(self.config.stall) * 9 / 10;
                for i in 1..=beats {
                    self.plan(i * beat, What::Progress(fetch, length * i / (beats + 1)));
                }
                return self.plan((beats + 1) * beat, What::Brings(fetch, honest(bytes)));
            }
            Profile::Corrupt(percent) => spoil(&mut self.random, bytes, percent, false),
            Profile::OtherBytes => honest(&(bytes.start + 1..bytes.end + 1)),
            Profile::Short => cut(&honest(bytes), &(0..self.random.below(length))),
            Profile::Fails(failure) => {
                return self.plan(latency, What::Fails(fetch, failure, None));
            }
            Profile::Stalls => return,
            Profile::DiesHalfWay => {
                self.plan(latency, What::Progress(fetch, length / 2));
                if self.random.chance(50) {
                    self.plan(
                        latency * 2,
                        What::Fails(
                            fetch,
                            Failure::WrongLength { got: length / 2, want: length },
                            None,
                        ),
                    );
                }
                return;
            }
        };
        self.plan(latency, What::Brings(fetch, runs));
        if self.random.chance(2) {
            self.plan(
                latency + 7,
                What::Fails(fetch, Failure::Unreachable("an echo".into()), None),
            );
        }
    }

    /// Whether another source works only when the preferred one lags, fails or is wrong.
    fn in_order(&self) -> bool {
        !self.config.share && self.config.enough > 0
    }

    /// Checks that a segment which is loaded or fetched is near a reader.
    fn assert_near_a_reader(&self, segment: u64) {
        let near = self
            .readers
            .values()
            .filter(|reader| reader.state == State::Open && reader.started)
            .any(|reader| {
                let wanted = self
                    .layout
                    .segments_of_bytes(&(reader.at..reader.bytes.end.min(self.layout.size())));
                wanted.contains(&segment) && segment < wanted.start + self.config.held as u64
            });
        assert!(near, "nobody is about to read segment {segment}");
    }

    fn check_limits(&self) {
        let stalled = self
            .flights
            .values()
            .any(|flight| self.now > flight.heard + milliseconds(self.config.stall) + MAX_LATE);
        assert!(!stalled, "a request has stalled and goes on");
        // One more to compare the pace of another source with that of one that lags.
        let lanes = self.config.lanes + usize::from(self.in_order());
        assert!(self.flights.len() <= lanes, "{} requests at once", self.flights.len());
        let nexts = self
            .readers
            .values()
            .filter(|reader| reader.state == State::Open && reader.started)
            .count();
        let held: Vec<u64> = self.memory.borrow().keys().copied().collect();
        assert!(
            held.len() <= self.config.held.max(nexts),
            "segments {held:?} are held, by {nexts} readers"
        );
        assert_eq!(
            self.download.is_idle(),
            !self.readers.values().any(|reader| reader.state == State::Open)
        );
        assert!(
            !self.download.is_idle() || held.is_empty() && self.flights.is_empty(),
            "nobody reads, but {held:?} are held"
        );
    }

    /// Checks the state when no event is planned and no timeout is due.
    fn check_the_end(&self) {
        assert!(self.flights.is_empty(), "requests hang");
        for (id, reader) in &self.readers {
            let waits = reader.state == State::Open && reader.pulls > 0;
            assert!(!waits, "reader {id:?} waits for byte {} for ever", reader.at);
            let stopped =
                reader.state == State::Open && (!reader.started || reader.at >= reader.stops_at);
            assert!(
                stopped || matches!(reader.state, State::Closed | State::Failed | State::Cancelled),
                "reader {id:?}: {:?}",
                reader.state
            );
        }
        if self.sources.iter().all(Profile::is_hopeless) && !self.config.store {
            let handed = self.readers.values().any(|reader| reader.at > reader.bytes.start);
            assert!(!handed, "there was nobody to have bytes from");
        }
    }
}

/// The reader of tests with a single reader.
const READER: ReaderId = ReaderId(0);

fn milliseconds(length: Duration) -> u64 {
    length.as_millis().try_into().unwrap()
}

fn names(sources: &[Profile]) -> Vec<String> {
    (0..sources.len()).map(|i| format!("source-{i}")).collect()
}

/// Prints the seed when a simulation panics.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay it with: SEED={} cargo test --test download -- --nocapture", self.0);
        }
    }
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| {
        value.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {value:?}"))
    })
}

#[test]
fn faulty_downloads_end_with_the_right_bytes_or_an_error() {
    let mut tally = Tally::default();
    if let Some(seed) = variable("SEED") {
        let _seed = Seed(seed);
        return Simulation::new(seed, true, &mut tally).run();
    }
    for seed in 0..variable("SEEDS").unwrap_or(10_000) {
        let _seed = Seed(seed);
        Simulation::new(seed, false, &mut tally).run();
    }
    eprintln!("{tally:?}");
    let Tally {
        closed,
        failed,
        past,
        cancelled,
        aborted,
        outdone,
        hedged,
        rested,
        died,
        stalled,
        bad_leaves,
        healed,
        stored,
        loaded,
        forgotten,
        bytes,
    } = tally;
    for happened in [
        closed, failed, past, cancelled, aborted, outdone, hedged, rested, died, stalled,
        bad_leaves, healed, stored, loaded, forgotten, bytes,
    ] {
        assert!(happened > 0, "the simulation has become too tame: {tally:?}");
    }
}

/// A source that is not known yet is asked for pieces. When all fail together, that is one attempt.
#[test]
fn pieces_that_fail_together_are_one_attempt() {
    let layout = Layout::new(SEGMENT_SIZE);
    let table = table_of(layout);
    let config = Config { store: false, attempts: 3, ..Config::default() };
    let mut download = Download::<Described>::new(table, vec!["only".into()], config).unwrap();
    download.handle(Instant::EPOCH, Event::Opened { reader: READER, bytes: 0..layout.size() });
    download.handle(Instant::EPOCH, Event::Pulled(READER));
    let (mut now, mut rounds) = (Instant::EPOCH, 0);
    loop {
        let actions: Vec<Action<Described>> = std::iter::from_fn(|| download.poll()).collect();
        if actions.iter().any(|action| matches!(action, Action::Fail { .. })) {
            break;
        }
        let asked = actions.iter().filter_map(|action| match action {
            Action::Fetch { fetch, bytes, .. } => Some((*fetch, bytes.clone())),
            _ => None,
        });
        let asked: Vec<(FetchId, Range<u64>)> = asked.collect();
        if asked.is_empty() {
            now = download.next_timeout().expect("it is asked again");
            download.handle(now, Event::Tick);
            continue;
        }
        assert_eq!(
            asked.iter().map(|(_, bytes)| bytes.end - bytes.start).sum::<u64>(),
            SEGMENT_SIZE
        );
        assert_eq!(asked.len(), 4);
        rounds += 1;
        now = now + Duration::from_millis(10);
        for (fetch, _) in asked {
            download
                .handle(now, Event::Failed { fetch, failure: Failure::Status(503), rest: None });
        }
    }
    assert_eq!(rounds, 3);
}

/// The fewer share a link, the sooner the first one is complete; its first bytes come sooner still.
#[test]
fn a_quick_source_is_asked_for_two_segments_at_once_and_for_small_pieces_of_the_first() {
    let size = 6 * SEGMENT_SIZE;
    let mut hasher = FileHasher::default();
    hasher.update(&vec![0; usize::try_from(size).unwrap()]);
    let file = hasher.finish();
    let table = LeafTable::from_digests(file.leaves, size, &file.cid).unwrap();
    let config = Config { store: false, ..Config::default() };
    let mut download = Download::<Arc<[u8]>>::new(table, vec!["near".into()], config).unwrap();
    let (mut now, mut open, mut asked) = (Instant::EPOCH, VecDeque::new(), Vec::new());
    download.handle(now, Event::Opened { reader: READER, bytes: 0..size });
    download.handle(now, Event::Pulled(READER));
    while !download.is_idle() {
        while let Some(action) = download.poll() {
            if let Action::Fetch { fetch, bytes, .. } = action {
                open.push_back((fetch, bytes.end - bytes.start));
                asked.push((bytes.end - bytes.start, open.len()));
            }
        }
        for (fetch, _) in &open {
            download.handle(now, Event::Progressed { fetch: *fetch, bytes: 0 });
        }
        if let Some((fetch, length)) = open.pop_front() {
            now = now + Duration::from_millis(10);
            let bytes = vec![0; usize::try_from(length).unwrap()];
            download.handle(
                now,
                Event::Fetched { fetch, hashed: Hashed::here(bytes.into()), origin: "near".into() },
            );
        }
        download.handle(now, Event::Pulled(READER));
    }
    let (first, others) = asked.split_at(4);
    assert_eq!(first, [(1 << 20, 1), (1 << 20, 2), (1 << 20, 3), (1 << 20, 4)]);
    assert!(
        others.iter().all(|(length, at_once)| *length == SEGMENT_SIZE && *at_once <= 2),
        "{asked:?}"
    );
    assert!(others.iter().any(|(_, at_once)| *at_once == 2), "{asked:?}");
}

/// If told so, the machine stays with the source that delivers, even when a preferred source has
/// recovered: an open response has the following bytes.
#[test]
fn the_source_that_sent_last_is_asked_next_where_its_response_goes_on() {
    let layout = Layout::new(3 * SEGMENT_SIZE);
    let table = table_of(layout);
    let config = Config {
        lanes: 1,
        held: 2,
        whole: true,
        share: false,
        enough: 0,
        store: false,
        probe: LEAVES_PER_SEGMENT,
        ..Config::default()
    };
    let mut download = Download::new(table, vec!["first".into(), "second".into()], config).unwrap();
    let asked = |download: &mut Download<Described>| {
        std::iter::from_fn(|| download.poll()).find_map(|action| match action {
            Action::Fetch { fetch, source, .. } => Some((fetch, source.index())),
            _ => None,
        })
    };

    download.handle(Instant::EPOCH, Event::Opened { reader: READER, bytes: 0..layout.size() });
    download.handle(Instant::EPOCH, Event::Pulled(READER));
    let (fetch, source) = asked(&mut download).unwrap();
    assert_eq!(source, 0);
    download.handle(
        Instant::from_millis(1),
        Event::Failed { fetch, failure: Failure::Status(503), rest: None },
    );
    let (fetch, source) = asked(&mut download).unwrap();
    assert_eq!(source, 1);

    // The first source has rested long enough. All bytes of the second have arrived and are not
    // verified yet.
    download.handle(Instant::from_millis(10_000), Event::Progressed { fetch, bytes: SEGMENT_SIZE });
    assert_eq!(asked(&mut download).map(|(_, source)| source), Some(1));
}

/// A source of [`race`].
#[derive(Debug, Clone, Copy)]
struct Link {
    /// Milliseconds until a response begins.
    latency: u64,
    /// Bytes a millisecond.
    rate: u64,
    /// Whether all its responses share the rate; else each has it.
    shared: bool,
}

/// A quick bucket.
const QUICK: Link = Link { latency: 20, rate: 50_000, shared: true };

/// A response of [`race`].
struct Response {
    fetch: FetchId,
    source: usize,
    bytes: Range<u64>,
    from: u64,
    got: u64,
}

/// Honest sources, and what they sent so far.
struct Race {
    layout: Layout,
    links: Vec<Link>,
    download: Download<Described>,
    memory: Memory,
    open: Vec<Response>,
    sent: Vec<u64>,
}

impl Race {
    /// Downloads `size` bytes. Returns the milliseconds that it took, and the bytes that each
    /// source sent. Time goes in steps of a millisecond.
    fn run(size: u64, links: &[Link], config: &Config, paces: &[Option<Pace>]) -> (u64, Vec<u64>) {
        let layout = Layout::new(size);
        let names = (0..links.len()).map(|i| format!("source-{i}")).collect();
        let download = Download::new(table_of(layout), names, config.clone()).unwrap();
        let mut race = Self {
            layout,
            links: links.to_vec(),
            download: download.knowing(paces),
            memory: Memory::default(),
            open: Vec::new(),
            sent: vec![0; links.len()],
        };
        let mut events =
            vec![Event::Opened { reader: READER, bytes: 0..size }, Event::Pulled(READER)];
        for now in 0..600_000 {
            let at = Instant::from_millis(now);
            race.receive(now, &mut events);
            if race.download.next_timeout().is_some_and(|timeout| timeout <= at) {
                events.push(Event::Tick);
            }
            for event in std::mem::take(&mut events) {
                race.download.handle(at, event);
                while let Some(action) = race.download.poll() {
                    if race.act(now, action, &mut events) {
                        return (now, race.sent);
                    }
                }
            }
        }
        panic!("it never ends")
    }

    /// The bytes of a millisecond.
    fn receive(&mut self, now: u64, events: &mut Vec<Event<Described>>) {
        let busy = |source: usize, open: &[Response]| {
            open.iter().filter(|other| other.source == source && other.from < now).count() as u64
        };
        let shares: Vec<u64> = (0..self.links.len())
            .map(|source| if self.links[source].shared { busy(source, &self.open) } else { 1 })
            .map(|share| share.max(1))
            .collect();
        let mut ended = Vec::new();
        for response in &mut self.open {
            let (fetch, source) = (response.fetch, response.source);
            if now < response.from {
                continue;
            }
            let more = self.links[source].rate / shares[source];
            let more = if now == response.from { 0 } else { more };
            let length = response.bytes.end - response.bytes.start;
            let got = length.min(response.got + more);
            self.sent[source] += got - response.got;
            // Drivers hear of bytes in pieces.
            let told = now == response.from || got / (64 << 10) != response.got / (64 << 10);
            response.got = got;
            if got == length {
                ended.push(fetch);
                let segment = response.bytes.start / SEGMENT_SIZE;
                let hashed = hash(honest(&response.bytes), &self.memory, segment);
                events.push(Event::Fetched { fetch, hashed, origin: String::new() });
            } else if told {
                events.push(Event::Progressed { fetch, bytes: got });
            }
        }
        self.open.retain(|response| !ended.contains(&response.fetch));
    }

    /// Performs an action. Returns whether the reader has all bytes.
    fn act(
        &mut self,
        now: u64,
        action: Action<Described>,
        events: &mut Vec<Event<Described>>,
    ) -> bool {
        match action {
            Action::Fetch { fetch, source, bytes, .. } => {
                let from = now + self.links[source.index()].latency;
                self.open.push(Response { fetch, source: source.index(), bytes, from, got: 0 });
            }
            Action::Abort(fetch) => self.open.retain(|response| response.fetch != fetch),
            Action::Load(segment) => events.push(Event::Loaded { segment, found: None }),
            Action::Emit { reader, .. } => events.push(Event::Pulled(reader)),
            Action::Close(_) => return true,
            Action::Fail { error, .. } => panic!("{error}"),
            Action::Forget(_) | Action::Store { .. } | Action::Report(_) => {}
        }
        let end = self.layout.size();
        assert!(self.open.iter().all(|response| response.bytes.end <= end));
        false
    }
}

#[test]
fn in_order_nothing_is_asked_of_other_sources_while_the_first_is_well() {
    for (latency, rate) in [(1, 100_000), (20, 50_000), (80, 20_000), (200, 9_000), (900, 30_000)] {
        let first = Link { latency, rate, shared: true };
        for size in [1 << 20, 23 << 20, 60 << 20] {
            let (_, sent) = Race::run(size, &[first, QUICK, QUICK], &Config::default(), &[]);
            assert_eq!(sent, [size, 0, 0], "{first:?}, {size} bytes");
        }
    }
}

#[test]
fn in_order_a_slow_first_source_costs_at_most_half_again() {
    let slow = [
        Link { latency: 1, rate: 1_000, shared: false },
        Link { latency: 5, rate: 1_000, shared: true },
        Link { latency: 20, rate: 300, shared: false },
    ];
    for size in [20 << 20, 23 << 20, 45 << 20, 90 << 20] {
        for (latency, rate) in [(1, 12_500), (1, 60_000), (10, 25_000), (30, 12_500), (40, 60_000)]
        {
            let bucket = Link { latency, rate, shared: true };
            let config = Config::default();
            let (alone, _) = Race::run(size, &[bucket], &config, &[]);
            for edge in slow {
                let gateway = Link { latency: 150, rate: 3_000, shared: true };
                let (took, sent) = Race::run(size, &[edge, bucket, gateway], &config, &[]);
                assert!(
                    took * 2 <= alone * 3,
                    "{size} bytes from {edge:?} and {bucket:?}: {took} ms, alone {alone} ms"
                );
                assert_eq!(sent[2], 0, "the gateway is not needed: {edge:?} {bucket:?}");
            }
        }
    }
}

#[test]
fn in_order_a_first_source_that_is_as_quick_as_others_goes_on_alone() {
    // A slow link, whose bytes all sources share: the others are asked for a few leaves only.
    let link = Link { latency: 30, rate: 800, shared: false };
    let size = 30 << 20;
    let (_, sent) = Race::run(size, &[link, link, link], &Config::default(), &[]);
    assert!(sent[1] <= 1 << 20 && sent[2] <= 1 << 20, "{sent:?}");
}

#[test]
fn in_order_a_first_source_that_recovers_works_again() {
    let size = 1 << 30;
    let mut edge = Link { latency: 1, rate: 1_000, shared: false };
    let bucket = Link { latency: 1, rate: 10_000, shared: true };
    let (_, sent) = Race::run(size, &[edge, bucket], &Config::default(), &[]);
    assert!(sent[0] < size / 50, "it is asked now and then: {sent:?}");
    edge.rate = 0;
    let (_, sent) = Race::run(23 << 20, &[edge, bucket], &Config::default(), &[]);
    assert_eq!(sent[0], 0);
}

#[test]
fn all_at_once_every_source_works() {
    let config = Config { share: true, ..Config::default() };
    let (_, sent) = Race::run(60 << 20, &[QUICK, QUICK, QUICK], &config, &[]);
    assert!(sent.iter().all(|sent| *sent > 10 << 20), "{sent:?}");
}

#[test]
fn limits_that_let_nothing_happen_are_refused() {
    let good = Config::default;
    for (config, named) in [
        (Config { lanes: 0, ..good() }, "lanes"),
        (Config { near: 0, ..good() }, "near"),
        (Config { held: 0, ..good() }, "held"),
        (Config { attempts: 0, ..good() }, "attempts"),
        (Config { probe: 0, ..good() }, "probe"),
        (Config { stall: Duration::ZERO, ..good() }, "stall"),
    ] {
        let made = Download::<Described>::new(table_of(Layout::new(1)), Vec::new(), config);
        let error = made.expect_err(named);
        assert_eq!(
            error.to_string(),
            format!("the download's limit `{named}` is 0; it must be at least 1")
        );
    }
    Download::<Described>::new(table_of(Layout::new(1)), Vec::new(), good()).unwrap();
}

#[test]
fn a_reader_past_the_end_fails() {
    let size = SEGMENT_SIZE + 5;
    let opened = |bytes: Range<u64>| {
        let table = table_of(Layout::new(size));
        let mut download =
            Download::<Described>::new(table, Vec::new(), Config::default()).unwrap();
        download.handle(Instant::EPOCH, Event::Opened { reader: READER, bytes });
        match download.poll() {
            Some(Action::Fail { error, .. }) => Err(error.to_string()),
            Some(Action::Close(_)) => Ok("closed"),
            None => Ok("open"),
            other => panic!("{other:?}"),
        }
    };
    for bytes in [size..size + 1, size + 1..size + 2, size + 7..u64::MAX, size + 1..size + 1] {
        let error = opened(bytes.clone()).expect_err("past the end");
        let wanted = format!("bytes {}-{}", bytes.start, bytes.end - 1);
        assert_eq!(error, format!("{wanted} are past the end: the artifact has {size} bytes"));
    }
    assert_eq!(opened(size..size), Ok("closed"));
    assert_eq!(opened(size..u64::MAX), Ok("closed"), "the rest, which is empty");
    assert_eq!(opened(0..u64::MAX), Ok("open"));
    assert_eq!(opened(size - 1..size + 9), Ok("open"));
}
