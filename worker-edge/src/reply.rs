//! Responses: the fields every answer carries, and bodies of known length.

use edge_net_core::http::answer::PROBLEM_JSON;
use edge_net_driver::host;
use http::{HeaderMap, Method, StatusCode};
use js_sys::Object;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{Headers, ReadableStream, ResponseInit, WritableStream};

use crate::{embeddings, log};

/// Fields a page on another origin may read.
const EXPOSED: &str = "Accept-Ranges, Content-Length, Content-Range, ETag, Link, Location, Repr-Digest, Retry-After, Server-Timing, X-Ipfs-Path, X-Ipfs-Roots, X-Link-Expires, X-Model-Checksum, X-Model-Version";

#[wasm_bindgen]
extern "C" {
    /// workerd's transform stream that announces its length as `Content-Length`.
    pub type FixedLengthStream;
    #[wasm_bindgen(constructor)]
    fn new(length: f64) -> FixedLengthStream;
    /// What the client reads.
    #[wasm_bindgen(method, getter)]
    pub fn readable(this: &FixedLengthStream) -> ReadableStream;
    /// Where it is written.
    #[wasm_bindgen(method, getter)]
    pub fn writable(this: &FixedLengthStream) -> WritableStream;
}

impl FixedLengthStream {
    /// A stream of `length` bytes.
    pub fn of(length: u64) -> Self {
        #[allow(clippy::cast_precision_loss)] // Sizes are below 2^53.
        Self::new(length as f64)
    }
}

/// A response with the fields every answer carries added to `fields`.
pub fn with_fields(
    status: StatusCode,
    fields: &HeaderMap,
    body: Option<&Object>,
) -> worker::Result<web_sys::Response> {
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
    Ok(web_sys::Response::new_with_opt_buffer_source_and_init(body, &init)?)
}

/// A problem (RFC 9457).
pub fn problem(status: StatusCode, detail: &str) -> worker::Result<web_sys::Response> {
    let mut fields = HeaderMap::new();
    fields.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(PROBLEM_JSON));
    fields.insert(http::header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    let body =
        js_sys::Uint8Array::from(edge_net_core::http::answer::problem(status, detail).as_bytes());
    with_fields(status, &fields, Some(&body))
}

/// The methods that a URL allows, besides OPTIONS.
pub const fn allowed(path: &str) -> &'static [Method] {
    match path.as_bytes() {
        b"/v1/embeddings" => &[Method::POST],
        b"/v1/models" => &[Method::GET, Method::HEAD, Method::POST],
        _ => &[Method::GET, Method::HEAD],
    }
}

/// The problem that a URL does not allow a method.
pub fn not_allowed(method: &Method, path: &str) -> worker::Result<web_sys::Response> {
    let detail = format!("{method} is not allowed here; use {}", list(path, " or "));
    let response = problem(StatusCode::METHOD_NOT_ALLOWED, &detail)?;
    response.headers().set("Allow", &format!("{}, OPTIONS", list(path, ", ")))?;
    Ok(response)
}

/// The answer to a CORS preflight, or to who asks what is allowed.
pub fn preflight(path: &str) -> worker::Result<web_sys::Response> {
    let response = with_fields(StatusCode::NO_CONTENT, &HeaderMap::new(), None)?;
    let headers = response.headers();
    let allowed = format!("{}, OPTIONS", list(path, ", "));
    headers.set("Allow", &allowed)?;
    headers.set("Access-Control-Allow-Methods", &allowed)?;
    let fields = match path {
        // OpenAI's clients send a dozen of their own. The star does not mean this one.
        embeddings::PATH => "*, Authorization",
        _ => "Range, If-Range, If-Match, If-None-Match, Authorization, Content-Type",
    };
    headers.set("Access-Control-Allow-Headers", fields)?;
    headers.set("Access-Control-Max-Age", "86400")?;
    Ok(response)
}

fn list(path: &str, between: &str) -> String {
    allowed(path).iter().map(Method::as_str).collect::<Vec<_>>().join(between)
}

/// `stream`, announced to be `length` bytes long. If it errors, so does what is returned: the
/// connection breaks before the length is reached, and the client knows.
pub fn of_length(stream: &ReadableStream, length: u64) -> ReadableStream {
    let fixed = FixedLengthStream::of(length);
    let piped = stream.pipe_to(&fixed.writable());
    wasm_bindgen_futures::spawn_local(async move {
        if let Err(error) = JsFuture::from(piped).await {
            log::error("cut-short").say(host::message(&error));
        }
    });
    fixed.readable()
}
