//! The segments of an artifact for one request: from the cache, or filled into it first. A segment
//! is filled once, however many requests wait for it.

use std::ops::Range;
use std::rc::Rc;

use edge_net_core::dag::cid::cid_text;
use edge_net_core::dag::layout::Layout;
use edge_net_core::dag::verify::Bytes as _;
use edge_net_driver::host::{self, HostBytes};
use edge_net_driver::log;
use futures::channel::oneshot;
use wasm_bindgen::JsValue;
use worker::Context;

use crate::direct::DirectReader;
use crate::entries::{Entries, Entry};
use crate::fills::{self, Fill, OwnFills, Turn};
use crate::origin::Origin;
use crate::part::{Body, NoPart, Part};

/// Subrequests of a look into the cache.
const LOOK: u32 = 1;
/// Subrequests of a fill: a request to a source, a write to the cache, and a look into it.
const FILL: u32 = 3;
/// Looks of a request that finds a segment filled and then not in the cache. After these it fills
/// the segment for itself: such a cache keeps nothing.
const MAX_LOOKS: u32 = 3;

/// The segments of one artifact, for one request.
pub struct Segments {
    /// Their entries in the cache.
    pub entries: Entries,
    /// The artifact's CID.
    pub cid: String,
    /// The download of segments that the cache does not have.
    pub origin: Rc<Origin>,
    layout: Layout,
    fills: OwnFills,
    context: Rc<Context>,
}

impl Segments {
    /// The segments of the artifact of `origin`, for a request of `url`.
    ///
    /// # Errors
    /// If the host has no cache.
    pub async fn open(
        url: &worker::Url,
        origin: Origin,
        context: Rc<Context>,
    ) -> Result<Self, JsValue> {
        let cid = cid_text(&origin.artifact.cid);
        let entries = Entries::open(url, &cid).await?;
        let layout = Layout::new(origin.artifact.size);
        let fills = OwnFills::default();
        let own = fills.clone();
        let origin = Rc::new(origin.on_progress(move || own.renew()));
        Ok(Self { entries, cid, origin, layout, fills, context })
    }

    /// The bytes `bytes` of the artifact, which lie in segment `segment`. `None` if the request has
    /// too few subrequests left for the cache, or waited too long for another that fills it: these
    /// bytes and the rest are to be read directly.
    ///
    /// # Errors
    /// If no source has a good copy.
    pub async fn part(&self, segment: u64, bytes: &Range<u64>) -> Result<Option<Part>, NoPart> {
        let subrequests = &self.origin.subrequests;
        let name = format!("{}/{segment}", self.cid);
        let mut looks = 0;
        loop {
            if !subrequests.allow(LOOK) {
                return Ok(None);
            }
            let seen = fills::count(&name);
            if let Some(Entry { response, origin }) = self.cached(segment, bytes).await {
                return Ok(Some(Part {
                    body: Body::Cached(response),
                    origin,
                    hit: looks == 0,
                    length: bytes.end - bytes.start,
                    verifying: None,
                }));
            }
            if !subrequests.allow(FILL) {
                return Ok(None);
            }
            looks += 1;
            let seen = (looks < MAX_LOOKS).then_some(seen);
            match fills::acquire(&name, seen).await? {
                Turn::Fill(fill) => {
                    return self.filled(segment, bytes, name, fill).await.map(Some);
                }
                Turn::Filled => {}
                Turn::Late => return Ok(None),
            }
        }
    }

    /// Fills a segment: bytes of it.
    async fn filled(
        &self,
        segment: u64,
        bytes: &Range<u64>,
        name: String,
        fill: Fill,
    ) -> Result<Part, NoPart> {
        let whole = self.fill(segment, name, fill).await?;
        let verifying = self.origin.subrequests.verifying();
        let (body, origin) = if let Some(entry) = self.cached(segment, bytes).await {
            (Body::Cached(entry.response), entry.origin)
        } else {
            let start = self.layout.bytes_of_segment(segment).start;
            let part = whole.slice(bytes.start - start..bytes.end - start);
            (Body::InMemory(part), self.origin.origin_of(segment))
        };
        Ok(Part { body, origin, hit: false, length: bytes.end - bytes.start, verifying })
    }

    /// Downloads a segment and puts it into the cache, even if the client leaves meanwhile.
    async fn fill(&self, segment: u64, name: String, fill: Fill) -> Result<HostBytes, NoPart> {
        let (sender, receiver) = oneshot::channel();
        let own = self.fills.clone();
        own.add(&name, &fill);
        let (origin, entries) = (Rc::clone(&self.origin), self.entries.clone());
        let bytes = self.layout.bytes_of_segment(segment);
        self.context.wait_until(async move {
            let whole = async {
                let reader = origin.session().await?.read(bytes.clone());
                DirectReader::new(reader, bytes.start).read(segment, &bytes).await
            }
            .await;
            if let Ok(whole) = &whole
                && origin.subrequests.take().is_ok()
                && let Err(error) = entries.put(segment, whole, &origin.origin_of(segment)).await
            {
                log::warn("not-cached")
                    .fact("key", entries.key(segment))
                    .say(host::message(&error));
            }
            let result = whole.as_ref().map(|_| ()).map_err(ToString::to_string);
            own.end(&name, fill, result);
            let _ = sender.send(whole);
        });
        receiver.await.unwrap_or(Err(NoPart::Ended(segment)))
    }

    /// The cache's entry of a segment, at the cost of a subrequest.
    async fn cached(&self, segment: u64, bytes: &Range<u64>) -> Option<Entry> {
        self.origin.subrequests.take().ok()?;
        self.entries.get(segment, &self.layout.bytes_of_segment(segment), bytes).await
    }
}
