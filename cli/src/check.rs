//! Comparison of files with their manifest.

use std::fs;
use std::path::Path;

use edge_net_core::dag::verify::LeafTable;
use edge_net_core::trust::manifest::Artifact;

use crate::context::Context;
use crate::digest;

/// Hashes a file and returns the difference from its manifest entry; `None` when there is none.
pub fn problem(folder: &Path, artifact: &Artifact, context: &Context) -> Option<String> {
    let path = folder.join(&artifact.filename);
    let bar = context.bar("verifying", &artifact.filename, artifact.size);
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
    // The leaf table beside the file, if it belongs to the artifact, tells which leaves differ.
    let table = fs::read(folder.join(format!("{}.leaves", artifact.filename))).ok();
    let table =
        table.and_then(|table| LeafTable::verify(&table, artifact.size, &artifact.cid).ok());
    let pairs =
        table.iter().flat_map(|table| table.digests().iter().zip(&found.leaves).enumerate());
    let wrong: Vec<String> =
        pairs.filter(|(_, (want, got))| want != got).map(|(leaf, _)| leaf.to_string()).collect();
    Some(match wrong.len() {
        0 => "its SHA-256 and CID are not those in the manifest".into(),
        _ => format!("wrong bytes in leaf {}", wrong.join(", ")),
    })
}
