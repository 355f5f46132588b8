//! Log lines, as `console` gets them.

#![cfg(target_arch = "wasm32")]

use edge_net_driver::log;
use js_sys::{Array, Function, Reflect};
use serde_json::{Value, json};
use wasm_bindgen::prelude::*;
use wasm_bindgen_test::wasm_bindgen_test;

/// What `write` passes to `console.{method}`.
fn console(method: &str, write: impl FnOnce()) -> Vec<Value> {
    let console = Reflect::get(&js_sys::global(), &"console".into()).unwrap();
    let original = Reflect::get(&console, &method.into()).unwrap();
    let lines = Array::new();
    let record = Function::new_with_args("line", "this.push(line)").bind0(&lines);
    Reflect::set(&console, &method.into(), &record).unwrap();
    write();
    Reflect::set(&console, &method.into(), &original).unwrap();
    let text = |line: JsValue| line.as_string().unwrap();
    lines.iter().map(text).map(|line| serde_json::from_str(&line).unwrap()).collect()
}

#[wasm_bindgen_test]
fn a_line_is_one_json_object_on_one_line() {
    let lines = console("warn", || {
        log::warn("refused").fact("segment", 3).fact("source", "gcs").say("two\nlines");
    });
    let line = json!({
        "level": "warn", "event": "refused", "segment": 3, "source": "gcs", "message": "two\nlines",
    });
    assert_eq!(lines, [line]);
}

#[wasm_bindgen_test]
fn errors_go_to_console_error() {
    let lines = console("error", || log::error("failed").say("no source"));
    assert_eq!(lines, [json!({ "level": "error", "event": "failed", "message": "no source" })]);
}
