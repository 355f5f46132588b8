//! `verify`: whether files are what their signed manifest says.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use edge_net_core::dag::verify::LeafTable;
use edge_net_core::trust::manifest::{Artifact, Manifest, is_id};
use edge_net_core::trust::signature::VerifiedManifest;
use semver::Version;
use serde_json::json;

use crate::cache::{self, Cache, MANIFEST};
use crate::commands::sign;
use crate::error::{Error, of_file};
use crate::terminal::{bar, printable};
use crate::{Context, digest};

/// `verify`
#[derive(Args)]
pub struct Verify {
    /// Identifier of a pulled model; or a folder with manifest.json, or a manifest beside its files, or a file that `sign` signed
    model: String,
    /// This version of a pulled model instead of the newest
    #[arg(long)]
    version: Option<Version>,
    /// Check the signature against the pinned keys, too; with --keys it always is
    #[arg(long)]
    check_signature: bool,
}

impl Verify {
    /// Verifies.
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
            out!(
                "{}",
                json!({ "id": manifest.id, "version": manifest.version.to_string(), "signedBy": signed_by, "files": files })
            );
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

    /// Where the manifest is.
    fn manifest(&self, context: &Context) -> Result<PathBuf, Error> {
        let path = PathBuf::from(&self.model);
        // A folder that happens to be called as a model is no model.
        if path.join(MANIFEST).is_file() {
            return Ok(path.join(MANIFEST));
        }
        let beside = PathBuf::from(format!("{}{}", self.model, sign::BESIDE));
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

/// What is wrong with a file, if anything.
pub fn problem(folder: &Path, artifact: &Artifact, context: &Context) -> Option<String> {
    let path = folder.join(&artifact.filename);
    let bar = bar(context, "verifying", &artifact.filename, artifact.size);
    let found = match digest::file(&path, |read| bar.inc(read)) {
        Ok(found) => found,
        Err(error) => return Some(error.to_string()),
    };
    bar.finish_and_clear();
    if found.size != artifact.size {
        return Some(format!("it has {} bytes instead of {}", found.size, artifact.size));
    }
    if found.cid == artifact.cid && found.sha256 == artifact.sha256 {
        return None;
    }
    // The leaf table beside the file, if it is the true one, tells where.
    let table = fs::read(folder.join(format!("{}.leaves", artifact.filename))).ok();
    let table =
        table.and_then(|table| LeafTable::verify(&table, artifact.size, &artifact.cid).ok());
    let pairs =
        table.iter().flat_map(|table| table.digests().iter().zip(&found.leaves).enumerate());
    let wrong: Vec<String> =
        pairs.filter(|(_, (want, got))| want != got).map(|(leaf, _)| leaf.to_string()).collect();
    Some(match wrong.len() {
        0 => "its bytes are not those the manifest names".into(),
        _ => format!("wrong bytes in leaf {}", wrong.join(", ")),
    })
}
