//! The models that are there: two at the most, of which the one that was used least recently makes room. A model is loaded once,
//! however many wait for it, and the edge is asked now and then whether there is a newer one.
//!
//! Nothing of a request may be touched by another one (workerd forbids it), so requests that wait look whether the model has come,
//! each with timers of its own.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use edge_net_core::embeddable::{MAX_SETTINGS_BYTES, NotEmbeddable, Parts};
use edge_net_core::http::openai::Problem;
use edge_net_core::trust::manifest::{Artifact, Manifest, is_id};
use edge_net_core::trust::signature::PinnedKeys;
use edge_net_driver::lookup::{Accepted, NoManifest};
use edge_net_driver::{host, log};
use edge_net_inference::Settings;
use http::StatusCode;
use js_sys::{Function, Uint8Array};

use crate::delivery::{Edge, NotDelivered};
use crate::instance::TOKENIZER;
use crate::model::{Fault, Model};

/// Models that are there at the most.
const MOST: usize = 2;
/// Bytes of memory that they take at the most, together, in an isolate that has 128 MB.
const MEMORY: u64 = 96_000_000;
/// How long the newest manifest is taken for the newest, in milliseconds: the edge is asked, which takes it for that a minute.
const FRESH: u64 = 10_000;
/// How long a load that shows no sign of life goes on, in milliseconds: longer than a download waits for a source that stalls.
const LEASE: u64 = 25_000;
/// How long a request waits before it looks again, in milliseconds.
const LOOK_AFTER: u64 = 20;
/// How long a request waits at the most, in milliseconds.
const PATIENCE: u64 = 60_000;
/// How long a load that failed speaks for those that come after it, in milliseconds.
const FAILED_FOR: u64 = 2_000;
/// The same of a model that came, and cannot be used: a version stays what it is, and to find that out costs a download.
const UNUSABLE_FOR: u64 = 60_000;
/// Models whose last load failed that are remembered at the most.
const MAX_FAILED: usize = 64;

/// A model that is there.
pub struct Loaded {
    /// The model.
    pub model: Model,
    /// Components of its embeddings.
    pub dimensions: usize,
    accepted: RefCell<Rc<Accepted>>,
    fresh_until: Cell<u64>,
    used: Cell<u64>,
}

/// What is known of a model, by its id.
struct Entry {
    id: String,
    there: Option<Rc<Loaded>>,
    /// Last sign of life of the request that looks after it.
    under_way: Option<Rc<Cell<u64>>>,
    /// Why it could not be loaded, and until when that is believed.
    failed: Option<(Problem, u64)>,
}

impl Entry {
    fn is_under_way(&self, now: u64) -> bool {
        self.under_way.as_ref().is_some_and(|seen| now < seen.get() + LEASE)
    }
}

/// What a request finds.
enum Found {
    There(Rc<Loaded>),
    Failed(Problem),
    /// Another request loads it.
    Soon,
    /// This request has to.
    Turn(Rc<Cell<u64>>),
}

/// Why a model cannot be had.
#[derive(Debug, thiserror::Error)]
enum NoModel {
    #[error(transparent)]
    Manifest(#[from] NoManifest),
    #[error("{0} does not embed text: {1}")]
    NotEmbeddable(String, NotEmbeddable),
    #[error("{file} of {model}: {error}")]
    Delivery { model: String, file: String, error: NotDelivered },
    #[error("{model} cannot be used: {error}")]
    Unusable { model: String, error: Fault },
}

impl From<&NoModel> for Problem {
    fn from(error: &NoModel) -> Self {
        let problem = |status| Self::new(status, error.to_string()).about(Some("model"));
        match error {
            NoModel::Manifest(NoManifest::NotFound(_)) => {
                problem(StatusCode::NOT_FOUND).code("model_not_found")
            }
            NoModel::NotEmbeddable(..) => {
                problem(StatusCode::BAD_REQUEST).code("model_not_supported")
            }
            NoModel::Unusable { .. }
            | NoModel::Delivery { error: NotDelivered::Refused(_), .. } => {
                problem(StatusCode::UNPROCESSABLE_ENTITY).code("model_not_usable")
            }
            NoModel::Manifest(_) | NoModel::Delivery { .. } => {
                problem(StatusCode::BAD_GATEWAY).retry_after(Duration::from_secs(5))
            }
        }
    }
}

/// See the [module](self).
pub struct Models {
    create: Function,
    entries: RefCell<Vec<Entry>>,
    clock: Cell<u64>,
}

impl Models {
    /// No models; `create` makes instances for them.
    pub fn new(create: Function) -> Self {
        Self { create, entries: RefCell::default(), clock: Cell::default() }
    }

    /// The model with this id.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn get(
        &self,
        edge: &Edge,
        keys: &PinnedKeys,
        id: &str,
    ) -> Result<Rc<Loaded>, Problem> {
        if !is_id(id) {
            let detail = format!(
                "there is no model {:?}; ids are of a-z, 0-9, '.', '_' and '-'",
                id.chars().take(128).collect::<String>()
            );
            return Err(Problem::new(StatusCode::NOT_FOUND, detail)
                .about(Some("model"))
                .code("model_not_found"));
        }
        let until = host::now() + PATIENCE;
        loop {
            match self.find(id) {
                Found::There(loaded) => {
                    loaded.used.set(self.clock.replace(self.clock.get() + 1));
                    return Ok(loaded);
                }
                Found::Failed(problem) => return Err(problem),
                Found::Soon if host::now() < until => host::sleep(LOOK_AFTER).await,
                Found::Soon => {
                    let detail = format!("{id} takes more than {} s to load", PATIENCE / 1000);
                    return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
                        .retry_after(Duration::from_secs(5)));
                }
                Found::Turn(seen) => {
                    let known = self.there(id);
                    let loaded = self.load(edge, keys, id, known.clone(), &seen).await;
                    self.end(id, &seen, known, loaded);
                }
            }
        }
    }

    /// Drops a model that broke; the next request loads it anew.
    pub fn drop(&self, broken: &Rc<Loaded>) {
        for entry in &mut *self.entries.borrow_mut() {
            entry.there.take_if(|there| Rc::ptr_eq(there, broken));
        }
    }

    fn there(&self, id: &str) -> Option<Rc<Loaded>> {
        self.entries
            .borrow()
            .iter()
            .find(|entry| entry.id == id)
            .and_then(|entry| entry.there.clone())
    }

    fn find(&self, id: &str) -> Found {
        let now = host::now();
        let mut entries = self.entries.borrow_mut();
        let at = entries.iter().position(|entry| entry.id == id).unwrap_or_else(|| {
            entries.push(Entry { id: id.to_owned(), there: None, under_way: None, failed: None });
            entries.len() - 1
        });
        let entry = &mut entries[at];
        let under_way = entry.is_under_way(now);
        match (&entry.there, &entry.failed) {
            (Some(there), _) if under_way || now < there.fresh_until.get() => {
                Found::There(Rc::clone(there))
            }
            (_, Some((problem, until))) if now < *until => Found::Failed(problem.clone()),
            _ if under_way => Found::Soon,
            _ => {
                let seen = Rc::new(Cell::new(now));
                entry.under_way = Some(Rc::clone(&seen));
                Found::Turn(seen)
            }
        }
    }

    /// Says how a load ended that began when `known` was there.
    fn end(
        &self,
        id: &str,
        turn: &Rc<Cell<u64>>,
        known: Option<Rc<Loaded>>,
        loaded: Result<Rc<Loaded>, NoModel>,
    ) {
        let now = host::now();
        let mut entries = self.entries.borrow_mut();
        let mut failed = 0;
        // Names that nobody publishes are not remembered for long, nor too many of them.
        entries.retain(|entry| {
            failed += usize::from(entry.failed.is_some());
            let counts = entry.failed.as_ref().is_some_and(|(_, until)| now < *until)
                && failed <= MAX_FAILED;
            entry.id == id || entry.there.is_some() || entry.is_under_way(now) || counts
        });
        // Another request took over when this one was silent for too long.
        let ours = |entry: &&mut Entry| {
            entry.id == id && entry.under_way.as_ref().is_some_and(|seen| Rc::ptr_eq(seen, turn))
        };
        let Some(entry) = entries.iter_mut().find(ours) else { return };
        entry.under_way = None;
        entry.failed = None;
        match (loaded, known) {
            (Ok(loaded), _) => entry.there = Some(loaded),
            // What was accepted before still holds.
            (Err(error), Some(known)) => {
                log::warn("model-held").fact("model", id).say(&error);
                known.fresh_until.set(now + FRESH);
            }
            (Err(error), None) => {
                // What there is not, or is for something else, is the client's mistake.
                if !matches!(
                    error,
                    NoModel::Manifest(NoManifest::NotFound(_)) | NoModel::NotEmbeddable(..)
                ) {
                    log::error("no-model").fact("model", id).say(&error);
                }
                let lasting = matches!(
                    error,
                    NoModel::Unusable { .. }
                        | NoModel::Delivery { error: NotDelivered::Refused(_), .. }
                );
                entry.failed =
                    Some(((&error).into(), now + if lasting { UNUSABLE_FOR } else { FAILED_FOR }));
            }
        }
    }

    /// Looks whether there is a newer version than the one that is `known`, and loads it. Each sign of life is noted in `seen`.
    async fn load(
        &self,
        edge: &Edge,
        keys: &PinnedKeys,
        id: &str,
        known: Option<Rc<Loaded>>,
        seen: &Rc<Cell<u64>>,
    ) -> Result<Rc<Loaded>, NoModel> {
        let floor = known.as_ref().map(|known| known.accepted.borrow().manifest.floor());
        let accepted = Rc::new(edge.manifest(keys, id, floor.as_ref()).await?);
        let manifest = &accepted.manifest;
        let parts =
            Parts::of(manifest).map_err(|error| NoModel::NotEmbeddable(id.to_owned(), error))?;
        if let Some(known) = known.filter(|known| same(&known.accepted.borrow().manifest, manifest))
        {
            known.accepted.replace(Rc::clone(&accepted));
            known.fresh_until.set(host::now() + FRESH);
            return Ok(known);
        }
        // The graph becomes half as much again, besides what the tokenizer becomes.
        self.make_room(id, parts.model.size * 3 / 2 + parts.tokenizer.size * 4);
        let name = || format!("{id} {}", manifest.version);
        let unusable = |error| NoModel::Unusable { model: name(), error };
        let undelivered = |file: &Artifact, error| NoModel::Delivery {
            model: name(),
            file: file.filename.clone(),
            error,
        };
        let alive = || {
            let seen = Rc::clone(seen);
            move || seen.set(host::now())
        };
        let model = Model::new(&self.create, parts.model.size).map_err(unusable)?;
        let settings = Settings::FILES.iter().filter_map(|name| manifest.artifact(name));
        for file in settings.filter(|file| file.size <= MAX_SETTINGS_BYTES).chain([parts.tokenizer])
        {
            // At most a few MiB, and gone when the instance has it.
            let whole = Uint8Array::new_with_length(u32::try_from(file.size).unwrap_or(u32::MAX));
            let mut at = 0;
            let take = |piece: &Uint8Array| {
                whole.set(piece, at);
                at += piece.length();
                Ok(())
            };
            edge.deliver(manifest, file, alive(), take)
                .await
                .map_err(|error| undelivered(file, error))?;
            let name =
                if file.filename == parts.tokenizer.filename { TOKENIZER } else { &file.filename };
            model.file(name, &whole).map_err(unusable)?;
        }
        let pushed = edge.deliver(manifest, parts.model, alive(), |piece| model.push(piece)).await;
        pushed.map_err(|error| undelivered(parts.model, error))?;
        model.finish().map_err(unusable)?;
        let dimensions = model.dimensions().map_err(unusable)?;
        let fresh_until = Cell::new(host::now() + FRESH);
        Ok(Rc::new(Loaded {
            model,
            dimensions,
            accepted: RefCell::new(accepted),
            fresh_until,
            used: Cell::default(),
        }))
    }

    /// Lets those go that were used least recently, until one more fits that is going to take about `bytes`.
    fn make_room(&self, id: &str, bytes: u64) {
        let mut entries = self.entries.borrow_mut();
        loop {
            let there = || {
                entries
                    .iter()
                    .filter_map(|entry| entry.there.as_ref().map(|there| (&entry.id, there)))
            };
            let taken: u64 = there().map(|(_, loaded)| loaded.model.memory()).sum();
            if there().count() < MOST && taken + bytes <= MEMORY {
                return;
            }
            // Its own older version last: it answers until the newer one is there.
            let oldest = there().min_by_key(|(other, loaded)| (*other == id, loaded.used.get()));
            let Some(oldest) = oldest.map(|(id, _)| id.clone()) else { return };
            entries
                .iter_mut()
                .filter(|entry| entry.id == oldest)
                .for_each(|entry| entry.there = None);
        }
    }
}

/// Whether two versions embed alike: from the same files.
fn same(one: &Manifest, other: &Manifest) -> bool {
    let files = |manifest: &Manifest| {
        let parts = Parts::of(manifest).ok()?;
        let settings = Settings::FILES.map(|name| manifest.artifact(name).map(|file| file.cid));
        Some((parts.model.cid, parts.tokenizer.cid, settings))
    };
    files(one) == files(other)
}
