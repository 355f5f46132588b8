//! Finds and verifies what a download needs first: the signed manifest and the leaf table.

use cid::Cid;
use edge_net_core::dag::verify::LeafTable;
use edge_net_core::dag::walk::Walk;
use edge_net_core::transfer::lookup::{
    self, Lookup, MAX_BLOCK_BYTES, MAX_TABLE_BYTES, Reason, Reasons, Step,
};
use edge_net_core::transfer::source::{Failure, Source};
use edge_net_core::trust::acceptance::Acceptance;
use edge_net_core::trust::manifest::{Artifact, MAX_MANIFEST_BYTES, Manifest};
use edge_net_core::trust::signature::{Floor, PinnedKeys};
use js_sys::Object;
use semver::Version;
use web_sys::AbortSignal;

use crate::host;

pub use edge_net_core::trust::acceptance::{Accepted, NoManifest};

/// Timeout of a manifest request in milliseconds.
const MANIFEST_TIMEOUT: u32 = 5_000;
/// Timeout of a request for a leaf table or a block in milliseconds.
const TABLE_TIMEOUT: u32 = 20_000;

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
    /// Asks the sources in order until `ask` succeeds; it returns `None` for a source that cannot
    /// have the document.
    async fn first<T>(
        &self,
        ask: impl AsyncFn(&Source) -> Option<Result<T, Reason>>,
    ) -> Result<T, Reasons> {
        let names = self.sources.iter().map(|source| source.kind.name().to_owned());
        let mut lookup = Lookup::new(names, 0);
        while let Some(step) = lookup.step() {
            let Step::Ask(at) = step else { continue };
            match ask(&self.sources[at]).await {
                None => {}
                Some(Ok(found)) => return Ok(found),
                Some(Err(reason)) => lookup.failed(at, reason),
            }
        }
        Err(lookup.reasons())
    }

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

/// What is asked of a manifest on this host, at its time.
#[must_use]
pub fn acceptance<'a>(
    keys: &'a PinnedKeys,
    id: &'a str,
    version: Option<&'a Version>,
    floor: Option<&'a Floor>,
) -> Acceptance<'a> {
    Acceptance { keys, id, version, floor, now: host::unix_time() }
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
    let acceptance = acceptance(keys, id, version, floor);
    let found = places.first(async |source| {
        let url = source.manifest_url(id, version)?;
        let fetched = places.fetch(source, url, MAX_MANIFEST_BYTES, MANIFEST_TIMEOUT).await;
        Some(fetched.map_err(Reason::from).and_then(|bytes| {
            Ok(acceptance.offered(String::from_utf8_lossy(&bytes).into_owned())?)
        }))
    });
    found.await.map_err(|reasons| reasons.no_manifest(id))
}

/// No source has a leaf table that belongs to the signed CID.
#[derive(Debug, thiserror::Error)]
#[error("no source has the leaf table of {file}: {reasons}")]
pub struct NoLeafTable {
    file: String,
    reasons: String,
}

impl NoLeafTable {
    /// The failures of a lookup, or another reason.
    #[must_use]
    pub fn of(artifact: &Artifact, reasons: &impl ToString) -> Self {
        Self { file: artifact.filename.clone(), reasons: reasons.to_string() }
    }
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
    let found = places.first(async |source| {
        let Some(url) = source.leaf_table_url(manifest, artifact) else {
            return Some(walk(places, source, artifact).await);
        };
        let sent = places.fetch(source, url, MAX_TABLE_BYTES, TABLE_TIMEOUT).await;
        Some(sent.map_err(Reason::from).and_then(|table| lookup::sent_table(&table, artifact)))
    });
    found.await.map_err(|reasons| NoLeafTable::of(artifact, &reasons))
}

/// Reads the leaf digests from the blocks of the DAG.
async fn walk(
    places: &Places<'_, impl Access>,
    source: &Source,
    artifact: &Artifact,
) -> Result<LeafTable, Reason> {
    let mut walk = Walk::new(artifact.cid, artifact.layout());
    while !walk.wanted().is_empty() {
        let mut blocks = Vec::with_capacity(walk.wanted().len());
        for cid in walk.wanted() {
            blocks.push(block(places, source, cid).await?);
        }
        walk.descend(&blocks).map_err(|error| Reason::Invalid(error.to_string()))?;
    }
    lookup::walked_table(&walk, artifact)
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
