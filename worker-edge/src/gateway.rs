//! The trustless gateway below `/ipfs/`: blocks and archives of the served models, for other IPFS
//! clients.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use cid::Cid;
use edge_net_core::dag::blocks::{Blocks, Position};
use edge_net_core::dag::car::{self, Car, Piece, Stretch};
use edge_net_core::dag::cid::cid_text;
use edge_net_core::http::gateway::{Asked, Format};
use http::header::{ACCEPT, IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, Method, StatusCode};
use js_sys::{Object, Uint8Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::WritableStream;

use crate::call::Call;
use crate::catalog::{self, Held, NoHolder};
use crate::direct::DirectReader;
use crate::origin::Origin;
use crate::part::{Body, NoPart, Part};
use crate::segments::Segments;
use crate::send::send;
use crate::streams::{self, NotSent};
use crate::{limit, registry, reply, timing};

/// The response to a GET or HEAD of `path`, which is the part below `/ipfs/`.
pub async fn answer(call: &Call<'_>, path: &str) -> worker::Result<web_sys::Response> {
    let fields = call.headers(&[ACCEPT, IF_MATCH, IF_NONE_MATCH]);
    let accept = fields.get(ACCEPT).map(|accept| accept.to_str().unwrap_or_default());
    let asked = match Asked::read(path, call.url.query_pairs(), accept) {
        Ok(asked) => asked,
        Err(refused) => return reply::problem(refused.status(), &refused.to_string()),
    };
    if asked.is_probe() {
        return probe(call, &asked);
    }
    // First of all: a client that may not have a block must not learn that it is unchanged.
    let held = match catalog::at_hand(&call.config, &asked.cid) {
        Some(held) => held,
        None => match find(call, &asked.cid).await? {
            Ok(held) => held,
            Err(response) => return Ok(response),
        },
    };
    match asked.refusal(&fields) {
        None => {}
        Some(StatusCode::NOT_MODIFIED) => {
            return reply::with_fields(StatusCode::NOT_MODIFIED, &asked.fields(), None);
        }
        Some(status) => return reply::refused(status, &asked.fields(), path),
    }
    let blocks = match catalog::blocks(&call.config, &held).await {
        Ok(blocks) => blocks,
        Err(error) => return reply::bad_gateway(&error.to_string()),
    };
    let Some(at) = blocks.find(&asked.cid) else {
        return no_holder(&NoHolder::Unknown(path.to_owned()));
    };
    match asked.format {
        Format::Raw => raw(call, &asked, held, &blocks, at).await,
        Format::Car(scope, duplicates) => {
            let extent = match scope.extent(&blocks.content(at)) {
                Ok(extent) => extent,
                Err(refused) => return reply::problem(refused.status(), &refused.to_string()),
            };
            archive(call, &asked, held, &Arc::new(Car::new(blocks, at, &extent, duplicates))).await
        }
    }
}

/// The artifact of a block that is not at hand, or the response that there is none. Such requests
/// count against the client's limit: CIDs have no end.
async fn find(call: &Call<'_>, cid: &Cid) -> worker::Result<Result<Held, web_sys::Response>> {
    if catalog::is_nowhere(cid) {
        return no_holder(&NoHolder::Unknown(cid_text(cid))).map(Err);
    }
    if let Some(refusal) = limit::refusal(call, limit::LOOKUPS).await? {
        return Ok(Err(refusal));
    }
    // A query of the registry costs less than fetching leaf tables.
    let introduced = registry::introduce(call.env, &call.config, cid).await;
    if let Ok(true) = introduced
        && let Some(held) = catalog::at_hand(&call.config, cid)
    {
        return Ok(Ok(held));
    }
    match catalog::search(&call.config, cid).await {
        Ok(held) => Ok(Ok(held)),
        Err(error) => {
            if matches!((&introduced, &error), (Ok(_), NoHolder::Unknown(_))) {
                catalog::remember_nowhere(*cid);
            }
            no_holder(&error).map(Err)
        }
    }
}

/// The empty block, or an archive of it.
fn probe(call: &Call<'_>, asked: &Asked) -> worker::Result<web_sys::Response> {
    match asked.format {
        Format::Raw => here(call, asked, &[]),
        Format::Car(..) => here(call, asked, &car::header(&asked.cid)),
    }
}

fn no_holder(error: &NoHolder) -> worker::Result<web_sys::Response> {
    let detail = error.to_string();
    match error {
        NoHolder::Unknown(_) => reply::problem(StatusCode::NOT_FOUND, &detail),
        NoHolder::Unreachable { .. } => reply::bad_gateway(&detail),
        NoHolder::Unfinished { .. } => {
            reply::problem_with_retry(StatusCode::SERVICE_UNAVAILABLE, &detail, 1)
        }
    }
}

/// The response with a block.
async fn raw(
    call: &Call<'_>,
    asked: &Asked,
    held: Held,
    blocks: &Blocks,
    at: Position,
) -> worker::Result<web_sys::Response> {
    match at {
        Position::Inner(inner) => here(call, asked, &blocks.inner(inner)),
        Position::Leaf(leaf) => {
            let bytes = blocks.leaf(leaf);
            let fields = asked.fields_with_body(bytes.end - bytes.start);
            if call.method == Method::HEAD {
                return reply::with_fields(StatusCode::OK, &fields, None);
            }
            send(call, origin(call, held), None, StatusCode::OK, fields, bytes).await
        }
    }
}

/// The response with a body that is in memory.
fn here(call: &Call<'_>, asked: &Asked, body: &[u8]) -> worker::Result<web_sys::Response> {
    let fields = asked.fields_with_body(body.len() as u64);
    let body = (call.method != Method::HEAD).then(|| Uint8Array::from(body));
    reply::with_fields(StatusCode::OK, &fields, body.as_deref())
}

/// The response with an archive. The head waits for the first verified bytes, so that its status
/// can still tell of a failure.
async fn archive(
    call: &Call<'_>,
    asked: &Asked,
    held: Held,
    car: &Arc<Car>,
) -> worker::Result<web_sys::Response> {
    let length = car.length();
    let mut fields = asked.fields_with_body(length);
    if call.method == Method::HEAD {
        return reply::with_fields(StatusCode::OK, &fields, None);
    }
    let supply = Supply::open(call, origin(call, held), car.content().end).await?;
    let mut stretches = car.stretches();
    let first = match stretches.next() {
        Some(stretch) => supply.fill(&stretch, Some(&mut fields)).await,
        None => return reply::bad_gateway("there is nothing to send"),
    };
    let first = match first {
        Ok(first) => first,
        Err(error) => return reply::bad_gateway(&error.to_string()),
    };
    let body: Object = if u64::from(first.length()) == length {
        first.into()
    } else {
        let cid = cid_text(&asked.cid);
        streams::body(length, cid, move |writable| send_all(supply, first, stretches, writable))
            .into()
    };
    reply::with_fields(StatusCode::OK, &fields, Some(&body))
}

fn origin(call: &Call<'_>, held: Held) -> Origin {
    Origin::new(Rc::clone(&call.config), held.accepted, held.artifact)
}

/// The verified leaves of an archive.
struct Supply {
    origin: Rc<Origin>,
    /// The segments in the cache, if there is one.
    segments: Option<Segments>,
    /// The reader of the rest, once too few subrequests are left for the cache.
    direct: RefCell<Option<DirectReader>>,
    /// End of the last leaf in the artifact.
    end: u64,
}

impl Supply {
    async fn open(call: &Call<'_>, origin: Origin, end: u64) -> Result<Self, JsValue> {
        let direct = RefCell::default();
        if !call.config.segment_cache {
            return Ok(Self { origin: Rc::new(origin), segments: None, direct, end });
        }
        let segments = Segments::open(&call.url, origin, Rc::clone(&call.context)).await?;
        let origin = Rc::clone(&segments.origin);
        Ok(Self { origin, segments: Some(segments), direct, end })
    }

    /// The bytes of a stretch. Stretches are requested in order. The origin of the bytes is added
    /// to the headers `timed`.
    async fn fill(
        &self,
        stretch: &Stretch,
        timed: Option<&mut HeaderMap>,
    ) -> Result<Uint8Array, NoPart> {
        let Some((segment, needs)) = stretch.needs() else {
            return Ok(assemble(stretch, &Uint8Array::new_with_length(0), 0));
        };
        let is_direct = self.direct.borrow().is_some();
        let part = match &self.segments {
            Some(segments) if !is_direct => segments.part(*segment, needs).await?,
            _ => None,
        };
        let (leaves, origin, cache, verifying) =
            if let Some(Part { body, origin, hit, verifying, .. }) = part {
                let leaves = match body {
                    Body::InMemory(bytes) => bytes.view,
                    Body::Cached(response) => {
                        into_memory(&response).await.map_err(|_| NoPart::Ended(*segment))?
                    }
                };
                (leaves, origin, if hit { "hit" } else { "miss" }, verifying)
            } else {
                let leaves = self.read_directly(*segment, needs).await?;
                let verifying = self.origin.subrequests.verifying();
                (leaves, self.origin.origin_of(*segment), "off", verifying)
            };
        if u64::from(leaves.length()) != needs.end - needs.start {
            return Err(NoPart::Ended(*segment));
        }
        if let Some(fields) = timed {
            timing::set(fields, &origin, cache, verifying);
        }
        Ok(assemble(stretch, &leaves, needs.start))
    }

    async fn read_directly(&self, segment: u64, needs: &Range<u64>) -> Result<Uint8Array, NoPart> {
        let direct = self.direct.take();
        let mut direct = match direct {
            Some(direct) => direct,
            None => DirectReader::new(self.origin.read(needs.start..self.end).await?, needs.start),
        };
        let leaves = direct.read(segment, needs).await?.view;
        self.direct.replace(Some(direct));
        Ok(leaves)
    }
}

async fn into_memory(response: &web_sys::Response) -> Result<Uint8Array, JsValue> {
    JsFuture::from(response.array_buffer()?).await.map(|buffer| Uint8Array::new(&buffer))
}

/// A length within a stretch, which is at most a segment and a MiB.
fn to_u32(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// The bytes of a stretch as one array. `leaves` are the bytes of the artifact that it needs, which
/// start at `start`.
fn assemble(stretch: &Stretch, leaves: &Uint8Array, start: u64) -> Uint8Array {
    let all = Uint8Array::new_with_length(to_u32(stretch.length()));
    let mut at = 0;
    for piece in stretch.pieces() {
        let end = at + to_u32(piece.length());
        match piece {
            Piece::Here(bytes) => all.subarray(at, end).copy_from(bytes),
            Piece::Leaf(bytes) => all
                .set(&leaves.subarray(to_u32(bytes.start - start), to_u32(bytes.end - start)), at),
        }
        at = end;
    }
    all
}

/// Sends `first`, then `rest`. The next stretch is looked up while one is sent.
async fn send_all(
    supply: Supply,
    first: Uint8Array,
    mut rest: impl Iterator<Item = Stretch>,
    writable: WritableStream,
) -> Result<(), NotSent<NoPart>> {
    let mut bytes = first;
    loop {
        let next = rest.next();
        let ahead = async {
            match &next {
                Some(stretch) => supply.fill(stretch, None).await.map(Some),
                None => Ok(None),
            }
        };
        let (sent, ahead) = futures::future::join(streams::write(&writable, &bytes), ahead).await;
        sent.map_err(|_| NotSent::Left)?;
        bytes = match ahead? {
            Some(next) => next,
            None => return Ok(()),
        };
    }
}
