//! The sources that the settings name, and the two small documents that a download needs first: the
//! signed manifest and the leaf table.

use std::thread::sleep;
use std::time::{Duration, SystemTime};

use edge_net_core::dag::verify::LeafTable;
use edge_net_core::dag::walk::Walk;
use edge_net_core::transfer::lookup::{
    self, Lookup, MAX_BLOCK_BYTES, MAX_TABLE_BYTES, Reason, Reasons, Step,
};
use edge_net_core::transfer::source::{Failure, Source, SourceKind};
use edge_net_core::trust::manifest::{Artifact, MAX_MANIFEST_BYTES, Manifest};
use edge_net_core::trust::signature::Refusal;
use semver::Version;
use ureq::Agent;

use crate::config::Settings;
use crate::network::{self, message};
use crate::proxy::via;

/// No source gave a valid document.
#[derive(Debug, thiserror::Error)]
pub enum PlacesError {
    /// No source gave a valid manifest.
    #[error("{} {wanted}: {}", if .reasons.is_not_found() {
        "no source has"
    } else if .reasons.is_unreachable() {
        "all sources failed for"
    } else {
        "no source has a valid manifest of"
    }, told(.reasons))]
    NoManifest {
        /// The model, and the version if one was asked for.
        wanted: String,
        /// The failure of each source.
        reasons: Reasons,
    },
    /// No source gave a valid leaf table.
    #[error("no source has a valid leaf table of {file}: {}", told(.reasons))]
    NoLeafTable {
        /// Name of the artifact.
        file: String,
        /// The failure of each source.
        reasons: Reasons,
    },
}

/// Returns the failure of each source. It names the proxy that was used.
fn told(reasons: &Reasons) -> String {
    let one = |(place, reason): (&str, &Reason)| {
        let reason = reason.to_string();
        let proxy = if reason.contains("through the proxy") { String::new() } else { via(place) };
        format!("{place}{proxy}: {reason}")
    };
    reasons.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// A source, and the agent for requests to it.
pub struct Place {
    /// The source.
    pub source: Source,
    /// An agent with the timeouts that the settings give the source.
    pub agent: Agent,
}

/// All sources.
pub struct Places {
    places: Vec<Place>,
    /// The number of retries at each source.
    retries: u8,
}

/// Returns the sources that the settings name, those of the preferred kind first.
pub fn places(settings: &Settings) -> Places {
    let agent = |timeout: Duration| -> Agent {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .accept_encoding("identity")
            // The most concurrent requests of a download.
            .max_idle_connections_per_host(16)
            .timeout_connect(Some(timeout))
            .timeout_recv_response(Some(timeout))
            .timeout_per_read(Some(timeout));
        network::agent(config)
    };
    let (cdn, ipfs) = (agent(settings.cdn_timeout), agent(settings.ipfs_timeout));
    let place = |kind: SourceKind, base: &str, agent: &Agent| Place {
        source: Source::new(kind, base),
        agent: agent.clone(),
    };
    let mut places: Vec<Place> = Vec::new();
    places.extend(
        settings
            .edge_url
            .iter()
            .map(|edge| place(SourceKind::Edge, &format!("{}/models", edge.0), &cdn)),
    );
    places.push(place(SourceKind::Gcs, &settings.cdn_endpoint.0, &cdn));
    places.extend(
        settings.ipfs_gateways.iter().map(|gateway| place(SourceKind::Ipfs, &gateway.0, &ipfs)),
    );
    places.sort_by_key(|place| place.source.kind != settings.default_source);
    Places { places, retries: settings.cdn_retries }
}

/// Returns the delay that a response asks for before the next request: its `Retry-After` (RFC 9110,
/// 10.2.3).
pub fn retry_after(response: &ureq::http::Response<ureq::Body>) -> Option<Duration> {
    let value = response.headers().get("Retry-After")?.to_str().ok()?;
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    Some(until.duration_since(SystemTime::now()).unwrap_or_default())
}

/// Classifies an error of a request to `url`.
pub fn failure_of(url: &str, error: &ureq::Error) -> Failure {
    match error {
        ureq::Error::Timeout(_) => Failure::Stalled,
        ureq::Error::StatusCode(status) => Failure::Status(*status),
        other => Failure::Unreachable(message(url, other)),
    }
}

impl Place {
    /// Fetches a body of at most `most` bytes.
    fn get(&self, url: &str, most: u64) -> Result<Vec<u8>, Failure> {
        let mut response = self.agent.get(url).call().map_err(|error| failure_of(url, &error))?;
        match response.status().as_u16() {
            200 => response
                .body_mut()
                .with_config()
                .limit(most)
                .read_to_vec()
                .map_err(|error| failure_of(url, &error)),
            status => Err(Failure::Status(status)),
        }
    }
}

impl Places {
    /// Returns the sources of one kind, or all, in the order in which they are asked.
    pub fn of(&self, kind: Option<SourceKind>) -> impl Iterator<Item = &Place> {
        self.places.iter().filter(move |place| kind.is_none_or(|kind| place.source.kind == kind))
    }

    /// Asks one source after the other until `ask` succeeds. Sources with a temporary failure are
    /// asked again after a pause. `ask` returns `None` for a source that cannot have the document.
    fn first<T>(&self, ask: impl Fn(&Place) -> Option<Result<T, Reason>>) -> Result<T, Reasons> {
        let names = self.places.iter().map(|place| place.source.base.clone());
        let mut lookup = Lookup::new(names, self.retries);
        while let Some(step) = lookup.step() {
            let at = match step {
                Step::Ask(at) => at,
                Step::Pause(pause) => {
                    sleep(pause);
                    continue;
                }
            };
            match ask(&self.places[at]) {
                None => {}
                Some(Ok(found)) => return Ok(found),
                Some(Err(reason)) => lookup.failed(at, reason),
            }
        }
        Err(lookup.reasons())
    }

    /// Fetches the manifest of a model: the first one that `accept` accepts.
    ///
    /// # Errors
    /// [`PlacesError::NoManifest`] with the failure of each source.
    pub fn manifest<T>(
        &self,
        id: &str,
        version: Option<&Version>,
        accept: impl Fn(String) -> Result<T, Refusal>,
    ) -> Result<T, PlacesError> {
        let accepted = self.first(|place| {
            let url = place.source.manifest_url(id, version)?;
            let text = place.get(&url, MAX_MANIFEST_BYTES).map_err(Reason::Failed);
            Some(text.and_then(|bytes| {
                accept(String::from_utf8_lossy(&bytes).into_owned()).map_err(Reason::Refused)
            }))
        });
        let wanted = version.map_or_else(|| id.to_owned(), |version| format!("{id} {version}"));
        accepted.map_err(|reasons| PlacesError::NoManifest { wanted, reasons })
    }

    /// Obtains the leaf table of an artifact: from its CID if the artifact has one leaf, else from
    /// a source that keeps the table, else from the blocks of a gateway.
    ///
    /// # Errors
    /// [`PlacesError::NoLeafTable`] with the failure of each source.
    pub fn leaf_table(
        &self,
        manifest: &Manifest,
        artifact: &Artifact,
    ) -> Result<LeafTable, PlacesError> {
        if let Some(table) = LeafTable::of_single_leaf(artifact.size, &artifact.cid) {
            return Ok(table);
        }
        let table = self.first(|place| {
            Some(match place.source.leaf_table_url(manifest, artifact) {
                Some(url) => {
                    let sent = place.get(&url, MAX_TABLE_BYTES).map_err(Reason::Failed);
                    sent.and_then(|table| lookup::sent_table(&table, artifact))
                }
                None => walk(place, artifact),
            })
        });
        table.map_err(|reasons| PlacesError::NoLeafTable {
            file: artifact.filename.clone(),
            reasons,
        })
    }
}

/// Reads the leaf digests from the blocks of the DAG.
fn walk(place: &Place, artifact: &Artifact) -> Result<LeafTable, Reason> {
    let mut walk = Walk::new(artifact.cid, artifact.layout());
    while !walk.wanted().is_empty() {
        let block = |cid| {
            let url = place.source.block_url(cid).ok_or(Failure::Status(404))?;
            place.get(&url, MAX_BLOCK_BYTES)
        };
        let blocks: Vec<Vec<u8>> =
            walk.wanted().iter().map(block).collect::<Result<_, _>>().map_err(Reason::Failed)?;
        walk.descend(&blocks).map_err(|error| Reason::Invalid(error.to_string()))?;
    }
    lookup::walked_table(&walk, artifact)
}
