//! What `entry.js` may answer without entering WASM, which costs more than the rest of a hit: ranges of a segment that this
//! worker sent from the cache before, by the same URL. The answer's own fields are kept, so that both answer alike.
//!
//! Plain data only: nothing here belongs to a request.

use std::cell::{Cell, RefCell};

use js_sys::{Map, Object, Reflect};
use wasm_bindgen::prelude::*;
use web_sys::{Cache, Headers, Response};

/// Segments that are remembered at the most, over all URLs.
const MAX_SEGMENTS: u32 = 16_384;
/// URLs that are remembered at the most; each has a dozen fields.
const MAX_URLS: u32 = 1024;

#[wasm_bindgen]
extern "C" {
    /// What is known of a URL: `Known` of `entry.js`.
    #[wasm_bindgen(extends = Object)]
    type Known;
    #[wasm_bindgen(method, getter)]
    fn lease(this: &Known) -> Object;
    #[wasm_bindgen(method, getter)]
    fn segments(this: &Known) -> Map;
}

thread_local! {
    static HITS: RefCell<Map> = RefCell::new(Map::new());
    static SEGMENTS: Cell<u32> = const { Cell::new(0) };
}

/// How long a manifest is taken for what its URLs mean; ended when dropped.
pub struct Lease(Object);

impl Lease {
    /// Holds until `until`, in milliseconds since the Unix epoch.
    pub fn until(until: f64) -> Self {
        let lease = Self(Object::new());
        lease.set(until);
        lease
    }

    fn set(&self, until: f64) {
        // A plain object takes any property.
        let _ = Reflect::set(&self.0, &"until".into(), &until.into());
    }

    /// What is remembered under this lease refers to it.
    pub fn terms(&self) -> Object {
        self.0.clone()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.set(0.0);
    }
}

/// An artifact, as a URL meant it.
pub struct Meaning<'a> {
    /// Until when it means this: [`Lease::terms`].
    pub lease: Object,
    /// The artifact's size.
    pub size: u64,
    /// The cache that its segments are in.
    pub cache: &'a Cache,
    /// Their keys, but for the number.
    pub key: &'a str,
}

/// Remembers that `url` means this, was answered by `response`, and that segment `segment` is in the cache, of which `timing` is
/// said (`Server-Timing`).
///
/// # Errors
/// When the host has no memory left.
pub fn remember(
    url: &str,
    meaning: &Meaning,
    response: &Response,
    segment: u64,
    timing: &str,
) -> Result<(), JsValue> {
    #[allow(clippy::cast_precision_loss)] // Sizes are below 2^53.
    let (size, segment) = (JsValue::from(meaning.size as f64), JsValue::from(segment as f64));
    let hits = hits();
    let url = JsValue::from(url);
    let known: JsValue = hits.get(&url);
    if !known.is_undefined() {
        let known: Known = known.unchecked_into();
        if Object::is(&known.lease(), &meaning.lease) {
            if !known.segments().has(&segment) {
                make_room(&hits);
            }
            known.segments().set(&segment, &timing.into());
            return Ok(());
        }
    }
    make_room(&hits);
    let known = Object::new();
    let put = |name: &str, value: &JsValue| Reflect::set(&known, &name.into(), value);
    put("lease", &meaning.lease)?;
    put("size", &size)?;
    put("cache", meaning.cache)?;
    put("key", &meaning.key.into())?;
    let headers = Headers::new_with_headers(&response.headers())?;
    // The host knows how long a body from the cache is.
    headers.delete("Content-Length")?;
    put("headers", &headers)?;
    let segments = Map::new();
    segments.set(&segment, &timing.into());
    put("segments", &segments)?;
    hits.set(&url, &known);
    Ok(())
}

/// Forgets everything when there is too much: what is asked for again is soon remembered.
fn make_room(hits: &Map) {
    if SEGMENTS.get() >= MAX_SEGMENTS || hits.size() >= MAX_URLS {
        hits.clear();
        SEGMENTS.set(0);
    }
    SEGMENTS.set(SEGMENTS.get() + 1);
}

/// What is known, by URL. `entry.js` reads it.
#[wasm_bindgen]
#[must_use]
pub fn hits() -> Map {
    HITS.with_borrow(Clone::clone)
}
