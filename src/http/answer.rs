//! The response to an artifact request: preconditions and ranges of RFC 9110, and the header
//! fields. The edge and the service worker share it, so their responses are the same.

use std::ops::Range;

use base64ct::{Base64, Encoding as _};
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_MATCH,
    IF_NONE_MATCH, IF_RANGE, RANGE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use serde_json::json;

use crate::dag::cid::cid_text;
use crate::http::range::{self, RangeRequest};
use crate::trust::manifest::{Artifact, Manifest};

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
    let tag = entity_tag(artifact);
    let status = evaluate(method, fields, &tag, artifact.size);
    let mut response = Response::new(None);
    let set = response.headers_mut();
    set.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    set.insert(CACHE_CONTROL, HeaderValue::from_static(freshness.cache_control()));
    // Every value below is ASCII: CIDs, digits, base64 and semantic versions.
    let mut put = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            set.insert(name, value);
        }
    };
    put(ETAG, &tag);
    put(X_MODEL_VERSION, &manifest.version.to_string());
    put(X_MODEL_CHECKSUM, &artifact.sha256.to_hex());
    put(REPR_DIGEST, &format!("sha-256=:{}:", Base64::encode_string(&artifact.sha256.0)));
    let (code, bytes) = match status {
        Outcome::PreconditionFailed => (StatusCode::PRECONDITION_FAILED, None),
        Outcome::NotModified => (StatusCode::NOT_MODIFIED, None),
        Outcome::Range(RangeRequest::Unsatisfiable) => {
            put(CONTENT_RANGE, &format!("bytes */{}", artifact.size));
            (StatusCode::RANGE_NOT_SATISFIABLE, None)
        }
        Outcome::Range(RangeRequest::Bytes(bytes)) => {
            put(
                CONTENT_RANGE,
                &format!("bytes {}-{}/{}", bytes.start, bytes.end - 1, artifact.size),
            );
            (StatusCode::PARTIAL_CONTENT, Some(bytes))
        }
        Outcome::Range(RangeRequest::Whole) => (StatusCode::OK, Some(0..artifact.size)),
    };
    if code.is_client_error() {
        put(CACHE_CONTROL, "no-store");
    }
    if let Some(bytes) = &bytes {
        put(CONTENT_TYPE, media_type(&artifact.filename));
        put(CONTENT_LENGTH, &(bytes.end - bytes.start).to_string());
    }
    *response.status_mut() = code;
    *response.body_mut() = bytes.filter(|_| method != Method::HEAD);
    response
}

enum Outcome {
    PreconditionFailed,
    NotModified,
    Range(RangeRequest),
}

/// Evaluates preconditions in the order of RFC 9110, section 13.2.2. Artifacts have no dates, so
/// conditions with dates never match.
fn evaluate(method: &Method, fields: &HeaderMap, tag: &str, size: u64) -> Outcome {
    if fields.contains_key(IF_MATCH) && !lists(fields, &IF_MATCH, |listed| listed == tag) {
        return Outcome::PreconditionFailed;
    }
    let weakly = |listed: &str| listed.strip_prefix("W/").unwrap_or(listed) == tag;
    if lists(fields, &IF_NONE_MATCH, weakly) {
        return Outcome::NotModified;
    }
    let range =
        fields.get(RANGE).filter(|_| method == Method::GET).and_then(|range| range.to_str().ok());
    let still_ours =
        fields.get(IF_RANGE).is_none_or(|validator| validator.as_bytes() == tag.as_bytes());
    match range {
        Some(range) if still_ours => Outcome::Range(range::parse(range, size)),
        _ => Outcome::Range(RangeRequest::Whole),
    }
}

/// Whether a field is `*` or lists an entity tag that `matches`. Tags of artifacts have no commas;
/// tags of others may.
pub(crate) fn lists(fields: &HeaderMap, name: &HeaderName, matches: impl Fn(&str) -> bool) -> bool {
    fields
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.trim() == "*" || value.split(',').any(|listed| matches(listed.trim())))
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
    pub version: Option<semver::Version>,
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
    /// Parses `{id}/{file}`, `{id}/v{version}/{file}`, or a path of [`ModelPath::parse_hub`].
    /// Percent-encoded paths are `None`: no name needs encoding.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        if let Some(path) = Self::parse_hub(path) {
            return Some(path);
        }
        let (id, rest) = path.split_once('/')?;
        let versioned = rest.strip_prefix('v').and_then(|rest| rest.split_once('/'));
        let (version, file) =
            match versioned.map(|(version, file)| (semver::Version::parse(version), file)) {
                Some((Ok(version), file)) => (Some(version), file),
                _ => (None, rest),
            };
        Self::of(id, version, file)
    }

    /// Parses `{org}/{id}/resolve/{revision}/{file}`, the path of the Hugging Face hub. Any `org`
    /// is accepted. The hub's names may have capitals, which become the lower case of ids. The
    /// revision is `main` or a version, with or without `v`.
    #[must_use]
    pub fn parse_hub(path: &str) -> Option<Self> {
        let mut parts = path.splitn(5, '/');
        let (org, id) = (parts.next()?, parts.next()?);
        parts.next().filter(|part| *part == "resolve")?;
        let (revision, file) = (parts.next()?, parts.next()?);
        let version = match revision {
            "main" => None,
            _ => Some(semver::Version::parse(revision.strip_prefix('v').unwrap_or(revision)).ok()?),
        };
        let known = crate::trust::manifest::is_id(&org.to_ascii_lowercase());
        Self::of(&id.to_ascii_lowercase(), version, file).filter(|_| known)
    }

    fn of(id: &str, version: Option<semver::Version>, file: &str) -> Option<Self> {
        let resource = match file.strip_suffix(".leaves") {
            _ if file == "manifest.json" => Resource::Manifest,
            Some(file) if crate::trust::manifest::is_filename(file) => {
                Resource::LeafTable(file.to_owned())
            }
            None if crate::trust::manifest::is_filename(file) => {
                Resource::Artifact(file.to_owned())
            }
            _ => return None,
        };
        crate::trust::manifest::is_id(id).then(|| Self { id: id.to_owned(), version, resource })
    }

    /// How long a response may be cached.
    #[must_use]
    pub const fn freshness(&self) -> Freshness {
        if self.version.is_some() { Freshness::Immutable } else { Freshness::Latest }
    }
}
