//! The edge worker: what each URL answers. Everything that decides about bytes is in `edge-net-core`.

mod catalog;
mod config;
mod credential;
mod models;
mod origin;
mod reply;
mod segments;

use std::rc::Rc;

use edge_net_core::http::ModelPath;
use http::StatusCode;
use worker::{Context, Env, Method, Request, Response, event};

use crate::config::Config;
use crate::models::Call;

/// Prefix of the artifacts' URLs.
const MODELS: &str = "/models/";

#[event(start)]
fn start() {
    console_error_panic_hook::set_once();
}

#[event(fetch, respond_with_errors)]
async fn fetch(request: Request, env: Env, context: Context) -> worker::Result<Response> {
    let response = match request.method() {
        Method::Options => reply::preflight(),
        Method::Get | Method::Head => get(&request, &env, context).await,
        method => {
            reply::problem(StatusCode::METHOD_NOT_ALLOWED, &format!("{} is not allowed here; use GET or HEAD", method.as_ref()))
        }
    };
    Ok(response?.into())
}

async fn get(request: &Request, env: &Env, context: Context) -> worker::Result<web_sys::Response> {
    let path = request.path();
    let Some(below) = path.strip_prefix(MODELS) else {
        return reply::problem(StatusCode::NOT_FOUND, "there is nothing here; models are at /models/{id}/{file}");
    };
    let Some(path) = ModelPath::parse(below) else {
        return reply::problem(
            StatusCode::NOT_FOUND,
            "this names no model file; use /models/{id}/{file} or /models/{id}/v{version}/{file}",
        );
    };
    match Config::from_env(env) {
        Ok(config) => {
            let call = Call { request, url: request.url()?, config: Rc::new(config), context: Rc::new(context) };
            models::answer(&call, &path).await
        }
        Err(error) => {
            worker::console_error!("{error}");
            reply::problem(StatusCode::INTERNAL_SERVER_ERROR, "the worker is not configured; its log says what is missing")
        }
    }
}
