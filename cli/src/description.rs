//! The manifest of a new version, from options, a description file and facts in the model's files.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::Args;
use edge_net_core::trust::manifest::{ManifestError, is_id, signable};
use semver::Version;
use serde_json::{Map, Value};

use crate::context::Context;
use crate::document::string_member;
use crate::facts::Facts;
use crate::files::{FileError, of_file};
use crate::model::{self, Piece};

/// `$schema` of manifests.
const SCHEMA: &str = "https://edge-net.ruvector.dev/schemas/model-manifest-v1.json";

/// No manifest can be built.
#[derive(Debug, thiserror::Error)]
pub enum DescriptionError {
    /// The file of --describe cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The model type is unknown.
    #[error(
        "the files in {path} do not tell the model's type; give --type: text-generation, \
         embedding, vision{}",
        .unread.as_ref().map_or(String::new(), |unread| format!(" ({unread})"))
    )]
    NoType {
        /// The folder.
        path: PathBuf,
        /// What could not be read.
        unread: Option<String>,
    },
    /// The name has no characters that an identifier can have.
    #[error("no identifier can be made from {0:?}; give --id, of a-z, 0-9, '.', '_', '-'")]
    NoId(String),
    /// The file of --describe has invalid content.
    #[error("{path}: {problem}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The fault.
        problem: String,
    },
}

/// The options that describe a version. They override the facts in its files.
#[derive(Args)]
pub struct Description {
    /// Identifier of the model, used in URLs; default: made from --name, or from the file or folder
    #[arg(long)]
    pub id: Option<String>,
    /// Version, such as 1.0.0; a published version never changes
    #[arg(long, default_value = "1.0.0")]
    pub version: Version,
    /// Type: text-generation, embedding, vision; default: read from the files
    #[arg(long = "type")]
    pub kind: Option<String>,
    /// Display name; default: the identifier
    #[arg(long)]
    pub name: Option<String>,
    /// Licence, an SPDX expression; default: read from the files
    #[arg(long)]
    pub license: Option<String>,
    /// JSON file with more members of the manifest: requirements, benchmarks, family, homepage
    #[arg(long, value_name = "FILE")]
    pub describe: Option<PathBuf>,
    #[command(flatten)]
    pub term: Term,
}

/// The options about a signature: time, expiry, and endorsements of the key.
#[derive(Args, Default)]
pub struct Term {
    /// Time of signing, RFC 3339 in UTC; default: now
    #[arg(long)]
    timestamp: Option<String>,
    /// Time after which clients refuse it as the newest version, RFC 3339 in UTC; sign again before
    #[arg(long)]
    expires: Option<String>,
    /// Output of `endorse`, when the key replaces a pinned one; repeatable, the oldest first
    #[arg(long)]
    endorsement: Vec<String>,
}

impl Term {
    /// Writes the options into a manifest. Members without an option keep their value, except for
    /// the time of signing.
    pub fn write(&self, document: &mut Map<String, Value>) {
        let now = || humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        document.insert("timestamp".into(), self.timestamp.clone().unwrap_or_else(now).into());
        if let Some(expires) = &self.expires {
            document.insert("expires".into(), expires.clone().into());
        }
        // Text that is not JSON is kept as a string; signing then refuses the manifest.
        let endorsements = self
            .endorsement
            .iter()
            .map(|text| serde_json::from_str(text).unwrap_or_else(|_| text.clone().into()));
        let endorsements: Vec<Value> = endorsements.collect();
        if !endorsements.is_empty() {
            document.insert("endorsements".into(), endorsements.into());
        }
    }
}

/// Members that --describe must not set, because files, options or the signature determine them.
const RESERVED: [&str; 8] =
    ["$schema", "id", "version", "artifacts", "timestamp", "expires", "endorsements", "signature"];

impl Description {
    /// Builds the unsigned manifest of the files at `path`.
    ///
    /// # Errors
    /// [`DescriptionError`].
    pub fn document(
        &self,
        path: &Path,
        pieces: &[Piece],
        context: &Context,
    ) -> Result<Map<String, Value>, DescriptionError> {
        let facts = Facts::of(pieces);
        let mut document = match &self.describe {
            Some(file) => described(file)?,
            None => Map::new(),
        };
        let id = match &self.id {
            Some(id) => id.clone(),
            None => slug(self.name.as_deref(), path)?,
        };
        let kind = self
            .kind
            .clone()
            .or_else(|| facts.kind.map(str::to_owned))
            .or_else(|| string_member(&document, "type"));
        let kind = kind.ok_or_else(|| DescriptionError::NoType {
            path: path.to_owned(),
            unread: facts.unread.clone(),
        })?;
        if let Some(unread) = &facts.unread {
            context.note(&format!("warning: {unread}"));
        }
        let name = self
            .name
            .clone()
            .or_else(|| string_member(&document, "name"))
            .unwrap_or_else(|| id.clone());
        let license =
            self.license.clone().or_else(|| string_member(&document, "license")).or(facts.license);

        let mut put = |name: &str, value: Value| drop(document.insert(name.into(), value));
        put("$schema", SCHEMA.into());
        put("id", id.into());
        put("name", name.into());
        put("version", self.version.to_string().into());
        put("type", kind.into());
        put("artifacts", model::artifacts(pieces));
        if let Some(license) = license {
            put("license", license.into());
        }
        self.term.write(&mut document);
        // Members of --describe take precedence over facts in the files.
        let mut merge = |name: &str, facts: Map<String, Value>| {
            if let Value::Object(given) = document.entry(name).or_insert_with(|| Map::new().into())
            {
                for (member, value) in facts {
                    given.entry(member).or_insert(value);
                }
                if given.is_empty() {
                    document.remove(name);
                }
            }
        };
        merge("architecture", facts.architecture);
        merge(
            "optimization",
            facts
                .quantization
                .map(|name| ("quantization".to_owned(), name.into()))
                .into_iter()
                .collect(),
        );
        Ok(document)
    }
}

/// Reads the file of --describe.
fn described(path: &Path) -> Result<Map<String, Value>, DescriptionError> {
    let text = fs::read_to_string(path).map_err(of_file(path))?;
    let invalid = |problem: String| DescriptionError::Invalid { path: path.to_owned(), problem };
    let members = signable(&text).map_err(|error| match error {
        ManifestError::NotJson(error) => invalid(format!("not a JSON object: {error}")),
        inexact => invalid(inexact.to_string()),
    })?;
    match members.keys().find(|name| RESERVED.contains(&name.as_str())) {
        Some(name) => Err(invalid(format!("{name} is not allowed here; options and files set it"))),
        None => Ok(members),
    }
}

/// Makes an identifier from a name, or from the name of the file or folder.
fn slug(name: Option<&str>, path: &Path) -> Result<String, DescriptionError> {
    let stem = || {
        // Gives `.` and the like a name.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let stem = if path.is_dir() { path.file_name() } else { path.file_stem() };
        stem.unwrap_or_default().to_string_lossy().into_owned()
    };
    let name = name.map_or_else(stem, str::to_owned);
    let allowed = |character: char| {
        if character.is_ascii_alphanumeric() || "._".contains(character) { character } else { '-' }
    };
    let id: String = name.to_ascii_lowercase().chars().map(allowed).collect();
    let id = id.trim_matches(['-', '.', '_']).to_owned();
    if is_id(&id) { Ok(id) } else { Err(DescriptionError::NoId(name)) }
}
