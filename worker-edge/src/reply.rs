//! Responses: the headers that all of them have, problems (RFC 9457), and small bodies.

use edge_net_core::dag::digest::Digest;
use edge_net_core::http::answer::{self, Freshness, PROBLEM_JSON};
use edge_net_driver::log;
use edge_net_driver::lookup::NoManifest;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use js_sys::{Object, Uint8Array};
use web_sys::{Headers, Response, ResponseInit};

use crate::call::Call;
use crate::routes;

/// Response headers that a page on another origin may read.
const EXPOSED: &str = "Accept-Ranges, Content-Length, Content-Range, ETag, Link, Location, \
    Repr-Digest, Retry-After, Server-Timing, X-Ipfs-Path, X-Ipfs-Roots, X-Link-Expires, \
    X-Model-Checksum, X-Model-Version";

/// A response with `fields` and the headers that every response has.
pub fn with_fields(
    status: StatusCode,
    fields: &HeaderMap,
    body: Option<&Object>,
) -> worker::Result<Response> {
    let headers = Headers::new()?;
    for (name, value) in fields {
        headers.append(name.as_str(), value.to_str().unwrap_or_default())?;
    }
    headers.set("Access-Control-Allow-Origin", "*")?;
    headers.set("Access-Control-Expose-Headers", EXPOSED)?;
    headers.set("Cross-Origin-Resource-Policy", "cross-origin")?;
    headers.set("Timing-Allow-Origin", "*")?;
    headers.set("X-Content-Type-Options", "nosniff")?;
    let init = ResponseInit::new();
    init.set_status(status.as_u16());
    init.set_headers(&headers);
    Ok(Response::new_with_opt_buffer_source_and_init(body, &init)?)
}

/// A response with a body that is in memory.
pub fn small(
    call: &Call<'_>,
    freshness: Freshness,
    media_type: &'static str,
    body: &[u8],
) -> worker::Result<Response> {
    let tag = format!("\"{}\"", Digest::of(body).to_hex());
    let unchanged = call
        .headers(&[IF_NONE_MATCH])
        .get(IF_NONE_MATCH)
        .is_some_and(|listed| listed.to_str().is_ok_and(|listed| listed.contains(&tag)));
    let mut fields = HeaderMap::new();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static(freshness.cache_control()));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        fields.insert(ETAG, tag);
    }
    match (unchanged, call.method == Method::HEAD) {
        (true, _) => with_fields(StatusCode::NOT_MODIFIED, &fields, None),
        (_, true) => with_fields(StatusCode::OK, &fields, None),
        _ => with_fields(StatusCode::OK, &fields, Some(&Uint8Array::from(body))),
    }
}

/// Restricts a response to the client's own cache: only holders of a link may have it.
pub fn keep_private(response: &Response) -> worker::Result<()> {
    let headers = response.headers();
    let cache_control = headers.get(CACHE_CONTROL.as_str())?.unwrap_or_default();
    Ok(headers.set(CACHE_CONTROL.as_str(), &cache_control.replace("public", "private"))?)
}

/// A problem (RFC 9457).
pub fn problem(status: StatusCode, detail: &str) -> worker::Result<Response> {
    let mut fields = HeaderMap::new();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let body = Uint8Array::from(answer::problem(status, detail).as_bytes());
    with_fields(status, &fields, Some(&body))
}

/// A problem after which the client may try again in so many seconds.
pub fn problem_with_retry(
    status: StatusCode,
    detail: &str,
    retry_after: u32,
) -> worker::Result<Response> {
    let response = problem(status, detail)?;
    response.headers().set(RETRY_AFTER.as_str(), &retry_after.to_string())?;
    Ok(response)
}

/// The problem that the sources failed, and not the client.
pub fn bad_gateway(detail: &str) -> worker::Result<Response> {
    log::error("bad-gateway").say(detail);
    problem_with_retry(StatusCode::BAD_GATEWAY, detail, 5)
}

/// The problem that there is no manifest.
pub fn no_manifest(error: &NoManifest) -> worker::Result<Response> {
    match error {
        NoManifest::NotFound(_) => problem(StatusCode::NOT_FOUND, &error.to_string()),
        NoManifest::Refused(_) | NoManifest::Older(_) | NoManifest::Unreachable(_) => {
            bad_gateway(&error.to_string())
        }
    }
}

/// The problem that a path does not allow a method.
pub fn not_allowed(method: &Method, path: &str) -> worker::Result<Response> {
    let detail = routes::method_not_allowed(method, path);
    let response = problem(StatusCode::METHOD_NOT_ALLOWED, &detail)?;
    response.headers().set("Allow", &routes::allow(path))?;
    Ok(response)
}

/// The response to OPTIONS, which includes CORS preflights.
pub fn preflight(path: &str) -> worker::Result<Response> {
    let response = with_fields(StatusCode::NO_CONTENT, &HeaderMap::new(), None)?;
    let headers = response.headers();
    let allow = routes::allow(path);
    headers.set("Allow", &allow)?;
    headers.set("Access-Control-Allow-Methods", &allow)?;
    headers.set("Access-Control-Allow-Headers", routes::allowed_headers(path))?;
    headers.set("Access-Control-Max-Age", "86400")?;
    Ok(response)
}
