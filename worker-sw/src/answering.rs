//! The response to a request below the configured path.

use std::rc::Rc;

use edge_net_core::http::answer::{self as semantics, ModelPath, PROBLEM_JSON, Resource};
use edge_net_driver::host::message;
use edge_net_driver::lookup::NoManifest;
use http::header::{CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use js_sys::{Function, Uint8Array};
use wasm_bindgen::prelude::*;
use web_sys::{Headers, ReadableStream, Request, Response, ResponseInit};

use crate::acceptance::Manifests;
use crate::config::Config;
use crate::delivery::Delivery;
use crate::keeping::Artifacts;
use crate::reports::Teller;

#[wasm_bindgen]
extern "C" {
    /// A response with any body: a stream, a blob, bytes, or none.
    #[wasm_bindgen(extends = web_sys::Response, js_name = Response)]
    type AnyResponse;
    #[wasm_bindgen(constructor, catch, js_class = "Response")]
    fn new(body: &JsValue, init: &ResponseInit) -> Result<AnyResponse, JsValue>;
}

/// Answers requests.
pub struct Responder {
    config: Rc<Config>,
    teller: Teller,
    manifests: Rc<Manifests>,
    artifacts: Rc<Artifacts>,
    delivery: Delivery,
}

impl Responder {
    /// A responder that accepts manifests by `manifests` and takes stored bytes from `artifacts`.
    pub fn new(
        config: Rc<Config>,
        teller: Teller,
        manifests: Rc<Manifests>,
        artifacts: Rc<Artifacts>,
    ) -> Self {
        let delivery = Delivery::new(Rc::clone(&config), teller.clone(), Rc::clone(&artifacts));
        Self { config, teller, manifests, artifacts, delivery }
    }

    /// The response to a GET or HEAD. `through`, if given, makes the stream that a page reads out
    /// of one with verified bytes.
    ///
    /// # Errors
    /// A text that says why no source has good bytes; pages get the same as a `failed` event.
    pub async fn answer(
        &self,
        request: Request,
        through: Option<Function>,
    ) -> Result<Response, String> {
        let thrown = |error| message(&error);
        let url = request.url();
        let below = pathname(&url).and_then(|path| path.strip_prefix(&self.config.path));
        let Some(path) = below.and_then(ModelPath::parse) else {
            return problem(
                StatusCode::NOT_FOUND,
                "this names no model file; use {id}/{file} or {id}/v{version}/{file}",
            );
        };
        let accepted = match self.manifests.find(&path.id, path.version.as_ref()).await {
            Ok(accepted) => accepted,
            Err(NoManifest::NotFound(detail)) => return problem(StatusCode::NOT_FOUND, &detail),
            Err(error) => return Err(self.failed(&path, &error.to_string())),
        };
        let manifest = &accepted.manifest;
        let method = if request.method() == "HEAD" { Method::HEAD } else { Method::GET };
        let fields = fields_of(&request.headers()).unwrap_or_default();
        let document = |media_type, body: &[u8]| {
            let freshness = path.freshness();
            let (mut head, bytes) =
                semantics::document(&method, &fields, media_type, freshness, body).into_parts();
            for (name, value) in &semantics::model_fields(manifest) {
                head.headers.insert(name, value.clone());
            }
            let body = bytes.map(|bytes| Uint8Array::from(semantics::part(body, bytes)));
            let body = body.map_or(JsValue::NULL, JsValue::from);
            respond(head.status, &head.headers, &body).map_err(thrown)
        };
        let file = match &path.resource {
            Resource::Manifest => {
                return document("application/json", accepted.text.as_bytes());
            }
            Resource::Artifact(file) | Resource::LeafTable(file) => file,
        };
        let Some(artifact) = manifest.artifact(file) else {
            let detail = format!("{} {} has no file {file:?}", manifest.id, manifest.version);
            return problem(StatusCode::NOT_FOUND, &detail);
        };
        if let Resource::LeafTable(_) = path.resource {
            let known = self.artifacts.find(manifest, artifact).await;
            let known = known.map_err(|error| self.failed(&path, &error))?;
            return document("application/octet-stream", &known.table.to_bytes());
        }
        let (head, bytes) =
            semantics::answer(&method, &fields, manifest, artifact, path.freshness()).into_parts();
        let body = match bytes {
            None => JsValue::NULL,
            Some(bytes) => {
                let body = self.delivery.body(manifest, artifact, bytes).await;
                let body = body.map_err(|error| self.failed(&path, &error))?;
                led(body, through.as_ref()).map_err(thrown)?
            }
        };
        respond(head.status, &head.headers, &body).map_err(thrown)
    }

    /// Tells the pages that a request failed; returns the message.
    fn failed(&self, path: &ModelPath, message: &str) -> String {
        let file = match &path.resource {
            Resource::Manifest => "manifest.json",
            Resource::LeafTable(file) | Resource::Artifact(file) => file.as_str(),
        };
        let detail = [
            ("model", path.id.as_str().into()),
            ("file", file.into()),
            ("message", message.into()),
        ];
        self.teller.tell("failed", &detail);
        message.to_owned()
    }
}

/// A body that is a stream, led through a function of the script. A blob stays as it is: browsers
/// hand it on without a copy.
fn led(body: JsValue, through: Option<&Function>) -> Result<JsValue, JsValue> {
    match through {
        Some(through) if body.is_instance_of::<ReadableStream>() => {
            through.call1(&JsValue::NULL, &body)
        }
        _ => Ok(body),
    }
}

/// The path of an absolute URL.
fn pathname(url: &str) -> Option<&str> {
    // The first two slashes are those of the scheme.
    let (start, _) = url.match_indices('/').nth(2)?;
    url[start..].split(['?', '#']).next()
}

/// The request's preconditions and range.
fn fields_of(headers: &Headers) -> Result<HeaderMap, JsValue> {
    let mut fields = HeaderMap::new();
    for name in [IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE] {
        if let Some(value) = headers.get(name.as_str())?
            && let Ok(value) = HeaderValue::from_bytes(value.as_bytes())
        {
            fields.insert(name, value);
        }
    }
    Ok(fields)
}

fn respond(status: StatusCode, fields: &HeaderMap, body: &JsValue) -> Result<Response, JsValue> {
    let headers = Headers::new()?;
    for (name, value) in fields {
        headers.append(name.as_str(), value.to_str().unwrap_or_default())?;
    }
    let init = ResponseInit::new();
    init.set_status(status.as_u16());
    init.set_headers(&headers);
    Ok(AnyResponse::new(body, &init)?.into())
}

fn problem(status: StatusCode, detail: &str) -> Result<Response, String> {
    let mut fields = HeaderMap::new();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    let body = Uint8Array::from(semantics::problem(status, detail).as_bytes());
    respond(status, &fields, &body).map_err(|error| message(&error))
}
