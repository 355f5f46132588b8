//! Verified segments in the Workers Cache: an entry is a whole segment, keyed by content, filled once however many readers
//! wait for it, and read in part by the host. Bytes that are there pass from the cache to the client without coming here.
//!
//! Only this worker writes below [`KEYS`] of its zone's cache, and it writes what an [`Origin`] verified: entries are not
//! verified again.
//!
//! Nothing of a request may be touched by another one (workerd forbids it), so requests that wait for the same segment
//! look whether it has come, each with timers of its own.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use edge_net_core::dag::layout::Layout;
use edge_net_core::dag::unixfs::cid_text;
use edge_net_core::dag::verify::Bytes as _;
use edge_net_core::transfer::download::DownloadError;
use edge_net_driver::host::{self, HostBytes};
use edge_net_driver::lookup::NoLeafTable;
use edge_net_driver::session::Reader;
use futures::channel::oneshot;
use js_sys::{Object, Uint8Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    Cache, CacheStorage, Headers, ReadableStream, RequestInit, ResponseInit, StreamPipeOptions,
    WritableStream,
};
use worker::Context;

use crate::origin::{Origin, Store};
use crate::{log, reply};

/// Path of the entries' keys, on the host that the client asked.
const KEYS: &str = "/.segments/";
/// Fills under way at once in the isolate: each holds its segment up to three times.
const FILLS: usize = 4;
/// A fill that shows no sign of life for this long was cancelled with its request, in milliseconds: longer than a download waits
/// for a source that stalls.
const LEASE: u64 = 25_000;
/// How long a request waits before it looks again, at the most, in milliseconds.
const LOOK_AFTER: u64 = 100;
/// How long a fill that failed speaks for those who waited for it, in milliseconds.
const FAILED_FOR: u64 = 2_000;
/// Segments whose fills are remembered at the most.
const MAX_FILLED: usize = 4096;
/// Subrequests that looking into the cache takes.
const LOOK: u32 = 1;
/// Subrequests that filling takes: a request to a source, putting what it brought, looking again.
const FILL: u32 = 3;
/// Field of an entry: where its bytes came from.
const ORIGIN: &str = "X-Origin";

thread_local! {
    static FILLS_OF_ISOLATE: RefCell<Fills> = RefCell::default();
    static CACHE: RefCell<Option<Cache>> = const { RefCell::new(None) };
}

/// What the requests of an isolate tell each other.
#[derive(Default)]
struct Fills {
    /// Last sign of life of each fill under way.
    under_way: HashMap<String, u64>,
    /// How often a segment was filled.
    filled: HashMap<String, u32>,
    /// Why a segment could not be filled, and until when that is believed.
    failed: HashMap<String, (String, u64)>,
}

/// The right to fill a segment, until dropped.
struct Turn(String);

impl Turn {
    /// Takes the turn, unless another request has it or too many fill already.
    fn take(key: &str) -> Option<Self> {
        let now = host::now();
        FILLS_OF_ISOLATE.with_borrow_mut(|fills| {
            fills.under_way.retain(|_, seen| now < *seen + LEASE);
            let free = fills.under_way.len() < FILLS && !fills.under_way.contains_key(key);
            free.then(|| {
                fills.under_way.insert(key.to_owned(), now);
                Self(key.to_owned())
            })
        })
    }

    /// Says how the fill ended.
    fn end(self, error: Option<&NoPart>) {
        let now = host::now();
        FILLS_OF_ISOLATE.with_borrow_mut(|fills| {
            fills.failed.retain(|_, (_, until)| now < *until);
            if fills.filled.len() >= MAX_FILLED {
                fills.filled.clear();
            }
            if let Some(error) = error {
                fills.failed.insert(self.0.clone(), (error.to_string(), now + FAILED_FOR));
            } else {
                *fills.filled.entry(self.0.clone()).or_default() += 1;
            }
        });
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        FILLS_OF_ISOLATE.with_borrow_mut(|fills| fills.under_way.remove(&self.0));
    }
}

/// Says that the fills of `cid` are alive.
pub fn alive(cid: &str) {
    let now = host::now();
    FILLS_OF_ISOLATE.with_borrow_mut(|fills| {
        for (_, seen) in fills.under_way.iter_mut().filter(|(key, _)| key.starts_with(cid)) {
            *seen = now;
        }
    });
}

/// Why a part of an artifact cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum NoPart {
    /// No source has a good copy.
    #[error(transparent)]
    Download(#[from] DownloadError),
    /// Nor a leaf table.
    #[error(transparent)]
    LeafTable(#[from] NoLeafTable),
    /// The same, as a request found that tried just before.
    #[error("{0}")]
    Earlier(String),
    /// The host ended the download.
    #[error("the download of segment {0} was ended")]
    Ended(u64),
}

/// Why a body was not sent to its end.
pub enum NotSent {
    /// Something is not to be had.
    Part(NoPart),
    /// The client has left.
    Left,
}

impl From<NoPart> for NotSent {
    fn from(error: NoPart) -> Self {
        Self::Part(error)
    }
}

/// Bytes of one segment.
pub struct Part {
    /// The bytes.
    pub body: Body,
    /// Where they came from, such as `gcs` or `gcs+ipfs`.
    pub origin: String,
    /// Whether the cache had them at once.
    pub hit: bool,
    /// How many there are.
    pub length: u64,
    /// How long it took to verify them, in milliseconds, if that was done for this request.
    pub verifying: Option<u64>,
}

/// Where the bytes of a [`Part`] are.
pub enum Body {
    /// In the cache's answer.
    Cached(web_sys::Response),
    /// Here: the cache did not keep them.
    Here(HostBytes),
}

impl Body {
    /// Writes all of it; the host does that alone where the bytes are in the cache.
    async fn send(&self, writable: &WritableStream) -> Result<(), JsValue> {
        match self {
            Self::Cached(response) => {
                let options = StreamPipeOptions::new();
                options.set_prevent_close(true);
                let body = response.body().ok_or(JsValue::NULL)?;
                JsFuture::from(body.pipe_to_with_options(writable, &options)).await.map(drop)
            }
            Self::Here(bytes) => write(writable, &bytes.view).await,
        }
    }
}

/// Writes bytes, and waits until they were taken.
///
/// # Errors
/// When the client has left.
pub async fn write(writable: &WritableStream, bytes: &Uint8Array) -> Result<(), JsValue> {
    let writer = writable.get_writer()?;
    let written = JsFuture::from(writer.write_with_chunk(bytes)).await;
    writer.release_lock();
    written.map(drop)
}

/// A body of `length` bytes of the artifact `cid`, which `send` writes. When something is not to be had the connection breaks before
/// the length is reached, and the client knows.
pub fn body<S: Future<Output = Result<(), NotSent>>>(
    length: u64,
    cid: String,
    send: impl FnOnce(WritableStream) -> S + 'static,
) -> ReadableStream {
    let fixed = reply::FixedLengthStream::of(length);
    let (readable, writable) = (fixed.readable(), fixed.writable());
    wasm_bindgen_futures::spawn_local(async move {
        let ended = match send(writable.clone()).await {
            Ok(()) => writable.close(),
            Err(NotSent::Part(error)) => {
                log::error("cut-short").fact("cid", cid).say(&error);
                writable.abort_with_reason(&error.to_string().into())
            }
            Err(NotSent::Left) => return,
        };
        let _ = JsFuture::from(ended).await;
    });
    readable
}

/// Verified bytes of an artifact one after the other, past the cache.
pub struct Past {
    reader: Reader<Store>,
    /// What came and was not wanted yet.
    ahead: Option<HostBytes>,
    /// Where that begins, or else what comes next.
    at: u64,
}

impl Past {
    /// The bytes that `reader` brings, the first of which is at `at`.
    pub const fn new(reader: Reader<Store>, at: u64) -> Self {
        Self { reader, ahead: None, at }
    }

    /// The bytes `bytes`, of segment `segment`; those between the last ones and these are left out.
    ///
    /// # Errors
    /// When no source has a good copy.
    pub async fn read(&mut self, segment: u64, bytes: &Range<u64>) -> Result<HostBytes, NoPart> {
        let mut all = None;
        while self.at < bytes.end {
            let part = match self.ahead.take() {
                Some(part) => part,
                None => self.reader.next().await.ok_or(NoPart::Ended(segment))??,
            };
            let end = self.at + part.len();
            let wanted = self.at.max(bytes.start)..end.min(bytes.end);
            if end > bytes.end {
                self.ahead = Some(part.slice(bytes.end - self.at..part.len()));
            }
            if !wanted.is_empty() {
                let part = part.slice(wanted.start - self.at..wanted.end - self.at);
                if wanted == *bytes {
                    self.at = bytes.end;
                    return Ok(part);
                }
                // A segment of which a leaf had to be fetched again comes in parts.
                let all = all.get_or_insert_with(|| {
                    Uint8Array::new_with_length(small(bytes.end - bytes.start))
                });
                all.set(&part.view, small(wanted.start - bytes.start));
            }
            self.at = end.min(bytes.end);
        }
        Ok(all.unwrap_or_default().into())
    }
}

/// A length within a segment.
fn small(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// The segments of one artifact, for one request.
pub struct Segments {
    /// Where they are kept.
    pub cache: Cache,
    /// Key of the entries, but for the segment's number.
    pub prefix: String,
    cid: String,
    layout: Layout,
    /// What the cache does not have.
    pub origin: Rc<Origin>,
    context: Rc<Context>,
}

impl Segments {
    /// The segments of the artifact of `origin`; `url` is what the client asked for.
    ///
    /// # Errors
    /// Where the host has no cache.
    pub async fn open(
        url: &worker::Url,
        origin: Origin,
        context: Rc<Context>,
    ) -> Result<Self, JsValue> {
        let cache = cache().await?;
        let cid = cid_text(&origin.artifact.cid);
        let prefix = format!("{}{KEYS}{cid}/", url.origin().ascii_serialization());
        Ok(Self {
            cache,
            prefix,
            cid,
            layout: Layout::new(origin.artifact.size),
            origin: Rc::new(origin),
            context,
        })
    }

    /// The bytes `bytes` of the artifact, which lie in segment `segment`: from the cache, or filled first. `None` when too few
    /// subrequests are left for that: they, and what follows them, are to come past the cache.
    ///
    /// # Errors
    /// When no source has a good copy.
    pub async fn part(&self, segment: u64, bytes: &Range<u64>) -> Result<Option<Part>, NoPart> {
        let subrequests = &self.origin.subrequests;
        let key = format!("{}/{segment}", self.cid);
        let length = bytes.end - bytes.start;
        let mut hit = true;
        let mut tries = 0;
        loop {
            if !subrequests.allow(LOOK) {
                return Ok(None);
            }
            let seen = filled(&key);
            if let Some((response, origin)) = self.cached(segment, bytes).await {
                return Ok(Some(Part {
                    body: Body::Cached(response),
                    origin,
                    hit,
                    length,
                    verifying: None,
                }));
            }
            if !subrequests.allow(FILL) {
                return Ok(None);
            }
            hit = false;
            tries += 1;
            let mut wait = 5;
            let turn = loop {
                // Somebody filled it meanwhile; a cache that then does not have it keeps nothing.
                if filled(&key) != seen && tries < 3 {
                    break None;
                }
                if let Some(error) = failed(&key) {
                    return Err(NoPart::Earlier(error));
                }
                if let Some(turn) = Turn::take(&key) {
                    break Some(turn);
                }
                host::sleep(wait).await;
                wait = (wait * 2).min(LOOK_AFTER);
            };
            let Some(turn) = turn else { continue };
            let whole = self.fill(segment, turn).await?;
            let verifying = subrequests.verifying();
            if let Some((response, origin)) = self.cached(segment, bytes).await {
                return Ok(Some(Part {
                    body: Body::Cached(response),
                    origin,
                    hit,
                    length,
                    verifying,
                }));
            }
            let start = self.layout.bytes_of_segment(segment).start;
            let body = Body::Here(whole.slice(bytes.start - start..bytes.end - start));
            return Ok(Some(Part {
                body,
                origin: self.origin.came_from(segment),
                hit,
                length,
                verifying,
            }));
        }
    }

    /// A body of `length` bytes: `first`, then `rest`, of which the next is looked for while one is sent.
    pub fn stream(
        self,
        first: Part,
        rest: impl Iterator<Item = (u64, Range<u64>)> + 'static,
        length: u64,
    ) -> ReadableStream {
        let cid = self.cid.clone();
        body(length, cid, async move |writable: WritableStream| {
            self.send(first, rest, &writable).await
        })
    }

    async fn send(
        &self,
        first: Part,
        mut rest: impl Iterator<Item = (u64, Range<u64>)>,
        writable: &WritableStream,
    ) -> Result<(), NotSent> {
        let mut part = first;
        loop {
            let next = rest.next();
            let ahead = async {
                match &next {
                    Some((segment, bytes)) => self.part(*segment, bytes).await.map(Some),
                    None => Ok(None),
                }
            };
            let (sent, ahead) = futures::future::join(part.body.send(writable), ahead).await;
            sent.map_err(|_| NotSent::Left)?;
            part = match (ahead?, next) {
                (Some(Some(next)), _) => next,
                (Some(None), Some((_, bytes))) => {
                    let end = rest.last().map_or(bytes.end, |(_, bytes)| bytes.end);
                    return self.send_past(bytes.start..end, writable).await;
                }
                _ => return Ok(()),
            };
        }
    }

    /// Sends bytes past the cache: they are verified, but not kept. No more is read than the client takes, but for what the
    /// download holds.
    async fn send_past(&self, bytes: Range<u64>, writable: &WritableStream) -> Result<(), NotSent> {
        let mut reader = self.origin.read(bytes).await.map_err(NoPart::from)?;
        while let Some(bytes) = reader.next().await {
            write(writable, &bytes.map_err(NoPart::from)?.view).await.map_err(|_| NotSent::Left)?;
        }
        Ok(())
    }

    /// Downloads a segment and puts it into the cache, even when the client leaves meanwhile.
    async fn fill(&self, segment: u64, turn: Turn) -> Result<HostBytes, NoPart> {
        let (sender, receiver) = oneshot::channel();
        let (origin, cache) = (Rc::clone(&self.origin), self.cache.clone());
        let bytes = self.layout.bytes_of_segment(segment);
        let url = format!("{}{segment}", self.prefix);
        let subrequests = Rc::clone(&self.origin.subrequests);
        self.context.wait_until(async move {
            let whole = async {
                Past::new(origin.session().await?.read(bytes.clone()), bytes.start)
                    .read(segment, &bytes)
                    .await
            }
            .await;
            if let Ok(whole) = &whole
                && subrequests.take().is_ok()
                && let Err(error) = put(&cache, &url, whole, &origin.came_from(segment)).await
            {
                log::warn("not-cached").fact("key", url).say(host::message(&error));
            }
            turn.end(whole.as_ref().err());
            let _ = sender.send(whole);
        });
        receiver.await.unwrap_or(Err(NoPart::Ended(segment)))
    }

    /// What the cache has of a segment.
    async fn cached(
        &self,
        segment: u64,
        bytes: &Range<u64>,
    ) -> Option<(web_sys::Response, String)> {
        self.origin.subrequests.take().ok()?;
        let all = self.layout.bytes_of_segment(segment);
        let headers = Headers::new().ok()?;
        if *bytes != all {
            headers
                .set(
                    "Range",
                    &format!("bytes={}-{}", bytes.start - all.start, bytes.end - 1 - all.start),
                )
                .ok()?;
        }
        let init = RequestInit::new();
        init.set_headers(&headers);
        let request =
            web_sys::Request::new_with_str_and_init(&format!("{}{segment}", self.prefix), &init)
                .ok()?;
        let found = JsFuture::from(self.cache.match_with_request(&request)).await.ok()?;
        let response: web_sys::Response = found.dyn_into().ok()?;
        let length = host::field(&response, "Content-Length")?;
        let origin = host::field(&response, ORIGIN).unwrap_or_default();
        (length.parse() == Ok(bytes.end - bytes.start)).then_some((response, origin))
    }
}

/// The cache, opened once.
async fn cache() -> Result<Cache, JsValue> {
    if let Some(cache) = CACHE.with_borrow(Clone::clone) {
        return Ok(cache);
    }
    let caches: CacheStorage =
        js_sys::Reflect::get(&js_sys::global(), &"caches".into())?.unchecked_into();
    let cache: Cache = JsFuture::from(caches.open("segments")).await?.unchecked_into();
    CACHE.set(Some(cache.clone()));
    Ok(cache)
}

fn failed(key: &str) -> Option<String> {
    let now = host::now();
    FILLS_OF_ISOLATE.with_borrow(|fills| {
        fills.failed.get(key).filter(|(_, until)| now < *until).map(|(error, _)| error.clone())
    })
}

fn filled(key: &str) -> u32 {
    FILLS_OF_ISOLATE.with_borrow(|fills| fills.filled.get(key).copied().unwrap_or_default())
}

/// Stores a verified segment. Its key holds its content's name, so it never changes.
async fn put(cache: &Cache, url: &str, bytes: &HostBytes, origin: &str) -> Result<(), JsValue> {
    let headers = Headers::new()?;
    headers.set("Cache-Control", "public, max-age=31536000, immutable")?;
    headers.set("Content-Length", &bytes.len().to_string())?;
    headers.set(ORIGIN, origin)?;
    let init = ResponseInit::new();
    init.set_headers(&headers);
    let body: &Object = bytes.view.as_ref();
    let response = web_sys::Response::new_with_opt_buffer_source_and_init(Some(body), &init)?;
    JsFuture::from(cache.put_with_str(url, &response)).await.map(drop)
}
