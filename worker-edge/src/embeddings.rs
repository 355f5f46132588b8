//! `/v1/embeddings`: another worker has the models, so that this one stays small; requests for embeddings are passed on to it.

use std::time::Duration;

use edge_net_core::http::answer::PROBLEM_JSON;
use edge_net_core::http::openai::Problem;
use edge_net_driver::{host, log};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use js_sys::{Object, Promise, Reflect, Uint8Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{Request, Response};

use crate::models::Call;
use crate::{limit, reply};

/// Where it is.
pub const PATH: &str = "/v1/embeddings";
/// What the other worker is bound as in `wrangler.toml`.
const BINDING: &str = "INFERENCE";
/// What is passed back of the other worker's fields, besides the body; [`reply`] adds the others.
const PASSED: [HeaderName; 3] = [CONTENT_TYPE, CACHE_CONTROL, RETRY_AFTER];

#[wasm_bindgen]
extern "C" {
    /// Another worker.
    type Fetcher;
    #[wasm_bindgen(method, structural, catch)]
    fn fetch(this: &Fetcher, request: &Request) -> Result<Promise, JsValue>;
}

/// The answer to a request. Those of this worker's own problems too are errors as OpenAI's clients read them.
pub async fn answer(call: &Call<'_>) -> worker::Result<Response> {
    if call.method != Method::POST {
        let response = problem(&Problem::new(
            StatusCode::METHOD_NOT_ALLOWED,
            format!("{} is not allowed here; use POST", call.method),
        ))?;
        response.headers().set("Allow", "POST, OPTIONS")?;
        return Ok(response);
    }
    if !limit::admits(call.env, call.request, PATH).await? {
        let detail = limit::too_many(PATH);
        return problem(
            &Problem::new(StatusCode::TOO_MANY_REQUESTS, detail)
                .code("rate_limit_exceeded")
                .retry_after(Duration::from_secs(limit::PERIOD.into())),
        );
    }
    let binding = Reflect::get(call.env, &BINDING.into())?;
    if binding.is_undefined() {
        let detail = format!(
            "this deployment embeds nothing: no worker is bound as {BINDING}; see wrangler.toml"
        );
        return problem(&Problem::new(StatusCode::NOT_IMPLEMENTED, detail));
    }
    match pass(binding.unchecked_ref(), call.request).await {
        Ok(response) => {
            let headers = response.headers();
            let mut fields = HeaderMap::new();
            for name in PASSED {
                if let Some(value) =
                    headers.get(name.as_str())?.and_then(|value| HeaderValue::from_str(&value).ok())
                {
                    fields.insert(name, value);
                }
            }
            let status = StatusCode::from_u16(response.status()).unwrap_or(StatusCode::BAD_GATEWAY);
            let body = response.body().map(Object::from);
            reply::with_fields(status, &fields, body.as_ref())
        }
        Err(error) => {
            let detail = "the worker that embeds has failed; its log says why";
            log::error("no-inference").say(host::message(&error));
            problem(
                &Problem::new(StatusCode::BAD_GATEWAY, detail).retry_after(Duration::from_secs(1)),
            )
        }
    }
}

async fn pass(worker: &Fetcher, request: &Request) -> Result<Response, JsValue> {
    JsFuture::from(worker.fetch(request)?).await.map(Response::from)
}

fn problem(problem: &Problem) -> worker::Result<Response> {
    let mut fields = HeaderMap::new();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(wait) = problem.retry_after {
        fields.insert(RETRY_AFTER, wait.as_secs().into());
    }
    reply::with_fields(
        problem.status,
        &fields,
        Some(&Uint8Array::from(problem.to_json().as_bytes())),
    )
}
