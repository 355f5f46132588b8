//! What the page is told while a download runs: the events of `web/edge-net.js`.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

use edge_net_core::download::Report;
use edge_net_core::manifest::{Artifact, Manifest};
use js_sys::Function;
use serde_json::{Value, json};
use wasm_bindgen::prelude::*;

/// Sends `{type, detail}` as JSON to the script.
#[derive(Clone)]
pub struct Teller(pub Rc<Function>);

impl Teller {
    /// Sends an event.
    pub fn tell(&self, kind: &str, detail: &Value) {
        let event = json!({ "type": kind, "detail": detail }).to_string();
        // A page that does not listen is no failure of the download.
        let _ = self.0.call1(&JsValue::NULL, &event.into());
    }
}

/// Turns the reports of one download into events.
pub fn of_download(teller: Teller, manifest: &Manifest, artifact: &Artifact, names: Vec<String>) -> impl Fn(Report) + 'static {
    let (model, version, file) = (manifest.id.clone(), manifest.version.to_string(), artifact.filename.clone());
    let (layout, cid) = (artifact.layout(), artifact.cid.to_string());
    let started = js_sys::Date::now();
    let seen = RefCell::new(BTreeSet::new());
    let completed = Cell::new(false);
    move |report| {
        let ms = js_sys::Date::now() - started;
        match report {
            Report::Verified { segment, origins } => {
                let bytes = layout.bytes_of_segment(segment);
                let (source, origin) = where_from(&origins);
                let detail = json!({
                    "model": model, "version": version, "file": file, "cid": cid, "segment": segment, "segments": layout.segments(),
                    "start": bytes.start, "end": bytes.end, "size": layout.size(), "source": source, "origin": origin, "ms": ms,
                });
                teller.tell("segment", &detail);
                seen.borrow_mut().insert(segment);
                if seen.borrow().len() as u64 == layout.segments() && !completed.replace(true) {
                    let size = layout.size();
                    teller.tell("complete", &json!({ "model": model, "version": version, "file": file, "size": size, "ms": ms }));
                }
            }
            Report::Refused { segment, source, failure } => {
                let (source, reason) = (&names[source], failure.to_string());
                let detail = json!({ "model": model, "file": file, "segment": segment, "source": source, "reason": reason });
                teller.tell("refused", &detail);
            }
            Report::Failed(error) => {
                teller.tell("failed", &json!({ "model": model, "file": file, "message": error.to_string() }));
            }
        }
    }
}

/// The sources that were asked, and where they had it from: `edge:gcs` is the edge, which asked the bucket.
fn where_from(origins: &[String]) -> (String, String) {
    if origins.is_empty() {
        return ("cache".into(), "cache".into());
    }
    let halves = origins.iter().map(|origin| origin.split_once(':').unwrap_or((origin, origin)));
    let (mut sources, mut places) = (BTreeSet::new(), BTreeSet::new());
    for (source, place) in halves {
        sources.insert(source);
        places.extend(place.split('+'));
    }
    let join = |set: BTreeSet<&str>| set.into_iter().collect::<Vec<_>>().join("+");
    (join(sources), join(places))
}
