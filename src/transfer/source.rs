//! The places an artifact can come from: their URLs, and what is believed of their answers.

use std::ops::Range;

use http::StatusCode;

use crate::dag::cid::cid_text;
use crate::http::range::parse_content_range;
use crate::trust::manifest::{Artifact, Manifest};

/// The kinds of places, in the order they are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum SourceKind {
    /// Our worker in front of the others.
    Edge,
    /// The Google Cloud Storage bucket.
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

/// A place, known by its base URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// What it is.
    pub kind: SourceKind,
    /// Base URL: of the edge's `/models`, of the bucket, or of a gateway's `/ipfs`; no slash at its end.
    pub base: String,
}

impl Source {
    /// A source; a slash at the end of `base` is dropped.
    #[must_use]
    pub fn new(kind: SourceKind, base: &str) -> Self {
        Self { kind, base: base.trim_end_matches('/').to_owned() }
    }

    /// URL of an artifact's bytes.
    #[must_use]
    pub fn artifact_url(&self, manifest: &Manifest, artifact: &Artifact) -> String {
        match self.kind {
            SourceKind::Edge | SourceKind::Gcs => {
                format!("{}/{}/v{}/{}", self.base, manifest.id, manifest.version, artifact.filename)
            }
            SourceKind::Ipfs => format!("{}/{}", self.base, cid_text(&artifact.cid)),
        }
    }

    /// URL of an artifact's leaf table; gateways have none, their blocks tell it ([`crate::dag::walk::Walk`]).
    #[must_use]
    pub fn leaf_table_url(&self, manifest: &Manifest, artifact: &Artifact) -> Option<String> {
        (self.kind != SourceKind::Ipfs)
            .then(|| format!("{}.leaves", self.artifact_url(manifest, artifact)))
    }

    /// URL of a manifest, of the newest version where none is given; gateways have none.
    #[must_use]
    pub fn manifest_url(&self, id: &str, version: Option<&semver::Version>) -> Option<String> {
        match (self.kind, version) {
            (SourceKind::Ipfs, _) => None,
            (_, None) => Some(format!("{}/{id}/manifest.json", self.base)),
            (_, Some(version)) => Some(format!("{}/{id}/v{version}/manifest.json", self.base)),
        }
    }

    /// URL of one block of a DAG, from a gateway.
    #[must_use]
    pub fn block_url(&self, cid: &cid::Cid) -> Option<String> {
        (self.kind == SourceKind::Ipfs)
            .then(|| format!("{}/{}?format=raw", self.base, cid_text(cid)))
    }
}

/// What went wrong with a request to a source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// No answer at all.
    #[error("no answer ({0})")]
    Unreachable(String),
    /// An answer with another status than 200 or 206.
    #[error("status {0}")]
    Status(u16),
    /// The whole where a part was asked for.
    #[error("it ignored the range")]
    RangeIgnored,
    /// Another part than was asked for.
    #[error("it sent another range than was asked for")]
    WrongRange,
    /// Fewer or more bytes than were asked for.
    #[error("it sent {got} bytes instead of {want}")]
    WrongLength {
        /// Bytes that came, at the least.
        got: u64,
        /// Bytes that were asked for.
        want: u64,
    },
    /// Bytes that are not those of the artifact.
    #[error("it sent wrong bytes in leaf {0}")]
    BadLeaf(u64),
    /// No bytes for too long.
    #[error("it stalled")]
    Stalled,
}

impl Failure {
    /// Whether asking the same source again is of no use.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        match self {
            Self::Status(status) => matches!(status, 400..=407 | 410..=424 | 451),
            Self::RangeIgnored | Self::WrongRange | Self::BadLeaf(_) => true,
            Self::Unreachable(_) | Self::WrongLength { .. } | Self::Stalled => false,
        }
    }
}

/// The value of the `Range` field that asks for `bytes` of an artifact of `size` bytes; `None` asks for all.
#[must_use]
pub fn range_field(bytes: &Range<u64>, size: u64) -> Option<String> {
    (bytes.start != 0 || bytes.end != size)
        .then(|| format!("bytes={}-{}", bytes.start, bytes.end - 1))
}

/// Checks the head of an answer to a request for `bytes` of an artifact of `size` bytes.
///
/// A `Content-Range` that cannot be read (CORS hides it where it is not exposed) is no fault: the leaves tell.
///
/// # Errors
/// [`Failure`] when the body need not be read.
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
        Ok(StatusCode::PARTIAL_CONTENT) => match content_range.map(parse_content_range) {
            None => Ok(()),
            Some(Some((range, total)))
                if range == *bytes && total.is_none_or(|total| total == size) =>
            {
                Ok(())
            }
            Some(_) => Err(Failure::WrongRange),
        },
        _ => Err(Failure::Status(status)),
    }
}

/// Names where the bytes of a response came from, for people: the source, and after a colon the place
/// where an edge got them, which its `Server-Timing` field names as the metric `origin`.
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
