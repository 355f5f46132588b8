//! What an isolate remembers between requests: accepted manifests and leaf tables. No bytes of models,
//! and nothing that belongs to a request.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use edge_net_core::dag::cid_text;
use edge_net_core::manifest::{Artifact, Manifest};
use edge_net_core::signature::{Floor, Refusal, VerifiedManifest};
use edge_net_core::verify::LeafTable;
use edge_net_driver::lookup::{self, Accepted, NoLeafTable, NoManifest};
use js_sys::Object;
use semver::Version;

use crate::config::Config;
use crate::log;

/// Signed manifests that came with the worker.
static BUNDLED: &[&str] = include!(concat!(env!("OUT_DIR"), "/bundled_manifests.rs"));

/// How long the newest manifest is taken for the newest, in milliseconds.
const FRESH: f64 = 60_000.0;
/// Leaf digests kept at the most, over all tables: 16 MiB, artifacts of 128 GiB.
const MAX_DIGESTS: u64 = 512 << 10;
/// Manifests kept at the most.
const MAX_MANIFESTS: usize = 256;

thread_local! {
    static MANIFESTS: RefCell<HashMap<(String, Option<Version>), Known>> = RefCell::default();
    static TABLES: RefCell<HashMap<String, Rc<LeafTable>>> = RefCell::default();
}

struct Known {
    accepted: Rc<Accepted>,
    fresh_until: f64,
}

/// The manifest of a model, from memory, the bucket, or the bundle, in this order.
///
/// # Errors
/// [`NoManifest`].
pub async fn manifest(config: &Config, id: &str, version: Option<&Version>) -> Result<Rc<Accepted>, NoManifest> {
    let key = (id.to_owned(), version.cloned());
    let now = js_sys::Date::now();
    let known = MANIFESTS.with_borrow(|known| known.get(&key).map(|known| (Rc::clone(&known.accepted), known.fresh_until)));
    if let Some((accepted, fresh_until)) = &known
        && (version.is_some() || now < *fresh_until)
    {
        return Ok(Rc::clone(accepted));
    }
    let bundled = bundled(config, id, version);
    let known = known.map(|(accepted, _)| accepted).or_else(|| bundled.map(Rc::new));
    let floor: Option<Floor> = known.as_ref().map(|known| known.manifest.floor());
    let found = lookup::manifest(&config.places(&Object::new()), &config.keys, id, version, floor.as_ref()).await;
    let accepted = match (found, known) {
        (Ok(found), _) => Rc::new(found),
        // Nobody could be asked, or the bucket does not have it, or went back: what was accepted before still holds.
        (Err(error @ (NoManifest::Unreachable(_) | NoManifest::NotFound(_) | NoManifest::Older(_))), Some(known)) => {
            let version = known.manifest.version.to_string();
            log::warn("manifest-held").fact("model", id).fact("version", version).say(&error);
            known
        }
        (Err(error), _) => return Err(error),
    };
    MANIFESTS.with_borrow_mut(|known| {
        if known.len() >= MAX_MANIFESTS {
            known.clear();
        }
        known.insert(key, Known { accepted: Rc::clone(&accepted), fresh_until: now + FRESH });
    });
    Ok(accepted)
}

/// A manifest of the bundle, if a pinned key signed it: a production worker ignores the demo's.
fn bundled(config: &Config, id: &str, version: Option<&Version>) -> Option<Accepted> {
    let accept = |text: &&&str| -> Result<Accepted, Refusal> {
        let manifest = VerifiedManifest::verify(text, &config.keys)?.about(id, version)?;
        Ok(Accepted { manifest, text: (**text).to_owned() })
    };
    BUNDLED.iter().filter_map(|text| accept(&text).ok()).max_by(|a, b| a.manifest.version.cmp(&b.manifest.version))
}

/// The newest manifest of each model of the bundle that a pinned key signed, in the order of their ids.
pub fn all_bundled(config: &Config) -> Vec<VerifiedManifest> {
    let mut newest = BTreeMap::<String, VerifiedManifest>::new();
    for manifest in BUNDLED.iter().filter_map(|text| VerifiedManifest::verify(text, &config.keys).ok()) {
        if newest.get(&manifest.id).is_none_or(|known| known.version < manifest.version) {
            newest.insert(manifest.id.clone(), manifest);
        }
    }
    newest.into_values().collect()
}

/// The leaf table of an artifact.
///
/// # Errors
/// [`NoLeafTable`].
pub async fn leaf_table(config: &Config, manifest: &Manifest, artifact: &Artifact) -> Result<Rc<LeafTable>, NoLeafTable> {
    let key = cid_text(&artifact.cid);
    if let Some(table) = TABLES.with_borrow(|tables| tables.get(&key).cloned()) {
        return Ok(table);
    }
    let table = Rc::new(lookup::leaf_table(&config.places(&Object::new()), manifest, artifact).await?);
    TABLES.with_borrow_mut(|tables| {
        let kept: u64 = tables.values().map(|table| table.layout().leaves()).sum();
        if kept + table.layout().leaves() > MAX_DIGESTS {
            tables.clear();
        }
        tables.insert(key, Rc::clone(&table));
    });
    Ok(table)
}
