//! `verify`: compares files with their signed manifest.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use edge_net_core::trust::manifest::{Manifest, is_id};
use edge_net_core::trust::signature::VerifiedManifest;
use semver::Version;
use serde_json::json;

use crate::cache::{self, Cache};
use crate::check::problem;
use crate::context::Context;
use crate::document::{BESIDE, MANIFEST};
use crate::error::Error;
use crate::files::of_file;
use crate::terminal::printable;

/// `verify`
#[derive(Args)]
pub struct Verify {
    /// A pulled model, a folder with manifest.json, a manifest beside its files, or a signed file
    model: String,
    /// Version of a pulled model; default: the newest
    #[arg(long)]
    version: Option<Version>,
    /// Also check the signature against the pinned keys; implied by --keys
    #[arg(long)]
    check_signature: bool,
}

impl Verify {
    /// Runs the command.
    ///
    /// # Errors
    /// [`Error::NotVerified`] when a file differs; [`Error::NothingToVerify`], [`Error::NoKeys`],
    /// [`Error::Refused`], [`Error::Manifest`], [`Error::File`] and [`Error::Config`].
    pub fn run(self, context: &Context) -> Result<(), Error> {
        let path = self.manifest(context)?;
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let text = fs::read_to_string(&path).map_err(of_file(&path))?;
        let (manifest, signed_by): (Manifest, Option<String>) = if self.check_signature
            || context.flags.names_keys()
        {
            let keys = context.settings()?.pinned()?;
            if keys.is_empty() {
                return Err(Error::NoKeys);
            }
            let verified = VerifiedManifest::verify(&text, &keys)
                .map_err(|refusal| Error::Refused { path: path.display().to_string(), refusal })?;
            ((*verified).clone(), Some(verified.key_id().to_owned()))
        } else {
            (Manifest::parse(&text)?, None)
        };
        let problem = |artifact| problem(&folder, artifact, context);
        let problems: Vec<Option<String>> = manifest.artifacts.iter().map(problem).collect();
        let rows = || manifest.artifacts.iter().zip(&problems);
        if context.json {
            let files: Vec<_> = rows()
                .map(|(file, problem)| json!({ "file": file.filename, "problem": problem }))
                .collect();
            let report = json!({
                "id": manifest.id,
                "version": manifest.version.to_string(),
                "signedBy": signed_by,
                "files": files,
            });
            out!("{report}");
        } else {
            let signature = signed_by
                .map_or("signature not checked (give --check-signature)".into(), |key| {
                    format!("signed by {key}")
                });
            out!("{} {}, {}", manifest.id, manifest.version, printable(&signature));
            for (artifact, problem) in rows() {
                out!("{}: {}", artifact.filename, problem.as_deref().unwrap_or("ok"));
            }
        }
        match problems.iter().flatten().count() {
            0 => Ok(()),
            bad => Err(Error::NotVerified(bad, problems.len())),
        }
    }

    /// Returns the path of the manifest.
    fn manifest(&self, context: &Context) -> Result<PathBuf, Error> {
        let path = PathBuf::from(&self.model);
        // A path takes precedence over a model with the same name.
        if path.join(MANIFEST).is_file() {
            return Ok(path.join(MANIFEST));
        }
        let beside = PathBuf::from(format!("{}{}", self.model, BESIDE));
        if beside.is_file() {
            return Ok(beside);
        }
        if path.is_file() {
            return Ok(path);
        }
        if !is_id(&self.model) {
            return Err(Error::NothingToVerify(self.model.clone()));
        }
        let entry = Cache::new(&context.settings()?).find(&self.model, self.version.as_ref())?;
        let folder = entry.ok_or_else(|| Error::NothingToVerify(self.model.clone()))?.folder;
        cache::touch(&folder);
        Ok(folder.join(MANIFEST))
    }
}
