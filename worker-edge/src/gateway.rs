//! Answers below `/ipfs/`: blocks and archives of the models that are served, for other IPFS clients.

use std::rc::Rc;

use edge_net_core::blocks::{Blocks, Position};
use edge_net_core::car::{self, Car, Piece, Stretch};
use edge_net_core::gateway::{Asked, Format};
use http::header::{ACCEPT, IF_NONE_MATCH, RETRY_AFTER};
use http::{HeaderMap, Method, StatusCode};
use js_sys::{Object, Uint8Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{ReadableStream, WritableStreamDefaultWriter};

use crate::catalog::{self, Held, NoHolder};
use crate::models::{Call, bad_gateway, fields_of, send, timing};
use crate::origin::Origin;
use crate::registry;
use crate::segments::{self, Body, NoPart, Segments};
use crate::{log, reply};

/// The answer to a GET or HEAD of `path`, which is what follows `/ipfs/`.
pub async fn answer(call: &Call<'_>, path: &str) -> worker::Result<web_sys::Response> {
    let fields = fields_of(call.request, &[ACCEPT, IF_NONE_MATCH]);
    let accept = fields.get(ACCEPT).map(|accept| accept.to_str().unwrap_or_default());
    let asked = match Asked::read(path, call.url.query_pairs(), accept) {
        Ok(asked) => asked,
        Err(refused) => return reply::problem(refused.status(), &refused.to_string()),
    };
    if asked.is_probe() {
        return probe(call, &asked);
    }
    // Before anything else is said: who may not have a block is not told that it is unchanged either.
    let mut found = catalog::holder(&call.config, &asked.cid).await;
    if let Err(NoHolder::Unknown(_)) = found
        && registry::introduce(call.env, &call.config, &asked.cid).await
    {
        found = catalog::holder(&call.config, &asked.cid).await;
    }
    let held = match found {
        Ok(held) => held,
        Err(error) => return no_holder(&error),
    };
    if asked.is_unchanged(&fields) {
        return reply::with_fields(StatusCode::NOT_MODIFIED, &asked.fields(), None);
    }
    let blocks = match catalog::blocks(&call.config, &held).await {
        Ok(blocks) => blocks,
        Err(error) => return bad_gateway(&error.to_string()),
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
            archive(call, &asked, held, &Rc::new(Car::new(blocks, at, &extent, duplicates))).await
        }
    }
}

/// A block of no bytes, or an archive of it.
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
        NoHolder::Unreachable { .. } => bad_gateway(&detail),
        NoHolder::Unfinished { .. } => {
            let response = reply::problem(StatusCode::SERVICE_UNAVAILABLE, &detail)?;
            response.headers().set(RETRY_AFTER.as_str(), "1")?;
            Ok(response)
        }
    }
}

/// A block.
async fn raw(call: &Call<'_>, asked: &Asked, held: Held, blocks: &Blocks, at: Position) -> worker::Result<web_sys::Response> {
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

/// A body that is at hand.
fn here(call: &Call<'_>, asked: &Asked, body: &[u8]) -> worker::Result<web_sys::Response> {
    let fields = asked.fields_with_body(body.len() as u64);
    let body = (call.method != Method::HEAD).then(|| Uint8Array::from(body));
    reply::with_fields(StatusCode::OK, &fields, body.as_deref())
}

/// An archive. The head waits for the first verified bytes, so that it can still tell of a failure.
async fn archive(call: &Call<'_>, asked: &Asked, held: Held, car: &Rc<Car>) -> worker::Result<web_sys::Response> {
    let length = car.length();
    let mut fields = asked.fields_with_body(length);
    if call.method == Method::HEAD {
        return reply::with_fields(StatusCode::OK, &fields, None);
    }
    let supply = Supply::open(call, origin(call, held)).await?;
    let mut stretches = car.stretches();
    let first = match stretches.next() {
        Some(stretch) => supply.fill(&stretch, Some(&mut fields)).await,
        None => return bad_gateway("there is nothing to send"),
    };
    let first = match first {
        Ok(first) => first,
        Err(error) => return bad_gateway(&error.to_string()),
    };
    let body: Object =
        if u64::from(first.length()) == length { first.into() } else { stream(supply, first, stretches, length)?.into() };
    reply::with_fields(StatusCode::OK, &fields, Some(&body))
}

fn origin(call: &Call<'_>, held: Held) -> Origin {
    Origin::new(Rc::clone(&call.config), held.accepted, held.artifact)
}

/// Where the leaves of an archive come from: verified, as all bytes of artifacts.
enum Supply {
    Kept(Segments),
    /// Where there is no cache.
    Uncached(Origin),
}

impl Supply {
    async fn open(call: &Call<'_>, origin: Origin) -> Result<Self, JsValue> {
        if !call.config.segment_cache {
            return Ok(Self::Uncached(origin));
        }
        Segments::open(&call.url, origin, Rc::clone(&call.context)).await.map(Self::Kept)
    }

    /// The bytes of a stretch; `timed` is told where they came from.
    async fn fill(&self, stretch: &Stretch, timed: Option<&mut HeaderMap>) -> Result<Uint8Array, NoPart> {
        let Some((segment, needs)) = stretch.needs() else {
            return Ok(assemble(stretch, &Uint8Array::new_with_length(0), 0));
        };
        let (leaves, origin, cache) = match self {
            Self::Uncached(origin) => {
                let leaves = segments::download(origin, *segment, needs.clone()).await?.view;
                (leaves, origin.came_from(*segment), "off")
            }
            Self::Kept(segments) => {
                let part = segments.part(*segment, needs).await?;
                let cache = if part.hit { "hit" } else { "miss" };
                let leaves = match part.body {
                    Body::Here(bytes) => bytes.view,
                    Body::Cached(response) => at_hand(&response).await.map_err(|_| NoPart::Ended(*segment))?,
                };
                (leaves, part.origin, cache)
            }
        };
        if u64::from(leaves.length()) != needs.end - needs.start {
            return Err(NoPart::Ended(*segment));
        }
        if let Some(fields) = timed {
            timing(fields, &origin, cache);
        }
        Ok(assemble(stretch, &leaves, needs.start))
    }
}

async fn at_hand(response: &web_sys::Response) -> Result<Uint8Array, JsValue> {
    JsFuture::from(response.array_buffer()?).await.map(|buffer| Uint8Array::new(&buffer))
}

/// The bytes of a stretch as one, from the `leaves` that it needs, the first of which starts at `start`.
fn assemble(stretch: &Stretch, leaves: &Uint8Array, start: u64) -> Uint8Array {
    // A stretch has a segment and a MiB at the most.
    let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let all = Uint8Array::new_with_length(small(stretch.length()));
    let mut at = 0;
    for piece in stretch.pieces() {
        let end = at + small(piece.length());
        match piece {
            Piece::Here(bytes) => all.subarray(at, end).copy_from(bytes),
            Piece::Leaf(bytes) => all.set(&leaves.subarray(small(bytes.start - start), small(bytes.end - start)), at),
        }
        at = end;
    }
    all
}

/// A body of `length` bytes: `first`, then the `rest`, of which the next is looked for while one is sent. When one cannot be had
/// the connection breaks before the length is reached, and the client knows.
fn stream(
    supply: Supply,
    first: Uint8Array,
    mut rest: impl Iterator<Item = Stretch> + 'static,
    length: u64,
) -> Result<ReadableStream, JsValue> {
    let fixed = reply::FixedLengthStream::of(length);
    let (readable, writer) = (fixed.readable(), fixed.writable().get_writer()?);
    wasm_bindgen_futures::spawn_local(async move {
        let mut bytes = first;
        loop {
            let next = rest.next();
            let ahead = async {
                match &next {
                    Some(stretch) => Some(supply.fill(stretch, None).await),
                    None => None,
                }
            };
            let (sent, ahead) = futures::future::join(write(&writer, &bytes), ahead).await;
            bytes = match (sent, ahead) {
                (Ok(()), Some(Ok(next))) => next,
                (Ok(()), Some(Err(error))) => {
                    log::error("body-ended-early").say(format!("the archive ended early: {error}"));
                    let _ = JsFuture::from(writer.abort_with_reason(&error.to_string().into())).await;
                    return;
                }
                (Ok(()), None) => return drop(JsFuture::from(writer.close()).await),
                // The client has left.
                (Err(_), _) => return,
            };
        }
    });
    Ok(readable)
}

async fn write(writer: &WritableStreamDefaultWriter, bytes: &Uint8Array) -> Result<(), JsValue> {
    JsFuture::from(writer.write_with_chunk(bytes)).await.map(drop)
}
