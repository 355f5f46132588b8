//! The instance that answers requests. It has no model itself.

use std::rc::Rc;
use std::time::Duration;

use edge_net_core::http::answer::PROBLEM_JSON;
use edge_net_core::http::openai::{self, Input, Problem, Request};
use edge_net_core::transfer::source::Failure;
use edge_net_driver::{host, log};
use http::StatusCode;
use js_sys::{Function, Object, Promise};
use serde_json::{Map, Value};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::future_to_promise;
use web_sys::{Headers, Response, ResponseInit};

use crate::admission::{Admission, Place};
use crate::batches::batches;
use crate::config::Config;
use crate::delivery::Edge;
use crate::limits::about_input;
use crate::load::Loaded;
use crate::model::Fault;
use crate::models::Models;
use crate::panics;

/// Maximum length of text that is tokenized before other requests have the processor, in bytes.
const TEXT_AT_ONCE: usize = 64 << 10;
/// Header of a request from the edge: a JSON object with the query of a link for each private
/// model, or null if the client may not use that model.
const LINKS: &str = "X-Model-Links";
/// Time limit of a request's body, in milliseconds.
const BODY_TIMEOUT: u64 = 15_000;

/// See the [module](self).
#[wasm_bindgen]
pub struct Front(Rc<Inner>);

struct Inner {
    config: Config,
    admission: Admission,
    models: Models,
}

#[wasm_bindgen]
impl Front {
    /// A front with the configuration of the bindings `env`. `create` makes a
    /// [`crate::instance::Model`] in an instance of its own. `panicked` is called when this
    /// instance must not be used any more.
    ///
    /// # Errors
    /// The error names the variable that is missing or wrong.
    #[wasm_bindgen(constructor)]
    pub fn new(env: &Object, create: Function, panicked: Function) -> Result<Self, JsValue> {
        panics::report(panicked);
        let config = Config::from_env(env).map_err(|error| {
            log::error("not-configured").say(&error);
            JsValue::from(error.to_string())
        })?;
        let admission = Admission::new(config.limits.requests);
        Ok(Self(Rc::new(Inner { config, admission, models: Models::new(create) })))
    }

    /// The response to a request, which is a POST: the edge has checked that.
    pub fn answer(&self, request: web_sys::Request) -> Promise {
        let inner = Rc::clone(&self.0);
        future_to_promise(async move {
            let (status, body, retry_after) = match inner.embed(&request).await {
                Ok(body) => (StatusCode::OK, body, None),
                Err(problem) => (problem.status, problem.to_json(), problem.retry_after),
            };
            let headers = Headers::new()?;
            headers.set(
                "Content-Type",
                if status.is_success() { "application/json" } else { PROBLEM_JSON },
            )?;
            headers.set("Cache-Control", "no-store")?;
            if let Some(wait) = retry_after {
                headers.set("Retry-After", &wait.as_secs().to_string())?;
            }
            let init = ResponseInit::new();
            init.set_status(status.as_u16());
            init.set_headers(&headers);
            Ok(Response::new_with_opt_str_and_init(Some(&body), &init)?.into())
        })
    }
}

impl Inner {
    async fn embed(&self, request: &web_sys::Request) -> Result<String, Problem> {
        let media_type = request.headers().get("Content-Type").ok().flatten().unwrap_or_default();
        if !is_json(&media_type) {
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send application/json"));
        }
        let place = self.admission.enter(host::now()).ok_or_else(|| {
            let detail = format!(
                "{} requests are in progress here; try again in a second",
                self.config.limits.requests
            );
            Problem::new(StatusCode::TOO_MANY_REQUESTS, detail)
                .code("rate_limit_exceeded")
                .retry_after(Duration::from_secs(1))
        })?;
        let Request { model: id, inputs, encoding, dimensions } =
            Request::read(&self.body(request).await?)?;
        self.config.limits.check_inputs(inputs.len())?;
        let edge = Edge::of(origin(&request.url()), link(request, &id)?);
        let loaded = self.models.get(&edge, &self.config.keys, &id).await?;
        if let Some(wanted) = dimensions.filter(|wanted| *wanted > loaded.dimensions) {
            let detail =
                format!("embeddings of {id} have {} dimensions, not {wanted}", loaded.dimensions);
            return Err(Problem::new(StatusCode::BAD_REQUEST, detail).about(Some("dimensions")));
        }
        let inputs = self.tokens(&place, &loaded, inputs).await?;
        let tokens = inputs.iter().map(Vec::len).sum();
        let mut embeddings = self.embeddings(&place, &loaded, &inputs).await?;
        if let Some(wanted) = dimensions {
            for embedding in &mut embeddings {
                openai::shorten(embedding, wanted);
            }
        }
        Ok(openai::answer(&id, &embeddings, encoding, tokens))
    }

    async fn body(&self, request: &web_sys::Request) -> Result<Vec<u8>, Problem> {
        let most = self.config.limits.body;
        // As a response: the driver reads those with a size limit.
        let body = Response::new_with_opt_readable_stream(request.body().as_ref());
        let body =
            body.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, host::message(&error)))?;
        let late = async {
            host::sleep(BODY_TIMEOUT).await;
            Err(Failure::Stalled)
        };
        match race(host::read_at_most(&body, most as u64), late).await {
            Ok(bytes) => Ok(bytes),
            Err(Failure::WrongLength { .. }) => Err(Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("a request has at most {most} bytes"),
            )),
            Err(Failure::Stalled) => {
                let detail = format!("the body did not arrive within {} s", BODY_TIMEOUT / 1000);
                Err(Problem::new(StatusCode::REQUEST_TIMEOUT, detail))
            }
            Err(failure) => Err(Problem::new(
                StatusCode::BAD_REQUEST,
                format!("the body could not be read: {failure}"),
            )),
        }
    }

    /// The tokens of each input.
    async fn tokens(
        &self,
        place: &Place,
        loaded: &Rc<Loaded>,
        inputs: Vec<Input>,
    ) -> Result<Vec<Vec<u32>>, Problem> {
        let count = inputs.len();
        let (mut all, mut sum, mut since) = (Vec::with_capacity(count), 0, 0);
        for (at, input) in inputs.into_iter().enumerate() {
            since += if let Input::Text(text) = &input { text.len() } else { 0 };
            if since > TEXT_AT_ONCE {
                place.give_way().await;
                since = 0;
            }
            let tokens = match input {
                Input::Text(text) => loaded.model.encode(&text),
                Input::Tokens(tokens) => loaded.model.check(&tokens).map(|()| tokens),
            };
            let tokens = tokens.map_err(|fault| match fault {
                Fault::Refused(detail) => about_input(at, count, detail),
                Fault::Broke(_) => self.broke(loaded, &fault),
            })?;
            sum += tokens.len();
            self.config.limits.check_tokens(at, count, tokens.len(), sum)?;
            all.push(tokens);
        }
        Ok(all)
    }

    /// The embedding of each input.
    async fn embeddings(
        &self,
        place: &Place,
        loaded: &Rc<Loaded>,
        inputs: &[Vec<u32>],
    ) -> Result<Vec<Vec<f32>>, Problem> {
        let mut embeddings = vec![Vec::new(); inputs.len()];
        for batch in batches(&inputs.iter().map(Vec::len).collect::<Vec<_>>()) {
            place.give_way().await;
            let tokens: Vec<&[u32]> = batch.iter().map(|at| &*inputs[*at]).collect();
            let found = loaded.model.embed(&tokens).map_err(|fault| self.broke(loaded, &fault))?;
            for (at, embedding) in batch.into_iter().zip(found) {
                embeddings[at] = embedding;
            }
        }
        Ok(embeddings)
    }

    /// Drops a model that broke, and logs it.
    fn broke(&self, loaded: &Rc<Loaded>, fault: &Fault) -> Problem {
        log::error("model-broke").say(fault);
        self.models.drop(loaded);
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, fault.to_string())
            .retry_after(Duration::from_secs(1))
    }
}

/// The query of a link to the files of a private model, which the edge gave to a client that may
/// use it; `None` if the model is not private.
fn link(request: &web_sys::Request, id: &str) -> Result<Option<String>, Problem> {
    let links = request.headers().get(LINKS).ok().flatten().unwrap_or_default();
    let links: Map<String, Value> = serde_json::from_str(&links).unwrap_or_default();
    match links.get(id) {
        None => Ok(None),
        Some(Value::String(link)) => Ok(Some(link.clone())),
        Some(_) => {
            let detail = format!(
                "{id} is private: send Authorization: Bearer with the token that its owner gave \
                 you, which OpenAI's clients call the API key, or the query of a link to it"
            );
            Err(Problem::new(StatusCode::FORBIDDEN, detail)
                .about(Some("model"))
                .code("model_not_allowed"))
        }
    }
}

/// Whether a media type is JSON, with or without parameters.
fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

/// The origin of a URL: its scheme and host.
fn origin(url: &str) -> &str {
    let after = url.find("://").map_or(0, |at| at + 3);
    let end = url[after..].find('/').map_or(url.len(), |at| after + at);
    &url[..end]
}

/// The result of the future that ends first.
async fn race<T>(one: impl Future<Output = T>, other: impl Future<Output = T>) -> T {
    let (one, other) = (std::pin::pin!(one), std::pin::pin!(other));
    futures::future::select(one, other).await.factor_first().0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_may_have_parameters() {
        assert!(is_json("application/json"));
        assert!(is_json("Application/JSON ; charset=utf-8"));
        for other in ["", "text/plain", "application/json-seq", "text/plain;application/json"] {
            assert!(!is_json(other), "{other}");
        }
    }

    #[test]
    fn the_origin_ends_before_the_path() {
        let origin_of = |path: &str| origin(&format!("https://edge.example:8443{path}")).to_owned();
        for path in ["", "/", "/v1/embeddings", "/?next=https://other.example/"] {
            assert_eq!(origin_of(path), "https://edge.example:8443", "{path}");
        }
    }
}
