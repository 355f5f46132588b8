//! The native driver of the download state machine: blocking requests on threads, and one file.
//! Each leaf is verified and written as soon as it is complete, while its bytes are in the
//! processor's cache.
//!
//! The file is its own journal. When a download is resumed, the bytes in the file are verified
//! again; bytes beyond its end were never written.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use edge_net_core::dag::digest::Digest;
use edge_net_core::dag::layout::{LEAF_SIZE, Layout, SEGMENT_SIZE};
use edge_net_core::dag::verify::{Bytes, Hashed, LeafTable};
use edge_net_core::time;
use edge_net_core::transfer::download::{
    Action, BadConfig, Config, Download, DownloadError, Event, FetchId, ReaderId, Report, SourceId,
};
use edge_net_core::transfer::source::{self, Failure, REFUSES_RANGES, check_head, range_field};

use crate::files::{FileError, of_file};
use crate::places::{Place, failure_of, retry_after};

/// A download failed.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The download cannot work with these settings.
    #[error(transparent)]
    Config(#[from] BadConfig),
    /// No source has a good copy of some leaf.
    #[error(
        "{file}: {error}. Verified bytes are kept: run the same command again to resume the \
         download"
    )]
    NoGoodCopy {
        /// Path of the incomplete file.
        file: PathBuf,
        /// The failure of each source.
        error: DownloadError,
    },
}

/// A source of one artifact.
pub struct Location {
    /// Name of the source, for reports.
    pub name: String,
    /// The agent for requests to the source.
    pub agent: ureq::Agent,
    /// URL of the artifact at the source.
    pub url: String,
}

impl Location {
    /// Returns the location of an artifact with the URL `url` at a source.
    pub fn new(place: &Place, url: String) -> Self {
        Self { name: place.source.kind.name().to_owned(), agent: place.agent.clone(), url }
    }
}

/// The observer of a download.
pub trait Watch {
    /// Is called with the number of bytes of the artifact that are verified or received.
    fn have(&mut self, bytes: u64);
    /// Is called for each report of the state machine.
    fn report(&mut self, report: &Report);
}

/// A handle for a range of the artifact, whose good leaves are in the file. It stands for the bytes
/// in the state machine, so that none are kept in memory.
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

/// A message from a thread.
enum Message {
    Event(Event<Kept>),
    /// A verified leaf could not be written.
    Unwritable(std::io::Error),
}

/// Converts a length of at most a stride.
fn length(length: u64) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

/// The file for the bytes of an artifact.
pub struct Destination<'a> {
    /// The file. What it has is verified first.
    pub file: File,
    /// A file that may have some of the leaves, such as an earlier version. It is only read.
    pub donor: Option<File>,
    /// Path of the file, for errors.
    pub path: &'a Path,
}

/// Completes a file: verifies the leaves that it has, copies those that its donor has, and fetches
/// the others from `locations`, in the order of preference. The artifact of `table` must not be
/// empty. On success, the file is complete and verified.
///
/// # Errors
/// [`DeliveryError::NoGoodCopy`] when no source has a good copy; [`DeliveryError::File`] when the
/// file cannot be written. Leaves that were verified before the error stay in the file.
pub fn complete(
    table: LeafTable,
    locations: Vec<Location>,
    config: Config,
    destination: Destination<'_>,
    watch: &mut impl Watch,
) -> Result<(), DeliveryError> {
    let Destination { file, donor, path } = destination;
    let written = file.metadata().map_err(of_file(path))?.len();
    let names = locations.iter().map(|location| location.name.clone()).collect();
    let layout = table.layout();
    let (sender, receiver) = channel();
    let host = Host {
        locations: locations.into(),
        table: Arc::new(table.clone()),
        file: Arc::new(file),
        written,
        donor: donor.map(Arc::new),
        turn: Arc::default(),
        buffers: Buffers::default(),
        by_leaf: Arc::default(),
        sender,
    };
    let mut run = Run {
        machine: Download::new(table, names, config)?,
        host,
        receiver,
        started: Instant::now(),
        stops: HashMap::new(),
        tally: Tally { layout, verified: 0, landed: HashMap::new(), flights: HashMap::new() },
    };
    run.handle(Event::Opened { reader: READER, bytes: 0..layout.size() });
    run.handle(Event::Pulled(READER));
    while !run.perform(path, watch)? {
        run.wait().map_err(of_file(path))?;
    }
    Ok(run.host.file.set_len(layout.size()).map_err(of_file(path))?)
}

/// The only reader: it reads the whole artifact.
const READER: ReaderId = ReaderId(0);

struct Run {
    machine: Download<Kept>,
    host: Host,
    receiver: Receiver<Message>,
    started: Instant,
    stops: HashMap<FetchId, Arc<AtomicBool>>,
    tally: Tally,
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

    /// Waits for the next message or timeout, and handles it.
    fn wait(&mut self) -> std::io::Result<()> {
        let until = self.machine.next_timeout().map(|at| at.duration_since(self.now()));
        let message = match until {
            None => self.receiver.recv().map_err(RecvTimeoutError::from),
            Some(until) => self.receiver.recv_timeout(until),
        };
        match message {
            Ok(Message::Event(event)) => self.handle(event),
            Ok(Message::Unwritable(error)) => return Err(error),
            // The host holds a sender: the channel cannot be disconnected.
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                self.handle(Event::Tick);
            }
        }
        Ok(())
    }

    /// Performs the actions of the state machine. Returns whether the download is complete.
    fn perform(&mut self, path: &Path, watch: &mut impl Watch) -> Result<bool, DeliveryError> {
        let mut end = Ok(false);
        while let Some(action) = self.machine.poll() {
            match action {
                Action::Load(segment)
                    if self.host.may_have(&self.tally.layout.bytes_of_segment(segment)) =>
                {
                    self.host.load(segment);
                }
                Action::Load(segment) => self.handle(Event::Loaded { segment, found: None }),
                // Bad leaves get overwritten; good leaves were written when they arrived.
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
                    end = Err(DeliveryError::NoGoodCopy { file: path.to_owned(), error });
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

/// The number of bytes that are verified or received, for progress bars.
struct Tally {
    layout: Layout,
    verified: u64,
    /// Bytes received but not verified yet, by segment.
    landed: HashMap<u64, u64>,
    /// Segment and received bytes of each running request.
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

/// Reusable buffers of one stride each; each request takes one. Memory that was used before is
/// faster than new memory.
#[derive(Clone, Default)]
struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

impl Buffers {
    fn take(&self) -> Vec<u8> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
            .unwrap_or_else(|| vec![0; length(STRIDE)])
    }

    fn give(&self, buffer: Vec<u8>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }
}

/// The operations that block, each on a thread.
#[derive(Clone)]
struct Host {
    locations: Arc<[Location]>,
    table: Arc<LeafTable>,
    file: Arc<File>,
    /// The length of the file at the start; bytes beyond it were never written.
    written: u64,
    donor: Option<Arc<File>>,
    /// Held while writing to the file. The kernel allows one writer at a time too, but lets the
    /// others spin.
    turn: Arc<Mutex<()>>,
    buffers: Buffers,
    /// The URLs of gateways that refused a range, and are asked for single leaves.
    by_leaf: Arc<Mutex<HashSet<String>>>,
    sender: Sender<Message>,
}

/// The failure of a request.
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
        // The receiver is gone when the download ended in between.
        let _ = self.sender.send(message);
    }

    /// Returns whether some of these bytes may be in the file or its donor.
    fn may_have(&self, bytes: &Range<u64>) -> bool {
        bytes.start < self.written || self.donor.is_some()
    }

    fn load(&self, segment: u64) {
        let (host, bytes) = (self.clone(), self.table.layout().bytes_of_segment(segment));
        thread::spawn(move || {
            let mut digests = Vec::new();
            for stride in strides(&bytes) {
                match host.found(&stride) {
                    Ok(found) => digests.extend(found),
                    Err(error) => return host.tell(Message::Unwritable(error)),
                }
            }
            let found = Some(Hashed::by_host(Kept(bytes), digests));
            host.tell(Message::Event(Event::Loaded { segment, found }));
        });
    }

    fn fetch(&self, fetch: FetchId, source: SourceId, bytes: Range<u64>, stop: Arc<AtomicBool>) {
        let host = self.clone();
        thread::spawn(move || {
            let mut rest = None;
            let progressed = |bytes| host.tell(Message::Event(Event::Progressed { fetch, bytes }));
            let location = &host.locations[source.index()];
            let fetched = host.request(location, &bytes, &stop, &mut rest, progressed);
            let message = match fetched {
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

    /// Fetches whole leaves from a source and writes the good ones. Returns the digests of all
    /// leaves and the name of their origin. `rest` is set to the delay that the source asks for
    /// before the next request.
    fn request(
        &self,
        location: &Location,
        bytes: &Range<u64>,
        stop: &AtomicBool,
        rest: &mut Option<Duration>,
        progressed: impl Fn(u64),
    ) -> Result<(Vec<Digest>, String), Trouble> {
        let by_leaf = || self.by_leaf.lock().unwrap_or_else(PoisonError::into_inner);
        if !by_leaf().contains(&location.url) {
            match self.range(location, bytes, stop, rest, &progressed) {
                Err(Trouble::Source(REFUSES_RANGES)) => by_leaf().insert(location.url.clone()),
                result => return result,
            };
        }
        let digests = self.leaves(location, bytes, stop, progressed)?;
        Ok((digests, location.name.clone()))
    }

    /// The same with one request.
    fn range(
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
        let response = request.call().map_err(|error| failure_of(&location.url, &error))?;
        *rest = retry_after(&response);
        let field = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        check_head(response.status().as_u16(), field("Content-Range"), bytes, size)?;
        let origin = source::origin(&location.name, field("Server-Timing"));
        progressed(0);

        let want = bytes.end - bytes.start;
        let mut incoming = Incoming::new(&location.url, response, want, stop);
        let mut whole = self.buffers.take();
        let mut digests = Vec::new();
        for stride in strides(bytes) {
            let buffer = &mut whole[..length(stride.end - stride.start)];
            incoming.fill(buffer, &progressed)?;
            digests.extend(self.keep(&stride, buffer).map_err(Trouble::File)?);
        }
        incoming.end()?;
        self.buffers.give(whole);
        progressed(want);
        Ok((digests, origin))
    }

    /// Fetches leaves one after the other, as raw blocks of a gateway, and writes the good ones.
    fn leaves(
        &self,
        location: &Location,
        bytes: &Range<u64>,
        stop: &AtomicBool,
        progressed: impl Fn(u64),
    ) -> Result<Vec<Digest>, Trouble> {
        let mut whole = self.buffers.take();
        let mut digests = Vec::new();
        for start in (bytes.start..bytes.end).step_by(length(LEAF_SIZE)) {
            let leaf = start..(start + LEAF_SIZE).min(bytes.end);
            let digest = self.table.digests().get(length(start / LEAF_SIZE));
            let url = digest.and_then(|digest| source::leaf_url(&location.url, digest));
            let url = url.ok_or(REFUSES_RANGES)?;
            let response =
                location.agent.get(&url).call().map_err(|error| failure_of(&url, &error))?;
            if response.status() != 200 {
                return Err(Failure::Status(response.status().as_u16()).into());
            }
            let mut incoming = Incoming::new(&url, response, leaf.end - leaf.start, stop);
            let buffer = &mut whole[..length(leaf.end - leaf.start)];
            incoming.fill(buffer, |got| progressed(start - bytes.start + got))?;
            incoming.end()?;
            digests.extend(self.keep(&leaf, buffer).map_err(Trouble::File)?);
        }
        self.buffers.give(whole);
        progressed(bytes.end - bytes.start);
        Ok(digests)
    }

    /// Writes the good leaves of a stride. Returns the digests of all its leaves.
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

    /// Returns the digests of leaves in the file, after copying those that only the donor has.
    fn found(&self, stride: &Range<u64>) -> std::io::Result<Vec<Digest>> {
        let mut buffer = vec![0; length(stride.end - stride.start)];
        // Bytes that cannot be read stay zero, so that their leaves are bad; the other leaves
        // count.
        if stride.start < self.written {
            let _ = self.file.read_exact_at(&mut buffer, stride.start);
        }
        let digests = Digest::of_leaves(&buffer);
        let first = usize::try_from(stride.start / LEAF_SIZE).unwrap_or(usize::MAX);
        let wanted = self.table.digests().iter().skip(first).take(digests.len());
        let Some(donor) = self.donor.as_ref().filter(|_| !wanted.clone().eq(&digests)) else {
            return Ok(digests);
        };
        buffer.fill(0);
        let _ = donor.read_exact_at(&mut buffer, stride.start);
        let theirs = self.keep(stride, &buffer)?;
        let either = wanted.zip(digests).zip(theirs);
        Ok(either.map(|((want, ours), theirs)| if *want == ours { ours } else { theirs }).collect())
    }
}

/// The interval of progress messages. The state machine judges by them whether a source lags.
const TELL_EVERY: Duration = Duration::from_millis(25);

/// The part of a response that is held in memory: two leaves. Hashing two together takes less time
/// than one after the other.
const STRIDE: u64 = 2 * LEAF_SIZE;

/// The size of a write. Larger writes make the kernel allocate larger pages of unused memory; in a
/// virtual machine whose host had to provide it, 1 GiB took 2.4 s instead of 0.9 s.
const WRITE: usize = 16 << 10;

/// Cuts a range of whole leaves into strides.
fn strides(bytes: &Range<u64>) -> impl Iterator<Item = Range<u64>> + use<> {
    let end = bytes.end;
    (bytes.start..end).step_by(length(STRIDE)).map(move |start| start..(start + STRIDE).min(end))
}

/// The body of a response.
struct Incoming<'a> {
    url: &'a str,
    body: ureq::BodyReader<'static>,
    got: u64,
    want: u64,
    told: Instant,
    stop: &'a AtomicBool,
}

impl<'a> Incoming<'a> {
    /// The body of `want` bytes; `stop` ends it early.
    fn new(
        url: &'a str,
        response: ureq::http::Response<ureq::Body>,
        want: u64,
        stop: &'a AtomicBool,
    ) -> Self {
        let body = response.into_body().into_with_config().limit(u64::MAX).reader();
        Self { url, body, got: 0, want, told: Instant::now(), stop }
    }

    /// Reads until the buffer is full. `progressed` is told the bytes of the body so far.
    fn fill(&mut self, buffer: &mut [u8], progressed: impl Fn(u64)) -> Result<(), Failure> {
        let mut filled = 0;
        while filled < buffer.len() {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Failure::Stalled);
            }
            let read = self.read(&mut buffer[filled..])?;
            if read == 0 {
                return Err(Failure::WrongLength { got: self.got, want: self.want });
            }
            filled += read;
            self.got += read as u64;
            if self.told.elapsed() > TELL_EVERY {
                self.told = Instant::now();
                progressed(self.got);
            }
        }
        Ok(())
    }

    /// Reads the body to its end, so that the next request reuses the connection: a new one starts
    /// slowly.
    fn end(mut self) -> Result<(), Failure> {
        match self.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(Failure::WrongLength { got: self.want + 1, want: self.want }),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        loop {
            match self.body.read(buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => {
                    return read.map_err(|error| failure_of(self.url, &ureq::Error::from(error)));
                }
            }
        }
    }
}
