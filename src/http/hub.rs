//! What clients of the Hugging Face hub need besides files: revisions, and its API's answers about
//! a model.
//!
//! A hub keeps models in git, and its clients name what they downloaded by the commit. Here a
//! version is what never changes, so the commit of a version is its text, in hexadecimal and filled
//! with zeros: it says its version without a look-up.

use base16ct::lower;
use http::HeaderName;
use semver::Version;
use serde_json::{Value, json};

use crate::http::path::decoded;
use crate::trust::manifest::{Artifact, Manifest};

/// The commit of a response.
pub const X_REPO_COMMIT: HeaderName = HeaderName::from_static("x-repo-commit");
/// What a response with status 404 did not find: [`REPO`], [`REVISION`] or [`ENTRY`].
pub const X_ERROR_CODE: HeaderName = HeaderName::from_static("x-error-code");
/// There is no such model.
pub const REPO: &str = "RepoNotFound";
/// There is no such version of the model.
pub const REVISION: &str = "RevisionNotFound";
/// There is no such file in the version.
pub const ENTRY: &str = "EntryNotFound";

/// Length of a commit in bytes: that of SHA-1.
const COMMIT: usize = 20;

/// A revision of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Revision {
    /// `main`: the newest version.
    Newest,
    /// A version with or without `v`, or its commit.
    Of(Version),
}

impl Revision {
    /// Parses a revision.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == "main" {
            return Some(Self::Newest);
        }
        let version = Version::parse(text.strip_prefix('v').unwrap_or(text)).ok();
        version.or_else(|| version_of(text)).map(Self::Of)
    }

    /// The version that it names, if it names one.
    #[must_use]
    pub fn version(self) -> Option<Version> {
        match self {
            Self::Newest => None,
            Self::Of(version) => Some(version),
        }
    }
}

/// The commit of a version; `None` if its text has more than 20 bytes.
///
/// ```
/// use edge_net_core::http::hub::commit;
///
/// let commit = commit(&"1.1.0".parse().unwrap());
/// assert_eq!(commit.as_deref(), Some("312e312e30000000000000000000000000000000"));
/// ```
#[must_use]
pub fn commit(version: &Version) -> Option<String> {
    let text = version.to_string();
    let mut bytes = [0; COMMIT];
    bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
    Some(lower::encode_string(&bytes))
}

/// The version of a commit.
fn version_of(commit: &str) -> Option<Version> {
    let bytes = lower::decode_vec(commit).ok().filter(|bytes| bytes.len() == COMMIT)?;
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    let version = Version::parse(std::str::from_utf8(text).ok()?).ok()?;
    (self::commit(&version).as_deref() == Some(commit)).then_some(version)
}

/// A resource of the hub's API about one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// The model as the client named it, with or without an organization.
    pub repo: String,
    /// The model's id.
    pub id: String,
    /// The revision.
    pub revision: Revision,
    /// The requested form.
    pub form: Form,
}

/// The form of an answer about a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Form {
    /// `revision/{revision}`: the model with its files' names.
    Info,
    /// `tree/{revision}`: its files.
    Tree,
}

impl Resource {
    /// Parses the path below `/api/models/`: a model, and `revision/{revision}` or
    /// `tree/{revision}`.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        let parts = path.split('/').map(decoded).collect::<Option<Vec<_>>>()?;
        let (repo, form, revision) = match parts.as_slice() {
            [repo @ .., form, revision] if matches!(&**form, "revision" | "tree") => {
                let form = if form == "tree" { Form::Tree } else { Form::Info };
                (repo, form, Revision::parse(revision)?)
            }
            repo => (repo, Form::Info, Revision::Newest),
        };
        let (1 | 2, Some(name)) = (repo.len(), repo.last()) else { return None };
        let names =
            repo.iter().all(|name| crate::trust::manifest::is_id(&name.to_ascii_lowercase()));
        let id = name.to_ascii_lowercase();
        names.then(|| Self { repo: repo.join("/"), id, revision, form })
    }

    /// The answer, for the `manifest` that the revision means.
    #[must_use]
    pub fn answer(&self, manifest: &Manifest) -> Value {
        let files = &manifest.artifacts;
        match self.form {
            Form::Tree => files.iter().map(entry).collect(),
            Form::Info => json!({
                "id": self.repo,
                "modelId": self.repo,
                "sha": commit(&manifest.version),
                "lastModified": manifest.timestamp.to_string(),
                "private": false,
                "gated": false,
                "disabled": false,
                "tags": [],
                "siblings": files
                    .iter()
                    .map(|file| json!({ "rfilename": file.filename, "size": file.size }))
                    .collect::<Value>(),
            }),
        }
    }
}

/// A file of a tree, as one that the hub keeps outside of git.
fn entry(file: &Artifact) -> Value {
    let digest = file.sha256.to_hex();
    json!({
        "type": "file",
        "path": file.filename,
        "size": file.size,
        "oid": digest,
        "lfs": { "oid": digest, "size": file.size, "pointerSize": 134 },
    })
}
