//! Model manifests, version 1: a model and its files.
//!
//! `manifests/model-manifest-v1.schema.json` describes the format. Parsing is strict about the
//! fields that a client relies on, and keeps unknown fields, because the signature covers all
//! fields.

use cid::Cid;
use semver::Version;
use serde_json::{Map, Value};

use crate::dag::cid::{DAG_PB, RAW, SHA2_256, parse_cid};
use crate::dag::digest::Digest;
use crate::dag::layout::{LEAF_SIZE, Layout};
use crate::dag::unixfs::PROFILE;
use crate::time::UnixTime;
use crate::trust::names::{Clash, MAX_VERSION, Names};
use crate::trust::numbers;
use crate::trust::unambiguous::Unambiguous;

pub use crate::trust::names::{is_filename, is_id};

/// The largest size of an artifact in bytes: integers in JSON are exact up to 2^53 - 1 (RFC 7493).
pub const MAX_SIZE: u64 = (1 << 53) - 1;
/// The largest manifest in bytes.
pub const MAX_MANIFEST_BYTES: u64 = 1 << 20;
/// Most artifacts in a manifest.
pub const MAX_ARTIFACTS: usize = 4096;

/// A file of a model.
#[derive(Debug, Clone)]
pub struct Artifact {
    /// Its role: the key in the manifest's `artifacts`, such as `model` or `tokenizer`.
    pub role: String,
    /// Path below the model: letters, digits, `.`, `_` and `-`, with `/` between parts.
    pub filename: String,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 of the whole file.
    pub sha256: Digest,
    /// Root of its UnixFS DAG.
    pub cid: Cid,
}

impl Artifact {
    /// Its layout.
    #[must_use]
    pub const fn layout(&self) -> Layout {
        Layout::new(self.size)
    }
}

/// A manifest with well-formed fields. Its signature is not verified.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// Identifier of the model, used in URLs.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// Version of the model.
    pub version: Version,
    /// The task: `text-generation`, `embedding`, `vision`.
    pub kind: String,
    /// When it was signed.
    pub timestamp: UnixTime,
    /// When it expires; without, it never does.
    pub expires: Option<UnixTime>,
    /// Its files, by role.
    pub artifacts: Vec<Artifact>,
    pub(crate) document: Map<String, Value>,
}

/// Why a manifest is malformed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The text is not a JSON object.
    #[error("the manifest is not a JSON object: {0}")]
    NotJson(String),
    /// A field is missing or wrong.
    #[error("manifest field `{field}` {problem}")]
    Field {
        /// Path of the field, such as `artifacts.model.size`.
        field: String,
        /// What is wrong: a phrase that follows the field's name.
        problem: String,
    },
    /// A number is not exact: RFC 8785 would sign another one.
    #[error(
        "the manifest has the number {0}, which RFC 8785 would change, so that a signature would \
         fit several numbers; write it as a double prints it, below 2^53, or as a string"
    )]
    Number(String),
}

fn fault<T>(field: impl Into<String>, problem: impl Into<String>) -> Result<T, ManifestError> {
    Err(ManifestError::Field { field: field.into(), problem: problem.into() })
}

impl Manifest {
    /// Parses a manifest.
    ///
    /// # Errors
    /// [`ManifestError`] names the field at fault.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        Self::from_document(object(text)?).and_then(|manifest| {
            exact(text)?;
            Ok(manifest)
        })
    }

    /// Reads a manifest from a parsed JSON object.
    ///
    /// # Errors
    /// [`ManifestError`] names the field at fault.
    pub fn from_document(document: Map<String, Value>) -> Result<Self, ManifestError> {
        let id = text(&document, "", "id")?;
        if !is_id(&id) {
            return fault(
                "id",
                format!(
                    "is {id:?}; it must be 1 to 128 of a-z, 0-9, '.', '_', '-', start with a \
                     letter or digit, not end with '.', and not be a name that Windows reserves"
                ),
            );
        }
        let name = text(&document, "", "name")?;
        let kind = text(&document, "", "type")?;
        let version = text(&document, "", "version")?;
        if version.len() > MAX_VERSION {
            return fault("version", format!("is longer than {MAX_VERSION} bytes"));
        }
        let version = Version::parse(&version).or_else(|error| {
            fault("version", format!("is {version:?}, which is not a semantic version: {error}"))
        })?;
        let timestamp = parse_timestamp("timestamp", &text(&document, "", "timestamp")?)?;
        let expires = document
            .contains_key("expires")
            .then(|| parse_timestamp("expires", &text(&document, "", "expires")?));
        let expires = expires.transpose()?;
        let artifacts = match document.get("artifacts") {
            Some(Value::Object(artifacts)) => read_artifacts(artifacts)?,
            Some(_) => return fault("artifacts", "must be an object"),
            None => return fault("artifacts", "is missing"),
        };
        for (name, value) in &document {
            if let Some(field) = numbers::changed(value, name) {
                return fault(field, INEXACT);
            }
        }
        Ok(Self { id, name, version, kind, timestamp, expires, artifacts, document })
    }

    /// The artifact with this file name.
    #[must_use]
    pub fn artifact(&self, filename: &str) -> Option<&Artifact> {
        self.artifacts.iter().find(|artifact| artifact.filename == filename)
    }

    /// The whole document, including unknown fields.
    #[must_use]
    pub const fn document(&self) -> &Map<String, Value> {
        &self.document
    }
}

/// What is wrong with a number that is not exact.
const INEXACT: &str = "is a number that RFC 8785 would change: integers must be from -(2^53 - 1) \
                       to 2^53 - 1; write it as a string";

/// Parses a JSON object without repeated members.
pub(crate) fn object(text: &str) -> Result<Map<String, Value>, ManifestError> {
    match serde_json::from_str(text) {
        Ok(Unambiguous(Value::Object(document))) => Ok(document),
        Ok(_) => Err(ManifestError::NotJson("it is another JSON value".into())),
        Err(error) => Err(ManifestError::NotJson(error.to_string())),
    }
}

/// Checks that no number in a JSON text is changed when it is signed.
fn exact(text: &str) -> Result<(), ManifestError> {
    match numbers::changed_in(text) {
        Some(number) => Err(ManifestError::Number(number.chars().take(40).collect())),
        None => Ok(()),
    }
}

/// Parses a JSON object that is to become part of a manifest, such as a description: without
/// repeated members, and without numbers that would be signed as others.
///
/// # Errors
/// [`ManifestError::NotJson`] and [`ManifestError::Number`].
pub fn signable(text: &str) -> Result<Map<String, Value>, ManifestError> {
    let document = object(text)?;
    exact(text)?;
    Ok(document)
}

fn text(object: &Map<String, Value>, parent: &str, name: &str) -> Result<String, ManifestError> {
    match object.get(name) {
        Some(Value::String(value)) if !value.is_empty() => Ok(value.clone()),
        Some(Value::String(_)) => fault(format!("{parent}{name}"), "must not be empty"),
        Some(_) => fault(format!("{parent}{name}"), "must be a string"),
        None => fault(format!("{parent}{name}"), "is missing"),
    }
}

fn parse_timestamp(field: &str, timestamp: &str) -> Result<UnixTime, ManifestError> {
    UnixTime::parse_rfc3339(timestamp).map_or_else(
        || {
            let example = "2026-01-03T00:00:00Z";
            let problem =
                format!("is {timestamp:?}; it must be an RFC 3339 time in UTC such as {example}");
            fault(field, problem)
        },
        Ok,
    )
}

fn read_artifacts(artifacts: &Map<String, Value>) -> Result<Vec<Artifact>, ManifestError> {
    if artifacts.is_empty() || artifacts.len() > MAX_ARTIFACTS {
        return fault(
            "artifacts",
            format!("has {} entries; there must be 1 to {MAX_ARTIFACTS}", artifacts.len()),
        );
    }
    let mut read: Vec<Artifact> = Vec::with_capacity(artifacts.len());
    let mut names = Names::default();
    for (role, artifact) in artifacts {
        let parent = format!("artifacts.{role}");
        let Value::Object(artifact) = artifact else {
            return fault(parent, "must be an object");
        };
        let artifact = read_artifact(role, &format!("{parent}."), artifact)?;
        names.add(&artifact.filename).or_else(|clash| {
            let field = format!("{parent}.filename");
            fault(field, clashes(&artifact.filename, &clash, &read))
        })?;
        read.push(artifact);
    }
    Ok(read)
}

/// What is wrong with a file name that clashes with an earlier one of `read`.
fn clashes(filename: &str, clash: &Clash, read: &[Artifact]) -> String {
    let twin = |known: &str| read.iter().find(|other| other.filename == known);
    match clash {
        Clash::Same(known) => match twin(known) {
            Some(twin) if known == filename => {
                format!("is {filename:?}, the same as artifacts.{}.filename", twin.role)
            }
            _ => format!(
                "is {filename:?}, which differs from {known:?} in case only: most file systems \
                 of macOS and Windows cannot hold both"
            ),
        },
        Clash::Folder(known) => {
            format!("is {filename:?}, but {known:?} cannot be a file and a folder")
        }
    }
}

fn read_artifact(
    role: &str,
    parent: &str,
    artifact: &Map<String, Value>,
) -> Result<Artifact, ManifestError> {
    let field = |name: &str| format!("{parent}{name}");
    let filename = text(artifact, parent, "filename")?;
    if !is_filename(&filename) {
        return fault(
            field("filename"),
            format!(
                "is {filename:?}; it must be a relative path of letters, digits, '.', '_', '-', no \
                 part of which starts or ends with '.' or has more than 200 bytes; manifest.json, \
                 names ending in .leaves, and names of devices of Windows are reserved"
            ),
        );
    }
    let size = match artifact.get("size").map(|size| size.as_u64().filter(|size| *size <= MAX_SIZE))
    {
        Some(Some(size)) => size,
        Some(None) => {
            return fault(
                field("size"),
                format!("must be a whole number of bytes from 0 to {MAX_SIZE}"),
            );
        }
        None => return fault(field("size"), "is missing"),
    };
    let Some(sha256) = Digest::from_hex(&text(artifact, parent, "sha256")?) else {
        return fault(field("sha256"), "must be 64 lower-case hexadecimal digits");
    };
    let cid = text(artifact, parent, "cid")?;
    let Some(cid) = parse_cid(&cid) else {
        return fault(field("cid"), format!("is {cid:?}, which is not a CIDv1 in base32"));
    };
    let codec = if size <= LEAF_SIZE { RAW } else { DAG_PB };
    if cid.version() != cid::Version::V1
        || cid.codec() != codec
        || cid.hash().code() != SHA2_256
        || cid.hash().size() != 32
    {
        return fault(
            field("cid"),
            format!(
                "must be a CIDv1 with sha2-256 and, at this size, codec {}",
                if codec == RAW { "raw" } else { "dag-pb" }
            ),
        );
    }
    // The message does not show a value that is no string: the tables for printing numbers would be
    // a tenth of the service worker.
    match artifact.get("profile").map(Value::as_str) {
        None | Some(Some(PROFILE)) => {}
        Some(Some(other)) => {
            return fault(field("profile"), format!("is {other:?}; this client reads {PROFILE:?}"));
        }
        Some(None) => {
            return fault(
                field("profile"),
                format!("must be a string; this client reads {PROFILE:?}"),
            );
        }
    }
    Ok(Artifact { role: role.to_owned(), filename, size, sha256, cid })
}
