//! The response to a request for an artifact or a document: preconditions and ranges of RFC 9110,
//! and the header fields. The edge and the service worker share it, so their responses are the
//! same.

use std::ops::Range;

use base64ct::{Base64, Encoding as _};
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, RANGE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use semver::Version;
use serde_json::json;

use crate::dag::cid::cid_text;
use crate::dag::digest::Digest;
use crate::http::path::decoded;
use crate::http::range::{self, RangeRequest};
use crate::http::{hub, precondition};
use crate::trust::manifest::{Artifact, Manifest, is_filename, is_id};

/// Version of the model.
pub const X_MODEL_VERSION: HeaderName = HeaderName::from_static("x-model-version");
/// SHA-256 of the whole artifact, in hexadecimal.
pub const X_MODEL_CHECKSUM: HeaderName = HeaderName::from_static("x-model-checksum");
/// `Repr-Digest` (RFC 9530).
pub const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");

/// How long a response may be cached. Exhaustive: a URL names a version or it does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// The URL names a version: the bytes never change.
    Immutable,
    /// The URL means the newest version: caches have to ask again soon.
    Latest,
}

impl Freshness {
    /// The value of `Cache-Control`. It forbids transformation: a recompressed body is not the
    /// artifact.
    #[must_use]
    pub const fn cache_control(self) -> &'static str {
        match self {
            Self::Immutable => "public, max-age=31536000, immutable, no-transform",
            Self::Latest => "public, max-age=60, must-revalidate, no-transform",
        }
    }
}

/// The strong entity tag of an artifact: its CID.
#[must_use]
pub fn entity_tag(artifact: &Artifact) -> String {
    format!("\"{}\"", cid_text(&artifact.cid))
}

/// The head of the response to `method` (GET or HEAD) with the header `fields`, and the byte range
/// to send, if any.
#[must_use]
pub fn answer(
    method: &Method,
    fields: &HeaderMap,
    manifest: &Manifest,
    artifact: &Artifact,
    freshness: Freshness,
) -> Response<Option<Range<u64>>> {
    let served = Served {
        tag: entity_tag(artifact),
        size: artifact.size,
        media_type: media_type(&artifact.filename),
        freshness,
    };
    let mut response = served.answer(method, fields);
    let set = response.headers_mut();
    put(set, X_MODEL_CHECKSUM, &artifact.sha256.to_hex());
    put(set, REPR_DIGEST, &format!("sha-256=:{}:", Base64::encode_string(&artifact.sha256.0)));
    for (name, value) in &model_fields(manifest) {
        set.insert(name, value.clone());
    }
    response
}

/// The same for a document that is in memory, such as a manifest, a leaf table or a list.
#[must_use]
pub fn document(
    method: &Method,
    fields: &HeaderMap,
    media_type: &'static str,
    freshness: Freshness,
    body: &[u8],
) -> Response<Option<Range<u64>>> {
    let tag = format!("\"{}\"", Digest::of(body).to_hex());
    Served { tag, size: body.len() as u64, media_type, freshness }.answer(method, fields)
}

/// The part of a document's body that a response sends. Documents are in memory.
#[must_use]
pub fn part(body: &[u8], bytes: Range<u64>) -> &[u8] {
    let at = |position| usize::try_from(position).unwrap_or(usize::MAX);
    body.get(at(bytes.start)..at(bytes.end)).unwrap_or_default()
}

/// The fields of each response with a file of a model: its version.
#[must_use]
pub fn model_fields(manifest: &Manifest) -> HeaderMap {
    let mut fields = HeaderMap::new();
    put(&mut fields, X_MODEL_VERSION, &manifest.version.to_string());
    if let Some(commit) = hub::commit(&manifest.version) {
        put(&mut fields, hub::X_REPO_COMMIT, &commit);
    }
    fields
}

/// What a response depends on, besides the request.
struct Served {
    tag: String,
    size: u64,
    media_type: &'static str,
    freshness: Freshness,
}

impl Served {
    fn answer(&self, method: &Method, fields: &HeaderMap) -> Response<Option<Range<u64>>> {
        let (status, bytes) = match precondition::refusal(fields, &self.tag) {
            Some(status) => (status, None),
            None => match self.range(method, fields) {
                RangeRequest::Unsatisfiable => (StatusCode::RANGE_NOT_SATISFIABLE, None),
                RangeRequest::Bytes(bytes) => (StatusCode::PARTIAL_CONTENT, Some(bytes)),
                RangeRequest::Whole => (StatusCode::OK, Some(0..self.size)),
            },
        };
        let mut response = Response::new(None);
        let set = response.headers_mut();
        set.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        let kept =
            if status.is_client_error() { "no-store" } else { self.freshness.cache_control() };
        set.insert(CACHE_CONTROL, HeaderValue::from_static(kept));
        put(set, ETAG, &self.tag);
        if let Some(bytes) = &bytes {
            put(set, CONTENT_TYPE, self.media_type);
            put(set, CONTENT_LENGTH, &(bytes.end - bytes.start).to_string());
        }
        match (status, &bytes) {
            (StatusCode::PARTIAL_CONTENT, Some(Range { start, end })) => {
                put(set, CONTENT_RANGE, &format!("bytes {start}-{}/{}", end - 1, self.size));
            }
            (StatusCode::RANGE_NOT_SATISFIABLE, _) => {
                put(set, CONTENT_RANGE, &format!("bytes */{}", self.size));
            }
            _ => {}
        }
        *response.status_mut() = status;
        *response.body_mut() = bytes.filter(|_| method != Method::HEAD);
        response
    }

    fn range(&self, method: &Method, fields: &HeaderMap) -> RangeRequest {
        let range = fields.get(RANGE).and_then(|range| range.to_str().ok());
        match range.filter(|_| method == Method::GET) {
            Some(range) if precondition::allows_range(fields, &self.tag) => {
                range::parse(range, self.size)
            }
            _ => RangeRequest::Whole,
        }
    }
}

/// Sets a field. All values are ASCII: CIDs, digits, base64 and semantic versions.
fn put(fields: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        fields.insert(name, value);
    }
}

/// The media type of a file, by its extension.
#[must_use]
pub fn media_type(filename: &str) -> &'static str {
    match filename.rsplit_once('.').map(|(_, extension)| extension) {
        Some("json") => "application/json",
        Some("txt" | "md") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// Media type of [`problem`].
pub const PROBLEM_JSON: &str = "application/problem+json";

/// The body of a problem response (RFC 9457).
#[must_use]
pub fn problem(status: StatusCode, detail: &str) -> String {
    let title = status.canonical_reason().unwrap_or("Error");
    let problem = json!({
        "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail,
    });
    // Signatures need this serializer anyway; a second one would enlarge the service worker.
    serde_json_canonicalizer::to_string(&problem).unwrap_or_default()
}

/// The parts of a path below `/models/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelPath {
    /// The model.
    pub id: String,
    /// The version, if the URL names one.
    pub version: Option<Version>,
    /// The resource of the model.
    pub resource: Resource,
}

/// A resource of a model. Exhaustive: a server has to serve each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resource {
    /// `manifest.json`.
    Manifest,
    /// `{file}.leaves`.
    LeafTable(String),
    /// An artifact.
    Artifact(String),
}

impl ModelPath {
    /// Parses `{id}/{file}`, `{id}/v{version}/{file}`, or a path of [`ModelPath::parse_hub`]. Names
    /// may be percent-encoded, which clients do to the plus sign of a version and to the slashes of
    /// a file. The slash after the id may not.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        if let Some(path) = Self::parse_hub(path) {
            return Some(path);
        }
        let (id, rest) = path.split_once('/')?;
        let rest = decoded(rest)?;
        let versioned = rest.strip_prefix('v').and_then(|rest| rest.split_once('/'));
        let (version, file) = match versioned.map(|(version, file)| (Version::parse(version), file))
        {
            Some((Ok(version), file)) => (Some(version), file),
            _ => (None, &*rest),
        };
        Self::of(&decoded(id)?, version, file)
    }

    /// Parses `{org}/{id}/resolve/{revision}/{file}`, the path of the Hugging Face hub. Any `org`
    /// is accepted. The hub's names may have capitals, which become the lower case of ids. The
    /// revision is one of [`hub::Revision`].
    #[must_use]
    pub fn parse_hub(path: &str) -> Option<Self> {
        let mut parts = path.splitn(5, '/');
        let (org, id) = (parts.next()?, parts.next()?);
        parts.next().filter(|part| *part == "resolve")?;
        let revision = hub::Revision::parse(&decoded(parts.next()?)?)?;
        let file = decoded(parts.next()?)?;
        let known = is_id(&decoded(org)?.to_ascii_lowercase());
        Self::of(&decoded(id)?.to_ascii_lowercase(), revision.version(), &file).filter(|_| known)
    }

    fn of(id: &str, version: Option<Version>, file: &str) -> Option<Self> {
        let resource = match file.strip_suffix(".leaves") {
            _ if file == "manifest.json" => Resource::Manifest,
            Some(file) if is_filename(file) => Resource::LeafTable(file.to_owned()),
            None if is_filename(file) => Resource::Artifact(file.to_owned()),
            _ => return None,
        };
        is_id(id).then(|| Self { id: id.to_owned(), version, resource })
    }

    /// How long a response may be cached.
    #[must_use]
    pub const fn freshness(&self) -> Freshness {
        if self.version.is_some() { Freshness::Immutable } else { Freshness::Latest }
    }
}
