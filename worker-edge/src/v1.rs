//! The registry API below `/v1/`, as `openapi.json` describes it.

use std::rc::Rc;
use std::time::Duration;

use edge_net_core::http::answer::Freshness;
use edge_net_core::http::link::MAX_LIFETIME;
use edge_net_core::http::openai;
use edge_net_core::http::registry::{Filter, Release, Summary};
use edge_net_core::transfer::source::{Failure, Source, SourceKind};
use edge_net_core::trust::manifest::{MAX_MANIFEST_BYTES, is_id};
use edge_net_core::trust::signature::VerifiedManifest;
use edge_net_driver::lookup::{Accepted, NoManifest};
use edge_net_driver::{host, log};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use js_sys::Uint8Array;
use semver::Version;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::call::Call;
use crate::private::Link;
use crate::registry::{Found, NotPublished, Registry};
use crate::reply::document;
use crate::routes::{self, MODELS, ModelResource, Resource};
use crate::{catalog, reply};

/// The OpenAPI document: `openapi.json` and the schema of manifests (see `build.rs`).
const OPENAPI: &str = include_str!(concat!(env!("OUT_DIR"), "/openapi.json"));
const JSON: &str = "application/json";
/// Default lifetime of links.
const LIFETIME: Duration = Duration::from_hours(1);

type Answer = worker::Result<web_sys::Response>;

/// A header that OpenAI's clients send with each request. It chooses the form of a list.
const OPENAI_CLIENT: &str = "X-Stainless-Lang";

/// The response to a request for `path`, which is the part below `/v1/`.
pub async fn answer(call: &Call<'_>, path: &str) -> Answer {
    match Resource::of(path) {
        Some(Resource::OpenApi) => small(call, OPENAPI.as_bytes()),
        Some(Resource::Models) if call.method == Method::POST => publish(call).await,
        Some(Resource::Models) => list(call).await,
        Some(Resource::Model(id, resource)) => model(call, &id, resource).await,
        None => {
            reply::problem(StatusCode::NOT_FOUND, "there is nothing here; see /v1/openapi.json")
        }
    }
}

/// The response about one model. If the model is private, the request needs the token.
async fn model(call: &Call<'_>, id: &str, resource: ModelResource) -> Answer {
    if !is_id(id) {
        return reply::problem(
            StatusCode::NOT_FOUND,
            "this is no model id: ids have a-z, 0-9, '.', '_' and '-'",
        );
    }
    let Some(lifetime) = lifetime(&call.url) else {
        let detail =
            format!("lifetime must be a number of seconds from 1 to {}", MAX_LIFETIME.as_secs());
        return reply::problem(StatusCode::BAD_REQUEST, &detail);
    };
    let authorization = call.request.headers().get("Authorization").ok().flatten();
    let folder = format!("{MODELS}{id}/");
    let private = &call.config.private;
    let link =
        match private.link(id, &folder, authorization.as_deref(), lifetime, host::unix_time()) {
            Ok(link) => link,
            Err((status, detail)) => {
                let response = reply::problem(status, &detail)?;
                if status == StatusCode::UNAUTHORIZED {
                    response.headers().set("WWW-Authenticate", "Bearer")?;
                }
                return Ok(response);
            }
        };
    let is_private = link.is_some();
    let response = match resource {
        ModelResource::Download => return download(call, id, link).await,
        ModelResource::Version(version) => match Version::parse(&version) {
            Ok(version) => manifest(call, id, Some(&version)).await,
            Err(error) => reply::problem(
                StatusCode::NOT_FOUND,
                &format!("this is no semantic version: {error}"),
            ),
        },
        ModelResource::Versions => versions(call, id).await,
        ModelResource::Newest => manifest(call, id, None).await,
    }?;
    if is_private {
        response.headers().set(CACHE_CONTROL.as_str(), "private, no-store")?;
    }
    Ok(response)
}

/// The requested lifetime of links; `None` if it is not allowed.
fn lifetime(url: &worker::Url) -> Option<Duration> {
    let asked = url.query_pairs().find(|(name, _)| name == "lifetime");
    let asked =
        asked.map_or(Some(LIFETIME), |(_, value)| value.parse().ok().map(Duration::from_secs));
    asked.filter(|lifetime| (Duration::from_secs(1)..=MAX_LIFETIME).contains(lifetime))
}

/// A page of the list of models.
async fn list(call: &Call<'_>) -> Answer {
    let filter = match Filter::parse(call.url.query_pairs()) {
        Ok(filter) => filter,
        Err(error) => return reply::problem(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let (registry, private) = (Registry::of(call.env), &call.config.private.models);
    let bundled = bundled(call, &filter);
    let (page, from) = match registry.list(&filter, private, &bundled).await {
        Ok(page) => (page, "d1"),
        Err(error) => {
            log::warn("registry-failed")
                .say(format!("{error}; the list has the bundled models only"));
            (Rc::new(filter.page(bundled)), "bundle")
        }
    };
    let (models, next) = &*page;
    let body = if is_openai(call)? { json(&openai::models(models)) } else { json(models) };
    let response = small(call, &body)?;
    let headers = response.headers();
    headers.set("Vary", OPENAI_CLIENT)?;
    headers.set("Server-Timing", &format!("registry;desc={from}"))?;
    if let Some(next) = next {
        // RFC 8288.
        let mut url = call.url.clone();
        let kept: Vec<_> = call.url.query_pairs().filter(|(name, _)| name != "cursor").collect();
        url.query_pairs_mut().clear().extend_pairs(kept).append_pair("cursor", next);
        headers.set("Link", &format!("<{url}>; rel=\"next\""))?;
    }
    Ok(response)
}

/// The bundled models that a filter admits, in the order of their ids.
fn bundled(call: &Call<'_>, filter: &Filter) -> Vec<Summary> {
    let manifests = catalog::all_bundled(&call.config);
    let public =
        manifests.iter().filter(|accepted| !call.config.private.contains(&accepted.manifest.id));
    public
        .map(|accepted| Summary::of(&accepted.manifest))
        .filter(|summary| filter.admits(summary))
        .collect()
}

/// Whether the answer is to have the form of OpenAI's API: its clients ask for it, and so does the
/// path.
fn is_openai(call: &Call<'_>) -> worker::Result<bool> {
    Ok(routes::is_openai(call.url.path()) || call.request.headers().has(OPENAI_CLIENT)?)
}

/// The manifest of a version, or of the newest: from the registry, or else from the sources.
async fn accepted(
    call: &Call<'_>,
    id: &str,
    version: Option<&Version>,
) -> Result<Rc<Accepted>, NoManifest> {
    match Registry::of(call.env).manifest(&call.config, id, version).await {
        Ok(Found::Manifest(accepted)) => return Ok(accepted),
        Ok(Found::Yanked) => {
            return Err(NoManifest::NotFound(format!(
                "all versions of {id} are yanked; request one by its version"
            )));
        }
        Ok(Found::Nothing) => {}
        Err(error) => {
            log::warn("registry-failed")
                .fact("model", id)
                .say(format!("{error}; falling back to the bucket and the bundle"));
        }
    }
    catalog::manifest(&call.config, id, version).await
}

async fn manifest(call: &Call<'_>, id: &str, version: Option<&Version>) -> Answer {
    match accepted(call, id, version).await {
        Ok(accepted) if routes::is_openai(call.url.path()) => {
            small(call, &json(&openai::model(&Summary::of(&accepted.manifest))))
        }
        // A version is signed again when it is yanked.
        Ok(accepted) => small(call, accepted.text.as_bytes()),
        Err(error) => reply::no_manifest(&error, version),
    }
}

/// The versions of a model; if the registry does not know it, the newest of the bucket or the
/// bundle.
async fn versions(call: &Call<'_>, id: &str) -> Answer {
    let releases = Registry::of(call.env).releases(id).await.unwrap_or_else(|error| {
        log::warn("registry-failed")
            .fact("model", id)
            .say(format!("{error}; the list has the newest version only"));
        Vec::new()
    });
    if !releases.is_empty() {
        return small(call, &json(&releases));
    }
    match catalog::manifest(&call.config, id, None).await {
        Ok(accepted) => small(call, &json(&[release(&accepted.manifest)])),
        Err(error) => reply::no_manifest(&error, None),
    }
}

fn release(manifest: &VerifiedManifest) -> Release {
    let Summary { version, size, .. } = Summary::of(manifest);
    Release {
        version,
        timestamp: manifest.timestamp.to_string(),
        key_id: manifest.key_id().to_owned(),
        size,
        yanked: false,
    }
}

/// Publishes a signed manifest.
async fn publish(call: &Call<'_>) -> Answer {
    let media_type = call.request.headers().get(CONTENT_TYPE.as_str())?.unwrap_or_default();
    if !media_type
        .split(';')
        .next()
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case(JSON))
    {
        return reply::problem(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send the signed manifest as application/json",
        );
    }
    // As a response: the driver reads those with a size limit.
    let body = web_sys::Response::new_with_opt_readable_stream(call.request.body().as_ref())?;
    let text = match host::read_at_most(&body, MAX_MANIFEST_BYTES).await {
        Ok(bytes) => String::from_utf8(bytes),
        Err(Failure::WrongLength { .. }) => {
            let detail = format!("a manifest has at most {MAX_MANIFEST_BYTES} bytes");
            return reply::problem(StatusCode::PAYLOAD_TOO_LARGE, &detail);
        }
        Err(failure) => {
            return reply::problem(
                StatusCode::BAD_REQUEST,
                &format!("the body could not be read: {failure}"),
            );
        }
    };
    let Ok(text) = text else {
        return reply::problem(StatusCode::BAD_REQUEST, "the manifest is not UTF-8");
    };
    let publication =
        match Registry::of(call.env).publish(&call.config, &text, host::unix_time()).await {
            Ok(publication) => publication,
            Err(NotPublished::Rejected(rejection)) => {
                return reply::problem(rejection.status(), &rejection.to_string());
            }
            Err(error) => {
                log::error("not-published").say(&error);
                let response = reply::problem(StatusCode::SERVICE_UNAVAILABLE, &error.to_string())?;
                response.headers().set("Retry-After", "5")?;
                return Ok(response);
            }
        };
    let Summary { id, version, .. } = &publication.summary;
    let mut fields = HeaderMap::new();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/models/{id}/versions/{version}")) {
        fields.insert(LOCATION, location);
    }
    let status = if publication.new { StatusCode::CREATED } else { StatusCode::OK };
    reply::with_fields(status, &fields, Some(&Uint8Array::from(&*json(&publication.summary))))
}

/// The URLs of the newest version's files by role; `signature` is the manifest, which has the
/// signature. If the model is private they are links.
async fn download(call: &Call<'_>, id: &str, link: Option<Link>) -> Answer {
    let config = &call.config;
    let source = call
        .url
        .query_pairs()
        .find(|(name, _)| name == "source")
        .map_or_else(|| "gcs".into(), |(_, source)| source);
    if !matches!(&*source, "gcs" | "ipfs") {
        return reply::problem(StatusCode::BAD_REQUEST, "source must be gcs or ipfs");
    }
    let accepted = match accepted(call, id, None).await {
        Ok(accepted) => accepted,
        Err(error) => return reply::no_manifest(&error, None),
    };
    let manifest = &accepted.manifest;
    let ours = Source::new(
        SourceKind::Edge,
        &format!("{}{MODELS}", call.url.origin().ascii_serialization()),
    );
    let gateway = config.sources.iter().find(|source| source.kind == SourceKind::Ipfs);
    let from = match (&*source, gateway, &link) {
        ("gcs", ..) => &ours,
        (_, Some(gateway), None) => gateway,
        _ => {
            return reply::problem(
                StatusCode::NOT_FOUND,
                &format!("{id} is not available from IPFS here"),
            );
        }
    };
    let query = link.as_ref().map_or_else(String::new, |link| format!("?{}", link.query));
    let mut urls = Map::new();
    let mut put = |role: &str, url: String| {
        drop(urls.insert(role.into(), Value::from(format!("{url}{query}"))));
    };
    for artifact in &manifest.artifacts {
        put(&artifact.role, from.artifact_url(manifest, artifact));
    }
    if let Some(url) = ours.manifest_url(id, Some(&manifest.version)) {
        put("signature", url);
    }
    let response = small(call, &json(&urls))?;
    if let Some(link) = link {
        response.headers().set(CACHE_CONTROL.as_str(), "private, no-store")?;
        response.headers().set("X-Link-Expires", &link.expires.as_secs().to_string())?;
    }
    Ok(response)
}

/// The response with a document that may be a minute old.
fn small(call: &Call<'_>, body: &[u8]) -> Answer {
    document(call, Freshness::Latest, JSON, body)
}

fn json(value: &(impl Serialize + ?Sized)) -> Vec<u8> {
    // It fails only for maps whose keys are not strings; there are none here.
    serde_json::to_vec(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::lifetime;

    #[test]
    fn lifetimes_have_a_default_and_limits() {
        let of = |query: &str| {
            lifetime(&worker::Url::parse(&format!("https://edge.example/v1/x{query}")).unwrap())
                .map(|lifetime| lifetime.as_secs())
        };
        assert_eq!(of(""), Some(3600));
        assert_eq!(of("?source=gcs"), Some(3600));
        assert_eq!(of("?lifetime=1"), Some(1));
        assert_eq!(of("?lifetime=604800"), Some(604_800));
        for query in ["?lifetime=0", "?lifetime=604801", "?lifetime=", "?lifetime=1h"] {
            assert_eq!(of(query), None, "{query}");
        }
    }
}
