//! The places that models come from, and the small things that a download needs first: the signed manifest and the leaf table.

use std::thread::sleep;
use std::time::{Duration, SystemTime};

use edge_net_core::dag::unixfs::Walk;
use edge_net_core::dag::verify::LeafTable;
use edge_net_core::transfer::source::{Failure, Source, SourceKind};
use edge_net_core::trust::manifest::{Artifact, MAX_MANIFEST_BYTES, Manifest};
use edge_net_core::trust::signature::{Floor, PinnedKeys, Refusal, VerifiedManifest};
use semver::Version;
use ureq::Agent;

use crate::config::Settings;
use crate::error::Error;

/// Bytes of a leaf table read at the most: an artifact of 256 GiB.
const MAX_TABLE_BYTES: u64 = 32 << 20;
/// Bytes of a dag-pb block read at the most; 174 links take some 9 KiB.
const MAX_BLOCK_BYTES: u64 = 64 << 10;

/// A source, and how it is asked.
pub struct Place {
    /// What it is.
    pub source: Source,
    /// With the patience that the settings give it.
    pub agent: Agent,
}

/// All places.
pub struct Places {
    places: Vec<Place>,
    /// How often each is asked again.
    retries: u8,
}

/// The places that the settings name, the preferred kind first.
pub fn places(settings: &Settings) -> Places {
    let agent = |patience: Duration| -> Agent {
        Agent::config_builder()
            .http_status_as_error(false)
            .accept_encoding("identity")
            // As many as a download has under way at the most.
            .max_idle_connections_per_host(16)
            .timeout_connect(Some(patience))
            .timeout_recv_response(Some(patience))
            .timeout_per_read(Some(patience))
            .build()
            .into()
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

/// For how long an answer says that its source wants to be left alone.
pub fn retry_after(response: &ureq::http::Response<ureq::Body>) -> Option<Duration> {
    let value = response.headers().get("Retry-After")?.to_str().ok()?;
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    Some(until.duration_since(SystemTime::now()).unwrap_or_default())
}

/// What a request's end means.
pub fn failure_of(error: &ureq::Error) -> Failure {
    match error {
        ureq::Error::Timeout(_) => Failure::Stalled,
        ureq::Error::StatusCode(status) => Failure::Status(*status),
        other => Failure::Unreachable(other.to_string()),
    }
}

impl Place {
    /// The body at a URL, of `most` bytes at the most.
    fn get(&self, url: &str, most: u64) -> Result<Vec<u8>, Failure> {
        let mut response = self.agent.get(url).call().map_err(|error| failure_of(&error))?;
        match response.status().as_u16() {
            200 => response
                .body_mut()
                .with_config()
                .limit(most)
                .read_to_vec()
                .map_err(|error| failure_of(&error)),
            status => Err(Failure::Status(status)),
        }
    }
}

/// An accepted manifest and the very text that was signed.
#[derive(Clone)]
pub struct Accepted {
    /// The manifest.
    pub manifest: VerifiedManifest,
    /// Its JSON, as it came.
    pub text: String,
}

impl Accepted {
    /// Verifies `text` as the manifest of `id`: of `version` if one was asked for, else not expired and not before `floor`.
    pub fn verify(
        text: String,
        keys: &PinnedKeys,
        id: &str,
        version: Option<&Version>,
        floor: Option<&Floor>,
    ) -> Result<Self, Refusal> {
        let manifest = VerifiedManifest::verify(&text, keys)?.about(id, version)?;
        // Who asks for a version by name means that one, however old.
        let manifest = if version.is_none() {
            manifest.not_before(floor)?.not_expired(SystemTime::now().into())?
        } else {
            manifest
        };
        Ok(Self { manifest, text })
    }
}

impl Places {
    /// The sources of one kind, or all; in the order they are asked.
    pub fn of(&self, kind: Option<SourceKind>) -> impl Iterator<Item = &Place> {
        self.places.iter().filter(move |place| kind.is_none_or(|kind| place.source.kind == kind))
    }

    /// Asks each place in turn, and those that may have it yet again after a while, until one has what `ask` wants.
    fn first<T>(&self, ask: impl Fn(&Place) -> Option<Result<T, Reason>>) -> Result<T, Reasons> {
        let mut asked: Vec<&Place> = self.places.iter().collect();
        let mut reasons = Vec::new();
        let mut pause = Duration::from_millis(250);
        for round in 0..=self.retries {
            if round > 0 {
                sleep(pause);
                pause = (pause * 2).min(Duration::from_secs(4));
            }
            let mut again = Vec::new();
            for place in asked {
                match ask(place) {
                    None => {}
                    Some(Ok(found)) => return Ok(found),
                    Some(Err(Reason::Failed(failure)))
                        if !failure.is_final() && round < self.retries =>
                    {
                        again.push(place)
                    }
                    Some(Err(reason)) => reasons.push((place.source.base.clone(), reason)),
                }
            }
            asked = again;
            if asked.is_empty() {
                break;
            }
        }
        Err(Reasons(reasons))
    }

    /// The manifest of a model, from the first place that has one which `accept` takes.
    ///
    /// # Errors
    /// [`Error::NoManifest`] says what each place did.
    pub fn manifest<T>(
        &self,
        id: &str,
        version: Option<&Version>,
        accept: impl Fn(String) -> Result<T, Refusal>,
    ) -> Result<T, Error> {
        let accepted = self.first(|place| {
            let url = place.source.manifest_url(id, version)?;
            let text = place.get(&url, MAX_MANIFEST_BYTES).map_err(Reason::Failed);
            Some(text.and_then(|bytes| {
                accept(String::from_utf8_lossy(&bytes).into_owned()).map_err(Reason::Refused)
            }))
        });
        let wanted = version.map_or_else(|| id.to_owned(), |version| format!("{id} {version}"));
        accepted.map_err(|reasons| Error::NoManifest { wanted, reasons })
    }

    /// The leaf table of an artifact: in its CID, at a place, or in the blocks of a gateway.
    ///
    /// # Errors
    /// [`Error::NoLeafTable`] says what each place did.
    pub fn leaf_table(&self, manifest: &Manifest, artifact: &Artifact) -> Result<LeafTable, Error> {
        if let Some(table) = LeafTable::of_single_leaf(artifact.size, &artifact.cid) {
            return Ok(table);
        }
        let table = self.first(|place| {
            Some(match place.source.leaf_table_url(manifest, artifact) {
                Some(url) => {
                    place.get(&url, MAX_TABLE_BYTES).map_err(Reason::Failed).and_then(|table| {
                        LeafTable::verify(&table, artifact.size, &artifact.cid)
                            .map_err(|error| Reason::NotGood(error.to_string()))
                    })
                }
                None => walk(place, artifact),
            })
        });
        table.map_err(|reasons| Error::NoLeafTable { file: artifact.filename.clone(), reasons })
    }
}

/// Reads the leaf digests out of the DAG's own blocks.
fn walk(place: &Place, artifact: &Artifact) -> Result<LeafTable, Reason> {
    let wrong = |error: String| Reason::NotGood(error);
    let mut walk = Walk::new(artifact.cid, artifact.layout());
    while !walk.wanted().is_empty() {
        let block = |cid| {
            let url = place.source.block_url(cid).ok_or(Failure::Status(404))?;
            place.get(&url, MAX_BLOCK_BYTES)
        };
        let blocks: Vec<Vec<u8>> =
            walk.wanted().iter().map(block).collect::<Result<_, _>>().map_err(Reason::Failed)?;
        walk.descend(&blocks).map_err(|error| wrong(error.to_string()))?;
    }
    let leaves =
        walk.leaves().ok_or_else(|| wrong("the DAG has leaves that are not SHA-256".into()))?;
    LeafTable::from_digests(leaves, artifact.size, &artifact.cid)
        .map_err(|error| wrong(error.to_string()))
}

/// What a place did instead.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// It failed.
    #[error(transparent)]
    Failed(Failure),
    /// It sent a manifest that must not be used.
    #[error(transparent)]
    Refused(Refusal),
    /// It sent what is not that.
    #[error("{0}")]
    NotGood(String),
}

/// What each place did instead, by its address.
#[derive(Debug)]
pub struct Reasons(Vec<(String, Reason)>);

impl Reasons {
    /// Whether there are places, and all that were asked said that there is none.
    pub fn is_not_found(&self) -> bool {
        let absent = |reason: &Reason| matches!(reason, Reason::Failed(Failure::Status(404 | 410)));
        !self.0.is_empty() && self.0.iter().all(|(_, reason)| absent(reason))
    }

    /// Whether no place said anything that counts: they failed, all of them.
    pub fn is_unreachable(&self) -> bool {
        !self.is_not_found() && self.0.iter().all(|(_, reason)| matches!(reason, Reason::Failed(_)))
    }
}

impl std::fmt::Display for Reasons {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let reasons: Vec<String> =
            self.0.iter().map(|(place, reason)| format!("{place}: {reason}")).collect();
        f.write_str(&reasons.join("; "))
    }
}
