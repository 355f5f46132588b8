//! A fake host: the test answers `fetch`; WebCrypto, streams and timers are Node's.

#![allow(dead_code)] // Each test binary uses a part.

pub mod publisher;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use edge_net_core::dag::digest::Digest;
use edge_net_core::dag::layout::LEAF_SIZE;
use edge_net_core::dag::unixfs::{self};
use edge_net_core::dag::verify::LeafTable;
use edge_net_core::transfer::download::{Config, DownloadError, Report};
use edge_net_driver::HostBytes;
use edge_net_driver::session::{Location, Reader, SegmentStore, Session};
use js_sys::{Function, Object, Promise, Reflect, Uint8Array};
use wasm_bindgen::prelude::*;
use web_sys::AbortSignal;

/// A request that the driver sent.
#[derive(Clone)]
pub struct Request {
    pub url: String,
    /// Its `Range`; `None` for the whole.
    pub range: Option<Range<u64>>,
    /// Its options, without `headers` and `signal`.
    pub init: Object,
    /// When it was sent, in milliseconds.
    pub sent: f64,
    signal: AbortSignal,
}

impl Request {
    fn read(url: String, init: Object) -> Self {
        let headers = Reflect::get(&init, &"headers".into()).unwrap();
        let range = Reflect::get(&headers, &"Range".into()).unwrap().as_string().map(|range| {
            let (first, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
            first.parse().unwrap()..last.parse::<u64>().unwrap() + 1
        });
        let signal = Reflect::get(&init, &"signal".into()).unwrap().unchecked_into();
        Self { url, range, init, sent: js_sys::Date::now(), signal }
    }

    pub fn is_to(&self, source: &str) -> bool {
        self.url.starts_with(&format!("https://{source}.test/"))
    }

    pub fn was_aborted(&self) -> bool {
        self.signal.aborted()
    }
}

/// How a body ends.
#[derive(Clone, Copy, PartialEq)]
pub enum End {
    Complete,
    /// No further bytes arrive until the request is aborted.
    Hangs,
    /// The connection breaks.
    Breaks,
}

/// The response to a request.
pub struct Reply {
    /// 0: there is no response.
    pub status: u16,
    pub fields: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    pub end: End,
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self { status, fields: Vec::new(), body: Vec::new(), end: End::Complete }
    }

    pub fn unreachable() -> Self {
        Self::status(0)
    }

    pub fn whole(body: &[u8]) -> Self {
        Self { body: body.to_vec(), ..Self::status(200) }
    }

    /// The requested range of `bytes`, as a correct server sends it.
    pub fn range(bytes: &[u8], request: &Request) -> Self {
        let Some(range) = &request.range else {
            return Self::whole(bytes).with("Content-Length", bytes.len());
        };
        let part = &bytes[index(range.start)..index(range.end)];
        let content_range = format!("bytes {}-{}/{}", range.start, range.end - 1, bytes.len());
        Self { body: part.to_vec(), ..Self::status(206) }
            .with("Content-Length", part.len())
            .with("Content-Range", content_range)
    }

    #[allow(clippy::needless_pass_by_value)] // Calls read better.
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.fields.push((name, value.to_string()));
        self
    }

    /// Cuts the body off after `length` bytes.
    pub fn cut(mut self, length: usize, end: End) -> Self {
        self.body.truncate(length);
        self.end = end;
        self
    }

    fn send(self, signal: &AbortSignal) -> Promise {
        if self.status == 0 {
            return Promise::reject(&js_sys::TypeError::new("fetch failed"));
        }
        let fields = Object::new();
        for (name, value) in self.fields {
            Reflect::set(&fields, &name.into(), &value.into()).unwrap();
        }
        let init = Object::new();
        Reflect::set(&init, &"status".into(), &self.status.into()).unwrap();
        Reflect::set(&init, &"headers".into(), &fields).unwrap();
        let body = Uint8Array::from(&*self.body);
        let end = match self.end {
            End::Complete => "close",
            End::Hangs => "hang",
            End::Breaks => "break",
        };
        let respond =
            Function::new_with_args("init, body, end, signal", include_str!("respond.js"));
        let arguments = js_sys::Array::of4(&init, &body, &end.into(), signal);
        Promise::resolve(&respond.apply(&JsValue::NULL, &arguments).unwrap())
    }
}

pub fn index(n: u64) -> usize {
    usize::try_from(n).unwrap()
}

/// Replaces `fetch`; returns the requests, which are recorded as they come.
pub fn on_fetch(answer: impl Fn(&Request) -> Reply + 'static) -> Rc<RefCell<Vec<Request>>> {
    let requests: Rc<RefCell<Vec<Request>>> = Rc::default();
    let recorded = Rc::clone(&requests);
    let fetch = Closure::<dyn FnMut(String, Object) -> Promise>::new(move |url, init| {
        let request = Request::read(url, init);
        let reply = answer(&request);
        let signal = request.signal.clone();
        recorded.borrow_mut().push(request);
        reply.send(&signal)
    });
    Reflect::set(&js_sys::global(), &"fetch".into(), &fetch.into_js_value()).unwrap();
    requests
}

/// An artifact: its bytes and its leaf table.
pub struct Artifact {
    pub bytes: Vec<u8>,
    pub table: Arc<LeafTable>,
}

impl Artifact {
    /// `length` bytes; each leaf differs from the others.
    pub fn new(length: usize) -> Self {
        let mut bytes = vec![0; length];
        for (at, leaf) in bytes.chunks_mut(index(LEAF_SIZE)).enumerate() {
            leaf.fill(u8::try_from(at + 1).unwrap());
        }
        let leaves = Digest::of_leaves(&bytes);
        Self::from_leaves(bytes, leaves)
    }

    /// `leaves` equal leaves, which are hashed once.
    pub fn of_equal_leaves(leaves: usize) -> Self {
        let digest = Digest::of(&vec![1; index(LEAF_SIZE)]);
        Self::from_leaves(vec![1; index(LEAF_SIZE) * leaves], vec![digest; leaves])
    }

    fn from_leaves(bytes: Vec<u8>, leaves: Vec<Digest>) -> Self {
        let size = bytes.len() as u64;
        let root = unixfs::root(&leaves, size);
        let table = LeafTable::from_digests(leaves, size, &root).unwrap();
        Self { bytes, table: Arc::new(table) }
    }

    pub fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// A session that asks the sources `https://{name}.test/` and stores segments in `store`.
    pub fn session<S: SegmentStore>(
        &self,
        sources: &[&str],
        store: S,
        config: Config,
    ) -> (Session<S>, Reports) {
        let locations = sources.iter().map(|name| Location {
            name: (*name).to_owned(),
            url: format!("https://{name}.test/artifact"),
        });
        let reports = Reports::default();
        let all = Rc::clone(&reports);
        let session = Session::new(
            Arc::clone(&self.table),
            locations.collect(),
            Object::new(),
            store,
            config,
            &[],
            move |report| all.borrow_mut().push(report),
        );
        (session.unwrap(), reports)
    }
}

/// What a session reported.
pub type Reports = Rc<RefCell<Vec<Report>>>;

/// A store in memory.
#[derive(Clone, Default)]
pub struct Memory {
    pub segments: Rc<RefCell<BTreeMap<u64, Vec<u8>>>>,
    pub deleted: Rc<RefCell<Vec<u64>>>,
}

impl SegmentStore for Memory {
    const BLOBS: bool = false;

    async fn load(&self, segment: u64) -> Option<Uint8Array> {
        self.segments.borrow().get(&segment).map(|bytes| Uint8Array::from(&**bytes))
    }

    async fn save(&self, segment: u64, parts: Vec<HostBytes>) {
        let bytes = parts.iter().flat_map(|part| part.view.to_vec()).collect();
        self.segments.borrow_mut().insert(segment, bytes);
    }

    async fn forget(&self, segment: u64) {
        self.segments.borrow_mut().remove(&segment);
        self.deleted.borrow_mut().push(segment);
    }
}

/// Reads to the end.
pub async fn read<S: SegmentStore>(mut reader: Reader<S>) -> Result<Vec<u8>, DownloadError> {
    let mut all = Vec::new();
    while let Some(bytes) = reader.next().await {
        all.extend(bytes?.view.to_vec());
    }
    Ok(all)
}
