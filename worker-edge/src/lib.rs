//! The edge worker: routes requests to their handlers. The decisions about bytes are in
//! [`edge_net_core`].

mod call;
mod catalog;
mod config;
mod credential;
mod direct;
mod embeddings;
mod entries;
mod fills;
mod gateway;
mod health;
mod hit;
mod limit;
mod memory;
mod models;
mod origin;
mod part;
mod private;
mod registry;
mod reply;
mod routes;
mod segments;
mod send;
mod streams;
mod subrequests;
mod timing;
mod v1;

use std::rc::Rc;

use edge_net_core::http::answer::{Freshness, ModelPath};
use edge_net_core::http::hub;
use edge_net_driver::{host, log};
use http::{Method, StatusCode};
use web_sys::Response;
use worker::{Context, Env, event};

use crate::call::Call;
use crate::config::Config;
use crate::routes::Route;

#[event(start)]
fn start() {
    console_error_panic_hook::set_once();
}

// Not the worker crate's `Request`, which reads all that Cloudflare tells of a connection.
#[event(fetch, respond_with_errors)]
async fn fetch(request: web_sys::Request, env: Env, context: Context) -> worker::Result<Response> {
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
                "the worker is not configured; its log names the variable",
            );
        }
    };
    answer(&Call { request: &request, method, url, env: &env, config, context: Rc::new(context) })
        .await
}

async fn answer(call: &Call<'_>) -> worker::Result<Response> {
    let path = call.url.path();
    let route = Route::of(path);
    // Its problems are OpenAI's errors, also those about the method and the rate.
    if route == Route::Embeddings {
        return embeddings::answer(call).await;
    }
    if !routes::allowed_methods(path).contains(&call.method) {
        return reply::not_allowed(&call.method, path);
    }
    if let Some(prefix) = routes::rate_limited(path)
        && let Some(refusal) = limit::refusal(call, prefix).await?
    {
        return Ok(refusal);
    }
    let not_found = |detail| reply::problem(StatusCode::NOT_FOUND, detail);
    match route {
        Route::Embeddings => embeddings::answer(call).await,
        Route::Api(below) => v1::answer(call, below).await,
        Route::Health => health::answer(call).await,
        Route::Ipfs(below) => gateway::answer(call, below).await,
        Route::Hub(resource) => hub(call, &resource).await,
        Route::Model(path) => model(call, &path).await,
        Route::NotAModelFile => not_found(
            "this names no model file; use /models/{id}/{file} or /models/{id}/v{version}/{file}",
        ),
        Route::Unknown => not_found(
            "there is nothing here; models are at /models/{id}/{file} and \
             /{org}/{id}/resolve/{revision}/{file}",
        ),
    }
}

/// The response of the hub's API about a model. About a private one, the hub says nothing without a
/// token.
async fn hub(call: &Call<'_>, resource: &hub::Resource) -> worker::Result<Response> {
    if call.config.private.contains(&resource.id) {
        let detail = format!("{} is private; see /v1/models/{0}/download for links", resource.id);
        return reply::problem(StatusCode::FORBIDDEN, &detail);
    }
    let version = resource.revision.clone().version();
    match models::find(call, &resource.id, version.as_ref()).await? {
        Ok(accepted) => {
            let body = resource.answer(&accepted.manifest).to_string();
            reply::document(call, Freshness::Latest, "application/json", body.as_bytes())
        }
        Err(response) => Ok(response),
    }
}

/// The response to a request for a model's file, which needs a link if the model is private.
async fn model(call: &Call<'_>, path: &ModelPath) -> worker::Result<Response> {
    let private = &call.config.private;
    let query = call.url.query().unwrap_or_default();
    if let Err((status, detail)) =
        private.admit(&path.id, call.url.path(), query, host::unix_time())
    {
        return reply::problem(status, &detail);
    }
    let response = models::answer(call, path).await?;
    if private.contains(&path.id) {
        reply::keep_private(&response)?;
    }
    Ok(response)
}
