//! The edge worker: what each URL answers. Everything that decides about bytes is in `edge-net-core`.

mod catalog;
mod config;
mod credential;
mod embeddings;
mod gateway;
mod health;
mod hit;
mod limit;
mod memory;
mod models;
mod origin;
mod private;
mod registry;
mod reply;
mod segments;
mod subrequests;
mod v1;

use std::rc::Rc;

use edge_net_core::http::answer::ModelPath;
use edge_net_driver::log;
use http::{Method, StatusCode};
use worker::{Context, Env, event};

use crate::config::Config;
use crate::models::Call;

/// Prefix of the artifacts' URLs.
const MODELS: &str = "/models/";
/// Where the worker says how it is.
const HEALTH: &str = "/healthz";
/// Prefix of the blocks' URLs.
const IPFS: &str = "/ipfs/";

#[event(start)]
fn start() {
    console_error_panic_hook::set_once();
}

// Not the worker crate's `Request`: that reads all that Cloudflare says of a connection before it is asked for.
#[event(fetch, respond_with_errors)]
async fn fetch(
    request: web_sys::Request,
    env: Env,
    context: Context,
) -> worker::Result<web_sys::Response> {
    let Ok(method) = Method::from_bytes(request.method().as_bytes()) else {
        return reply::problem(StatusCode::NOT_IMPLEMENTED, "there is no such method");
    };
    let url = worker::Url::parse(&request.url())?;
    if method == Method::OPTIONS {
        return reply::preflight(url.path());
    }
    let config = match Config::of(&env) {
        Ok(config) => config,
        Err(error) => {
            log::error("not-configured").say(&error);
            return reply::problem(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the worker is not configured; its log says what is missing",
            );
        }
    };
    answer(&Call { request: &request, method, url, env: &env, config, context: Rc::new(context) })
        .await
}

async fn answer(call: &Call<'_>) -> worker::Result<web_sys::Response> {
    let path = call.url.path();
    if path == embeddings::PATH {
        return embeddings::answer(call).await;
    }
    if !reply::allowed(path).contains(&call.method) {
        return reply::not_allowed(&call.method, path);
    }
    // What models are, and where, is asked for seldom; their bytes are not counted.
    if let Some(counted) = ["/v1/", HEALTH].into_iter().find(|counted| path.starts_with(counted))
        && let Some(refusal) = limit::refusal(call.env, call.request, counted).await?
    {
        return Ok(refusal);
    }
    if let Some(below) = path.strip_prefix("/v1/") {
        return v1::answer(call, below).await;
    }
    if path == HEALTH {
        return health::answer(call).await;
    }
    if let Some(below) = path.strip_prefix(IPFS) {
        return gateway::answer(call, below).await;
    }
    let below = path.strip_prefix(MODELS);
    let named = below
        .map_or_else(|| path.strip_prefix('/').and_then(ModelPath::parse_hub), ModelPath::parse);
    let Some(path) = named else {
        let detail = match below {
            Some(_) => {
                "this names no model file; use /models/{id}/{file} or /models/{id}/v{version}/{file}"
            }
            None => {
                "there is nothing here; models are at /models/{id}/{file} and /{org}/{id}/resolve/{revision}/{file}"
            }
        };
        return reply::problem(StatusCode::NOT_FOUND, detail);
    };
    if let Err((status, detail)) = call.config.private.admit(&path.id, &call.url) {
        return reply::problem(status, &detail);
    }
    let response = models::answer(call, &path).await?;
    if call.config.private.contains(&path.id) {
        // Only who has a link may keep it.
        let headers = response.headers();
        let kept = headers.get("Cache-Control")?.unwrap_or_default();
        headers.set("Cache-Control", &kept.replace("public", "private"))?;
    }
    Ok(response)
}
