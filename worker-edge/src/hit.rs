//! The hits that `entry.js` answers without WASM: ranges of a segment that this worker sent from
//! the cache before, for the same URL. Entering WASM costs more than the rest of a hit. The headers
//! of the response are kept, so that both answer alike.
//!
//! These are plain data: no I/O object of a request is kept.

use std::cell::{Cell, RefCell};

use js_sys::{Map, Object, Reflect};
use wasm_bindgen::prelude::*;
use web_sys::{Cache, Headers, Response};

/// Maximum number of remembered segments, over all URLs.
const MAX_SEGMENTS: u32 = 16_384;
/// Maximum number of remembered URLs; each has a dozen headers.
const MAX_URLS: u32 = 1024;

#[wasm_bindgen]
extern "C" {
    /// What is known of a URL: `Known` of `entry.js`.
    #[wasm_bindgen(extends = Object)]
    type Known;
    #[wasm_bindgen(method, getter)]
    fn validity(this: &Known) -> Object;
    #[wasm_bindgen(method, getter)]
    fn segments(this: &Known) -> Map;
}

thread_local! {
    static HITS: RefCell<Map> = RefCell::new(Map::new());
    static SEGMENTS: Cell<u32> = const { Cell::new(0) };
}

/// The time for which URLs mean what a manifest says. It ends when dropped.
pub struct Validity(Object);

impl Validity {
    /// A validity that ends at `until`, in milliseconds since the Unix epoch.
    pub fn until(until: f64) -> Self {
        let validity = Self(Object::new());
        validity.set(until);
        validity
    }

    fn set(&self, until: f64) {
        // A plain object takes any property.
        let _ = Reflect::set(&self.0, &"until".into(), &until.into());
    }

    /// The object that remembered hits refer to.
    pub fn shared(&self) -> Object {
        self.0.clone()
    }
}

impl Drop for Validity {
    fn drop(&mut self) {
        self.set(0.0);
    }
}

/// The artifact that a URL means.
pub struct Meaning<'a> {
    /// The time for which it means this: [`Validity::shared`].
    pub validity: Object,
    /// The artifact's size.
    pub size: u64,
    /// The cache of its segments.
    pub cache: &'a Cache,
    /// The keys of its segments, without the number.
    pub key: &'a str,
}

/// Remembers what `url` means, that it was answered by `response`, and that segment `segment` is in
/// the cache, with `timing` as its `Server-Timing`.
///
/// # Errors
/// If the host has no memory left.
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
        if Object::is(&known.validity(), &meaning.validity) {
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
    put("validity", &meaning.validity)?;
    put("size", &size)?;
    put("cache", meaning.cache)?;
    put("key", &meaning.key.into())?;
    let headers = Headers::new_with_headers(&response.headers())?;
    // The host knows the length of a body from the cache.
    headers.delete("Content-Length")?;
    put("headers", &headers)?;
    let segments = Map::new();
    segments.set(&segment, &timing.into());
    put("segments", &segments)?;
    hits.set(&url, &known);
    Ok(())
}

/// Counts one more segment. Forgets everything if there is too much: requested URLs are soon
/// remembered again.
fn make_room(hits: &Map) {
    if is_full(SEGMENTS.get(), hits.size()) {
        hits.clear();
        SEGMENTS.set(0);
    }
    SEGMENTS.set(SEGMENTS.get() + 1);
}

const fn is_full(segments: u32, urls: u32) -> bool {
    segments >= MAX_SEGMENTS || urls >= MAX_URLS
}

/// The remembered hits, by URL, for `entry.js`.
#[wasm_bindgen]
#[must_use]
pub fn hits() -> Map {
    HITS.with_borrow(Clone::clone)
}

#[cfg(test)]
mod tests {
    use super::is_full;

    #[test]
    fn memory_is_bounded_by_segments_and_by_urls() {
        assert!(!is_full(16_383, 1023));
        assert!(is_full(16_384, 1));
        assert!(is_full(1, 1024));
    }
}
