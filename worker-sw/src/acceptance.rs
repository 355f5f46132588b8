//! Which manifest of a model is accepted: it verifies under a pinned key, has not expired, and is
//! not older than the newest one accepted before (the floor).

use std::cell::RefCell;
use std::rc::Rc;

use edge_net_core::trust::manifest::Manifest;
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
    /// By `{id}` or `{id}@{version}`, each with the time at which the sources are asked again.
    accepted: RefCell<Vec<(String, Rc<Accepted>, f64)>>,
    turns: Turns,
}

impl Manifests {
    /// No manifest is in memory at first; stored ones are read when they are asked for.
    pub fn new(config: Rc<Config>, teller: Teller) -> Self {
        Self { config, teller, accepted: RefCell::default(), turns: Turns::default() }
    }

    /// The manifest of a model. With `version`, that version: from the store, else from the
    /// sources. Without, the newest: the sources are asked again every minute, and older ones are
    /// refused.
    ///
    /// # Errors
    /// [`NoManifest`] when no source has an acceptable manifest and none is stored.
    pub async fn find(
        &self,
        id: &str,
        version: Option<&Version>,
    ) -> Result<Rc<Accepted>, NoManifest> {
        let name = version.map_or_else(|| id.to_owned(), |version| format!("{id}@{version}"));
        let turn = self.turns.of(&name);
        let _turn = turn.lock().await;
        let now = js_sys::Date::now();
        let known = |(of, accepted, until): &(String, Rc<Accepted>, f64)| {
            (*of == name && now < *until).then(|| Rc::clone(accepted))
        };
        if let Some(accepted) = self.accepted.borrow().iter().find_map(known) {
            return Ok(accepted);
        }
        // Verified again: the key may have been unpinned since, or the storage altered.
        let stored = store::get(MANIFESTS, &name).await.as_string();
        let stored =
            stored.and_then(|text| lookup::accept(text, &self.config.keys, id, version, None).ok());
        let accepted = match (stored, version) {
            // The manifest of a version never changes.
            (Some(stored), Some(_)) => stored,
            (stored, _) => self.look_up(&name, id, version, stored).await?,
        };
        let accepted = Rc::new(accepted);
        let until = if version.is_some() { f64::INFINITY } else { now + FRESH };
        let mut all = self.accepted.borrow_mut();
        all.retain(|(of, ..)| *of != name);
        all.push((name, Rc::clone(&accepted), until));
        Ok(accepted)
    }

    /// Asks the sources; falls back to the stored manifest when they have no newer one.
    async fn look_up(
        &self,
        name: &str,
        id: &str,
        version: Option<&Version>,
        stored: Option<Accepted>,
    ) -> Result<Accepted, NoManifest> {
        let floor = stored.as_ref().map(|stored| stored.manifest.floor());
        let options = fetch_options();
        let places = self.config.places(&options);
        let found = lookup::manifest(&places, &self.config.keys, id, version, floor.as_ref()).await;
        match (found, stored) {
            (Ok(found), _) => {
                store::put(MANIFESTS, name, &found.text.as_str().into()).await;
                Ok(found)
            }
            (Err(error @ NoManifest::Refused(_)), _) | (Err(error), None) => Err(error),
            // Offline, deleted at the sources, or older there: the stored one holds until it
            // expires.
            (Err(error), Some(stored)) => {
                if let NoManifest::Older(reason) = error {
                    let detail = [
                        ("model", id.into()),
                        ("file", "manifest.json".into()),
                        ("reason", reason.into()),
                    ];
                    self.teller.tell("refused", &detail);
                }
                lookup::current(stored, version)
                    .map_err(|refusal| NoManifest::Refused(refusal.to_string()))
            }
        }
    }
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
