//! The memory of an isolate between requests: accepted manifests and leaf tables. No bytes of
//! models, and no I/O objects of requests.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use cid::Cid;
use edge_net_core::dag::blocks::Blocks;
use edge_net_core::dag::cid::cid_text;
use edge_net_core::dag::verify::LeafTable;
use edge_net_core::time::UnixTime;
use edge_net_core::trust::acceptance::Acceptance;
use edge_net_core::trust::manifest::{Artifact, Manifest};
use edge_net_core::trust::newest::{is_newer, rank};
use edge_net_core::trust::signature::{Floor, Refusal, VerifiedManifest};
use edge_net_driver::lookup::{self, Accepted, Access, NoLeafTable, NoManifest, Places};
use edge_net_driver::{host, log};
use js_sys::Object;
use semver::Version;

use crate::config::Config;
use crate::hit::Validity;
use crate::memory::Memory;

/// The signed manifests that are compiled into the worker.
static BUNDLED: &[&str] = include!(concat!(env!("OUT_DIR"), "/bundled_manifests.rs"));

/// How long a newest manifest is not looked up again, in milliseconds.
const FRESH: f64 = 60_000.0;
/// Maximum number of leaf digests in memory, over all tables: 16 MiB, for artifacts of 128 GiB.
const MAX_DIGESTS: u64 = 512 << 10;
/// Maximum number of manifests in memory.
const MAX_MANIFESTS: usize = 256;
/// Maximum number of floors in memory; each has some 100 bytes.
const MAX_FLOORS: usize = 8192;
/// Maximum number of leaf tables fetched by one request for a block.
const MAX_SEARCHED: usize = 8;
/// How long a model that no source has is not looked up again, in milliseconds.
const ABSENT: u64 = 10_000;
/// How long a block that no model has is not searched again, in milliseconds.
const UNHELD: u64 = 60_000;
/// Maximum number of models, and of blocks, that are known to be nowhere.
const MAX_ABSENT: usize = 4096;

/// A model's id, and the requested version.
type Name = (String, Option<Version>);

thread_local! {
    static MANIFESTS: RefCell<HashMap<Name, Known>> = RefCell::default();
    /// What was accepted of each model, also after its manifest was dropped.
    static FLOORS: RefCell<BTreeMap<String, Floor>> = RefCell::default();
    /// Models that no source has, and why.
    static NOWHERE: RefCell<Memory<Name, String, ABSENT, MAX_ABSENT>> = RefCell::default();
    /// Blocks that no model has, and what [`LEARNED`] was then.
    static HOLDERLESS: RefCell<Memory<Cid, u64, UNHELD, MAX_ABSENT>> = RefCell::default();
    /// Number of manifests that were learned so far.
    static LEARNED: Cell<u64> = const { Cell::new(0) };
    static TABLES: RefCell<HashMap<String, Tabled>> = RefCell::default();
    /// The bundled manifests that a pinned key signed: a production worker ignores the demo's.
    static BUNDLE: OnceCell<Vec<Rc<Accepted>>> = const { OnceCell::new() };
}

/// A leaf table, and the blocks that follow from it, once they were requested.
struct Tabled {
    table: Arc<LeafTable>,
    blocks: OnceCell<Arc<Blocks>>,
}

struct Known {
    accepted: Rc<Accepted>,
    fresh_until: f64,
    validity: Validity,
}

/// What the isolate knows of a model without asking a source.
pub enum Recalled {
    /// Its manifest, which need not be looked up yet.
    Manifest(Rc<Accepted>),
    /// A short time ago, no source had it.
    Nothing(NoManifest),
    /// Nothing that is fresh.
    Unknown,
}

/// Recalls a model.
pub fn recall(config: &Config, id: &str, version: Option<&Version>) -> Recalled {
    let key = (id.to_owned(), version.cloned());
    let now = js_sys::Date::now();
    let known = MANIFESTS.with_borrow(|known| {
        let known = known.get(&key).filter(|known| version.is_some() || now < known.fresh_until);
        known.map(|known| Rc::clone(&known.accepted))
    });
    if let Some(known) = known
        && judge(config, id, version, |acceptance| acceptance.is_valid(&known.manifest))
    {
        return Recalled::Manifest(known);
    }
    let absent = NOWHERE.with_borrow(|nowhere| nowhere.get(&key, host::now()));
    absent.map_or(Recalled::Unknown, |reason| Recalled::Nothing(NoManifest::NotFound(reason)))
}

/// A manifest that was accepted before, however long ago, or is bundled. It may have expired.
fn held(config: &Config, id: &str, version: Option<&Version>) -> Option<Rc<Accepted>> {
    let key = (id.to_owned(), version.cloned());
    MANIFESTS
        .with_borrow(|known| known.get(&key).map(|known| Rc::clone(&known.accepted)))
        .or_else(|| bundled(config, id, version))
        .filter(|kept| judge(config, id, version, |acceptance| acceptance.keeps(&kept.manifest)))
}

/// The manifest that [`manifest`] returns while no source can be asked.
pub fn valid(config: &Config, id: &str, version: Option<&Version>) -> Option<Rc<Accepted>> {
    held(config, id, version).filter(|held| {
        judge(config, id, version, |acceptance| acceptance.holds(&held.manifest).is_ok())
    })
}

/// Asks the rules of acceptance, with the floor that is in memory.
fn judge(
    config: &Config,
    id: &str,
    version: Option<&Version>,
    judgement: impl FnOnce(&Acceptance) -> bool,
) -> bool {
    FLOORS.with_borrow(|floors| {
        judgement(&lookup::acceptance(&config.keys, id, version, floors.get(id)))
    })
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
    match recall(config, id, version) {
        Recalled::Manifest(accepted) => return Ok(accepted),
        Recalled::Nothing(absent) => return Err(absent),
        Recalled::Unknown => {}
    }
    let key = (id.to_owned(), version.cloned());
    let now = js_sys::Date::now();
    let floor = floor(id);
    let acceptance = lookup::acceptance(&config.keys, id, version, floor.as_ref());
    let kept = held(config, id, version);
    let lowest = acceptance.floor_above(kept.as_deref().map(|kept| &kept.manifest));
    let init = Object::new();
    let places = config.places(&init);
    let found = lookup::manifest(&places, &config.keys, id, version, lowest.as_ref()).await;
    if let (Err(NoManifest::NotFound(reason)), None) = (&found, &kept) {
        let (key, reason) = (key.clone(), reason.clone());
        NOWHERE.with_borrow_mut(|nowhere| nowhere.keep(key, reason, host::now()));
    }
    let (accepted, why) = acceptance.settle(found.map(Rc::new), kept)?;
    if let Some(error) = why {
        let version = accepted.manifest.version.to_string();
        log::warn("manifest-held").fact("model", id).fact("version", version).say(&error);
    }
    if let Some(floor) = acceptance.raise(&accepted.manifest) {
        raise(id, floor);
    }
    remember(key, &accepted, now);
    Ok(accepted)
}

/// What was accepted of a model before.
pub fn floor(id: &str) -> Option<Floor> {
    FLOORS.with_borrow(|floors| floors.get(id).cloned())
}

fn raise(id: &str, floor: Floor) {
    FLOORS.with_borrow_mut(|floors| {
        if floors.len() >= MAX_FLOORS && !floors.contains_key(id) {
            // One makes room, not all.
            let oldest = floors.iter().min_by_key(|(_, floor)| floor.timestamp);
            let oldest = oldest.map(|(id, _)| id.clone());
            oldest.and_then(|oldest| floors.remove(&oldest));
        }
        floors.insert(id.to_owned(), floor);
    });
}

/// Remembers a version that the caller accepted.
pub fn introduce(accepted: &Rc<Accepted>) {
    let key = (accepted.manifest.id.clone(), Some(accepted.manifest.version.clone()));
    remember(key, accepted, js_sys::Date::now());
}

/// Forgets which models are nowhere: one was published.
pub fn forget_absent() {
    NOWHERE.with_borrow_mut(Memory::forget);
    HOLDERLESS.with_borrow_mut(Memory::forget);
}

/// Whether a search for the block `cid` found a short time ago that no model has it, and no
/// manifest was learned since.
pub fn is_nowhere(cid: &Cid) -> bool {
    HOLDERLESS.with_borrow(|absent| absent.get(cid, host::now())) == Some(LEARNED.get())
}

/// Remembers that no model has the block `cid`.
pub fn remember_nowhere(cid: Cid) {
    HOLDERLESS.with_borrow_mut(|absent| absent.keep(cid, LEARNED.get(), host::now()));
}

fn remember(key: Name, accepted: &Rc<Accepted>, now: f64) {
    MANIFESTS.with_borrow_mut(|known| {
        if known.len() >= MAX_MANIFESTS && !known.contains_key(&key) {
            let stalest =
                known.iter().min_by(|(_, a), (_, b)| a.fresh_until.total_cmp(&b.fresh_until));
            let stalest = stalest.map(|(key, _)| key.clone());
            stalest.and_then(|stalest| known.remove(&stalest));
        }
        if known.get(&key).is_none_or(|known| known.accepted.text != accepted.text) {
            LEARNED.set(LEARNED.get() + 1);
        }
        // A version never changes, but it expires.
        let fresh_until = now + FRESH;
        let expires = accepted.manifest.expires.map_or(f64::INFINITY, milliseconds);
        let end = if key.1.is_some() { expires } else { fresh_until.min(expires) };
        let validity = Validity::until(end);
        known.insert(key, Known { accepted: Rc::clone(accepted), fresh_until, validity });
    });
}

#[allow(clippy::cast_precision_loss)] // Times are below 2^53.
const fn milliseconds(time: UnixTime) -> f64 {
    time.as_millis() as f64
}

/// The time for which [`manifest`] returns `accepted`; `None` if it no longer does.
pub fn validity(accepted: &Rc<Accepted>, id: &str, version: Option<&Version>) -> Option<Object> {
    let key = (id.to_owned(), version.cloned());
    MANIFESTS.with_borrow(|known| {
        known
            .get(&key)
            .filter(|known| Rc::ptr_eq(&known.accepted, accepted))
            .map(|known| known.validity.shared())
    })
}

/// The newest bundled manifest of a model, or of a version of it.
fn bundled(config: &Config, id: &str, version: Option<&Version>) -> Option<Rc<Accepted>> {
    let about = |accepted: &Rc<Accepted>| {
        accepted.manifest.id == id
            && version.is_none_or(|version| *version == accepted.manifest.version)
    };
    bundle(config)
        .into_iter()
        .filter(about)
        .max_by(|a, b| rank(&a.manifest.version).cmp(&rank(&b.manifest.version)))
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

/// The newest bundled manifest of each model, in the order of their ids.
pub fn all_bundled(config: &Config) -> Vec<Rc<Accepted>> {
    newest(bundle(config))
}

fn newest(all: Vec<Rc<Accepted>>) -> Vec<Rc<Accepted>> {
    let mut newest = BTreeMap::<String, Rc<Accepted>>::new();
    for accepted in all {
        let known = newest.get(&accepted.manifest.id);
        let version = &accepted.manifest.version;
        if known.is_none_or(|known| is_newer(version, &known.manifest.version)) {
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

/// As [`leaf_table`], with another access than the credential.
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

/// Why a block was not found.
#[derive(Debug, thiserror::Error)]
pub enum NoHolder {
    /// No known artifact has it.
    #[error("{0} is no block of a model that is known here")]
    Unknown(String),
    /// Some leaf tables were not searched.
    #[error("{cid} was not found yet: {left} leaf tables are left to search; try again")]
    Unfinished {
        /// The block.
        cid: String,
        /// The number of them.
        left: usize,
    },
    /// Some leaf tables were not available.
    #[error("{cid} was not found, and some leaf tables are not available: {reasons}")]
    Unreachable {
        /// The block.
        cid: String,
        /// The failure of each source.
        reasons: String,
    },
}

/// The artifact of the block `cid`, if it is known without a fetch. Artifacts that only private
/// models have are not known here.
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

/// The artifact of the block `cid`, if it is among a few whose leaf tables are not in memory. Their
/// leaf tables are fetched.
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

/// The artifacts that are `wanted`, out of all known manifests of public models. Each is listed
/// once.
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

/// The known manifests of public models.
fn public_manifests(config: &Config) -> Vec<Rc<Accepted>> {
    let mut known = bundle(config);
    MANIFESTS.with_borrow(|manifests| {
        known.extend(manifests.values().map(|known| Rc::clone(&known.accepted)));
    });
    known.retain(|accepted| !config.private.contains(&accepted.manifest.id));
    known
}

/// The blocks of an artifact, if its leaf table is in memory.
fn tabled(artifact: &Artifact) -> Option<Arc<Blocks>> {
    TABLES.with_borrow(|tables| {
        let tabled = tables.get(&cid_text(&artifact.cid))?;
        Some(Arc::clone(
            tabled.blocks.get_or_init(|| Arc::new(Blocks::over(Arc::clone(&tabled.table)))),
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_a_full_table_one_floor_makes_room_for_another() {
        let floor = |at: usize| Floor {
            version: Version::new(1, 0, 0),
            timestamp: UnixTime::from_millis(at as u64),
            replaced: Vec::new(),
        };
        for at in 0..MAX_FLOORS {
            raise(&format!("model-{at}"), floor(at));
        }
        raise("model-7", floor(7));
        assert_eq!(super::floor("model-0"), Some(floor(0)), "a known model needs no room");
        raise("another", floor(1));
        let left = FLOORS.with_borrow(BTreeMap::len);
        assert_eq!((left, super::floor("model-0")), (MAX_FLOORS, None), "the oldest one goes");
        assert!(super::floor("another").is_some() && super::floor("model-1").is_some());
    }
}
