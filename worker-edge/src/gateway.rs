//! Answers below `/ipfs/`: blocks and archives of the models that are served, for other IPFS clients.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use edge_net_core::dag::blocks::{Blocks, Position};
use edge_net_core::dag::car::{self, Car, Piece, Stretch};
use edge_net_core::dag::unixfs::cid_text;
use edge_net_core::http::gateway::{Asked, Format};
use http::header::{ACCEPT, IF_NONE_MATCH, RETRY_AFTER};
use http::{HeaderMap, Method, StatusCode};
use js_sys::{Object, Uint8Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::WritableStream;

use crate::catalog::{self, Held, NoHolder};
use crate::models::{Call, bad_gateway, fields_of, send, timing};
use crate::origin::Origin;
use crate::registry;
use crate::reply;
use crate::segments::{self, Body, NoPart, NotSent, Part, Past, Segments, write};

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
    let mut held = catalog::at_hand(&call.config, &asked.cid);
    // One question to the registry costs less than fetching leaf tables.
    if held.is_none() && registry::introduce(call.env, &call.config, &asked.cid).await {
        held = catalog::at_hand(&call.config, &asked.cid);
    }
    let held = match held {
        Some(held) => held,
        None => match catalog::search(&call.config, &asked.cid).await {
            Ok(held) => held,
            Err(error) => return no_holder(&error),
        },
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
            archive(call, &asked, held, &Arc::new(Car::new(blocks, at, &extent, duplicates))).await
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

/// A body that is at hand.
fn here(call: &Call<'_>, asked: &Asked, body: &[u8]) -> worker::Result<web_sys::Response> {
    let fields = asked.fields_with_body(body.len() as u64);
    let body = (call.method != Method::HEAD).then(|| Uint8Array::from(body));
    reply::with_fields(StatusCode::OK, &fields, body.as_deref())
}

/// An archive. The head waits for the first verified bytes, so that it can still tell of a failure.
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
        None => return bad_gateway("there is nothing to send"),
    };
    let first = match first {
        Ok(first) => first,
        Err(error) => return bad_gateway(&error.to_string()),
    };
    let body: Object = if u64::from(first.length()) == length {
        first.into()
    } else {
        let cid = cid_text(&asked.cid);
        segments::body(length, cid, move |writable| send_all(supply, first, stretches, writable))
            .into()
    };
    reply::with_fields(StatusCode::OK, &fields, Some(&body))
}

fn origin(call: &Call<'_>, held: Held) -> Origin {
    Origin::new(Rc::clone(&call.config), held.accepted, held.artifact)
}

/// Where the leaves of an archive come from: verified, as all bytes of artifacts.
struct Supply {
    origin: Rc<Origin>,
    /// Where there is a cache.
    segments: Option<Segments>,
    /// From when on too few subrequests are left for the cache.
    past: RefCell<Option<Past>>,
    /// Where the last leaf ends.
    end: u64,
}

impl Supply {
    async fn open(call: &Call<'_>, origin: Origin, end: u64) -> Result<Self, JsValue> {
        if !call.config.segment_cache {
            return Ok(Self {
                origin: Rc::new(origin),
                segments: None,
                past: RefCell::default(),
                end,
            });
        }
        let segments = Segments::open(&call.url, origin, Rc::clone(&call.context)).await?;
        Ok(Self {
            origin: Rc::clone(&segments.origin),
            segments: Some(segments),
            past: RefCell::default(),
            end,
        })
    }

    /// The bytes of a stretch, which follows the one before; `timed` is told where they came from.
    async fn fill(
        &self,
        stretch: &Stretch,
        timed: Option<&mut HeaderMap>,
    ) -> Result<Uint8Array, NoPart> {
        let Some((segment, needs)) = stretch.needs() else {
            return Ok(assemble(stretch, &Uint8Array::new_with_length(0), 0));
        };
        let cache_is_over = self.past.borrow().is_some();
        let part = match &self.segments {
            Some(segments) if !cache_is_over => segments.part(*segment, needs).await?,
            _ => None,
        };
        let (leaves, origin, cache, verifying) =
            if let Some(Part { body, origin, hit, verifying, .. }) = part {
                let leaves = match body {
                    Body::Here(bytes) => bytes.view,
                    Body::Cached(response) => {
                        at_hand(&response).await.map_err(|_| NoPart::Ended(*segment))?
                    }
                };
                (leaves, origin, if hit { "hit" } else { "miss" }, verifying)
            } else {
                let leaves = self.read_past(*segment, needs).await?;
                (
                    leaves,
                    self.origin.came_from(*segment),
                    "off",
                    self.origin.subrequests.verifying(),
                )
            };
        if u64::from(leaves.length()) != needs.end - needs.start {
            return Err(NoPart::Ended(*segment));
        }
        if let Some(fields) = timed {
            timing(fields, &origin, cache, verifying);
        }
        Ok(assemble(stretch, &leaves, needs.start))
    }

    async fn read_past(&self, segment: u64, needs: &Range<u64>) -> Result<Uint8Array, NoPart> {
        let past = self.past.take();
        let mut past = match past {
            Some(past) => past,
            None => Past::new(self.origin.read(needs.start..self.end).await?, needs.start),
        };
        let leaves = past.read(segment, needs).await?.view;
        self.past.replace(Some(past));
        Ok(leaves)
    }
}

async fn at_hand(response: &web_sys::Response) -> Result<Uint8Array, JsValue> {
    JsFuture::from(response.array_buffer()?).await.map(|buffer| Uint8Array::new(&buffer))
}

/// A length within a stretch, which has a segment and a MiB at the most.
fn small(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// The bytes of a stretch as one, from the `leaves` that it needs, the first of which starts at `start`.
fn assemble(stretch: &Stretch, leaves: &Uint8Array, start: u64) -> Uint8Array {
    let all = Uint8Array::new_with_length(small(stretch.length()));
    let mut at = 0;
    for piece in stretch.pieces() {
        let end = at + small(piece.length());
        match piece {
            Piece::Here(bytes) => all.subarray(at, end).copy_from(bytes),
            Piece::Leaf(bytes) => {
                all.set(&leaves.subarray(small(bytes.start - start), small(bytes.end - start)), at)
            }
        }
        at = end;
    }
    all
}

/// Sends `first`, then the `rest`, of which the next is looked for while one is sent.
async fn send_all(
    supply: Supply,
    first: Uint8Array,
    mut rest: impl Iterator<Item = Stretch>,
    writable: WritableStream,
) -> Result<(), NotSent> {
    let mut bytes = first;
    loop {
        let next = rest.next();
        let ahead = async {
            match &next {
                Some(stretch) => supply.fill(stretch, None).await.map(Some),
                None => Ok(None),
            }
        };
        let (sent, ahead) = futures::future::join(write(&writable, &bytes), ahead).await;
        sent.map_err(|_| NotSent::Left)?;
        bytes = match ahead? {
            Some(next) => next,
            None => return Ok(()),
        };
    }
}
