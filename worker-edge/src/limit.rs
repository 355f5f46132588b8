//! How often one address may ask what is not a model's bytes: the binding `API_LIMIT` counts, in the place where it is asked.
//!
//! The limit protects the worker, not the models: without the binding there is none, and one that fails lets pass.

use edge_net_driver::host;
use http::StatusCode;
use http::header::RETRY_AFTER;
use js_sys::{Object, Promise, Reflect};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::Request;
use worker::Env;

use crate::{log, reply};

/// What the binding is called in `wrangler.toml`.
const BINDING: &str = "API_LIMIT";
/// Its `period` there, in seconds, which it does not tell: after this much silence anybody is let in again.
pub const PERIOD: u32 = 60;

#[wasm_bindgen]
extern "C" {
    /// A rate limit of the platform.
    type RateLimit;
    #[wasm_bindgen(method, structural, catch)]
    fn limit(this: &RateLimit, asked: &Object) -> Result<Promise, JsValue>;
}

/// The answer to a client that asks `what` too often; `None` lets it pass.
pub async fn refusal(
    env: &Env,
    request: &Request,
    what: &str,
) -> worker::Result<Option<web_sys::Response>> {
    if admits(env, request, what).await? {
        return Ok(None);
    }
    let response = reply::problem(StatusCode::TOO_MANY_REQUESTS, &too_many(what))?;
    response.headers().set(RETRY_AFTER.as_str(), &PERIOD.to_string())?;
    Ok(Some(response))
}

/// Whether a client may ask `what` now.
pub async fn admits(env: &Env, request: &Request, what: &str) -> worker::Result<bool> {
    // Cloudflare sets the field, whatever a client sends; elsewhere all clients are one.
    let client = request.headers().get("CF-Connecting-IP")?.unwrap_or_default();
    Ok(counts(env, &format!("{what} {client}")).await.unwrap_or_else(|error| {
        log::warn("limit-failed").fact("binding", BINDING).say(host::message(&error));
        true
    }))
}

/// What is said of `what` to who may not ask it now.
pub fn too_many(what: &str) -> String {
    format!(
        "too many requests for {what} came from your address; it is answered again in {PERIOD} s at the latest"
    )
}

async fn counts(env: &Env, key: &str) -> Result<bool, JsValue> {
    let binding = Reflect::get(env, &BINDING.into())?;
    if binding.is_undefined() {
        return Ok(true);
    }
    let asked = Object::new();
    Reflect::set(&asked, &"key".into(), &key.into())?;
    let outcome = JsFuture::from(binding.unchecked_ref::<RateLimit>().limit(&asked)?).await?;
    Ok(Reflect::get(&outcome, &"success".into())?.is_truthy())
}
