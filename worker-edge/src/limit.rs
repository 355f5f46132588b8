//! The rate limit of one client address. The binding `API_LIMIT` counts requests, per data centre.
//!
//! The limit protects the worker, not the models: without the binding nothing is limited, and a
//! binding that fails admits all requests.

use edge_net_driver::{host, log};
use http::StatusCode;
use js_sys::{Object, Promise, Reflect};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use crate::call::Call;
use crate::reply;

/// Name of the binding in `wrangler.toml`.
const BINDING: &str = "API_LIMIT";
/// Its `period` in `wrangler.toml`, in seconds, which the binding does not tell: a client that is
/// silent for this long is admitted again.
pub const PERIOD: u32 = 60;
/// What requests count as that make this worker ask a source or the registry for something that it
/// does not know. There may be no end of names that nobody published.
pub const LOOKUPS: &str = "models that are not known here yet";

#[wasm_bindgen]
extern "C" {
    /// A rate limit binding.
    type RateLimit;
    #[wasm_bindgen(method, structural, catch)]
    fn limit(this: &RateLimit, options: &Object) -> Result<Promise, JsValue>;
}

/// The response to a client that exceeds the limit of `prefix`; `None` if the client is admitted.
pub async fn refusal(call: &Call<'_>, prefix: &str) -> worker::Result<Option<web_sys::Response>> {
    if admits(call, prefix).await? { Ok(None) } else { refused(prefix).map(Some) }
}

/// The response to a client that exceeds the limit of `prefix`.
pub fn refused(prefix: &str) -> worker::Result<web_sys::Response> {
    reply::problem_with_retry(StatusCode::TOO_MANY_REQUESTS, &too_many(prefix), PERIOD)
}

/// Whether the client may send a request below `prefix` now.
pub async fn admits(call: &Call<'_>, prefix: &str) -> worker::Result<bool> {
    // Cloudflare overwrites this header. Elsewhere all clients count as one.
    let client = call.request.headers().get("CF-Connecting-IP")?.unwrap_or_default();
    Ok(count(call, &key(prefix, &client)).await.unwrap_or_else(|error| {
        log::warn("limit-failed").fact("binding", BINDING).say(host::message(&error));
        true
    }))
}

/// The detail of the problem that a client exceeds the limit of `prefix`.
pub fn too_many(prefix: &str) -> String {
    format!("too many requests for {prefix} from your address; try again in {PERIOD} s")
}

/// Each prefix and address is counted on its own.
fn key(prefix: &str, client: &str) -> String {
    format!("{prefix} {client}")
}

async fn count(call: &Call<'_>, key: &str) -> Result<bool, JsValue> {
    let binding = Reflect::get(call.env, &BINDING.into())?;
    if binding.is_undefined() {
        return Ok(true);
    }
    let options = Object::new();
    Reflect::set(&options, &"key".into(), &key.into())?;
    let outcome = JsFuture::from(binding.unchecked_ref::<RateLimit>().limit(&options)?).await?;
    Ok(Reflect::get(&outcome, &"success".into())?.is_truthy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_and_addresses_are_counted_apart() {
        assert_ne!(key("/v1/", "192.0.2.1"), key("/healthz", "192.0.2.1"));
        assert_ne!(key("/v1/", "192.0.2.1"), key("/v1/", "192.0.2.2"));
    }

    #[test]
    fn the_period_is_the_one_of_every_rate_limit_in_wrangler_toml() {
        let config = include_str!("../../wrangler.toml");
        let periods: Vec<_> = config.lines().filter(|line| line.contains("period =")).collect();
        assert!(!periods.is_empty());
        for line in periods {
            assert!(line.contains(&format!("period = {PERIOD} ")), "{line}");
        }
        assert!(config.contains(&format!("name = \"{BINDING}\"")));
        assert!(too_many("/v1/").contains("60 s"));
    }
}
