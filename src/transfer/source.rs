//! Sources of artifacts: their URLs, and checks of their responses.

use std::ops::Range;

use http::StatusCode;

use crate::dag::cid::{RAW, cid_text, parse_cid};
use crate::dag::digest::Digest;
use crate::http::range::parse_content_range;
use crate::trust::manifest::{Artifact, Manifest};

/// The kinds of sources, in the order in which they are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum SourceKind {
    /// The edge worker in front of the other sources.
    Edge,
    /// A Google Cloud Storage bucket.
    Gcs,
    /// An IPFS gateway.
    Ipfs,
}

impl SourceKind {
    /// A short name: `edge`, `gcs`, `ipfs`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Gcs => "gcs",
            Self::Ipfs => "ipfs",
        }
    }
}

/// A source of artifacts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its kind.
    pub kind: SourceKind,
    /// Base URL without a slash at the end: the edge's `/models`, the bucket, or the gateway's
    /// `/ipfs`.
    pub base: String,
}

impl Source {
    /// A source; slashes at the end of `base` are dropped.
    #[must_use]
    pub fn new(kind: SourceKind, base: &str) -> Self {
        Self { kind, base: base.trim_end_matches('/').to_owned() }
    }

    /// The URL of an artifact.
    #[must_use]
    pub fn artifact_url(&self, manifest: &Manifest, artifact: &Artifact) -> String {
        match self.kind {
            SourceKind::Edge | SourceKind::Gcs => {
                format!("{}/{}/v{}/{}", self.base, manifest.id, manifest.version, artifact.filename)
            }
            SourceKind::Ipfs => format!("{}/{}", self.base, cid_text(&artifact.cid)),
        }
    }

    /// The URL of an artifact's leaf table; `None` for gateways, whose blocks replace it
    /// ([`crate::dag::walk::Walk`]).
    #[must_use]
    pub fn leaf_table_url(&self, manifest: &Manifest, artifact: &Artifact) -> Option<String> {
        (self.kind != SourceKind::Ipfs)
            .then(|| format!("{}.leaves", self.artifact_url(manifest, artifact)))
    }

    /// The URL of a manifest, of the newest version without `version`; `None` for gateways.
    #[must_use]
    pub fn manifest_url(&self, id: &str, version: Option<&semver::Version>) -> Option<String> {
        match (self.kind, version) {
            (SourceKind::Ipfs, _) => None,
            (_, None) => Some(format!("{}/{id}/manifest.json", self.base)),
            (_, Some(version)) => Some(format!("{}/{id}/v{version}/manifest.json", self.base)),
        }
    }

    /// The URL of a block; `None` for other sources than gateways.
    #[must_use]
    pub fn block_url(&self, cid: &cid::Cid) -> Option<String> {
        (self.kind == SourceKind::Ipfs)
            .then(|| format!("{}/{}?format=raw", self.base, cid_text(cid)))
    }
}

/// Why a request to a source failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The source did not respond, or the connection broke.
    #[error("no answer ({0})")]
    Unreachable(String),
    /// The response has another status than 200 or 206.
    #[error("status {0}")]
    Status(u16),
    /// The response is the whole artifact instead of the requested range.
    #[error("it ignored the range")]
    RangeIgnored,
    /// The response is another range than the requested one.
    #[error("it sent another range than the requested one")]
    WrongRange,
    /// The response has fewer or more bytes than requested.
    #[error("it sent {got} bytes instead of {want}")]
    WrongLength {
        /// Bytes that arrived, at least.
        got: u64,
        /// Requested bytes.
        want: u64,
    },
    /// The bytes of this leaf do not belong to the artifact.
    #[error("it sent wrong bytes in leaf {0}")]
    BadLeaf(u64),
    /// No bytes arrived for too long.
    #[error("it stalled")]
    Stalled,
}

impl Failure {
    /// Whether another request to the same source is useless.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        match self {
            Self::Status(status) => matches!(status, 400..=407 | 410..=424 | 451),
            Self::RangeIgnored | Self::WrongRange | Self::BadLeaf(_) => true,
            Self::Unreachable(_) | Self::WrongLength { .. } | Self::Stalled => false,
        }
    }
}

/// The value of the `Range` field for `bytes` of an artifact of `size` bytes; `None` for all bytes.
#[must_use]
pub fn range_field(bytes: &Range<u64>, size: u64) -> Option<String> {
    (bytes.start != 0 || bytes.end != size)
        .then(|| format!("bytes={}-{}", bytes.start, bytes.end - 1))
}

/// The failure of a source that serves no ranges of this artifact, as gateways do above some size.
/// It is asked for single leaves ([`leaf_url`]).
pub const REFUSES_RANGES: Failure = Failure::Status(501);

/// The URL of a leaf as a raw block, at the gateway that has the artifact at `url`: for gateways
/// that refuse ranges of large files with status 501. `None` for other sources, whose URLs do not
/// end in a CID.
#[must_use]
pub fn leaf_url(url: &str, leaf: &Digest) -> Option<String> {
    let (base, last) = url.rsplit_once('/')?;
    parse_cid(last)?;
    Some(format!("{base}/{}?format=raw", cid_text(&leaf.to_cid(RAW))))
}

/// Checks the head of the response to a request for `bytes` of an artifact of `size` bytes.
///
/// A missing or malformed `Content-Range` is accepted: CORS hides the field unless the source
/// exposes it, old servers write `bytes=0-9/100`, and the leaves are verified anyway.
///
/// # Errors
/// [`Failure`] when the body is useless.
pub fn check_head(
    status: u16,
    content_range: Option<&str>,
    bytes: &Range<u64>,
    size: u64,
) -> Result<(), Failure> {
    let whole = range_field(bytes, size).is_none();
    match StatusCode::from_u16(status) {
        Ok(StatusCode::OK) if whole => Ok(()),
        Ok(StatusCode::OK) => Err(Failure::RangeIgnored),
        Ok(StatusCode::PARTIAL_CONTENT) => match content_range.and_then(parse_content_range) {
            None => Ok(()),
            Some((range, total)) if range == *bytes && total.is_none_or(|total| total == size) => {
                Ok(())
            }
            Some(_) => Err(Failure::WrongRange),
        },
        _ => Err(Failure::Status(status)),
    }
}

/// Names where the bytes of a response came from, for people: the source, and after a colon the
/// place where an edge got them, which its `Server-Timing` field names as the metric `origin`.
///
/// ```
/// use edge_net_core::transfer::source::origin;
///
/// assert_eq!(origin("edge", Some(r#"cache;desc="HIT", origin;desc="gcs""#)), "edge:gcs");
/// assert_eq!(origin("gcs", None), "gcs");
/// ```
#[must_use]
pub fn origin(source: &str, server_timing: Option<&str>) -> String {
    let metrics = server_timing.unwrap_or_default().split(',');
    let mut origins = metrics.filter_map(|metric| metric.trim().strip_prefix("origin;desc="));
    origins.next().map_or_else(
        || source.to_owned(),
        |origin| format!("{source}:{}", origin.trim_matches('"')),
    )
}
