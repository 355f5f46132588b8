//! The health check `/healthz`: which sources the worker reaches, and so whether it can serve
//! models that its cache does not have.

use edge_net_core::transfer::source::{Failure, Source, SourceKind};
use edge_net_driver::lookup::Access as _;
use edge_net_driver::{host, log};
use futures::future::{join, join_all};
use http::StatusCode;
use js_sys::Object;
use serde_json::{Value, json};
use web_sys::AbortSignal;
use worker::Env;

use crate::call::Call;
use crate::config::Config;
use crate::registry::Registry;
use crate::reply;

/// Time limit of a check, in milliseconds.
const TIMEOUT: u32 = 2_000;
/// The id of a model that is never published: a bucket answers that it has no manifest of it.
const NO_MODEL: &str = "healthz";
/// The empty block, which every gateway has (Trustless Gateway specification, 5.1).
const NO_BYTES: &str = "bafkqaaa?format=raw";

/// The result of checking one place.
struct Check {
    /// Its name for humans, never its URL.
    name: String,
    /// Whether it alone is enough to serve models.
    serves: bool,
    /// Its duration, in milliseconds.
    took: u64,
    /// Its failure.
    failure: Option<Failure>,
}

/// The response to a GET or HEAD: 200 as long as models can be served.
pub async fn answer(call: &Call<'_>) -> worker::Result<web_sys::Response> {
    let sources = join_all(
        named(&call.config.sources).map(|(name, source)| check_source(&call.config, name, source)),
    );
    let (mut checks, registry) = join(sources, check_registry(call.env)).await;
    checks.extend(registry);
    let (status, word) = summary(&checks);
    let checks = checks.iter().map(Check::to_json).collect::<Value>();
    let body = json!({ "status": word, "checks": checks }).to_string();
    reply::unkept(call, status, "application/json", body.as_bytes())
}

/// The status of the response, and the word for it in the body.
fn summary(checks: &[Check]) -> (StatusCode, &'static str) {
    let serving = checks.iter().any(|check| check.serves && check.failure.is_none());
    match (serving, checks.iter().all(|check| check.failure.is_none())) {
        (true, true) => (StatusCode::OK, "ok"),
        (true, false) => (StatusCode::OK, "degraded"),
        (false, _) => (StatusCode::SERVICE_UNAVAILABLE, "down"),
    }
}

/// Sources with their names: the kind, and a number if there are several of the kind.
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

/// The check of the registry, if a database is bound.
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

/// Sends the smallest request to a source, in the same way as requests for models.
async fn ask(config: &Config, source: &Source) -> Result<(), Failure> {
    let url = match source.kind {
        SourceKind::Ipfs => format!("{}/{NO_BYTES}", source.base),
        _ => source.manifest_url(NO_MODEL, None).unwrap_or_default(),
    };
    let url = config.credential.admit(source, url).await?;
    let response =
        host::get(&url, &[], &Object::new(), &AbortSignal::timeout_with_u32(TIMEOUT)).await?;
    host::discard(&response); // the head is enough
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

    /// The public text of a failure: the message of the host may have URLs.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn check(serves: bool, took: u64, failure: Option<Failure>) -> Check {
        Check { name: "gcs".into(), serves, took, failure }
    }

    #[test]
    fn one_source_is_enough_to_serve() {
        let good = || check(true, 1, None);
        let bad = |serves| check(serves, 1, Some(Failure::Status(503)));
        assert_eq!(summary(&[good(), check(false, 1, None)]), (StatusCode::OK, "ok"));
        assert_eq!(summary(&[good(), bad(true)]), (StatusCode::OK, "degraded"));
        assert_eq!(summary(&[good(), bad(false)]), (StatusCode::OK, "degraded"));
        let down = (StatusCode::SERVICE_UNAVAILABLE, "down");
        assert_eq!(summary(&[bad(true), check(false, 1, None)]), down);
        assert_eq!(summary(&[]), down);
    }

    #[test]
    fn sources_of_a_kind_are_numbered_if_there_are_several() {
        let source = |kind| Source::new(kind, "https://source.example");
        let sources = [SourceKind::Gcs, SourceKind::Ipfs, SourceKind::Ipfs].map(source);
        let names: Vec<_> = named(&sources).map(|(name, _)| name).collect();
        assert_eq!(names, ["gcs", "ipfs-1", "ipfs-2"]);
        assert_eq!(named(&sources[1..2]).next().unwrap().0, "ipfs");
    }

    #[test]
    fn failures_are_told_without_urls() {
        let unreachable =
            || Some(Failure::Unreachable("no route to https://secret.example".into()));
        assert_eq!(check(true, 5, unreachable()).to_json()["error"], "no answer");
        assert_eq!(check(true, 2000, unreachable()).to_json()["error"], "no answer in 2 s");
        assert_eq!(check(false, 2000, unreachable()).to_json()["error"], "no answer");
        let status = check(true, 5, Some(Failure::Status(503))).to_json();
        assert_eq!(status, json!({ "name": "gcs", "ok": false, "ms": 5, "error": "status 503" }));
    }
}
