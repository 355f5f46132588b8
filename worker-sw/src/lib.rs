//! The service worker: answers `fetch('/models/…')` with verified bytes. The same module serves a
//! page that has no service worker.

mod acceptance;
mod answering;
mod artifact;
mod config;
mod delivery;
mod hash;
mod keeping;
mod reports;
mod segments;
mod store;
#[cfg(all(test, target_arch = "wasm32"))]
mod tests;
mod turns;

use std::rc::Rc;

use js_sys::Function;
use wasm_bindgen::prelude::*;
use web_sys::{Request, Response};

use acceptance::Manifests;
use answering::Responder;
use config::Config;
use keeping::Artifacts;
use reports::Teller;

/// What the script calls. There is one for each set of options: pages with other options share a
/// service worker.
#[wasm_bindgen]
pub struct Models {
    manifests: Rc<Manifests>,
    artifacts: Rc<Artifacts>,
    responder: Responder,
}

#[wasm_bindgen]
impl Models {
    /// Opens the models that `options`, the options of `register()`, configure. `tell` is called
    /// with the type and the detail of each event.
    ///
    /// # Errors
    /// When the options cannot be used.
    pub fn open(options: &JsValue, tell: Function) -> Result<Models, JsError> {
        console_error_panic_hook::set_once();
        let config = Rc::new(Config::read(options).map_err(|error| JsError::new(&error))?);
        let teller = Teller(tell.into());
        let manifests = Rc::new(Manifests::new(Rc::clone(&config), teller.clone()));
        let artifacts = Rc::new(Artifacts::new(Rc::clone(&config)));
        let responder =
            Responder::new(config, teller, Rc::clone(&manifests), Rc::clone(&artifacts));
        Ok(Self { manifests, artifacts, responder })
    }

    /// The response to a GET or HEAD below the configured path. `through`, if given, makes the
    /// stream that a page reads out of one with verified bytes: so a page can end it.
    ///
    /// # Errors
    /// When no source has good bytes; the message says why, and what each source did.
    pub async fn answer(
        &self,
        request: Request,
        through: Option<Function>,
    ) -> Result<Response, JsError> {
        self.responder.answer(request, through).await.map_err(|error| JsError::new(&error))
    }

    /// The text of the accepted manifest of a model.
    ///
    /// # Errors
    /// When there is none, or it is refused.
    pub async fn manifest(&self, id: String) -> Result<String, JsError> {
        Ok(self.manifests.find(&id, None).await?.text.clone())
    }

    /// The stored artifacts: `[{model, version, file, cid, size, cachedBytes, lastUsed, pinned}]`.
    pub async fn list(&self) -> js_sys::Array {
        self.artifacts.list(&acceptance::stored().await).await
    }

    /// Deletes the stored bytes of a model, pinned or not.
    pub async fn remove(&self, id: String) {
        for manifest in acceptance::stored().await.iter().filter(|manifest| manifest.id == id) {
            for file in &manifest.artifacts {
                self.artifacts.remove(file).await;
            }
        }
    }

    /// Deletes the stored bytes of all models. The manifests stay: older versions remain refused.
    pub async fn clear(&self) {
        self.artifacts.clear().await;
    }

    /// Pins or unpins the files of a model's newest version: pinned files are never evicted.
    ///
    /// # Errors
    /// When there is no manifest that names the files.
    pub async fn pin(&self, id: String, pinned: bool) -> Result<(), JsError> {
        self.artifacts.pin(&self.manifests.find(&id, None).await?.manifest, pinned).await;
        Ok(())
    }

    /// Verifies the stored bytes of a model's newest version: `[{file, segments, good, bad}]`. Bad
    /// segments are deleted.
    ///
    /// # Errors
    /// When there is no manifest or leaf table to verify against.
    pub async fn verify(&self, id: String) -> Result<js_sys::Array, JsError> {
        let accepted = self.manifests.find(&id, None).await?;
        let rows = self.artifacts.verify(&accepted.manifest).await;
        rows.map_err(|error| JsError::new(&error))
    }

    /// `{bytes, budget, quota, usage}`: bytes stored, bytes allowed, and the browser's own
    /// estimate.
    pub async fn usage(&self) -> JsValue {
        self.artifacts.usage().await
    }

    /// The CIDs of the artifacts that are being downloaded or stored.
    #[must_use]
    pub fn downloads(&self) -> js_sys::Array {
        self.artifacts.in_use()
    }
}
