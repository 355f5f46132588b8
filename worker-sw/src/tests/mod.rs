//! Tests against a fake browser, in Node: `make test-wasm`.

mod acceptance;
mod answering;
mod config;
#[path = "../../../crates/driver/tests/fake/mod.rs"]
mod fake;
mod keeping;
mod reports;

use std::cell::RefCell;
use std::rc::Rc;

use js_sys::{Array, Function, Object, Reflect, Uint8Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use wasm_bindgen_test::wasm_bindgen_test_configure;
use web_sys::{Request, Response};

use crate::config::Config;
use crate::reports::Teller;
use crate::{Models, store};
use fake::publisher::public_key;
use fake::{Artifact, Reply, on_fetch};

// `js/store.js` is an ES module.
wasm_bindgen_test_configure!(run_in_node_experimental);

/// An empty browser.
async fn fresh_browser() {
    Function::new_no_args(include_str!("browser.js")).call0(&JsValue::NULL).unwrap();
    store::clear().await;
}

/// A JavaScript value out of JSON.
fn json(value: &serde_json::Value) -> JsValue {
    js_sys::JSON::parse(&value.to_string()).unwrap()
}

/// The JSON of a JavaScript value.
fn from_js(value: &JsValue) -> serde_json::Value {
    let text = js_sys::JSON::stringify(value).unwrap();
    serde_json::from_str(&String::from(text)).unwrap()
}

/// Options with the pinned key, the edge `edge.test` and the bucket `gcs.test`.
fn options(more: &serde_json::Value) -> JsValue {
    let base = serde_json::json!({
        "edge": "https://edge.test", "gcs": "https://gcs.test",
        "keys": { "release": public_key("release") },
    });
    let (base, more): (Object, Object) =
        (json(&base).unchecked_into(), json(more).unchecked_into());
    Object::assign(&base, &more).into()
}

/// The events that were sent: type and detail.
type Events = Rc<RefCell<Vec<(String, serde_json::Value)>>>;

fn listener() -> (Function, Events) {
    let events = Events::default();
    let all = Rc::clone(&events);
    let listen = Closure::<dyn FnMut(String, JsValue)>::new(move |kind, detail: JsValue| {
        all.borrow_mut().push((kind, from_js(&detail)));
    });
    (listen.into_js_value().unchecked_into(), events)
}

fn config(more: &serde_json::Value) -> Rc<Config> {
    Rc::new(Config::read(&options(more)).unwrap())
}

fn teller() -> (Teller, Events) {
    let (listen, events) = listener();
    (Teller(listen.into()), events)
}

/// A worker that was just started, and its events.
fn worker(more: &serde_json::Value) -> (Models, Events) {
    let (listen, events) = listener();
    (Models::open(&options(more), listen).ok().unwrap(), events)
}

/// The details of the events of one type.
fn details(events: &Events, kind: &str) -> Vec<serde_json::Value> {
    let events = events.borrow();
    events.iter().filter(|(of, _)| of == kind).map(|(_, detail)| detail.clone()).collect()
}

/// Both sources serve `manifest` and `artifact`; returns the requests.
fn serve(manifest: String, artifact: &Artifact) -> Rc<RefCell<Vec<fake::Request>>> {
    let (bytes, table) = (artifact.bytes.clone(), artifact.table.to_bytes());
    on_fetch(move |request| match request.url.rsplit('/').next() {
        Some("manifest.json") => Reply::whole(manifest.as_bytes()),
        Some("model.bin.leaves") => Reply::whole(&table),
        Some("model.bin") => Reply::range(&bytes, request),
        _ => Reply::status(404),
    })
}

/// A request below `/models/`.
fn request(path: &str, init: &serde_json::Value) -> Request {
    let url = format!("https://site.test/models/{path}");
    let create = Function::new_with_args("url, init", "return new Request(url, init)");
    create.call2(&JsValue::NULL, &url.into(), &json(init)).unwrap().unchecked_into()
}

async fn get(models: &Models, path: &str) -> Response {
    get_with(models, path, &serde_json::json!({})).await
}

async fn get_with(models: &Models, path: &str, init: &serde_json::Value) -> Response {
    models.answer(request(path, init), None).await.ok().unwrap()
}

async fn body(response: &Response) -> Vec<u8> {
    let buffer = JsFuture::from(response.array_buffer().unwrap()).await.unwrap();
    Uint8Array::new(&buffer).to_vec()
}

/// Waits until the worker neither downloads nor stores.
async fn idle(models: &Models) {
    while models.downloads().length() > 0 {
        edge_net_driver::sleep(1).await;
    }
}

/// One part of a segment, as a store gets it.
fn parts(bytes: &[u8]) -> Array {
    Array::of1(&Uint8Array::from(bytes))
}

/// Sets a global of `browser.js`.
fn set_quota(bytes: f64) {
    Reflect::set(&js_sys::global(), &"quota".into(), &bytes.into()).unwrap();
}
