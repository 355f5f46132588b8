//! Answers below `/v1/`: what models there are, as JSON.

use edge_net_core::source::{Source, SourceKind};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use js_sys::{JSON, Object, Reflect, Uint8Array};
use wasm_bindgen::prelude::*;

use crate::models::{Call, no_manifest};
use crate::{MODELS, catalog, reply};

/// The answer to a GET of `path`, which is what follows `/v1/`.
pub async fn answer(call: &Call<'_>, path: &str) -> worker::Result<web_sys::Response> {
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        ["models", id, "download"] => download(call, id).await,
        _ => reply::problem(StatusCode::NOT_FOUND, "there is nothing here; use /v1/models/{id}/download"),
    }
}

/// URLs of a model's newest version by role, `signature` being the manifest that holds it. Links, where the model is private.
async fn download(call: &Call<'_>, id: &str) -> worker::Result<web_sys::Response> {
    let config = &call.config;
    let source = call.url.query_pairs().find(|(name, _)| name == "source").map_or_else(|| "gcs".into(), |(_, source)| source);
    if !matches!(&*source, "gcs" | "ipfs") {
        return reply::problem(StatusCode::BAD_REQUEST, "source must be gcs or ipfs");
    }
    // Before anything is said of a private model.
    let link = match config.private.link(id, &format!("{MODELS}{id}/"), call.request, &call.url) {
        Ok(link) => link,
        Err((status, detail)) => {
            let response = reply::problem(status, &detail)?;
            if status == StatusCode::UNAUTHORIZED {
                response.headers().set("WWW-Authenticate", "Bearer")?;
            }
            return Ok(response);
        }
    };
    let accepted = match catalog::manifest(config, id, None).await {
        Ok(accepted) => accepted,
        Err(error) => return no_manifest(&error),
    };
    let manifest = &accepted.manifest;
    let ours = Source::new(SourceKind::Edge, &format!("{}{MODELS}", call.url.origin().ascii_serialization()));
    let gateway = config.sources.iter().find(|source| source.kind == SourceKind::Ipfs);
    let from = match (&*source, gateway, &link) {
        ("gcs", ..) => &ours,
        (_, Some(gateway), None) => gateway,
        _ => return reply::problem(StatusCode::NOT_FOUND, &format!("{id} is not to be had from IPFS here")),
    };
    let query = link.as_ref().map_or_else(String::new, |link| format!("?{}", link.query));
    let urls = Object::new();
    let put = |role: &str, url: String| Reflect::set(&urls, &role.into(), &format!("{url}{query}").into());
    for artifact in &manifest.artifacts {
        put(&artifact.role, from.artifact_url(manifest, artifact))?;
    }
    if let Some(url) = ours.manifest_url(id, Some(&manifest.version)) {
        put("signature", url)?;
    }
    let mut fields = HeaderMap::new();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let kept = if link.is_some() { "private, no-store" } else { "public, max-age=60, must-revalidate" };
    fields.insert(CACHE_CONTROL, HeaderValue::from_static(kept));
    if let Some(link) = link {
        fields.insert("x-link-expires", HeaderValue::from(link.expires));
    }
    let text: JsValue = JSON::stringify(&urls)?.into();
    let body = Uint8Array::from(text.as_string().unwrap_or_default().as_bytes());
    reply::with_fields(StatusCode::OK, &fields, Some(&body))
}
