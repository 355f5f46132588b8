//! Finds the small things a download needs first: the signed manifest and the leaf table.

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

/// How long a manifest may take, in milliseconds.
const MANIFEST_TIMEOUT: u32 = 5_000;
/// How long a leaf table or a block may take, in milliseconds.
const TABLE_TIMEOUT: u32 = 20_000;
/// Bytes of a leaf table read at the most: an artifact of 256 GiB.
const MAX_TABLE_BYTES: u64 = 32 << 20;
/// Bytes of a dag-pb block read at the most; 174 links take some 9 KiB.
const MAX_BLOCK_BYTES: u64 = 64 << 10;

/// What a URL needs before it is asked for.
#[allow(async_fn_in_trait)] // Nothing here leaves its thread.
pub trait Access {
    /// The URL to ask `source` for instead of `url`: signed, where the source wants that.
    ///
    /// # Errors
    /// [`Failure::Unreachable`].
    async fn admit(&self, source: &Source, url: String) -> Result<String, Failure>;
}

/// For sources that anybody may ask.
#[derive(Debug, Clone, Copy)]
pub struct Public;

impl Access for Public {
    async fn admit(&self, _: &Source, url: String) -> Result<String, Failure> {
        Ok(url)
    }
}

/// Where to look, and how.
#[derive(Debug)]
pub struct Places<'a, A> {
    /// In the order they are asked.
    pub sources: &'a [Source],
    /// Added to every `fetch`.
    pub init: &'a Object,
    /// What URLs need.
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
            status => Err(Failure::Status(status)),
        }
    }
}

/// Why there is no manifest. Each source is named with what it did.
#[derive(Debug, thiserror::Error)]
pub enum NoManifest {
    /// Every source that answered said there is none.
    #[error("no such model: {0}")]
    NotFound(String),
    /// A source answered with a manifest that must not be used.
    #[error("manifest refused: {0}")]
    Refused(String),
    /// Every manifest that came was good once: a newer one was accepted before, and still holds.
    #[error("manifest refused: {0}")]
    Older(String),
    /// No source could be asked.
    #[error("no source could be reached for the manifest: {0}")]
    Unreachable(String),
}

/// An accepted manifest and the very text that was signed.
#[derive(Debug)]
pub struct Accepted {
    /// The manifest.
    pub manifest: VerifiedManifest,
    /// Its JSON, as the source sent it.
    pub text: String,
}

/// Verifies `text` as the manifest of `id`, of `version` if one was asked for, else not before
/// `floor`.
///
/// # Errors
/// [`Refusal`].
pub fn accept(
    text: String,
    keys: &PinnedKeys,
    id: &str,
    version: Option<&Version>,
    floor: Option<&Floor>,
) -> Result<Accepted, Refusal> {
    let manifest = VerifiedManifest::verify(&text, keys)?.about(id, version)?;
    // Who asks for a version by name means that one, however old.
    let manifest = if version.is_none() { manifest.not_before(floor)? } else { manifest };
    Ok(Accepted { manifest, text })
}

/// Checks that a manifest has not expired, unless its version was asked for by name.
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

/// Asks the sources, in order, for the manifest of `id`, and takes the first that is good.
///
/// # Errors
/// [`NoManifest`] says what each source did.
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

/// No source gave a leaf table that belongs to the signed CID.
#[derive(Debug, thiserror::Error)]
#[error("no source has the leaf table of {file}: {reasons}")]
pub struct NoLeafTable {
    file: String,
    reasons: String,
}

/// Finds the leaf table of an artifact: in its CID, at a source, or in the blocks of a gateway.
///
/// # Errors
/// [`NoLeafTable`] says what each source did.
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

/// Reads the leaf digests out of the DAG's own blocks.
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
