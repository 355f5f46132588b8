//! The events for pages, as documented in `web/edge-net.js`.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use edge_net_core::dag::cid::cid_text;
use edge_net_core::transfer::download::Report;
use edge_net_core::trust::manifest::{Artifact, Manifest};
use js_sys::{Function, Object, Reflect};
use wasm_bindgen::prelude::*;

use crate::store::number;

/// The interval between `progress` events, in milliseconds.
const EVERY: f64 = 100.0;

/// A JavaScript object with these members.
pub fn object(members: &[(&str, JsValue)]) -> JsValue {
    let object = Object::new();
    for (name, value) in members {
        // Fails for frozen objects only.
        let _ = Reflect::set(&object, &(*name).into(), value);
    }
    object.into()
}

/// Sends events: a script function that takes the type and the detail.
#[derive(Clone)]
pub struct Teller(pub Rc<Function>);

impl Teller {
    /// Sends an event.
    pub fn tell(&self, kind: &str, detail: &[(&str, JsValue)]) {
        // A failed event does not fail the download.
        let _ = self.0.call2(&JsValue::NULL, &kind.into(), &object(detail));
    }
}

/// Turns the reports of one download into events. `names` are the names of its sources; `complete`
/// is called once, when all segments were verified.
pub fn of_download(
    teller: Teller,
    manifest: &Manifest,
    artifact: &Artifact,
    names: Vec<String>,
    complete: impl Fn() + 'static,
) -> impl Fn(Report) + 'static {
    let model: JsValue = manifest.id.as_str().into();
    let version: JsValue = manifest.version.to_string().into();
    let file: JsValue = artifact.filename.as_str().into();
    let cid: JsValue = cid_text(&artifact.cid).into();
    let layout = artifact.layout();
    let size: JsValue = number(layout.size()).into();
    let started = js_sys::Date::now();
    let seen: RefCell<Vec<u64>> = RefCell::default();
    let completed = Cell::new(false);
    let (received, verified, told) = (Cell::new(0.0), Cell::new(0.0), Cell::new(0.0));
    move |report| {
        let elapsed = js_sys::Date::now() - started;
        let ms: JsValue = elapsed.into();
        let of_file =
            [("model", model.clone()), ("version", version.clone()), ("file", file.clone())];
        let tell =
            |kind: &str, more: &[(&str, JsValue)]| teller.tell(kind, &[&of_file, more].concat());
        match report {
            // The head of a response marks latency, and is no progress: its rate would be 0.
            Report::Received { bytes: 0 } => {}
            Report::Received { bytes } => {
                received.set(received.get() + number(bytes));
                if elapsed >= told.get() + EVERY {
                    told.set(elapsed);
                    let rate = received.get() * 1000.0 / elapsed;
                    let detail = [
                        ("cid", cid.clone()),
                        ("size", size.clone()),
                        ("received", received.get().into()),
                        ("verified", verified.get().into()),
                        ("rate", rate.into()),
                        ("ms", ms),
                    ];
                    tell("progress", &detail);
                }
            }
            Report::Verified { segment, origins } => {
                let bytes = layout.bytes_of_segment(segment);
                let (source, origin) = where_from(&origins);
                let detail = [
                    ("cid", cid.clone()),
                    ("segment", number(segment).into()),
                    ("segments", number(layout.segments()).into()),
                    ("start", number(bytes.start).into()),
                    ("end", number(bytes.end).into()),
                    ("size", size.clone()),
                    ("source", source.into()),
                    ("origin", origin.into()),
                    ("ms", ms.clone()),
                ];
                tell("segment", &detail);
                let mut seen = seen.borrow_mut();
                if !seen.contains(&segment) {
                    seen.push(segment);
                    verified.set(verified.get() + number(bytes.end - bytes.start));
                }
                if seen.len() as u64 == layout.segments() && !completed.replace(true) {
                    tell("complete", &[("size", size.clone()), ("ms", ms)]);
                    complete();
                }
            }
            Report::Refused { segment, source, failure } => {
                let detail = [
                    ("segment", number(segment).into()),
                    ("source", names[source.index()].as_str().into()),
                    ("reason", failure.to_string().into()),
                ];
                tell("refused", &detail);
            }
            Report::Failed(error) => tell("failed", &[("message", error.to_string().into())]),
            _ => {}
        }
    }
}

/// The sources that delivered the bytes, and the origins that those sources had them from:
/// `edge:gcs` is the edge, which read from the bucket.
fn where_from(origins: &[String]) -> (String, String) {
    if origins.is_empty() {
        return ("cache".into(), "cache".into());
    }
    let (mut sources, mut places) = (Vec::new(), Vec::new());
    for origin in origins {
        let (source, place) = origin.split_once(':').unwrap_or((origin, origin));
        add(&mut sources, source);
        place.split('+').for_each(|place| add(&mut places, place));
    }
    (sources.join("+"), places.join("+"))
}

fn add<'a>(names: &mut Vec<&'a str>, name: &'a str) {
    if !names.contains(&name) {
        names.push(name);
    }
}
