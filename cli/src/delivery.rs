//! Runs the download machine natively: blocking requests on threads, and a file that segments are written to as they are verified.
//!
//! The file is its own journal. Segments are stored within a few of each other, so what lies beyond its end was never stored; what
//! lies before it is loaded, and verified again, when a download goes on.

use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use edge_net_core::dag::Digest;
use edge_net_core::download::{Action, Config, Download, Event, FetchId, Report};
use edge_net_core::layout::{LEAF_SIZE, Layout, SEGMENT_SIZE};
use edge_net_core::source::{Failure, check_head, range_field};
use edge_net_core::verify::{Bytes, Hashed, LeafTable, VerifiedLeaves};

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

/// Buffers of a segment each, used again and again.
#[derive(Clone, Default)]
struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

impl Buffers {
    /// One of `length` bytes.
    fn take(&self, length: u64) -> Buffer {
        let mut bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        bytes.resize(at(length), 0);
        Buffer { bytes, home: self.clone() }
    }
}

struct Buffer {
    bytes: Vec<u8>,
    home: Buffers,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.home.0.lock().unwrap_or_else(PoisonError::into_inner).push(std::mem::take(&mut self.bytes));
    }
}

/// A length within a segment.
fn at(length: u64) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

/// Bytes of a shared buffer.
#[derive(Clone)]
struct Piece {
    buffer: Arc<Buffer>,
    range: Range<usize>,
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        &self.buffer.bytes[self.range.clone()]
    }
}

impl Bytes for Piece {
    fn len(&self) -> u64 {
        self.range.len() as u64
    }

    fn slice(&self, range: Range<u64>) -> Self {
        let start = self.range.start;
        Self { buffer: Arc::clone(&self.buffer), range: start + at(range.start)..start + at(range.end) }
    }
}

/// Digests the leaves of a buffer's first bytes.
fn hashed(buffer: Buffer, length: u64) -> Hashed<Piece> {
    let digests = buffer.bytes[..at(length)].chunks(at(LEAF_SIZE)).map(Digest::of).collect();
    Hashed::by_host(Piece { buffer: Arc::new(buffer), range: 0..at(length) }, digests)
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
    let host = Host { locations: locations.into(), file: Arc::new(file), layout, buffers: Buffers::default(), sender };
    let mut run = Run {
        machine: Download::new(table, names, config),
        host,
        receiver,
        started: Instant::now(),
        stops: HashMap::new(),
        tally: Tally { layout, verified: 0, landed: HashMap::new(), flights: HashMap::new() },
        stored: length,
    };
    run.handle(Event::Opened { reader: READER, bytes: 0..layout.size() });
    run.handle(Event::Pulled(READER));
    while !run.perform(path, watch)? {
        run.wait();
    }
    run.host.file.set_len(layout.size()).map_err(of_file(path))
}

/// The one reader.
const READER: u64 = 0;

struct Run {
    machine: Download<Piece>,
    host: Host,
    receiver: Receiver<Event<Piece>>,
    started: Instant,
    stops: HashMap<FetchId, Arc<AtomicBool>>,
    tally: Tally,
    /// How long the file was when this began: what lies beyond is not there.
    stored: u64,
}

impl Run {
    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn handle(&mut self, event: Event<Piece>) {
        self.tally.heard(&event);
        if let Event::Fetched { fetch, .. } | Event::Failed { fetch, .. } = &event {
            self.stops.remove(fetch);
        }
        self.machine.handle(self.now(), event);
    }

    /// Waits for the next thing to happen.
    fn wait(&mut self) {
        let until = self.machine.next_timeout().map(|at| Duration::from_millis(at.saturating_sub(self.now())));
        let event = match until {
            // The sender is kept by the host: it cannot be gone.
            None => self.receiver.recv().unwrap_or(Event::Tick),
            Some(until) => match self.receiver.recv_timeout(until) {
                Ok(event) => event,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Event::Tick,
            },
        };
        self.handle(event);
    }

    /// Does what the machine asks for; whether all of it is done.
    fn perform(&mut self, path: &Path, watch: &mut impl Watch) -> Result<bool, Error> {
        // Written last: meanwhile the next requests are under way.
        let mut stores = Vec::new();
        let mut end = Ok(false);
        while let Some(action) = self.machine.poll() {
            match action {
                Action::Load(segment) if self.host.layout.bytes_of_segment(segment).start < self.stored => {
                    self.host.load(segment);
                }
                Action::Load(segment) => self.handle(Event::Loaded { segment, found: None }),
                // It is written over.
                Action::Forget(_) => {}
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
                Action::Store { parts, .. } => stores.push(parts),
                Action::Emit { .. } => self.handle(Event::Pulled(READER)),
                Action::Close(_) => end = Ok(true),
                Action::Fail { error, .. } => end = Err(Error::NoGoodCopy { file: path.to_owned(), error }),
                Action::Report(report) => {
                    if let Report::Verified { segment, .. } = &report {
                        self.tally.verified(*segment);
                    }
                    watch.report(&report);
                }
            }
        }
        watch.have(self.tally.bytes());
        stores.iter().try_for_each(|parts| self.host.store(parts)).map_err(of_file(path))?;
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
    fn heard(&mut self, event: &Event<Piece>) {
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
        let coming: u64 = self.landed.values().chain(self.flights.values().map(|(_, got)| got)).sum();
        (self.verified + coming).min(self.layout.size())
    }
}

/// What does the blocking things.
struct Host {
    locations: Arc<[Location]>,
    file: Arc<File>,
    layout: Layout,
    buffers: Buffers,
    sender: Sender<Event<Piece>>,
}

impl Host {
    fn load(&self, segment: u64) {
        let (file, sender, bytes) = (Arc::clone(&self.file), self.sender.clone(), self.layout.bytes_of_segment(segment));
        let mut buffer = self.buffers.take(bytes.end - bytes.start);
        thread::spawn(move || {
            let mut got = 0;
            while got < buffer.bytes.len() {
                match file.read_at(&mut buffer.bytes[got..], bytes.start + got as u64) {
                    // A short segment has bad leaves at its end, and the good ones count.
                    Ok(0) => break,
                    Ok(read) => got += read,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
            buffer.bytes[got..].fill(0);
            // Nobody hears it when the download ended meanwhile.
            let _ = sender.send(Event::Loaded { segment, found: Some(hashed(buffer, bytes.end - bytes.start)) });
        });
    }

    fn fetch(&self, fetch: FetchId, source: usize, bytes: Range<u64>, stop: Arc<AtomicBool>) {
        let (locations, sender, size) = (Arc::clone(&self.locations), self.sender.clone(), self.layout.size());
        let buffers = self.buffers.clone();
        thread::spawn(move || {
            let progressed = |bytes| drop(sender.send(Event::Progressed { fetch, bytes }));
            let mut rest = None;
            let event = match request(&locations[source], &bytes, size, &buffers, &stop, &mut rest, progressed) {
                Ok((hashed, origin)) => Event::Fetched { fetch, hashed, origin },
                Err(failure) => Event::Failed { fetch, failure, rest },
            };
            let _ = sender.send(event);
        });
    }

    fn store(&self, parts: &[VerifiedLeaves<Piece>]) -> std::io::Result<()> {
        parts.iter().try_for_each(|part| self.file.write_all_at(part.bytes().bytes(), part.offset()))
    }
}

/// How seldom it is told that bytes came.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// Fetches whole leaves from a source. `rest` is for how long that wants to be left alone, in milliseconds.
fn request(
    location: &Location,
    bytes: &Range<u64>,
    size: u64,
    buffers: &Buffers,
    stop: &AtomicBool,
    rest: &mut Option<u64>,
    progressed: impl Fn(u64),
) -> Result<(Hashed<Piece>, String), Failure> {
    let mut request = location.agent.get(&location.url);
    if let Some(range) = range_field(bytes, size) {
        request = request.header("Range", range);
    }
    let response = request.call().map_err(|error| failure_of(&error))?;
    *rest = retry_after(&response);
    let field = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    check_head(response.status().as_u16(), field("Content-Range"), bytes, size)?;
    let origin = field("Server-Timing").and_then(origin_in);
    let origin = origin.map_or_else(|| location.name.clone(), |origin| format!("{}:{origin}", location.name));
    progressed(0);

    let want = bytes.end - bytes.start;
    let mut body = response.into_body().into_with_config().limit(u64::MAX).reader();
    let (mut got, mut told, mut digests) = (0, Instant::now(), Vec::new());
    let mut buffer = buffers.take(want);
    while got < at(want) {
        if stop.load(Ordering::Relaxed) {
            return Err(Failure::Stalled);
        }
        // Leaf by leaf: what came is hashed while the next comes, and while it is in the processor's cache.
        let leaf = got - got % at(LEAF_SIZE);
        let end = (leaf + at(LEAF_SIZE)).min(at(want));
        match body.read(&mut buffer.bytes[got..end]) {
            Ok(0) => return Err(Failure::WrongLength { got: got as u64, want }),
            Ok(read) => got += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(failure_of(&ureq::Error::from(error))),
        }
        if got == at(want) {
            end_of(&mut body, want)?;
        }
        if got == at(want) || told.elapsed() > TELL_EVERY {
            told = Instant::now();
            progressed(got as u64);
        }
        if got == end {
            digests.push(Digest::of(&buffer.bytes[leaf..end]));
        }
    }
    Ok((Hashed::by_host(Piece { buffer: Arc::new(buffer), range: 0..at(want) }, digests), origin))
}

/// Reads a body to its end before the next request is made, which is made on this connection then: one that is new starts slowly.
fn end_of(body: &mut impl std::io::Read, want: u64) -> Result<(), Failure> {
    match body.read(&mut [0]) {
        Ok(0) => Ok(()),
        Ok(_) => Err(Failure::WrongLength { got: want + 1, want }),
        Err(error) => Err(failure_of(&ureq::Error::from(error))),
    }
}

/// Where our edge says it got the bytes: the `origin` metric of `Server-Timing`.
fn origin_in(server_timing: &str) -> Option<String> {
    let origin = server_timing.split(',').find_map(|metric| metric.trim().strip_prefix("origin;desc="))?;
    Some(origin.trim_matches('"').to_owned())
}
