//! Answers below `/models/`: artifacts, their leaf tables, and manifests.

use std::ops::Range;
use std::rc::Rc;

use edge_net_core::dag::layout::{Layout, SEGMENT_SIZE};
use edge_net_core::dag::unixfs::Digest;
use edge_net_core::dag::verify::Bytes as _;
use edge_net_core::http::answer::{self as semantics, Freshness, ModelPath, Resource};
use edge_net_driver::into_stream;
use edge_net_driver::lookup::NoManifest;
use http::header::{
    CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE, RETRY_AFTER,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use js_sys::{Object, Uint8Array};
use web_sys::Request;
use worker::{Context, Env};

use crate::config::Config;
use crate::hit::{self, Meaning};
use crate::origin::Origin;
use crate::segments::{Body, Segments};
use crate::{catalog, log, registry, reply};

/// A request, and what there is to answer it with.
pub struct Call<'a> {
    /// The request.
    pub request: &'a Request,
    /// How: GET, HEAD or POST.
    pub method: Method,
    /// Its URL.
    pub url: worker::Url,
    /// What the deployer bound.
    pub env: &'a Env,
    /// The worker's configuration.
    pub config: Rc<Config>,
    /// Keeps the isolate for what goes on after the answer.
    pub context: Rc<Context>,
}

/// The answer to a GET or HEAD of `path`.
pub async fn answer(call: &Call<'_>, path: &ModelPath) -> worker::Result<web_sys::Response> {
    let Call { request, method, config, .. } = call;
    let (id, version) = (&path.id, path.version.as_ref());
    let found = match catalog::manifest(config, id, version).await {
        Err(absent @ NoManifest::Unreachable(_)) => {
            registry::instead(call.env, config, id, version, absent).await
        }
        found => found,
    };
    let accepted = match found {
        Ok(accepted) => accepted,
        Err(error) => return no_manifest(&error),
    };
    let manifest = &accepted.manifest;
    let file = match &path.resource {
        Resource::Manifest => {
            return small(call, path.freshness(), "application/json", accepted.text.as_bytes());
        }
        Resource::Artifact(file) | Resource::LeafTable(file) => file,
    };
    let Some(artifact) = manifest.artifact(file) else {
        let files: Vec<&str> =
            manifest.artifacts.iter().map(|artifact| artifact.filename.as_str()).collect();
        let detail = format!(
            "{} {} has no file {file:?}; it has {}",
            manifest.id,
            manifest.version,
            files.join(", ")
        );
        return reply::problem(StatusCode::NOT_FOUND, &detail);
    };
    if let Resource::LeafTable(_) = path.resource {
        return match catalog::leaf_table(config, manifest, artifact).await {
            Ok(table) => {
                small(call, path.freshness(), "application/octet-stream", &table.to_bytes())
            }
            Err(error) => bad_gateway(&error.to_string()),
        };
    }
    let fields = fields_of(request, &CONDITIONS);
    let (head, bytes) =
        semantics::answer(method, &fields, manifest, artifact, path.freshness()).into_parts();
    match (head.status, bytes) {
        (StatusCode::RANGE_NOT_SATISFIABLE, _) => {
            let detail =
                format!("{file} has {} bytes; the range asked for has none of them", artifact.size);
            let response = reply::problem(head.status, &detail)?;
            response.headers().set("Content-Range", &format!("bytes */{}", artifact.size))?;
            Ok(response)
        }
        (StatusCode::PRECONDITION_FAILED, _) => {
            let detail = format!("the entity tag of {file} is {}", semantics::entity_tag(artifact));
            reply::problem(head.status, &detail)
        }
        (status, None) => reply::with_fields(status, &head.headers, None),
        (status, Some(bytes)) => {
            let origin = Origin::new(Rc::clone(config), Rc::clone(&accepted), artifact.clone());
            let lease = catalog::lease(&accepted, &path.id, path.version.as_ref());
            // Of a private model each request is looked at.
            let lease = lease.filter(|_| !config.private.contains(&path.id));
            send(call, origin, lease, status, head.headers, bytes).await
        }
    }
}

/// Sends verified bytes. The head waits for the first of them, so that it can still tell of a failure.
pub async fn send(
    call: &Call<'_>,
    origin: Origin,
    lease: Option<Object>,
    status: StatusCode,
    mut fields: HeaderMap,
    bytes: Range<u64>,
) -> worker::Result<web_sys::Response> {
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
        None => return bad_gateway("there is nothing to send"),
    };
    let first = match first {
        Ok(Some(first)) => first,
        Ok(None) => return send_uncached(&segments.origin, status, fields, bytes).await,
        Err(error) => return bad_gateway(&error.to_string()),
    };
    timing(&mut fields, &first.origin, if first.hit { "hit" } else { "miss" }, first.verifying);
    let body: Object = match first.body {
        Body::Cached(response) if first.length == length => {
            let body = response.body().map(Object::from).unwrap_or_default();
            let answer = reply::with_fields(status, &fields, Some(&body))?;
            if let Some(lease) = lease {
                let meaning =
                    Meaning { lease, size, cache: &segments.cache, key: &segments.prefix };
                let timing = timing_of(&first.origin, "hit");
                hit::remember(
                    &call.request.url(),
                    &meaning,
                    &answer,
                    bytes.start / SEGMENT_SIZE,
                    &timing,
                )?;
            }
            return Ok(answer);
        }
        Body::Here(bytes) if first.length == length => bytes.view.into(),
        _ => segments.stream(first, parts, length).into(),
    };
    reply::with_fields(status, &fields, Some(&body))
}

/// The same where there is no cache: nothing is kept, and each client has a download of its own.
async fn send_uncached(
    origin: &Origin,
    status: StatusCode,
    mut fields: HeaderMap,
    bytes: Range<u64>,
) -> worker::Result<web_sys::Response> {
    let length = bytes.end - bytes.start;
    let segment = bytes.start / SEGMENT_SIZE;
    let mut reader = match origin.read(bytes).await {
        Ok(reader) => reader,
        Err(error) => return bad_gateway(&error.to_string()),
    };
    let first = match reader.next().await {
        Some(Ok(first)) => first,
        Some(Err(error)) => return bad_gateway(&error.to_string()),
        None => return bad_gateway("the download ended before it began"),
    };
    timing(&mut fields, &origin.came_from(segment), "off", origin.subrequests.verifying());
    if first.len() == length {
        return reply::with_fields(status, &fields, Some(&first.view));
    }
    let body = reply::of_length(&into_stream(Some(first), reader)?, length);
    reply::with_fields(status, &fields, Some(body.as_ref()))
}

/// `Server-Timing`: where the first bytes came from, what the cache had to do with it, and how long they were verified, if they
/// were (see [`Subrequests::verifying`](crate::subrequests::Subrequests::verifying)).
pub fn timing(fields: &mut HeaderMap, origin: &str, cache: &str, verifying: Option<u64>) {
    let verify =
        verifying.map(|milliseconds| format!(", verify;dur={milliseconds}")).unwrap_or_default();
    if let Ok(timing) = HeaderValue::from_str(&format!("{}{verify}", timing_of(origin, cache))) {
        fields.insert(HeaderName::from_static("server-timing"), timing);
    }
}

fn timing_of(origin: &str, cache: &str) -> String {
    format!("origin;desc=\"{origin}\", cache;desc={cache}")
}

/// A small body that is at hand.
pub fn small(
    call: &Call<'_>,
    freshness: Freshness,
    media_type: &'static str,
    body: &[u8],
) -> worker::Result<web_sys::Response> {
    let tag = format!("\"{}\"", Digest::of(body).to_hex());
    let unchanged = fields_of(call.request, &[IF_NONE_MATCH])
        .get(IF_NONE_MATCH)
        .is_some_and(|listed| listed.to_str().is_ok_and(|listed| listed.contains(&tag)));
    let mut fields = HeaderMap::new();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static(freshness.cache_control()));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        fields.insert(ETAG, tag);
    }
    match (unchanged, call.method == Method::HEAD) {
        (true, _) => reply::with_fields(StatusCode::NOT_MODIFIED, &fields, None),
        (_, true) => reply::with_fields(StatusCode::OK, &fields, None),
        _ => reply::with_fields(StatusCode::OK, &fields, Some(&Uint8Array::from(body))),
    }
}

/// Why there is no manifest.
pub fn no_manifest(error: &NoManifest) -> worker::Result<web_sys::Response> {
    match error {
        NoManifest::NotFound(_) => reply::problem(StatusCode::NOT_FOUND, &error.to_string()),
        NoManifest::Refused(_) | NoManifest::Older(_) | NoManifest::Unreachable(_) => {
            bad_gateway(&error.to_string())
        }
    }
}

/// The sources failed, not the client; it may ask again.
pub fn bad_gateway(detail: &str) -> worker::Result<web_sys::Response> {
    log::error("bad-gateway").say(detail);
    let response = reply::problem(StatusCode::BAD_GATEWAY, detail)?;
    response.headers().set(RETRY_AFTER.as_str(), "5")?;
    Ok(response)
}

/// Fields that the answer to a request for an artifact depends on.
const CONDITIONS: [HeaderName; 4] = [RANGE, IF_RANGE, IF_MATCH, IF_NONE_MATCH];

/// The fields of a request that are named. Each costs a call out of WASM.
pub fn fields_of(request: &Request, names: &[HeaderName]) -> HeaderMap {
    let headers = request.headers();
    let field = |name: &HeaderName| Some((headers.get(name.as_str()).ok()??, name.clone()));
    let read =
        |(value, name): (String, HeaderName)| Some((name, HeaderValue::from_str(&value).ok()?));
    names.iter().filter_map(field).filter_map(read).collect()
}
