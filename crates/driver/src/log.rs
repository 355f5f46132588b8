//! What a worker tells its operator: one JSON object a line, whose fields Workers Logs can be
//! searched by.
//!
//! Nothing is said of what went well: hits cost nothing here.

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

/// How much it matters.
#[derive(Debug, Clone, Copy)]
enum Level {
    /// Something was made good.
    Warn,
    /// Somebody was not served.
    Error,
}

/// A line that is being written.
#[derive(Debug)]
#[must_use]
pub struct Line {
    level: Level,
    facts: Map<String, Value>,
}

/// A line about something that was made good; `event` is what to search for.
pub fn warn(event: &str) -> Line {
    Line::new(Level::Warn, "warn", event)
}

/// A line about something that somebody was not served for; `event` is what to search for.
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

    /// Writes the line, with what it says to people. JSON has no line breaks in texts, wherever
    /// those came from.
    pub fn say(self, message: impl Display) {
        let line = self.fact("message", message.to_string());
        let text = Value::Object(line.facts).to_string();
        match line.level {
            Level::Warn => console_warn(&text),
            Level::Error => console_error(&text),
        }
    }
}
