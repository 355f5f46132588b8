//! Finds and verifies what a download needs first: the signed manifest and the leaf table.

use cid::Cid;
use edge_net_core::dag::verify::LeafTable;
use edge_net_core::dag::walk::Walk;
use edge_net_core::transfer::source::{Failure, Source};
use edge_net_core::trust::manifest::{Artifact, MAX_MANIFEST_BYTES, Manifest};
use edge_net_core::trust::signature::{Floor, PinnedKeys, Refusal, VerifiedManifest};
use js_sys::Object;
use semver::Version;
use web_sys::AbortSignal;

use crate::host;

/// Timeout of a manifest request in milliseconds.
const MANIFEST_TIMEOUT: u32 = 5_000;
/// Timeout of a request for a leaf table or a block in milliseconds.
const TABLE_TIMEOUT: u32 = 20_000;
/// The largest leaf table in bytes: that of an artifact of 256 GiB.
const MAX_TABLE_BYTES: u64 = 32 << 20;
/// The largest dag-pb block in bytes; 174 links take some 9 KiB.
const MAX_BLOCK_BYTES: u64 = 64 << 10;

/// Prepares URLs for their source.
#[allow(async_fn_in_trait)] // Nothing here leaves its thread.
pub trait Access {
    /// The URL to request from `source` for `url`: signed, if the source needs that.
    ///
    /// # Errors
    /// [`Failure::Unreachable`] when the URL cannot be prepared.
    async fn admit(&self, source: &Source, url: String) -> Result<String, Failure>;
}

/// Access to public sources: URLs stay as they are.
#[derive(Debug, Clone, Copy)]
pub struct Public;

impl Access for Public {
    async fn admit(&self, _: &Source, url: String) -> Result<String, Failure> {
        Ok(url)
    }
}

/// The sources of a lookup.
#[derive(Debug)]
pub struct Places<'a, A> {
    /// Sources in the order in which they are asked.
    pub sources: &'a [Source],
    /// Options of every `fetch`.
    pub init: &'a Object,
    /// Prepares URLs.
    pub access: &'a A,
}

impl<A: Access> Places<'_, A> {
    async fn fetch(
        &self,
        source: &Source,
        url: String,
        most: u64,
        timeout: u32,
    ) -> Result<Vec<u8>, Failure> {
        let url = self.access.admit(source, url).await?;
        let response =
            host::get(&url, &[], self.init, &AbortSignal::timeout_with_u32(timeout)).await?;
        match response.status() {
            200 => host::read_at_most(&response, most).await,
            status => {
                host::discard(&response);
                Err(Failure::Status(status))
            }
        }
    }
}

/// Why there is no manifest. The text names each source with its failure.
#[derive(Debug, thiserror::Error)]
pub enum NoManifest {
    /// Every source responded that it has no manifest.
    #[error("no such model: {0}")]
    NotFound(String),
    /// The sources' manifests are refused.
    #[error("manifest refused: {0}")]
    Refused(String),
    /// The sources' manifests are older than one that was accepted before, which stays valid.
    #[error("manifest refused: {0}")]
    Older(String),
    /// No source responded.
    #[error("no source could be reached for the manifest: {0}")]
    Unreachable(String),
}

/// An accepted manifest and its text.
#[derive(Debug)]
pub struct Accepted {
    /// The manifest.
    pub manifest: VerifiedManifest,
    /// Its JSON, as the source sent it.
    pub text: String,
}

/// Verifies `text` as the manifest of `id`: of `version` if one is given, else not older than
/// `floor`.
///
/// # Errors
/// [`Refusal`] says why the manifest is refused.
pub fn accept(
    text: String,
    keys: &PinnedKeys,
    id: &str,
    version: Option<&Version>,
    floor: Option<&Floor>,
) -> Result<Accepted, Refusal> {
    let manifest = VerifiedManifest::verify(&text, keys)?.about(id, version)?;
    // A request for a version means that version, however old.
    let manifest = if version.is_none() { manifest.not_before(floor)? } else { manifest };
    Ok(Accepted { manifest, text })
}

/// Checks that a manifest has not expired, unless its version was requested by name.
///
/// # Errors
/// [`Refusal::Expired`].
pub fn current(accepted: Accepted, version: Option<&Version>) -> Result<Accepted, Refusal> {
    match version {
        Some(_) => Ok(accepted),
        None => Ok(Accepted {
            manifest: accepted.manifest.not_expired(host::unix_time())?,
            text: accepted.text,
        }),
    }
}

/// Asks the sources, in order, for the manifest of `id`, and returns the first that is accepted.
///
/// # Errors
/// [`NoManifest`] names the failure of each source.
pub async fn manifest(
    places: &Places<'_, impl Access>,
    keys: &PinnedKeys,
    id: &str,
    version: Option<&Version>,
    floor: Option<&Floor>,
) -> Result<Accepted, NoManifest> {
    let (mut absent, mut refused, mut silent) = (Vec::new(), Vec::new(), Vec::new());
    let mut only_older = true;
    for source in places.sources {
        let Some(url) = source.manifest_url(id, version) else {
            continue;
        };
        let name = source.kind.name();
        match places.fetch(source, url, MAX_MANIFEST_BYTES, MANIFEST_TIMEOUT).await {
            Ok(bytes) => {
                match accept(String::from_utf8_lossy(&bytes).into_owned(), keys, id, version, floor)
                    .and_then(|accepted| current(accepted, version))
                {
                    Ok(accepted) => return Ok(accepted),
                    Err(refusal) => {
                        only_older &= matches!(refusal, Refusal::Rollback { .. });
                        refused.push(format!("{name}: {refusal}"));
                    }
                }
            }
            Err(Failure::Status(404 | 410)) => {
                absent.push(format!("{name} has no manifest of {id}"));
            }
            Err(failure) => silent.push(format!("{name}: {failure}")),
        }
    }
    if !refused.is_empty() {
        let reasons = refused.join("; ");
        Err(if only_older { NoManifest::Older(reasons) } else { NoManifest::Refused(reasons) })
    } else if silent.is_empty() && !absent.is_empty() {
        Err(NoManifest::NotFound(absent.join("; ")))
    } else {
        silent.extend(absent);
        Err(NoManifest::Unreachable(silent.join("; ")))
    }
}

/// No source has a leaf table that belongs to the signed CID.
#[derive(Debug, thiserror::Error)]
#[error("no source has the leaf table of {file}: {reasons}")]
pub struct NoLeafTable {
    file: String,
    reasons: String,
}

/// Finds the leaf table of an artifact: in its CID, at a source, or in the blocks of a gateway.
///
/// # Errors
/// [`NoLeafTable`] names the failure of each source.
pub async fn leaf_table(
    places: &Places<'_, impl Access>,
    manifest: &Manifest,
    artifact: &Artifact,
) -> Result<LeafTable, NoLeafTable> {
    if let Some(table) = LeafTable::of_single_leaf(artifact.size, &artifact.cid) {
        return Ok(table);
    }
    let mut reasons = Vec::new();
    for source in places.sources {
        let found = match source.leaf_table_url(manifest, artifact) {
            Some(url) => match places.fetch(source, url, MAX_TABLE_BYTES, TABLE_TIMEOUT).await {
                Ok(table) => LeafTable::verify(&table, artifact.size, &artifact.cid)
                    .map_err(|error| error.to_string()),
                Err(failure) => Err(failure.to_string()),
            },
            None => walk(places, source, artifact).await,
        };
        match found {
            Ok(table) => return Ok(table),
            Err(reason) => reasons.push(format!("{}: {reason}", source.kind.name())),
        }
    }
    Err(NoLeafTable { file: artifact.filename.clone(), reasons: reasons.join("; ") })
}

/// Reads the leaf digests from the blocks of the DAG.
async fn walk(
    places: &Places<'_, impl Access>,
    source: &Source,
    artifact: &Artifact,
) -> Result<LeafTable, String> {
    let mut walk = Walk::new(artifact.cid, artifact.layout());
    while !walk.wanted().is_empty() {
        let mut blocks = Vec::with_capacity(walk.wanted().len());
        for cid in walk.wanted() {
            blocks.push(block(places, source, cid).await.map_err(|failure| failure.to_string())?);
        }
        walk.descend(&blocks).map_err(|error| error.to_string())?;
    }
    let leaves = walk.leaves().ok_or("the DAG has leaves that are not SHA-256")?;
    LeafTable::from_digests(leaves, artifact.size, &artifact.cid).map_err(|error| error.to_string())
}

async fn block(
    places: &Places<'_, impl Access>,
    source: &Source,
    cid: &Cid,
) -> Result<Vec<u8>, Failure> {
    match source.block_url(cid) {
        Some(url) => places.fetch(source, url, MAX_BLOCK_BYTES, TABLE_TIMEOUT).await,
        None => Err(Failure::Status(404)),
    }
}
