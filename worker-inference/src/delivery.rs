//! Downloads from the edge. All bytes are verified here again: the edge is not trusted more than
//! any other source.

use std::sync::Arc;

use edge_net_core::dag::layout::{LEAF_SIZE, LEAVES_PER_SEGMENT};
use edge_net_core::transfer::download::{Config, DownloadError, Report};
use edge_net_core::transfer::source::{Failure, Source, SourceKind};
use edge_net_core::trust::manifest::{Artifact, Manifest};
use edge_net_core::trust::signature::{Floor, PinnedKeys};
use edge_net_driver::HostBytes;
use edge_net_driver::lookup::{self, Accepted, Access, NoLeafTable, NoManifest, Places};
use edge_net_driver::session::{Location, SegmentStore, Session};
use js_sys::{Object, Uint8Array};

use crate::model::Fault;

/// Maximum number of segments in memory: one is consumed while the next one arrives.
const HELD: usize = 2;
/// Requests to the edge at once.
const LANES: usize = 2;
/// Requests for one segment. The edge tries each of its sources as often.
const ATTEMPTS: u32 = 3;

/// Why a file was not delivered.
#[derive(Debug, thiserror::Error)]
pub enum NotDelivered {
    /// No leaf table is available.
    #[error(transparent)]
    Table(#[from] NoLeafTable),
    /// No good copy is available.
    #[error(transparent)]
    Download(#[from] DownloadError),
    /// It was delivered, and cannot be used.
    #[error(transparent)]
    Refused(#[from] Fault),
}

/// Stores no segments: the edge has a cache.
struct Nothing;

impl SegmentStore for Nothing {
    const BLOBS: bool = false;
    async fn load(&self, _: u64) -> Option<Uint8Array> {
        None
    }
    async fn save(&self, _: u64, _: Vec<HostBytes>) {}
    async fn forget(&self, _: u64) {}
}

/// The edge as the only source.
pub struct Edge {
    source: Source,
    /// The query of a link, if the model is private.
    link: Option<String>,
}

impl Access for Edge {
    async fn admit(&self, _: &Source, url: String) -> Result<String, Failure> {
        Ok(self.linked(url))
    }
}

impl Edge {
    /// The edge at the origin of a request's URL, with the query of a link for a private model. Its
    /// cache has what other requests for that origin fetched.
    pub fn of(origin: &str, link: Option<String>) -> Self {
        Self { source: Source::new(SourceKind::Edge, &format!("{origin}/models")), link }
    }

    fn linked(&self, url: String) -> String {
        match &self.link {
            Some(link) => format!("{url}?{link}"),
            None => url,
        }
    }

    fn places<'a>(&'a self, init: &'a Object) -> Places<'a, Self> {
        Places { sources: std::slice::from_ref(&self.source), init, access: self }
    }

    /// The newest manifest of a model.
    ///
    /// # Errors
    /// [`NoManifest`].
    pub async fn manifest(
        &self,
        keys: &PinnedKeys,
        id: &str,
        floor: Option<&Floor>,
    ) -> Result<Accepted, NoManifest> {
        lookup::manifest(&self.places(&Object::new()), keys, id, None, floor).await
    }

    /// Calls `take` with each verified leaf of a file, in order, and `progress` whenever bytes
    /// arrive.
    ///
    /// # Errors
    /// [`NotDelivered`].
    pub async fn deliver(
        &self,
        manifest: &Manifest,
        artifact: &Artifact,
        progress: impl Fn() + 'static,
        mut take: impl FnMut(&Uint8Array) -> Result<(), Fault>,
    ) -> Result<(), NotDelivered> {
        let init = Object::new();
        let table = Arc::new(lookup::leaf_table(&self.places(&init), manifest, artifact).await?);
        progress();
        let location = Location {
            name: self.source.kind.name().to_owned(),
            url: self.linked(self.source.artifact_url(manifest, artifact)),
        };
        // Whole segments, like the entries of the edge's cache.
        let limits = Config {
            whole: true,
            probe: LEAVES_PER_SEGMENT,
            lanes: LANES,
            held: HELD,
            attempts: ATTEMPTS,
            share: false,
            store: false,
            ..Config::default()
        };
        let report = move |report| {
            if let Report::Received { .. } = report {
                progress();
            }
        };
        let session = Session::new(table, vec![location], init, Nothing, limits, &[], report)
            .map_err(|error| NoLeafTable::of(artifact, &error))?;
        let mut reader = session.read(0..artifact.size);
        while let Some(bytes) = reader.next().await {
            let view = bytes?.view;
            let leaf = u32::try_from(LEAF_SIZE).unwrap_or(u32::MAX);
            for start in (0..view.length()).step_by(leaf as usize) {
                take(&view.subarray(start, (start + leaf).min(view.length())))?;
            }
        }
        Ok(())
    }
}
