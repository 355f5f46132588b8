//! Runs the download machine natively: blocking requests on threads, and a file that each leaf is written to as it is verified, while
//! its bytes are still in the processor's cache. What comes is held for no longer.
//!
//! The file is its own journal. What lies beyond its end was never written; what lies before it is loaded, and verified again, when a
//! download goes on.

use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use edge_net_core::dag::layout::{LEAF_SIZE, Layout, SEGMENT_SIZE};
use edge_net_core::dag::unixfs::Digest;
use edge_net_core::dag::verify::{Bytes, Hashed, LeafTable};
use edge_net_core::time;
use edge_net_core::transfer::download::{
    Action, Config, Download, Event, FetchId, ReaderId, Report, SourceId,
};
use edge_net_core::transfer::source::{Failure, check_head, range_field};

use crate::error::{Error, of_file};
use crate::places::{Place, failure_of, retry_after};

/// Where an artifact can be fetched from.
pub struct Location {
    /// What the place is called.
    pub name: String,
    /// How it is asked.
    pub agent: ureq::Agent,
    /// URL of the artifact there.
    pub url: String,
}

impl Location {
    /// An artifact's URL at a place.
    pub fn new(place: &Place, url: String) -> Self {
        Self { name: place.source.kind.name().to_owned(), agent: place.agent.clone(), url }
    }
}

/// What is told while bytes come.
pub trait Watch {
    /// Of the artifact there are `bytes`, verified or on their way.
    fn have(&mut self, bytes: u64);
    /// Something happened.
    fn report(&mut self, report: &Report);
}

/// The bytes of a range of the artifact, of which good ones are in the file.
#[derive(Clone)]
struct Kept(Range<u64>);

impl Bytes for Kept {
    fn len(&self) -> u64 {
        self.0.end - self.0.start
    }

    fn slice(&self, range: Range<u64>) -> Self {
        Self(self.0.start + range.start..self.0.start + range.end)
    }
}

/// What threads tell.
enum Message {
    Event(Event<Kept>),
    /// A good leaf could not be kept.
    Unwritable(std::io::Error),
}

/// A length within a leaf.
fn at(length: u64) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

/// Fetches what `file` misses of the artifact of `table`, which is not empty, from `locations`, the preferred ones first. When it
/// returns, the file has all of it, verified.
///
/// # Errors
/// [`Error::NoGoodCopy`] when no source has it; [`Error::File`] when it cannot be written. What was verified until then is there.
pub fn complete(
    table: LeafTable,
    locations: Vec<Location>,
    config: Config,
    file: File,
    path: &Path,
    watch: &mut impl Watch,
) -> Result<(), Error> {
    let length = file.metadata().map_err(of_file(path))?.len();
    let names = locations.iter().map(|location| location.name.clone()).collect();
    let layout = table.layout();
    let (sender, receiver) = channel();
    let host = Host {
        locations: locations.into(),
        table: Arc::new(table.clone()),
        file: Arc::new(file),
        turn: Arc::default(),
        buffers: Buffers::default(),
        sender,
    };
    let mut run = Run {
        machine: Download::new(table, names, config),
        host,
        receiver,
        started: Instant::now(),
        stops: HashMap::new(),
        tally: Tally { layout, verified: 0, landed: HashMap::new(), flights: HashMap::new() },
        written: length,
    };
    run.handle(Event::Opened { reader: READER, bytes: 0..layout.size() });
    run.handle(Event::Pulled(READER));
    while !run.perform(path, watch)? {
        run.wait().map_err(of_file(path))?;
    }
    run.host.file.set_len(layout.size()).map_err(of_file(path))
}

/// The one reader.
const READER: ReaderId = ReaderId(0);

struct Run {
    machine: Download<Kept>,
    host: Host,
    receiver: Receiver<Message>,
    started: Instant,
    stops: HashMap<FetchId, Arc<AtomicBool>>,
    tally: Tally,
    /// How long the file was when this began: what lies beyond is not there.
    written: u64,
}

impl Run {
    fn now(&self) -> time::Instant {
        time::Instant::since_epoch(self.started.elapsed())
    }

    fn handle(&mut self, event: Event<Kept>) {
        self.tally.heard(&event);
        if let Event::Fetched { fetch, .. } | Event::Failed { fetch, .. } = &event {
            self.stops.remove(fetch);
        }
        self.machine.handle(self.now(), event);
    }

    /// Waits for the next thing to happen.
    fn wait(&mut self) -> std::io::Result<()> {
        let until = self.machine.next_timeout().map(|at| at.duration_since(self.now()));
        let message = match until {
            None => self.receiver.recv().map_err(RecvTimeoutError::from),
            Some(until) => self.receiver.recv_timeout(until),
        };
        match message {
            Ok(Message::Event(event)) => self.handle(event),
            Ok(Message::Unwritable(error)) => return Err(error),
            // The sender is kept by the host: it cannot be gone.
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                self.handle(Event::Tick)
            }
        }
        Ok(())
    }

    /// Does what the machine asks for; whether all of it is done.
    fn perform(&mut self, path: &Path, watch: &mut impl Watch) -> Result<bool, Error> {
        let mut end = Ok(false);
        while let Some(action) = self.machine.poll() {
            match action {
                Action::Load(segment)
                    if self.tally.layout.bytes_of_segment(segment).start < self.written =>
                {
                    self.host.load(segment);
                }
                Action::Load(segment) => self.handle(Event::Loaded { segment, found: None }),
                // What is bad is written over; what is good was written as it came.
                Action::Forget(_) | Action::Store { .. } => {}
                Action::Fetch { fetch, source, bytes, .. } => {
                    self.tally.flights.insert(fetch, (bytes.start / SEGMENT_SIZE, 0));
                    let stop = Arc::new(AtomicBool::new(false));
                    self.stops.insert(fetch, Arc::clone(&stop));
                    self.host.fetch(fetch, source, bytes, stop);
                }
                Action::Abort(fetch) => {
                    self.tally.flights.remove(&fetch);
                    if let Some(stop) = self.stops.remove(&fetch) {
                        stop.store(true, Ordering::Relaxed);
                    }
                }
                Action::Emit { .. } => self.handle(Event::Pulled(READER)),
                Action::Close(_) => end = Ok(true),
                Action::Fail { error, .. } => {
                    end = Err(Error::NoGoodCopy { file: path.to_owned(), error })
                }
                Action::Report(report) => {
                    if let Report::Verified { segment, .. } = &report {
                        self.tally.verified(*segment);
                    }
                    watch.report(&report);
                }
            }
        }
        watch.have(self.tally.bytes());
        end
    }
}

/// Bytes that are there or on their way, for people.
struct Tally {
    layout: Layout,
    verified: u64,
    /// By segment.
    landed: HashMap<u64, u64>,
    /// Segment and bytes of each request.
    flights: HashMap<FetchId, (u64, u64)>,
}

impl Tally {
    fn heard(&mut self, event: &Event<Kept>) {
        match event {
            Event::Progressed { fetch, bytes } => {
                if let Some((_, got)) = self.flights.get_mut(fetch) {
                    *got = *bytes;
                }
            }
            Event::Fetched { fetch, .. } => {
                if let Some((segment, got)) = self.flights.remove(fetch) {
                    *self.landed.entry(segment).or_default() += got;
                }
            }
            Event::Failed { fetch, .. } => drop(self.flights.remove(fetch)),
            _ => {}
        }
    }

    fn verified(&mut self, segment: u64) {
        self.landed.remove(&segment);
        let bytes = self.layout.bytes_of_segment(segment);
        self.verified += bytes.end - bytes.start;
    }

    fn bytes(&self) -> u64 {
        let coming: u64 =
            self.landed.values().chain(self.flights.values().map(|(_, got)| got)).sum();
        (self.verified + coming).min(self.layout.size())
    }
}

/// Buffers of a stride each: who makes a request takes one, and one that was used is at hand sooner than a new one.
#[derive(Clone, Default)]
struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

impl Buffers {
    fn take(&self) -> Vec<u8> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
            .unwrap_or_else(|| vec![0; at(STRIDE)])
    }

    fn give(&self, buffer: Vec<u8>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }
}

/// What has to be waited for, on threads.
#[derive(Clone)]
struct Host {
    locations: Arc<[Location]>,
    table: Arc<LeafTable>,
    file: Arc<File>,
    /// Held by who writes to the file: the kernel lets one at a time do so too, but has the others wait for it busily.
    turn: Arc<Mutex<()>>,
    buffers: Buffers,
    sender: Sender<Message>,
}

/// Why a request brought nothing.
enum Trouble {
    Source(Failure),
    File(std::io::Error),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Source(failure)
    }
}

impl Host {
    fn tell(&self, message: Message) {
        // Nobody hears it when the download ended meanwhile.
        let _ = self.sender.send(message);
    }

    fn load(&self, segment: u64) {
        let (host, bytes) = (self.clone(), self.table.layout().bytes_of_segment(segment));
        thread::spawn(move || {
            let digests = strides(&bytes).flat_map(|stride| host.digests(&stride)).collect();
            let found = Some(Hashed::by_host(Kept(bytes), digests));
            host.tell(Message::Event(Event::Loaded { segment, found }));
        });
    }

    fn fetch(&self, fetch: FetchId, source: SourceId, bytes: Range<u64>, stop: Arc<AtomicBool>) {
        let host = self.clone();
        thread::spawn(move || {
            let mut rest = None;
            let progressed = |bytes| host.tell(Message::Event(Event::Progressed { fetch, bytes }));
            let message = match host.request(
                &host.locations[source.index()],
                &bytes,
                &stop,
                &mut rest,
                progressed,
            ) {
                Ok((digests, origin)) => Message::Event(Event::Fetched {
                    fetch,
                    hashed: Hashed::by_host(Kept(bytes), digests),
                    origin,
                }),
                Err(Trouble::Source(failure)) => {
                    Message::Event(Event::Failed { fetch, failure, rest })
                }
                Err(Trouble::File(error)) => Message::Unwritable(error),
            };
            host.tell(message);
        });
    }

    /// Fetches whole leaves from a source and keeps the good ones: the digests of all, and where they came from. `rest` is for how long
    /// the source wants to be left alone.
    fn request(
        &self,
        location: &Location,
        bytes: &Range<u64>,
        stop: &AtomicBool,
        rest: &mut Option<Duration>,
        progressed: impl Fn(u64),
    ) -> Result<(Vec<Digest>, String), Trouble> {
        let size = self.table.layout().size();
        let mut request = location.agent.get(&location.url);
        if let Some(range) = range_field(bytes, size) {
            request = request.header("Range", range);
        }
        let response = request.call().map_err(|error| failure_of(&error))?;
        *rest = retry_after(&response);
        let field = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        check_head(response.status().as_u16(), field("Content-Range"), bytes, size)?;
        let origin = field("Server-Timing").and_then(origin_in);
        let origin = origin
            .map_or_else(|| location.name.clone(), |origin| format!("{}:{origin}", location.name));
        progressed(0);

        let mut body = response.into_body().into_with_config().limit(u64::MAX).reader();
        let mut whole = self.buffers.take();
        let (mut told, mut digests) = (Instant::now(), Vec::new());
        for stride in strides(bytes) {
            let buffer = &mut whole[..at(stride.end - stride.start)];
            let mut got = 0;
            while got < buffer.len() {
                if stop.load(Ordering::Relaxed) {
                    return Err(Failure::Stalled.into());
                }
                let so_far = stride.start - bytes.start + got as u64;
                got += match read(&mut body, &mut buffer[got..])? {
                    0 => {
                        return Err(Failure::WrongLength {
                            got: so_far,
                            want: bytes.end - bytes.start,
                        }
                        .into());
                    }
                    read => read,
                };
                if told.elapsed() > TELL_EVERY {
                    told = Instant::now();
                    progressed(so_far);
                }
            }
            digests.extend(self.keep(&stride, buffer).map_err(Trouble::File)?);
        }
        // To its end before the next request is made, which is made on this connection then: one that is new starts slowly.
        let want = bytes.end - bytes.start;
        if read(&mut body, &mut [0])? != 0 {
            return Err(Failure::WrongLength { got: want + 1, want }.into());
        }
        self.buffers.give(whole);
        progressed(want);
        Ok((digests, origin))
    }

    /// Writes those leaves that are good; the digests of all.
    fn keep(&self, stride: &Range<u64>, bytes: &[u8]) -> std::io::Result<Vec<Digest>> {
        let digests = Digest::of_leaves(bytes);
        let leaves = stride.start / LEAF_SIZE..stride.end.div_ceil(LEAF_SIZE);
        for good in self.table.verify_leaves(leaves, &Hashed::by_host(bytes, digests.clone())).good
        {
            let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
            for (at, piece) in (good.offset()..).step_by(WRITE).zip(good.bytes().chunks(WRITE)) {
                self.file.write_all_at(piece, at)?;
            }
        }
        Ok(digests)
    }

    /// The digests of leaves in the file.
    fn digests(&self, stride: &Range<u64>) -> Vec<Digest> {
        let mut buffer = vec![0; at(stride.end - stride.start)];
        // What cannot be read is bad, and the good leaves before it count.
        let _ = self.file.read_exact_at(&mut buffer, stride.start);
        Digest::of_leaves(&buffer)
    }
}

/// How seldom it is told that bytes came.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// What is held of a request: two leaves, which are hashed in less time than one after the other.
const STRIDE: u64 = 2 * LEAF_SIZE;

/// Bytes written at once. Of more the kernel makes larger pages, of memory that was not used before: where a virtual machine's host has to
/// give it first, a GiB took 2.4 s instead of 0.9 s.
const WRITE: usize = 16 << 10;

/// Cuts a range of whole leaves.
fn strides(bytes: &Range<u64>) -> impl Iterator<Item = Range<u64>> + use<> {
    let end = bytes.end;
    (bytes.start..end).step_by(at(STRIDE)).map(move |start| start..(start + STRIDE).min(end))
}

fn read(body: &mut impl Read, buffer: &mut [u8]) -> Result<usize, Failure> {
    loop {
        match body.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => return read.map_err(|error| failure_of(&ureq::Error::from(error))),
        }
    }
}

/// Where our edge says it got the bytes: the `origin` metric of `Server-Timing`.
fn origin_in(server_timing: &str) -> Option<String> {
    let origin =
        server_timing.split(',').find_map(|metric| metric.trim().strip_prefix("origin;desc="))?;
    Some(origin.trim_matches('"').to_owned())
}
