//! `sign`: a manifest, anew; or a single file, by a manifest of its own.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use edge_net_core::trust::manifest::{MAX_MANIFEST_BYTES, Manifest};
use edge_net_core::trust::signature::sign;
use semver::Version;
use serde_json::{Map, Value, json};

use crate::Context;
use crate::cache::MANIFEST;
use crate::commands::publish::{Description, Term, text_of};
use crate::error::{Error, of_file};
use crate::files::replace;
use crate::key::Signer;
use crate::model::{self, Told};

/// What a file's manifest is called besides as the file is.
pub const BESIDE: &str = ".manifest.json";

/// `sign`
#[derive(Args)]
pub struct Sign {
    /// A file, whose manifest is put beside it; or a manifest or a folder with manifest.json, which is signed again
    path: PathBuf,
    #[command(flatten)]
    signer: Signer,
    /// Identifier, of a file; made of its name, if not given
    #[arg(long)]
    id: Option<String>,
    /// Version, of a file; 1.0.0 if not given
    #[arg(long)]
    version: Option<Version>,
    /// What the model does, of a file; as it tells, or else `model`
    #[arg(long = "type")]
    kind: Option<String>,
    #[command(flatten)]
    term: Term,
}

impl Sign {
    /// Signs.
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

    fn manifest(&self, path: &Path) -> Result<Map<String, Value>, Error> {
        if self.id.is_some() || self.version.is_some() || self.kind.is_some() {
            let problem =
                "it is a manifest, and says itself what --id, --version and --type say of a file"
                    .into();
            return Err(Error::BadDescription { path: path.to_owned(), problem });
        }
        let text = fs::read_to_string(path).map_err(of_file(path))?;
        let mut document = Manifest::parse(&text)?.document().clone();
        self.term.write(&mut document);
        Ok(document)
    }

    /// The manifest of a file, and where it goes.
    fn file(self, path: &Path, context: &Context) -> Result<(Map<String, Value>, PathBuf), Error> {
        let pieces = model::read(path, context)?;
        let kind =
            self.kind.unwrap_or_else(|| Told::of(&pieces).kind.unwrap_or("model").to_owned());
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
            description.document(path, &pieces)?,
            PathBuf::from(format!("{}{BESIDE}", path.display())),
        ))
    }
}

/// Whether a file is a manifest, perhaps not a good one: JSON that has artifacts.
fn is_manifest(path: &Path) -> Result<bool, Error> {
    if fs::metadata(path).map_err(of_file(path))?.len() > MAX_MANIFEST_BYTES {
        return Ok(false);
    }
    let content: Value =
        serde_json::from_slice(&fs::read(path).map_err(of_file(path))?).unwrap_or_default();
    Ok(content.get("artifacts").is_some())
}
