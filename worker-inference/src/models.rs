//! The models in memory. A model is loaded once, however many requests wait for it, and the edge is
//! asked now and then whether there is a newer version.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use edge_net_core::http::openai::Problem;
use edge_net_core::trust::manifest::is_id;
use edge_net_core::trust::signature::PinnedKeys;
use edge_net_driver::lease::{Attempt, Lease, Leases, Pauses, Terms};
use edge_net_driver::{host, log};
use http::StatusCode;
use js_sys::Function;

use crate::delivery::Edge;
use crate::load::{Loaded, Loader, NoModel};
use crate::room::{self, Resident};

/// A load without progress for this long was cancelled with its request, in milliseconds. A
/// download waits less for a source that stalls.
const EXPIRY: u64 = 25_000;
/// How long a request pauses before it looks again, in milliseconds.
const PAUSE: u64 = 20;
/// How long a request waits for a load, in milliseconds.
const PATIENCE: u64 = 60_000;
/// How long a failure answers the requests after it, in milliseconds.
const FAILED_FOR: u64 = 2_000;
/// The same for a model that was delivered and cannot be used: a version never changes, and to try
/// again costs a download.
const UNUSABLE_FOR: u64 = 60_000;
/// Maximum number of models whose failures are remembered.
const MAX_FAILURES: usize = 64;

/// See the [module](self).
pub struct Models {
    loader: Loader,
    /// Loads by the model's id.
    loads: Leases<Problem>,
    /// Models by id.
    residents: RefCell<Vec<(String, Rc<Loaded>)>>,
    uses: Cell<u64>,
}

impl Models {
    /// No models; `create` makes an instance for one.
    pub fn new(create: Function) -> Self {
        let terms = Terms { expiry: EXPIRY, max_leases: usize::MAX, max_failures: MAX_FAILURES };
        Self {
            loader: Loader::new(create),
            loads: Leases::new(terms),
            residents: RefCell::default(),
            uses: Cell::default(),
        }
    }

    /// The model with this id.
    ///
    /// # Errors
    /// The problem that it is not available.
    pub async fn get(
        &self,
        edge: &Edge,
        keys: &PinnedKeys,
        id: &str,
    ) -> Result<Rc<Loaded>, Problem> {
        if !is_id(id) {
            return Err(no_id(id));
        }
        let mut pauses = Pauses::new(PAUSE, PAUSE, host::now() + PATIENCE);
        loop {
            let now = host::now();
            if let Some(loaded) = self.resident(id)
                && (self.loads.is_held(id, now) || loaded.is_fresh(now))
            {
                loaded.used.set(self.uses.replace(self.uses.get() + 1));
                return Ok(loaded);
            }
            match self.loads.attempt(id, now) {
                Attempt::Granted(load) => {
                    let known = self.resident(id);
                    let make_room = |bytes| self.make_room(id, bytes);
                    let loaded = self
                        .loader
                        .load(edge, keys, id, known.as_deref(), load.renewal(), make_room)
                        .await;
                    self.end(id, load, known, loaded);
                }
                Attempt::Failed(problem) => return Err(problem),
                Attempt::Wait => match pauses.next(now) {
                    Some(pause) => host::sleep(pause).await,
                    None => return Err(too_late(id)),
                },
            }
        }
    }

    /// Drops a model that broke; the next request loads it again.
    pub fn drop(&self, broken: &Rc<Loaded>) {
        self.residents.borrow_mut().retain(|(_, loaded)| !Rc::ptr_eq(loaded, broken));
    }

    fn resident(&self, id: &str) -> Option<Rc<Loaded>> {
        let residents = self.residents.borrow();
        residents.iter().find(|(other, _)| other == id).map(|(_, loaded)| Rc::clone(loaded))
    }

    /// Ends a load that began with the version `known` in memory. `None` of a successful load means
    /// that this version is still the newest.
    fn end(
        &self,
        id: &str,
        load: Lease<Problem>,
        known: Option<Rc<Loaded>>,
        result: Result<Option<Loaded>, NoModel>,
    ) {
        let now = host::now();
        match (result, known) {
            (Ok(loaded), known) => {
                let loaded = loaded.map(Rc::new).or(known);
                if load.succeed()
                    && let Some(loaded) = loaded
                {
                    let mut residents = self.residents.borrow_mut();
                    residents.retain(|(other, _)| other != id);
                    residents.push((id.to_owned(), loaded));
                }
            }
            // The accepted version still holds.
            (Err(error), Some(known)) => {
                if load.succeed() {
                    log::warn("model-held").fact("model", id).say(&error);
                    known.refresh(now);
                }
            }
            (Err(error), None) => {
                let until = now + if error.is_lasting() { UNUSABLE_FOR } else { FAILED_FOR };
                if load.fail((&error).into(), now, until) && !error.is_of_client() {
                    log::error("no-model").fact("model", id).say(&error);
                }
            }
        }
    }

    /// Drops models until one more fits, which takes about `bytes`.
    fn make_room(&self, id: &str, bytes: u64) {
        let mut residents = self.residents.borrow_mut();
        loop {
            let all = residents.iter().map(|(id, loaded)| Resident {
                id,
                bytes: loaded.model.memory(),
                used: loaded.used.get(),
            });
            let Some(victim) = room::victim(&all.collect::<Vec<_>>(), id, bytes) else { return };
            residents.remove(victim);
        }
    }
}

/// The problem that no model can have this id.
fn no_id(id: &str) -> Problem {
    let id: String = id.chars().take(128).collect();
    let detail = format!("there is no model {id:?}; ids have a-z, 0-9, '.', '_' and '-'");
    Problem::new(StatusCode::NOT_FOUND, detail).about(Some("model")).code("model_not_found")
}

/// The problem that a request waited too long for a load.
fn too_late(id: &str) -> Problem {
    let detail = format!("{id} takes more than {} s to load", PATIENCE / 1000);
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(Duration::from_secs(5))
}
