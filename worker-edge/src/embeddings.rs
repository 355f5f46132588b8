//! `/v1/embeddings`: passes requests on to the inference worker, which holds the models. This
//! worker stays small.

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

use crate::call::Call;
use crate::routes::{self, EMBEDDINGS};
use crate::{limit, reply};

/// Name of the inference worker's binding in `wrangler.toml`.
const BINDING: &str = "INFERENCE";
/// Header of a request to the inference worker: the links of private models, which
/// [`Private::links`](crate::private::Private::links) gives.
const LINKS: &str = "X-Model-Links";
/// Headers of the inference worker's response that are passed on; [`reply`] adds the others.
const PASSED: [HeaderName; 3] = [CONTENT_TYPE, CACHE_CONTROL, RETRY_AFTER];

#[wasm_bindgen]
extern "C" {
    /// A service binding: another worker.
    type Fetcher;
    #[wasm_bindgen(method, structural, catch)]
    fn fetch(this: &Fetcher, request: &Request) -> Result<Promise, JsValue>;
}

/// The response to a request. This worker's own problems are also errors of OpenAI's API.
pub async fn answer(call: &Call<'_>) -> worker::Result<Response> {
    if call.method != Method::POST {
        let response = problem(&Problem::new(
            StatusCode::METHOD_NOT_ALLOWED,
            routes::method_not_allowed(&call.method, EMBEDDINGS),
        ))?;
        response.headers().set("Allow", &routes::allow(EMBEDDINGS))?;
        return Ok(response);
    }
    if !limit::admits(call, EMBEDDINGS).await? {
        return problem(
            &Problem::new(StatusCode::TOO_MANY_REQUESTS, limit::too_many(EMBEDDINGS))
                .code("rate_limit_exceeded")
                .retry_after(Duration::from_secs(limit::PERIOD.into())),
        );
    }
    let binding = Reflect::get(call.env, &BINDING.into())?;
    if binding.is_undefined() {
        let detail = format!(
            "this deployment has no embeddings: no worker is bound as {BINDING}; see wrangler.toml"
        );
        return problem(&Problem::new(StatusCode::NOT_IMPLEMENTED, detail));
    }
    let passed_on = with_links(call)?;
    match pass(binding.unchecked_ref(), &passed_on).await {
        Ok(response) => answered(&response),
        Err(error) => {
            log::error("no-inference").say(host::message(&error));
            let detail = "the inference worker failed; its log has the reason";
            problem(
                &Problem::new(StatusCode::BAD_GATEWAY, detail).retry_after(Duration::from_secs(1)),
            )
        }
    }
}

/// The request, with the links that its client may use.
fn with_links(call: &Call<'_>) -> Result<Request, JsValue> {
    let request = Request::new_with_request(call.request)?;
    let headers = request.headers();
    let authorization = headers.get("Authorization")?;
    let query = call.url.query().unwrap_or_default();
    let links = call.config.private.links(authorization.as_deref(), query, host::unix_time());
    // Never the client's own.
    headers.set(LINKS, &links.to_string())?;
    Ok(request)
}

async fn pass(worker: &Fetcher, request: &Request) -> Result<Response, JsValue> {
    JsFuture::from(worker.fetch(request)?).await.map(Response::from)
}

/// The inference worker's response with the headers of this worker.
fn answered(response: &Response) -> worker::Result<Response> {
    let headers = response.headers();
    let mut fields = HeaderMap::new();
    for name in PASSED {
        let value = headers.get(name.as_str())?;
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
            fields.insert(name, value);
        }
    }
    let status = StatusCode::from_u16(response.status()).unwrap_or(StatusCode::BAD_GATEWAY);
    let body = response.body().map(Object::from);
    reply::with_fields(status, &fields, body.as_ref())
}

fn problem(problem: &Problem) -> worker::Result<Response> {
    let mut fields = HeaderMap::new();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(wait) = problem.retry_after {
        fields.insert(RETRY_AFTER, wait.as_secs().into());
    }
    let body = Uint8Array::from(problem.to_json().as_bytes());
    reply::with_fields(problem.status, &fields, Some(&body))
}
