//! The service worker: answers `fetch('/models/…')` with verified bytes. The same module serves a page
//! that has no service worker.

mod config;
mod index;
mod models;
mod reports;
mod segments;

use js_sys::Function;
use wasm_bindgen::prelude::*;
use web_sys::{Request, Response};

/// What the script drives. One for each service worker or page.
#[wasm_bindgen]
pub struct Models(std::rc::Rc<models::Models>);

#[wasm_bindgen]
impl Models {
    /// Opens the models that `options`, those of `register()`, configure. `tell` is called with the type
    /// and the detail of each event.
    ///
    /// # Errors
    /// When the options cannot be used.
    pub async fn open(options: JsValue, tell: Function) -> Result<Models, JsError> {
        console_error_panic_hook::set_once();
        models::Models::open(&options, tell).await.map(|models| Self(models.into())).map_err(|error| JsError::new(&error))
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
        accepted.map(|accepted| accepted.text.clone()).map_err(|error| JsError::new(&error.to_string()))
    }

    /// What is kept: `[{model, version, file, cid, size, cachedBytes}]`.
    pub async fn cached(&self) -> js_sys::Array {
        self.0.cached().await
    }

    /// Forgets the kept bytes of a model.
    pub async fn remove(&self, id: String) {
        self.0.remove(&id).await;
    }
}
