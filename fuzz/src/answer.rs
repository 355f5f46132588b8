//! Preconditions and ranges of a request for an artifact.

use edge_net_core::dag::cid::{DAG_PB, RAW, cid_text};
use edge_net_core::dag::digest::Digest;
use edge_net_core::dag::layout::LEAF_SIZE;
use edge_net_core::http::answer::{self, Freshness, entity_tag};
use edge_net_core::http::range::{self, RangeRequest, parse_content_range};
use edge_net_core::trust::manifest::{MAX_SIZE, Manifest};
use http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH,
    IF_RANGE, RANGE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use serde_json::json;

/// Input: a line `GET {size}` or `HEAD {size}`, then a field a line.
///
/// - The body lies within the artifact, and `Content-Length` and `Content-Range` tell of that body.
/// - Each status comes only with the field that asks for it: 412 with `If-Match`, 304 with
///   `If-None-Match`, 206 and 416 with `Range` on GET and with no other `If-Range` than the ETag.
/// - The ETag is in each response, and the conditions of RFC 9110 hold for it.
/// - A response to HEAD has no body, and errors are not to be stored.
///
/// # Panics
/// When a property does not hold.
pub fn answer(data: &[u8]) {
    let Some((method, size, fields)) = request(data) else { return };
    let manifest = manifest(size);
    let artifact = &manifest.artifacts[0];
    let tag = entity_tag(artifact);
    for freshness in [Freshness::Immutable, Freshness::Latest] {
        let response = answer::answer(&method, &fields, &manifest, artifact, freshness);
        assert_eq!(value(response.headers(), &ETAG), Some(&*tag));
        assert_status(&method, &fields, &tag, &response);
        assert_body(&method, size, &response);
    }
}

fn assert_status(
    method: &Method,
    fields: &HeaderMap,
    tag: &str,
    response: &Response<Option<std::ops::Range<u64>>>,
) {
    let status = response.status();
    let ranged = *method == Method::GET
        && fields.contains_key(RANGE)
        && fields.get(IF_RANGE).is_none_or(|validator| validator.as_bytes() == tag.as_bytes());
    match status {
        StatusCode::OK => {}
        StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => assert!(ranged),
        StatusCode::NOT_MODIFIED => assert!(fields.contains_key(IF_NONE_MATCH)),
        StatusCode::PRECONDITION_FAILED => assert!(fields.contains_key(IF_MATCH)),
        other => panic!("an unexpected status: {other}"),
    }
    // A single field whose value is the tag alone leaves no doubt (RFC 9110, section 13.2.2).
    let only = |name: &HeaderName| {
        let mut values = fields.get_all(name).iter();
        values.next().filter(|_| values.next().is_none()).and_then(|value| value.to_str().ok())
    };
    if only(&IF_MATCH).is_some_and(|value| value == tag || value == "*") {
        assert_ne!(status, StatusCode::PRECONDITION_FAILED);
    }
    if only(&IF_MATCH).is_some_and(|value| !value.contains(tag) && !value.contains('*')) {
        assert_eq!(status, StatusCode::PRECONDITION_FAILED);
    }
    let unchanged = only(&IF_NONE_MATCH)
        .is_some_and(|value| value == "*" || value.strip_prefix("W/").unwrap_or(value) == tag);
    if unchanged && !fields.contains_key(IF_MATCH) {
        assert_eq!(status, StatusCode::NOT_MODIFIED);
    }
}

fn assert_body(method: &Method, size: u64, response: &Response<Option<std::ops::Range<u64>>>) {
    let fields = response.headers();
    let length = value(fields, &CONTENT_LENGTH).map(str::parse::<u64>);
    let sends_content = matches!(response.status(), StatusCode::OK | StatusCode::PARTIAL_CONTENT);
    assert_eq!(length.is_some(), sends_content);
    assert_eq!(fields.contains_key(CONTENT_TYPE), sends_content);
    assert_eq!(response.body().is_some(), sends_content && *method == Method::GET);
    if response.status().is_client_error() {
        assert_eq!(value(fields, &CACHE_CONTROL), Some("no-store"));
    }
    match (response.status(), value(fields, &CONTENT_RANGE)) {
        (StatusCode::PARTIAL_CONTENT, Some(field)) => {
            let (bytes, total) = parse_content_range(field).expect("it is a valid Content-Range");
            assert_eq!((response.body().as_ref(), total), (Some(&bytes), Some(size)));
        }
        (StatusCode::RANGE_NOT_SATISFIABLE, field) => {
            assert_eq!(field, Some(&*format!("bytes */{size}")));
        }
        (_, field) => assert_eq!(field, None),
    }
    if let Some(bytes) = response.body() {
        assert_eq!(length, Some(Ok(bytes.end - bytes.start)));
        assert!(bytes.end <= size && (bytes.start < bytes.end || size == 0));
        let whole = RangeRequest::Bytes(bytes.clone());
        let asked = format!("bytes={}-{}", bytes.start, bytes.end.saturating_sub(1));
        assert!(size == 0 || range::parse(&asked, size) == whole);
    }
}

fn request(data: &[u8]) -> Option<(Method, u64, HeaderMap)> {
    let mut lines = data.split(|byte| *byte == b'\n');
    let first = std::str::from_utf8(lines.next()?).ok()?;
    let (method, size) = match first.split_once(' ')? {
        ("GET", size) => (Method::GET, size),
        ("HEAD", size) => (Method::HEAD, size),
        _ => return None,
    };
    let size = size.parse().ok().filter(|size| *size <= MAX_SIZE)?;
    let mut fields = HeaderMap::new();
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        fields.append(name, value);
    }
    Some((method, size, fields))
}

fn manifest(size: u64) -> Manifest {
    let digest = Digest::of(b"content");
    let codec = if size <= LEAF_SIZE { RAW } else { DAG_PB };
    let artifact = json!({
        "filename": "model.onnx",
        "size": size,
        "sha256": digest.to_hex(),
        "cid": cid_text(&digest.to_cid(codec)),
    });
    let document = json!({
        "id": "model",
        "name": "Model",
        "version": "1.0.0",
        "type": "embedding",
        "timestamp": "2026-01-03T00:00:00Z",
        "artifacts": { "model": artifact },
    });
    Manifest::parse(&document.to_string()).expect("the manifest is well-formed")
}

fn value<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    fields.get(name).and_then(|value| value.to_str().ok())
}
