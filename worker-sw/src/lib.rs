//! The service worker: answers `fetch('/models/…')` with verified bytes. The same module serves a page
//! that has no service worker.

mod answering;
mod artifact;
mod config;
mod reports;
mod store;

use js_sys::Function;
use wasm_bindgen::prelude::*;
use web_sys::{Request, Response};

/// What the script drives. One for each service worker or page.
#[wasm_bindgen]
pub struct Models(std::rc::Rc<answering::Models>);

#[wasm_bindgen]
impl Models {
    /// Opens the models that `options`, those of `register()`, configure. `tell` is called with the type
    /// and the detail of each event.
    ///
    /// # Errors
    /// When the options cannot be used.
    pub fn open(options: &JsValue, tell: Function) -> Result<Models, JsError> {
        console_error_panic_hook::set_once();
        answering::Models::open(options, tell)
            .map(|models| Self(models.into()))
            .map_err(|error| JsError::new(&error))
    }

    /// The answer to a GET or HEAD below the configured path.
    ///
    /// # Errors
    /// When no good bytes can be had; the message says why, and what each source did.
    pub async fn answer(&self, request: Request) -> Result<Response, JsError> {
        std::rc::Rc::clone(&self.0).answer(request).await.map_err(|error| JsError::new(&error))
    }

    /// The text of the accepted manifest of a model.
    ///
    /// # Errors
    /// When there is none, or it is refused.
    pub async fn manifest(&self, id: String) -> Result<String, JsError> {
        let accepted = self.0.manifest(&id, None).await;
        accepted
            .map(|accepted| accepted.text.clone())
            .map_err(|error| JsError::new(&error.to_string()))
    }

    /// What is kept: `[{model, version, file, cid, size, cachedBytes, lastUsed, pinned}]`.
    pub async fn list(&self) -> js_sys::Array {
        self.0.list().await
    }

    /// Forgets the kept bytes of a model, pinned or not.
    pub async fn remove(&self, id: String) {
        self.0.remove(&id).await;
    }

    /// Forgets the kept bytes of all models. The manifests stay: nothing goes back behind them.
    pub async fn clear(&self) {
        self.0.clear().await;
    }

    /// Whether the files of a model's newest version are never let go for others.
    ///
    /// # Errors
    /// When there is no manifest that says which they are.
    pub async fn pin(&self, id: String, pinned: bool) -> Result<(), JsError> {
        self.0.pin(&id, pinned).await.map_err(|error| JsError::new(&error.to_string()))
    }

    /// Reads what is kept of a model's newest version again: `[{file, segments, good, bad}]`. What is not good is dropped.
    ///
    /// # Errors
    /// When there is no manifest or leaf table to verify against.
    pub async fn verify(&self, id: String) -> Result<js_sys::Array, JsError> {
        self.0.verify(&id).await.map_err(|error| JsError::new(&error))
    }

    /// `{bytes, budget, quota, usage}`: what is kept, what may be, and what the browser says of its storage.
    pub async fn usage(&self) -> JsValue {
        self.0.usage().await
    }

    /// The CIDs of the artifacts that are being downloaded, or of which bytes are still being kept.
    #[must_use]
    pub fn downloads(&self) -> js_sys::Array {
        self.0.downloads()
    }
}
