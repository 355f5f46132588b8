//! Responses with verified bytes of an artifact. The head waits for the first bytes, so that its
//! status can still tell of a failure.

use std::ops::Range;
use std::rc::Rc;

use edge_net_core::dag::layout::{Layout, SEGMENT_SIZE};
use edge_net_core::dag::verify::Bytes as _;
use edge_net_driver::into_stream;
use http::{HeaderMap, StatusCode};
use js_sys::{Object, Uint8Array};
use web_sys::{ReadableStream, Response, WritableStream};

use crate::call::Call;
use crate::hit::{self, Meaning};
use crate::origin::Origin;
use crate::part::{Body, NoPart, Part};
use crate::segments::Segments;
use crate::streams::{self, NotSent};
use crate::{reply, timing};

/// Sends the bytes `bytes` of the artifact of `origin`. If they are a hit, and there is a
/// `validity`, `entry.js` answers the next request for them.
pub async fn send(
    call: &Call<'_>,
    origin: Origin,
    validity: Option<Object>,
    status: StatusCode,
    mut fields: HeaderMap,
    bytes: Range<u64>,
) -> worker::Result<Response> {
    if bytes.is_empty() {
        return reply::with_fields(status, &fields, Some(&Uint8Array::new_with_length(0)));
    }
    if !call.config.segment_cache {
        return send_uncached(&origin, status, fields, bytes).await;
    }
    let length = bytes.end - bytes.start;
    let size = origin.artifact.size;
    let mut parts = Layout::new(size).parts_of_bytes(&bytes);
    let segments = Segments::open(&call.url, origin, Rc::clone(&call.context)).await?;
    let first = match parts.next() {
        Some((segment, bytes)) => segments.part(segment, &bytes).await,
        None => return reply::bad_gateway("there is nothing to send"),
    };
    let first = match first {
        Ok(Some(first)) => first,
        Ok(None) => return send_uncached(&segments.origin, status, fields, bytes).await,
        Err(error) => return reply::bad_gateway(&error.to_string()),
    };
    let cache = if first.hit { "hit" } else { "miss" };
    timing::set(&mut fields, &first.origin, cache, first.verifying);
    let body: Object = match first.body {
        Body::Cached(response) if first.length == length => {
            let body = response.body().map(Object::from).unwrap_or_default();
            let answer = reply::with_fields(status, &fields, Some(&body))?;
            if let Some(validity) = validity {
                let (cache, key) = (&segments.entries.cache, &*segments.entries.prefix);
                let meaning = Meaning { validity, size, cache, key };
                let timing = timing::text(&first.origin, "hit");
                let segment = bytes.start / SEGMENT_SIZE;
                hit::remember(&call.request.url(), &meaning, &answer, segment, &timing)?;
            }
            return Ok(answer);
        }
        Body::InMemory(bytes) if first.length == length => bytes.view.into(),
        _ => stream(segments, first, parts, length).into(),
    };
    reply::with_fields(status, &fields, Some(&body))
}

/// Sends bytes without the cache: nothing is kept, and each client has its own download.
async fn send_uncached(
    origin: &Origin,
    status: StatusCode,
    mut fields: HeaderMap,
    bytes: Range<u64>,
) -> worker::Result<Response> {
    let length = bytes.end - bytes.start;
    let segment = bytes.start / SEGMENT_SIZE;
    let mut reader = match origin.read(bytes).await {
        Ok(reader) => reader,
        Err(error) => return reply::bad_gateway(&error.to_string()),
    };
    let first = match reader.next().await {
        Some(Ok(first)) => first,
        Some(Err(error)) => return reply::bad_gateway(&error.to_string()),
        None => return reply::bad_gateway("the download ended before its first byte"),
    };
    timing::set(&mut fields, &origin.origin_of(segment), "off", origin.subrequests.verifying());
    if first.len() == length {
        return reply::with_fields(status, &fields, Some(&first.view));
    }
    let body = streams::with_length(&into_stream(Some(first), reader)?, length);
    reply::with_fields(status, &fields, Some(body.as_ref()))
}

/// A body of `length` bytes: `first`, then `rest`.
fn stream(
    segments: Segments,
    first: Part,
    rest: impl Iterator<Item = (u64, Range<u64>)> + 'static,
    length: u64,
) -> ReadableStream {
    let cid = segments.cid.clone();
    streams::body(length, cid, async move |writable: WritableStream| {
        write_parts(&segments, first, rest, &writable).await
    })
}

/// Writes `first`, then `rest`. The next part is looked up while one is sent.
async fn write_parts(
    segments: &Segments,
    first: Part,
    mut rest: impl Iterator<Item = (u64, Range<u64>)>,
    writable: &WritableStream,
) -> Result<(), NotSent<NoPart>> {
    let mut part = first;
    loop {
        let next = rest.next();
        let ahead = async {
            match &next {
                Some((segment, bytes)) => segments.part(*segment, bytes).await.map(Some),
                None => Ok(None),
            }
        };
        let (sent, ahead) = futures::future::join(part.body.send(writable), ahead).await;
        if sent.is_err() {
            if let Ok(Some(Some(ahead))) = &ahead {
                ahead.body.discard();
            }
            return Err(NotSent::Left);
        }
        part = match (ahead?, next) {
            (Some(Some(next)), _) => next,
            (Some(None), Some((_, bytes))) => {
                let end = rest.last().map_or(bytes.end, |(_, bytes)| bytes.end);
                return write_uncached(&segments.origin, bytes.start..end, writable).await;
            }
            _ => return Ok(()),
        };
    }
}

/// Writes verified bytes without the cache. Nothing is read before the client takes it, except the
/// bytes that the download holds.
async fn write_uncached(
    origin: &Origin,
    bytes: Range<u64>,
    writable: &WritableStream,
) -> Result<(), NotSent<NoPart>> {
    let mut reader = origin.read(bytes).await.map_err(NoPart::from)?;
    while let Some(bytes) = reader.next().await {
        let bytes = bytes.map_err(NoPart::from)?;
        streams::write(writable, &bytes.view).await.map_err(|_| NotSent::Left)?;
    }
    Ok(())
}
