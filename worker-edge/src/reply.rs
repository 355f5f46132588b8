//! Responses: the headers that all of them have, problems (RFC 9457), and small bodies.

use edge_net_core::http::answer::{self, Freshness, PROBLEM_JSON};
use edge_net_core::http::hub;
use edge_net_driver::log;
use edge_net_driver::lookup::NoManifest;
use http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH,
    IF_RANGE, RANGE, RETRY_AFTER,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use js_sys::{Object, Uint8Array};
use semver::Version;
use web_sys::{Headers, Response, ResponseInit};

use crate::call::Call;
use crate::routes;

/// Request headers that the response with a file or a document depends on.
pub const CONDITIONS: [HeaderName; 4] = [RANGE, IF_RANGE, IF_MATCH, IF_NONE_MATCH];
/// Response headers that a page on another origin may read.
const EXPOSED: &str = "Accept-Ranges, Content-Length, Content-Range, ETag, Link, Location, \
    Repr-Digest, Retry-After, Server-Timing, X-Error-Code, X-Ipfs-Path, X-Ipfs-Roots, \
    X-Link-Expires, X-Model-Checksum, X-Model-Version, X-Repo-Commit";

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

/// A response with a document, such as a manifest or a list: all of it, a part, or a problem if the
/// request's preconditions do not hold.
pub fn document(
    call: &Call<'_>,
    freshness: Freshness,
    media_type: &'static str,
    body: &[u8],
) -> worker::Result<Response> {
    let conditions = call.headers(&CONDITIONS);
    let (head, bytes) =
        answer::document(&call.method, &conditions, media_type, freshness, body).into_parts();
    if head.status.is_client_error() {
        return refused(head.status, &head.headers, "this document");
    }
    let body = bytes.map(|bytes| Uint8Array::from(answer::part(body, bytes)));
    with_fields(head.status, &head.headers, body.as_deref())
}

/// The problem that `what` does not meet the preconditions of a request, or has none of the range.
pub fn refused(status: StatusCode, fields: &HeaderMap, what: &str) -> worker::Result<Response> {
    let text = |name| fields.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let range = text(CONTENT_RANGE);
    if status == StatusCode::RANGE_NOT_SATISFIABLE {
        let size = range.trim_start_matches("bytes */");
        let detail = format!("{what} has {size} bytes; the requested range has none of them");
        let response = problem(status, &detail)?;
        response.headers().set(CONTENT_RANGE.as_str(), range)?;
        return Ok(response);
    }
    problem(status, &format!("the entity tag of {what} is {}", text(ETAG)))
}

/// A response that is not to be kept.
pub fn unkept(
    call: &Call<'_>,
    status: StatusCode,
    media_type: &'static str,
    body: &[u8],
) -> worker::Result<Response> {
    let mut fields = HeaderMap::new();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(CONTENT_LENGTH, body.len().into());
    let body = (call.method != Method::HEAD).then(|| Uint8Array::from(body));
    with_fields(status, &fields, body.as_deref())
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

/// The problem that something was not found; `what` is its code for clients of the hub.
pub fn not_found(detail: &str, what: &'static str) -> worker::Result<Response> {
    let response = problem(StatusCode::NOT_FOUND, detail)?;
    response.headers().set(hub::X_ERROR_CODE.as_str(), what)?;
    Ok(response)
}

/// The problem that there is no manifest of a model, or of a `version` of it.
pub fn no_manifest(error: &NoManifest, version: Option<&Version>) -> worker::Result<Response> {
    match error {
        NoManifest::NotFound(_) => {
            let what = if version.is_some() { hub::REVISION } else { hub::REPO };
            not_found(&error.to_string(), what)
        }
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
