//! `verify`: whether the files of a folder are what their signed manifest says.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use edge_net_core::manifest::{Artifact, Manifest};
use edge_net_core::signature::{PinnedKeys, VerifiedManifest};
use edge_net_core::verify::LeafTable;
use serde_json::json;

use crate::digest;
use crate::error::{Error, of_file};

/// `verify`
#[derive(Args)]
pub struct Verify {
    /// Folder with manifest.json, or the manifest itself; the files lie beside it
    path: PathBuf,
    /// Pinned keys, as keygen prints them, or a file that holds them; without, the signature is not checked
    #[arg(long)]
    keys: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Verify {
    /// Verifies.
    pub fn run(self) -> Result<(), Error> {
        let path = if self.path.is_dir() { self.path.join("manifest.json") } else { self.path.clone() };
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let text = fs::read_to_string(&path).map_err(of_file(&path))?;
        let (manifest, signed_by): (Manifest, Option<String>) = match &self.keys {
            None => (Manifest::parse(&text)?, None),
            Some(keys) => {
                let json = if keys.trim_start().starts_with('{') {
                    keys.clone()
                } else {
                    fs::read_to_string(keys).map_err(of_file(keys))?
                };
                let verified = VerifiedManifest::verify(&text, &PinnedKeys::parse(&json)?)
                    .map_err(|refusal| Error::Refused { path: path.display().to_string(), refusal })?;
                ((*verified).clone(), Some(verified.key_id().to_owned()))
            }
        };
        let problems: Vec<Option<String>> = manifest.artifacts.iter().map(|artifact| problem(&folder, artifact)).collect();
        let rows = || manifest.artifacts.iter().zip(&problems);
        if self.json {
            let files: Vec<_> = rows().map(|(file, problem)| json!({ "file": file.filename, "problem": problem })).collect();
            println!(
                "{}",
                json!({ "id": manifest.id, "version": manifest.version.to_string(), "signedBy": signed_by, "files": files })
            );
        } else {
            let signature = signed_by.map_or("signature not checked (no --keys)".into(), |key| format!("signed by {key}"));
            println!("{} {}, {signature}", manifest.id, manifest.version);
            for (artifact, problem) in rows() {
                println!("{}: {}", artifact.filename, problem.as_deref().unwrap_or("ok"));
            }
        }
        match problems.iter().flatten().count() {
            0 => Ok(()),
            bad => Err(Error::NotVerified(bad, problems.len())),
        }
    }
}

/// What is wrong with a file, if anything.
fn problem(folder: &Path, artifact: &Artifact) -> Option<String> {
    let path = folder.join(&artifact.filename);
    let found = match digest::file(&path, |_| {}) {
        Ok(found) => found,
        Err(error) => return Some(error.to_string()),
    };
    if found.size != artifact.size {
        return Some(format!("it has {} bytes instead of {}", found.size, artifact.size));
    }
    if found.cid == artifact.cid && found.sha256 == artifact.sha256 {
        return None;
    }
    // The leaf table beside the file, if it is the true one, tells where.
    let table = fs::read(folder.join(format!("{}.leaves", artifact.filename))).ok();
    let table =
        table.and_then(|table| LeafTable::verify(&table, artifact.size, &artifact.cid).ok()).map(|table| table.to_bytes());
    let wrong: Vec<String> = table
        .iter()
        .flat_map(|table| table.as_chunks::<32>().0.iter().zip(&found.leaves).enumerate())
        .filter(|(_, (want, got))| **want != got.0)
        .map(|(leaf, _)| leaf.to_string())
        .collect();
    Some(match wrong.len() {
        0 => "its bytes are not those the manifest names".into(),
        _ => format!("wrong bytes in leaf {}", wrong.join(", ")),
    })
}
