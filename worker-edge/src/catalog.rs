//! What an isolate remembers between requests: accepted manifests and leaf tables. No bytes of models,
//! and nothing that belongs to a request.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use cid::Cid;
use edge_net_core::dag::blocks::Blocks;
use edge_net_core::dag::unixfs::cid_text;
use edge_net_core::dag::verify::LeafTable;
use edge_net_core::trust::manifest::{Artifact, Manifest};
use edge_net_core::trust::signature::{Floor, Refusal, VerifiedManifest};
use edge_net_driver::lookup::{self, Accepted, Access, NoLeafTable, NoManifest, Places};
use js_sys::Object;
use semver::Version;

use crate::config::Config;
use crate::hit::Lease;
use crate::log;

/// Signed manifests that came with the worker.
static BUNDLED: &[&str] = include!(concat!(env!("OUT_DIR"), "/bundled_manifests.rs"));

/// How long the newest manifest is taken for the newest, in milliseconds.
const FRESH: f64 = 60_000.0;
/// Leaf digests kept at the most, over all tables: 16 MiB, artifacts of 128 GiB.
const MAX_DIGESTS: u64 = 512 << 10;
/// Manifests kept at the most.
const MAX_MANIFESTS: usize = 256;
/// Leaf tables fetched at the most while one block is looked for.
const MAX_SEARCHED: usize = 8;

thread_local! {
    static MANIFESTS: RefCell<HashMap<(String, Option<Version>), Known>> = RefCell::default();
    static TABLES: RefCell<HashMap<String, Tabled>> = RefCell::default();
    /// The manifests of the bundle that a pinned key signed: a production worker ignores the demo's.
    static BUNDLE: OnceCell<Vec<Rc<Accepted>>> = const { OnceCell::new() };
}

/// A leaf table, and what follows from it once somebody asked for that.
struct Tabled {
    table: Arc<LeafTable>,
    blocks: OnceCell<Arc<Blocks>>,
}

struct Known {
    accepted: Rc<Accepted>,
    fresh_until: f64,
    lease: Lease,
}

/// The manifest of a model, from memory, the bucket, or the bundle, in this order.
///
/// # Errors
/// [`NoManifest`].
pub async fn manifest(
    config: &Config,
    id: &str,
    version: Option<&Version>,
) -> Result<Rc<Accepted>, NoManifest> {
    let key = (id.to_owned(), version.cloned());
    let now = js_sys::Date::now();
    let known = MANIFESTS.with_borrow(|known| {
        known.get(&key).map(|known| (Rc::clone(&known.accepted), known.fresh_until))
    });
    if let Some((accepted, fresh_until)) = &known
        && (version.is_some() || now < *fresh_until)
    {
        return Ok(Rc::clone(accepted));
    }
    let known = known.map(|(accepted, _)| accepted).or_else(|| bundled(config, id, version));
    let floor: Option<Floor> = known.as_ref().map(|known| known.manifest.floor());
    let found =
        lookup::manifest(&config.places(&Object::new()), &config.keys, id, version, floor.as_ref())
            .await;
    let accepted = match (found, known) {
        (Ok(found), _) => Rc::new(found),
        // Nobody could be asked, or the bucket does not have it, or went back: what was accepted before still holds.
        (
            Err(
                error @ (NoManifest::Unreachable(_)
                | NoManifest::NotFound(_)
                | NoManifest::Older(_)),
            ),
            Some(known),
        ) => {
            let version = known.manifest.version.to_string();
            log::warn("manifest-held").fact("model", id).fact("version", version).say(&error);
            known
        }
        (Err(error), _) => return Err(error),
    };
    remember(key, &accepted, now);
    Ok(accepted)
}

/// Remembers a version that was accepted elsewhere.
pub fn introduce(accepted: &Rc<Accepted>) {
    let key = (accepted.manifest.id.clone(), Some(accepted.manifest.version.clone()));
    remember(key, accepted, js_sys::Date::now());
}

fn remember(key: (String, Option<Version>), accepted: &Rc<Accepted>, now: f64) {
    MANIFESTS.with_borrow_mut(|known| {
        if known.len() >= MAX_MANIFESTS {
            known.clear();
        }
        let lease = Lease::until(if key.1.is_some() { f64::INFINITY } else { now + FRESH });
        known.insert(key, Known { accepted: Rc::clone(accepted), fresh_until: now + FRESH, lease });
    });
}

/// Until when `accepted` is what [`manifest`] answers; `None` where it is not any more.
pub fn lease(accepted: &Rc<Accepted>, id: &str, version: Option<&Version>) -> Option<Object> {
    let key = (id.to_owned(), version.cloned());
    MANIFESTS.with_borrow(|known| {
        known
            .get(&key)
            .filter(|known| Rc::ptr_eq(&known.accepted, accepted))
            .map(|known| known.lease.terms())
    })
}

/// The newest manifest of the bundle about a model, or about a version of it.
fn bundled(config: &Config, id: &str, version: Option<&Version>) -> Option<Rc<Accepted>> {
    let about = |accepted: &Rc<Accepted>| {
        accepted.manifest.id == id
            && version.is_none_or(|version| *version == accepted.manifest.version)
    };
    bundle(config)
        .into_iter()
        .filter(about)
        .max_by(|a, b| a.manifest.version.cmp(&b.manifest.version))
}

fn bundle(config: &Config) -> Vec<Rc<Accepted>> {
    let accept = |text: &&str| -> Result<Rc<Accepted>, Refusal> {
        let manifest = VerifiedManifest::verify(text, &config.keys)?;
        Ok(Rc::new(Accepted { manifest, text: (*text).to_owned() }))
    };
    BUNDLE.with(|bundle| {
        bundle.get_or_init(|| BUNDLED.iter().filter_map(|text| accept(text).ok()).collect()).clone()
    })
}

/// The newest manifest of each model of the bundle, in the order of their ids.
pub fn all_bundled(config: &Config) -> Vec<Rc<Accepted>> {
    let mut newest = BTreeMap::<String, Rc<Accepted>>::new();
    for accepted in bundle(config) {
        if newest
            .get(&accepted.manifest.id)
            .is_none_or(|known| known.manifest.version < accepted.manifest.version)
        {
            newest.insert(accepted.manifest.id.clone(), accepted);
        }
    }
    newest.into_values().collect()
}

/// The leaf table of an artifact.
///
/// # Errors
/// [`NoLeafTable`].
pub async fn leaf_table(
    config: &Config,
    manifest: &Manifest,
    artifact: &Artifact,
) -> Result<Arc<LeafTable>, NoLeafTable> {
    leaf_table_by(&config.credential, config, manifest, artifact).await
}

/// The same by who `access` lets ask.
///
/// # Errors
/// [`NoLeafTable`].
pub async fn leaf_table_by(
    access: &impl Access,
    config: &Config,
    manifest: &Manifest,
    artifact: &Artifact,
) -> Result<Arc<LeafTable>, NoLeafTable> {
    let key = cid_text(&artifact.cid);
    if let Some(table) =
        TABLES.with_borrow(|tables| tables.get(&key).map(|tabled| Arc::clone(&tabled.table)))
    {
        return Ok(table);
    }
    let places = Places { sources: &config.sources, init: &Object::new(), access };
    let table = Arc::new(lookup::leaf_table(&places, manifest, artifact).await?);
    TABLES.with_borrow_mut(|tables| {
        let kept: u64 = tables.values().map(|tabled| tabled.table.layout().leaves()).sum();
        if kept + table.layout().leaves() > MAX_DIGESTS {
            tables.clear();
        }
        tables.insert(key, Tabled { table: Arc::clone(&table), blocks: OnceCell::new() });
    });
    Ok(table)
}

/// The blocks of an artifact.
///
/// # Errors
/// [`NoLeafTable`].
pub async fn blocks(config: &Config, held: &Held) -> Result<Arc<Blocks>, NoLeafTable> {
    let table = leaf_table(config, &held.accepted.manifest, &held.artifact).await?;
    Ok(tabled(&held.artifact).unwrap_or_else(|| Arc::new(Blocks::over(table))))
}

/// An artifact, and the manifest that lists it.
pub struct Held {
    /// The manifest.
    pub accepted: Rc<Accepted>,
    /// The artifact.
    pub artifact: Artifact,
}

/// Why a block is not found.
#[derive(Debug, thiserror::Error)]
pub enum NoHolder {
    /// No artifact that is known here has it.
    #[error("{0} is no block of a model that is known here")]
    Unknown(String),
    /// Not all leaf tables were looked into.
    #[error("{cid} was not found yet; {left} leaf tables are left to be looked into: ask again")]
    Unfinished {
        /// The block.
        cid: String,
        /// How many.
        left: usize,
    },
    /// Not all leaf tables could be had.
    #[error("{cid} was not found where a leaf table could be had; {reasons}")]
    Unreachable {
        /// The block.
        cid: String,
        /// What each source did.
        reasons: String,
    },
}

/// The artifact that the block `cid` belongs to, as far as that is known without asking anybody. What belongs to private models only
/// is unknown here.
pub fn at_hand(config: &Config, cid: &Cid) -> Option<Held> {
    let root = artifacts(config, |artifact| artifact.cid == *cid).into_iter().next();
    let has_it =
        |held: &Held| tabled(&held.artifact).is_some_and(|blocks| blocks.find(cid).is_some());
    root.or_else(|| {
        artifacts(config, |artifact| Blocks::may_be_below(artifact.layout(), cid))
            .into_iter()
            .find(has_it)
    })
}

/// The same, among the artifacts whose leaf tables have to be fetched first: a few of them.
///
/// # Errors
/// [`NoHolder`].
pub async fn search(config: &Config, cid: &Cid) -> Result<Held, NoHolder> {
    let others = artifacts(config, |artifact| {
        Blocks::may_be_below(artifact.layout(), cid) && tabled(artifact).is_none()
    });
    let left = others.len().saturating_sub(MAX_SEARCHED);
    let mut reasons = Vec::new();
    for held in others.into_iter().take(MAX_SEARCHED) {
        match blocks(config, &held).await {
            Ok(blocks) if blocks.find(cid).is_some() => return Ok(held),
            Ok(_) => {}
            Err(error) => reasons.push(error.to_string()),
        }
    }
    let cid = cid_text(cid);
    match (reasons.is_empty(), left) {
        (false, _) => Err(NoHolder::Unreachable { cid, reasons: reasons.join("; ") }),
        (true, 0) => Err(NoHolder::Unknown(cid)),
        (true, left) => Err(NoHolder::Unfinished { cid, left }),
    }
}

/// The artifacts of the manifests that are known here that are `wanted`, each once; none of private models.
fn artifacts(config: &Config, wanted: impl Fn(&Artifact) -> bool) -> Vec<Held> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for accepted in public_manifests(config) {
        for artifact in accepted.manifest.artifacts.iter().filter(|artifact| wanted(artifact)) {
            if seen.insert(artifact.cid) {
                found.push(Held { accepted: Rc::clone(&accepted), artifact: artifact.clone() });
            }
        }
    }
    found
}

/// The manifests that are known here, but for those of private models.
fn public_manifests(config: &Config) -> Vec<Rc<Accepted>> {
    let mut known = bundle(config);
    MANIFESTS.with_borrow(|manifests| {
        known.extend(manifests.values().map(|known| Rc::clone(&known.accepted)))
    });
    known.retain(|accepted| !config.private.contains(&accepted.manifest.id));
    known
}

/// The blocks of an artifact whose leaf table is in memory.
fn tabled(artifact: &Artifact) -> Option<Arc<Blocks>> {
    TABLES.with_borrow(|tables| {
        let tabled = tables.get(&cid_text(&artifact.cid))?;
        Some(Arc::clone(
            tabled.blocks.get_or_init(|| Arc::new(Blocks::over(Arc::clone(&tabled.table)))),
        ))
    })
}
