//! The answer at `/healthz`: what the worker can reach now, and so whether it can serve models that its cache does not have.

use edge_net_core::transfer::source::{Failure, Source, SourceKind};
use edge_net_driver::host;
use edge_net_driver::lookup::Access as _;
use futures::future::{join, join_all};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use js_sys::{Object, Uint8Array};
use serde_json::{Value, json};
use web_sys::AbortSignal;
use worker::Env;

use crate::config::Config;
use crate::models::Call;
use crate::registry::Registry;
use crate::{log, reply};

/// How long a check may take, in milliseconds.
const TIMEOUT: u32 = 2_000;
/// A model that nobody publishes: a bucket that says that it has no manifest of it answers.
const NO_MODEL: &str = "healthz";
/// The block of no bytes, which every gateway has (Trustless Gateway specification, 5.1).
const NO_BYTES: &str = "bafkqaaa?format=raw";

/// What came of asking one place.
struct Check {
    /// Which, for people; never its URL.
    name: String,
    /// Whether models can be served from it alone.
    serves: bool,
    /// How long it took, in milliseconds.
    took: u64,
    /// What was wrong.
    failure: Option<Failure>,
}

/// The answer to a GET or HEAD: 200 while models can be served.
pub async fn answer(call: &Call<'_>) -> worker::Result<web_sys::Response> {
    // One entry for each place; those that `serves` is not said of can only degrade.
    let sources = join_all(
        named(&call.config.sources).map(|(name, source)| check_source(&call.config, name, source)),
    );
    let (mut checks, registry) = join(sources, check_registry(call.env)).await;
    checks.extend(registry);
    let serving = checks.iter().any(|check| check.serves && check.failure.is_none());
    let status = match (serving, checks.iter().all(|check| check.failure.is_none())) {
        (true, true) => "ok",
        (true, false) => "degraded",
        (false, _) => "down",
    };
    let body =
        json!({ "status": status, "checks": checks.iter().map(Check::to_json).collect::<Value>() })
            .to_string();
    let mut fields = HeaderMap::new();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let status = if serving { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = (call.method != Method::HEAD).then(|| Uint8Array::from(body.as_bytes()));
    reply::with_fields(status, &fields, body.as_deref())
}

/// Sources by their kind, gateways with a number too where there are several.
fn named(sources: &[Source]) -> impl Iterator<Item = (String, &Source)> {
    let alone = |kind| sources.iter().filter(|source| source.kind == kind).count() == 1;
    sources.iter().enumerate().map(move |(i, source)| {
        let number = sources[..=i].iter().filter(|other| other.kind == source.kind).count();
        let name = source.kind.name();
        (if alone(source.kind) { name.to_owned() } else { format!("{name}-{number}") }, source)
    })
}

async fn check_source(config: &Config, name: String, source: &Source) -> Check {
    check(name, true, ask(config, source)).await
}

/// The registry, where there is one.
async fn check_registry(env: &Env) -> Option<Check> {
    let registry = Registry::of(env);
    let asked =
        async { registry.check().await.map_err(|error| Failure::Unreachable(error.to_string())) };
    if registry.is_bound() { Some(check("registry".into(), false, asked).await) } else { None }
}

async fn check(
    name: String,
    serves: bool,
    asked: impl Future<Output = Result<(), Failure>>,
) -> Check {
    let from = host::now();
    let failure = asked.await.err();
    if let Some(failure) = &failure {
        log::warn("check-failed").fact("source", &*name).say(failure);
    }
    Check { name, serves, took: host::now() - from, failure }
}

/// Asks a source for next to nothing, in the way that it is asked for models.
async fn ask(config: &Config, source: &Source) -> Result<(), Failure> {
    let url = match source.kind {
        SourceKind::Ipfs => format!("{}/{NO_BYTES}", source.base),
        _ => source.manifest_url(NO_MODEL, None).unwrap_or_default(),
    };
    let url = config.credential.admit(source, url).await?;
    let response =
        host::get(&url, &[], &Object::new(), &AbortSignal::timeout_with_u32(TIMEOUT)).await?;
    if let Some(body) = response.body() {
        // Not awaited: the head says it all.
        let _ = body.cancel();
    }
    match response.status() {
        200..=299 | 404 | 410 => Ok(()),
        status => Err(Failure::Status(status)),
    }
}

impl Check {
    fn to_json(&self) -> Value {
        let mut json = json!({ "name": self.name, "ok": self.failure.is_none(), "ms": self.took });
        if let Some(failure) = &self.failure {
            json["error"] = self.error(failure).into();
        }
        json
    }

    /// What is said of a failure to anybody: what the host says of it may name URLs.
    fn error(&self, failure: &Failure) -> String {
        match failure {
            Failure::Status(status) => format!("status {status}"),
            _ if self.serves && self.took >= u64::from(TIMEOUT) => {
                format!("no answer in {} s", TIMEOUT / 1000)
            }
            _ => "no answer".into(),
        }
    }
}
