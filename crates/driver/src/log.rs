//! Log lines for a worker's operator: one JSON object a line, which Workers Logs can filter by
//! field.
//!
//! Only trouble is logged; a cache hit writes nothing.

use std::fmt::Display;

use serde_json::{Map, Value};
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console, js_name = warn)]
    fn console_warn(line: &str);
    #[wasm_bindgen(js_namespace = console, js_name = error)]
    fn console_error(line: &str);
}

/// The severity of a line.
#[derive(Debug, Clone, Copy)]
enum Level {
    /// The worker recovered.
    Warn,
    /// A client was not served.
    Error,
}

/// A log line under construction.
#[derive(Debug)]
#[must_use]
pub struct Line {
    level: Level,
    facts: Map<String, Value>,
}

/// A line about trouble from which the worker recovered; `event` names the kind of trouble.
pub fn warn(event: &str) -> Line {
    Line::new(Level::Warn, "warn", event)
}

/// A line about trouble because of which a client was not served; `event` names the kind of
/// trouble.
pub fn error(event: &str) -> Line {
    Line::new(Level::Error, "error", event)
}

impl Line {
    fn new(level: Level, name: &str, event: &str) -> Self {
        Self { level, facts: Map::new() }.fact("level", name).fact("event", event)
    }

    /// Adds a fact.
    pub fn fact(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.facts.insert(name.to_owned(), value.into());
        self
    }

    /// Writes the line with a message for people. JSON escapes line breaks, so untrusted text
    /// cannot forge lines.
    pub fn say(self, message: impl Display) {
        let line = self.fact("message", message.to_string());
        let text = Value::Object(line.facts).to_string();
        match line.level {
            Level::Warn => console_warn(&text),
            Level::Error => console_error(&text),
        }
    }
}
