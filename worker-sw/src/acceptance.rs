//! The accepted manifests of this worker: in memory, and in the store. The rules are in
//! [`edge_net_core::trust::acceptance`].

use std::cell::RefCell;
use std::rc::Rc;

use edge_net_core::trust::manifest::Manifest;
use edge_net_core::trust::signature::Floor;
use edge_net_driver::lookup::{self, Accepted, NoManifest};
use js_sys::Array;
use semver::Version;

use crate::config::{Config, fetch_options};
use crate::reports::Teller;
use crate::store::{self, MANIFESTS};
use crate::turns::Turns;

/// How long the newest manifest is used before the sources are asked again, in milliseconds.
const FRESH: f64 = 60_000.0;

/// The accepted manifests.
pub struct Manifests {
    config: Rc<Config>,
    teller: Teller,
    /// By `{id}` or `{id}@{version}`, each with the time at which the sources are asked again. They
    /// are kept after that: there may be no store.
    accepted: RefCell<Vec<(String, Rc<Accepted>, f64)>>,
    /// The floor of each model, in memory as well as in the store.
    floors: RefCell<Vec<(String, Floor)>>,
    turns: Turns,
}

impl Manifests {
    /// No manifest is in memory at first; stored ones are read when they are asked for.
    pub fn new(config: Rc<Config>, teller: Teller) -> Self {
        Self {
            config,
            teller,
            accepted: RefCell::default(),
            floors: RefCell::default(),
            turns: Turns::default(),
        }
    }

    /// The manifest of a model. With `version`, that version: from the store, else from the
    /// sources. Without, the newest: the sources are asked again every minute, and older ones are
    /// refused.
    ///
    /// # Errors
    /// [`NoManifest`] when no source has an acceptable manifest and none is kept.
    pub async fn find(
        &self,
        id: &str,
        version: Option<&Version>,
    ) -> Result<Rc<Accepted>, NoManifest> {
        let name = version.map_or_else(|| id.to_owned(), |version| format!("{id}@{version}"));
        // One at a time for each model: they share its floor.
        let turn = self.turns.of(id);
        let _turn = turn.lock().await;
        let floor = self.floor(id).await;
        let acceptance = lookup::acceptance(&self.config.keys, id, version, floor.as_ref());
        let now = js_sys::Date::now();
        let known = self.known(&name);
        if let Some((accepted, until)) = &known
            && now < *until
            && acceptance.is_valid(&accepted.manifest)
        {
            return Ok(Rc::clone(accepted));
        }
        // Verified again: the key may have been unpinned or replaced since, or the storage altered.
        let stored = store::get(MANIFESTS, &name).await.as_string();
        let in_memory = known.map(|(accepted, _)| accepted.text.clone());
        let kept = [stored, in_memory].into_iter().flatten().find_map(|text| {
            let kept = acceptance.kept(text).ok();
            kept.filter(|kept| acceptance.keeps(&kept.manifest)).map(Rc::new)
        });
        let accepted = match (kept, version) {
            // The manifest of a version never changes.
            (Some(kept), Some(_)) => kept,
            (kept, _) => {
                let floor = acceptance.floor_above(kept.as_deref().map(|kept| &kept.manifest));
                self.look_up(&name, id, version, kept, floor.as_ref()).await?
            }
        };
        let raised = acceptance.raise(&accepted.manifest);
        self.keep_floor(id, raised, floor.as_ref()).await;
        let until = if version.is_some() { f64::INFINITY } else { now + FRESH };
        let mut all = self.accepted.borrow_mut();
        all.retain(|(of, ..)| *of != name);
        all.push((name, Rc::clone(&accepted), until));
        Ok(accepted)
    }

    fn known(&self, name: &str) -> Option<(Rc<Accepted>, f64)> {
        let accepted = self.accepted.borrow();
        let found = accepted.iter().find(|(of, ..)| of == name);
        found.map(|(_, accepted, until)| (Rc::clone(accepted), *until))
    }

    /// The floor of a model: from memory, else from the store.
    async fn floor(&self, id: &str) -> Option<Floor> {
        let known = self.floors.borrow().iter().find(|(of, _)| of == id).cloned();
        if let Some((_, floor)) = known {
            return Some(floor);
        }
        Floor::from_json(&store::get(MANIFESTS, &record(id)).await.as_string()?)
    }

    /// Keeps the floor of a model in memory.
    fn hold(&self, id: &str, floor: Floor) {
        let mut floors = self.floors.borrow_mut();
        floors.retain(|(of, _)| of != id);
        floors.push((id.to_owned(), floor));
    }

    /// Keeps the floor of a model, if it is another than `before`.
    async fn keep_floor(&self, id: &str, floor: Option<Floor>, before: Option<&Floor>) {
        let Some(floor) = floor else { return };
        let changed = (before != Some(&floor)).then(|| floor.to_json());
        self.hold(id, floor);
        if let Some(text) = changed {
            store::put(MANIFESTS, &record(id), &text.into()).await;
        }
    }

    /// Asks the sources; the kept manifest holds if they have no newer one.
    async fn look_up(
        &self,
        name: &str,
        id: &str,
        version: Option<&Version>,
        kept: Option<Rc<Accepted>>,
        floor: Option<&Floor>,
    ) -> Result<Rc<Accepted>, NoManifest> {
        let options = fetch_options();
        let places = self.config.places(&options);
        let found = lookup::manifest(&places, &self.config.keys, id, version, floor).await;
        let acceptance = lookup::acceptance(&self.config.keys, id, version, floor);
        let (accepted, why) = acceptance.settle(found.map(Rc::new), kept)?;
        match why {
            None => store::put(MANIFESTS, name, &accepted.text.as_str().into()).await,
            Some(NoManifest::Older(reason)) => {
                let detail = [
                    ("model", id.into()),
                    ("file", "manifest.json".into()),
                    ("reason", reason.into()),
                ];
                self.teller.tell("refused", &detail);
            }
            Some(_) => {}
        }
        Ok(accepted)
    }
}

/// The name of a model's floor in the store of manifests. No model has this id.
fn record(id: &str) -> String {
    format!("{id}#floor")
}

/// The stored manifests, each version once.
pub async fn stored() -> Vec<Manifest> {
    let mut all: Vec<Manifest> = Vec::new();
    for text in Array::from(&store::manifests().await).iter().filter_map(|text| text.as_string()) {
        let Ok(manifest) = Manifest::parse(&text) else { continue };
        // A version is stored twice when it is the newest and a URL named it by its number.
        if !all.iter().any(|known| known.id == manifest.id && known.version == manifest.version) {
            all.push(manifest);
        }
    }
    all
}
