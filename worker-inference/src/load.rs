//! Loads a model: its files are delivered, verified, into an instance of its own.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use edge_net_core::embeddable::{MAX_SETTINGS_BYTES, NotEmbeddable, Parts};
use edge_net_core::http::openai::Problem;
use edge_net_core::trust::manifest::{Artifact, Manifest};
use edge_net_core::trust::signature::PinnedKeys;
use edge_net_driver::host;
use edge_net_driver::lookup::{Accepted, NoManifest};
use edge_net_inference::Settings;
use http::StatusCode;
use js_sys::{Function, Uint8Array};

use crate::delivery::{Edge, NotDelivered};
use crate::instance::TOKENIZER;
use crate::model::{Fault, Model};
use crate::room;

/// How long a newest version is not looked up again, in milliseconds. The edge itself looks it up
/// once a minute.
const FRESH: u64 = 10_000;

/// A model in memory.
pub struct Loaded {
    /// The model.
    pub model: Model,
    /// Number of components of its embeddings.
    pub dimensions: usize,
    /// Its last use: a number that grows with each use.
    pub used: Cell<u64>,
    accepted: RefCell<Rc<Accepted>>,
    fresh_until: Cell<u64>,
}

impl Loaded {
    /// Whether it is known to be the newest version.
    pub fn is_fresh(&self, now: u64) -> bool {
        now < self.fresh_until.get()
    }

    /// Takes it for the newest version for a while.
    pub fn refresh(&self, now: u64) {
        self.fresh_until.set(now + FRESH);
    }
}

/// Why a model is not available.
#[derive(Debug, thiserror::Error)]
pub enum NoModel {
    /// There is no manifest.
    #[error(transparent)]
    Manifest(#[from] NoManifest),
    /// It does not embed text.
    #[error("{0} does not embed text: {1}")]
    NotEmbeddable(String, NotEmbeddable),
    /// A file was not delivered.
    #[error("{file} of {model}: {error}")]
    Delivery {
        /// The model's id and version.
        model: String,
        /// The file's name.
        file: String,
        /// The reason.
        error: NotDelivered,
    },
    /// It was delivered, and cannot be used.
    #[error("{model} cannot be used: {error}")]
    Unusable {
        /// The model's id and version.
        model: String,
        /// The reason.
        error: Fault,
    },
}

impl NoModel {
    /// Whether another attempt will fail in the same way.
    pub const fn is_lasting(&self) -> bool {
        matches!(
            self,
            Self::Unusable { .. } | Self::Delivery { error: NotDelivered::Refused(_), .. }
        )
    }

    /// Whether it is the client's mistake: the model does not exist, or is for another purpose.
    pub const fn is_of_client(&self) -> bool {
        matches!(self, Self::Manifest(NoManifest::NotFound(_)) | Self::NotEmbeddable(..))
    }
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
            lasting if lasting.is_lasting() => {
                problem(StatusCode::UNPROCESSABLE_ENTITY).code("model_not_usable")
            }
            _ => problem(StatusCode::BAD_GATEWAY).retry_after(Duration::from_secs(5)),
        }
    }
}

/// Makes models.
pub struct Loader(Function);

impl Loader {
    /// `create` makes an instance for a model.
    pub const fn new(create: Function) -> Self {
        Self(create)
    }

    /// Loads the newest version of model `id`; `None` if it embeds like the version `known`, which
    /// is refreshed. Calls `progress` with the time whenever bytes arrive, and `make_room` with the
    /// estimated memory before the model takes any.
    ///
    /// # Errors
    /// [`NoModel`].
    pub async fn load(
        &self,
        edge: &Edge,
        keys: &PinnedKeys,
        id: &str,
        known: Option<&Loaded>,
        progress: impl Fn(u64) + 'static,
        make_room: impl FnOnce(u64),
    ) -> Result<Option<Loaded>, NoModel> {
        let floor = known.map(|known| known.accepted.borrow().manifest.floor());
        let accepted = Rc::new(edge.manifest(keys, id, floor.as_ref()).await?);
        let manifest = &accepted.manifest;
        let parts =
            Parts::of(manifest).map_err(|error| NoModel::NotEmbeddable(id.to_owned(), error))?;
        if let Some(known) = known
            && same_files(&known.accepted.borrow().manifest, manifest)
        {
            known.accepted.replace(Rc::clone(&accepted));
            known.refresh(host::now());
            return Ok(None);
        }
        make_room(room::estimate(parts.model.size, parts.tokenizer.size));
        let progress = Rc::new(progress);
        let model = self.fill(edge, manifest, parts, &progress).await?;
        let dimensions = model.dimensions().map_err(|error| unusable(manifest, error))?;
        let fresh_until = Cell::new(host::now() + FRESH);
        Ok(Some(Loaded {
            model,
            dimensions,
            used: Cell::default(),
            accepted: RefCell::new(accepted),
            fresh_until,
        }))
    }

    /// An instance with the files of a model.
    async fn fill(
        &self,
        edge: &Edge,
        manifest: &Manifest,
        parts: Parts<'_>,
        progress: &Rc<impl Fn(u64) + 'static>,
    ) -> Result<Model, NoModel> {
        let unusable = |error| unusable(manifest, error);
        let undelivered = |file: &Artifact, error| NoModel::Delivery {
            model: name(manifest),
            file: file.filename.clone(),
            error,
        };
        let alive = || {
            let progress = Rc::clone(progress);
            move || progress(host::now())
        };
        let model = Model::new(&self.0, parts.model.size).map_err(unusable)?;
        let settings = Settings::FILES.iter().filter_map(|name| manifest.artifact(name));
        for file in settings.filter(|file| file.size <= MAX_SETTINGS_BYTES).chain([parts.tokenizer])
        {
            // At most a few MiB, which are freed once the instance has its copy.
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
            let is_tokenizer = file.filename == parts.tokenizer.filename;
            let name = if is_tokenizer { TOKENIZER } else { &file.filename };
            model.file(name, &whole).map_err(unusable)?;
        }
        edge.deliver(manifest, parts.model, alive(), |piece| model.push(piece))
            .await
            .map_err(|error| undelivered(parts.model, error))?;
        model.finish().map_err(unusable)?;
        Ok(model)
    }
}

fn name(manifest: &Manifest) -> String {
    format!("{} {}", manifest.id, manifest.version)
}

fn unusable(manifest: &Manifest, error: Fault) -> NoModel {
    NoModel::Unusable { model: name(manifest), error }
}

/// Whether two versions embed alike, because their files are the same.
fn same_files(one: &Manifest, other: &Manifest) -> bool {
    let files = |manifest: &Manifest| {
        let parts = Parts::of(manifest).ok()?;
        let settings = Settings::FILES.map(|name| manifest.artifact(name).map(|file| file.cid));
        Some((parts.model.cid, parts.tokenizer.cid, settings))
    };
    files(one) == files(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(error: NotDelivered) -> NoModel {
        NoModel::Delivery { model: "demo 1.0.0".into(), file: "model.onnx".into(), error }
    }

    fn broke() -> Fault {
        Fault::Broke("out of memory".into())
    }

    #[test]
    fn problems_tell_whose_mistake_it_is() {
        let not_found = NoManifest::NotFound("gcs has no manifest of demo".into());
        let unreachable = NoManifest::Unreachable("gcs: status 503".into());
        let unusable = NoModel::Unusable { model: "demo 1.0.0".into(), error: broke() };
        for (error, status, of_client, retry_after) in [
            (not_found.into(), 404, true, None),
            (unreachable.into(), 502, false, Some(5)),
            (NoModel::NotEmbeddable("demo".into(), NotEmbeddable::NoModel), 400, true, None),
            (delivery(NotDelivered::Refused(broke())), 422, false, None),
            (unusable, 422, false, None),
        ] {
            let problem = Problem::from(&error);
            assert_eq!(problem.status.as_u16(), status, "{error}");
            assert_eq!(error.is_of_client(), of_client, "{error}");
            let wait = problem.retry_after.map(|wait| wait.as_secs());
            assert_eq!(wait, retry_after, "{error}");
        }
    }

    #[test]
    fn only_a_model_that_was_delivered_is_unusable_for_long() {
        assert!(delivery(NotDelivered::Refused(broke())).is_lasting());
        let manifest: NoModel = NoManifest::Refused("gcs: not signed".into()).into();
        assert!(!manifest.is_lasting());
    }
}
