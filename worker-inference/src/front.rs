//! What answers requests.

use std::rc::Rc;
use std::time::Duration;

use edge_net_core::http::answer::PROBLEM_JSON;
use edge_net_core::http::openai::{self, Input, Problem, Request};
use edge_net_core::transfer::source::Failure;
use edge_net_driver::{host, log};
use http::StatusCode;
use js_sys::{Function, Object, Promise};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::future_to_promise;
use web_sys::{Headers, Response, ResponseInit};

use crate::admission::{Admission, Place};
use crate::config::Config;
use crate::delivery::Edge;
use crate::model::Fault;
use crate::models::{Loaded, Models};
use crate::panics;

/// Tokens that are run before others have the processor: a tenth of a second, or so.
const AT_ONCE: usize = 1024;
/// Bytes of text that are cut into tokens before others have the processor.
const TEXT_AT_ONCE: usize = 64 << 10;
/// How long a body may take to come, in milliseconds.
const BODY_WITHIN: u64 = 15_000;

/// The instance that answers; it has no model itself.
#[wasm_bindgen]
pub struct Front(Rc<Inner>);

struct Inner {
    config: Config,
    admission: Admission,
    models: Models,
}

#[wasm_bindgen]
impl Front {
    /// Configured by `env`. `create` makes a [`crate::instance::Model`] of an instance of its own, and `panicked` is called when this
    /// one should not be asked any more.
    ///
    /// # Errors
    /// Names the variable that cannot be used.
    #[wasm_bindgen(constructor)]
    pub fn new(env: &Object, create: Function, panicked: Function) -> Result<Self, JsValue> {
        panics::tell(panicked);
        let config = Config::from_env(env).map_err(|error| {
            log::error("not-configured").say(&error);
            JsValue::from(error.to_string())
        })?;
        let admission = Admission::of(config.limits.requests);
        Ok(Self(Rc::new(Inner { config, admission, models: Models::new(create) })))
    }

    /// The answer to a request, which the edge has found to be a POST.
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
        if !media_type
            .split(';')
            .next()
            .is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
        {
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send application/json"));
        }
        let place = self.admission.enter().ok_or_else(|| {
            let detail = format!(
                "{} requests are being answered here; send this again in a second",
                self.config.limits.requests
            );
            Problem::new(StatusCode::TOO_MANY_REQUESTS, detail)
                .code("rate_limit_exceeded")
                .retry_after(Duration::from_secs(1))
        })?;
        let Request { model: id, inputs, encoding, dimensions } =
            Request::read(&self.body(request).await?)?;
        let limits = &self.config.limits;
        if inputs.len() > limits.inputs {
            return Err(bad_input(format!(
                "there are {} inputs; {} are taken at the most",
                inputs.len(),
                limits.inputs
            )));
        }
        let edge = Edge::of(origin(&request.url()));
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
        // A response, because those are what the driver reads with a limit.
        let body = Response::new_with_opt_readable_stream(request.body().as_ref());
        let body =
            body.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, host::message(&error)))?;
        let late = async {
            host::sleep(BODY_WITHIN).await;
            Err(Failure::Stalled)
        };
        match race(host::read_at_most(&body, most as u64), late).await {
            Ok(bytes) => Ok(bytes),
            Err(Failure::WrongLength { .. }) => Err(Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("a request has {most} bytes at the most"),
            )),
            Err(Failure::Stalled) => {
                let detail = format!("the body did not come within {} s", BODY_WITHIN / 1000);
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
        let limits = &self.config.limits;
        let several = inputs.len() > 1;
        let (mut all, mut sum, mut since) = (Vec::with_capacity(inputs.len()), 0, 0);
        for (at, input) in inputs.into_iter().enumerate() {
            let about = |detail: String| {
                bad_input(if several { format!("input {at}: {detail}") } else { detail })
            };
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
                Fault::Said(detail) => about(detail),
                Fault::Broke(_) => self.broke(loaded, &fault),
            })?;
            if tokens.len() > limits.input_tokens {
                let detail = format!(
                    "it has {} tokens; {} are taken at the most",
                    tokens.len(),
                    limits.input_tokens
                );
                return Err(about(detail).code("context_length_exceeded"));
            }
            sum += tokens.len();
            if sum > limits.tokens {
                let detail = format!(
                    "the inputs have more than {} tokens, which is the most that are taken at once",
                    limits.tokens
                );
                return Err(bad_input(detail));
            }
            all.push(tokens);
        }
        Ok(all)
    }

    /// The embedding of each input. Inputs of like length are run together.
    async fn embeddings(
        &self,
        place: &Place,
        loaded: &Rc<Loaded>,
        inputs: &[Vec<u32>],
    ) -> Result<Vec<Vec<f32>>, Problem> {
        let mut order: Vec<usize> = (0..inputs.len()).collect();
        order.sort_by_key(|at| inputs[*at].len());
        let mut embeddings = vec![Vec::new(); inputs.len()];
        let mut rest = &*order;
        while !rest.is_empty() {
            let mut sum = 0;
            let fits = |at: &&usize| {
                sum += inputs[**at].len();
                sum <= AT_ONCE
            };
            let count = rest.iter().take_while(fits).count().max(1);
            let (batch, left) = rest.split_at(count);
            rest = left;
            place.give_way().await;
            let tokens: Vec<&[u32]> = batch.iter().map(|at| &*inputs[*at]).collect();
            let found = loaded.model.embed(&tokens).map_err(|fault| self.broke(loaded, &fault))?;
            for (at, embedding) in batch.iter().zip(found) {
                embeddings[*at] = embedding;
            }
        }
        Ok(embeddings)
    }

    /// A model that broke is not asked again.
    fn broke(&self, loaded: &Rc<Loaded>, fault: &Fault) -> Problem {
        log::error("model-broke").say(fault);
        self.models.drop(loaded);
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, fault.to_string())
            .retry_after(Duration::from_secs(1))
    }
}

fn bad_input(detail: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail).about(Some("input"))
}

/// Scheme and host of a URL.
fn origin(url: &str) -> &str {
    let after = url.find("://").map_or(0, |at| at + 3);
    let end = url[after..].find('/').map_or(url.len(), |at| after + at);
    &url[..end]
}

/// Whichever ends first.
async fn race<T>(one: impl Future<Output = T>, other: impl Future<Output = T>) -> T {
    let (one, other) = (std::pin::pin!(one), std::pin::pin!(other));
    futures::future::select(one, other).await.factor_first().0
}
