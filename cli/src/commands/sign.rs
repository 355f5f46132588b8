//! `sign`: signs a manifest again, or a single file through a manifest of its own.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use edge_net_core::trust::manifest::{MAX_MANIFEST_BYTES, Manifest};
use edge_net_core::trust::signature::sign;
use semver::Version;
use serde_json::{Map, Value, json};

use crate::context::Context;
use crate::description::{Description, Term};
use crate::document::{BESIDE, MANIFEST, text_of};
use crate::error::Error;
use crate::facts::Facts;
use crate::files::{FileError, of_file, replace};
use crate::key::Signer;
use crate::model;

/// `sign`
#[derive(Args)]
pub struct Sign {
    /// A file, which gets a manifest beside it; or a manifest, or a folder with manifest.json
    path: PathBuf,
    #[command(flatten)]
    signer: Signer,
    /// Identifier of a file; default: made from its name
    #[arg(long)]
    id: Option<String>,
    /// Version of a file; default: 1.0.0
    #[arg(long)]
    version: Option<Version>,
    /// Type of a file; default: read from the file, or else `model`
    #[arg(long = "type")]
    kind: Option<String>,
    #[command(flatten)]
    term: Term,
}

impl Sign {
    /// Runs the command.
    ///
    /// # Errors
    /// [`Error::Key`], [`Error::File`], [`Error::Model`], [`Error::Description`],
    /// [`Error::Manifest`] and [`Error::NotAFile`].
    pub fn run(self, context: &Context) -> Result<(), Error> {
        let (key, key_id) = self.signer.key(context)?;
        let path = if self.path.is_dir() { self.path.join(MANIFEST) } else { self.path.clone() };
        let (document, path) = if is_manifest(&path)? {
            (self.manifest(&path)?, path)
        } else {
            self.file(&path, context)?
        };
        let signed = sign(document, &key_id, &key)?;
        replace(&path, format!("{}\n", text_of(&signed)).as_bytes())?;
        if context.json {
            out!("{}", json!({ "manifest": path.display().to_string(), "keyId": key_id }));
        } else {
            out!("{}: signed by {key_id}", path.display());
        }
        Ok(())
    }

    /// Reads a manifest and applies the options.
    fn manifest(&self, path: &Path) -> Result<Map<String, Value>, Error> {
        if self.id.is_some() || self.version.is_some() || self.kind.is_some() {
            return Err(Error::NotAFile(path.to_owned()));
        }
        let text = fs::read_to_string(path).map_err(of_file(path))?;
        let mut document = Manifest::parse(&text)?.document().clone();
        self.term.write(&mut document);
        Ok(document)
    }

    /// Builds the manifest of a file. Returns it with the path that it is written to.
    fn file(self, path: &Path, context: &Context) -> Result<(Map<String, Value>, PathBuf), Error> {
        let pieces = model::read(path, context)?.pieces;
        let kind =
            self.kind.unwrap_or_else(|| Facts::of(&pieces).kind.unwrap_or("model").to_owned());
        let description = Description {
            id: self.id,
            version: self.version.unwrap_or(Version::new(1, 0, 0)),
            kind: Some(kind),
            name: None,
            license: None,
            describe: None,
            term: self.term,
        };
        Ok((
            description.document(path, &pieces, context)?,
            PathBuf::from(format!("{}{BESIDE}", path.display())),
        ))
    }
}

/// Returns whether a file looks like a manifest, valid or not: JSON with a member `artifacts`.
fn is_manifest(path: &Path) -> Result<bool, FileError> {
    if fs::metadata(path).map_err(of_file(path))?.len() > MAX_MANIFEST_BYTES {
        return Ok(false);
    }
    let content = fs::read(path).map_err(of_file(path))?;
    // A manifest that cannot be read is an error, and not a file to sign as it is.
    Ok(serde_json::from_slice(&content).map_or_else(
        |_| content.trim_ascii_start().starts_with(b"{") && contains(&content, b"\"artifacts\""),
        |document: Value| document.get("artifacts").is_some(),
    ))
}

fn contains(content: &[u8], wanted: &[u8]) -> bool {
    content.windows(wanted.len()).any(|window| window == wanted)
}
