//! The entries of the Workers Cache: an entry is a whole segment, its key has the artifact's CID,
//! and the host reads ranges of it.
//!
//! Only this worker writes below [`KEYS`] of its zone's cache, and it writes verified bytes:
//! entries are not verified again.

use std::cell::RefCell;
use std::ops::Range;

use edge_net_core::dag::verify::Bytes as _;
use edge_net_driver::host::{self, HostBytes};
use js_sys::Object;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{Cache, CacheStorage, Headers, Request, RequestInit, Response, ResponseInit};

/// Path of the entries' keys, on the host of the request.
const KEYS: &str = "/.segments/";
/// Header of an entry: the sources of its bytes.
const ORIGIN: &str = "X-Origin";

thread_local! {
    static OPEN: RefCell<Option<Cache>> = const { RefCell::new(None) };
}

/// The entries of one artifact.
#[derive(Clone)]
pub struct Entries {
    /// The cache.
    pub cache: Cache,
    /// Their keys without the segment's number.
    pub prefix: String,
}

/// A range of an entry.
pub struct Entry {
    /// The cache's response, whose body is the range.
    pub response: Response,
    /// The sources of the bytes, such as `gcs` or `gcs+ipfs`.
    pub origin: String,
}

impl Entries {
    /// The entries of the artifact `cid` for requests of `url`.
    ///
    /// # Errors
    /// If the host has no cache.
    pub async fn open(url: &worker::Url, cid: &str) -> Result<Self, JsValue> {
        Ok(Self { cache: cache().await?, prefix: prefix(url, cid) })
    }

    /// Key of a segment's entry: a URL.
    pub fn key(&self, segment: u64) -> String {
        format!("{}{segment}", self.prefix)
    }

    /// The bytes `bytes` of the artifact out of segment `segment`, whose own bytes are `whole`;
    /// `None` if the cache does not have them.
    pub async fn get(&self, segment: u64, whole: &Range<u64>, bytes: &Range<u64>) -> Option<Entry> {
        let headers = Headers::new().ok()?;
        if let Some(range) = range_within(whole, bytes) {
            headers.set("Range", &range).ok()?;
        }
        let init = RequestInit::new();
        init.set_headers(&headers);
        let request = Request::new_with_str_and_init(&self.key(segment), &init).ok()?;
        let found = JsFuture::from(self.cache.match_with_request(&request)).await.ok()?;
        let response: Response = found.dyn_into().ok()?;
        let length = host::field(&response, "Content-Length").and_then(|text| text.parse().ok());
        if length != Some(bytes.end - bytes.start) {
            host::discard(&response);
            return None;
        }
        let origin = host::field(&response, ORIGIN).unwrap_or_default();
        Some(Entry { response, origin })
    }

    /// Stores a verified segment. Its key holds the CID, so the entry never changes.
    ///
    /// # Errors
    /// If the cache refuses.
    pub async fn put(&self, segment: u64, bytes: &HostBytes, origin: &str) -> Result<(), JsValue> {
        let headers = Headers::new()?;
        headers.set("Cache-Control", "public, max-age=31536000, immutable")?;
        headers.set("Content-Length", &bytes.len().to_string())?;
        headers.set(ORIGIN, origin)?;
        let init = ResponseInit::new();
        init.set_headers(&headers);
        let body: &Object = bytes.view.as_ref();
        let response = Response::new_with_opt_buffer_source_and_init(Some(body), &init)?;
        JsFuture::from(self.cache.put_with_str(&self.key(segment), &response)).await.map(drop)
    }
}

fn prefix(url: &worker::Url, cid: &str) -> String {
    format!("{}{KEYS}{cid}/", url.origin().ascii_serialization())
}

/// The value of `Range` for `bytes` of a segment that has the bytes `whole`; `None` for all.
fn range_within(whole: &Range<u64>, bytes: &Range<u64>) -> Option<String> {
    let (first, last) = (bytes.start - whole.start, bytes.end - 1 - whole.start);
    (bytes != whole).then(|| format!("bytes={first}-{last}"))
}

/// The cache, opened once.
async fn cache() -> Result<Cache, JsValue> {
    if let Some(cache) = OPEN.with_borrow(Clone::clone) {
        return Ok(cache);
    }
    let caches: CacheStorage =
        js_sys::Reflect::get(&js_sys::global(), &"caches".into())?.unchecked_into();
    let cache: Cache = JsFuture::from(caches.open("segments")).await?.unchecked_into();
    OPEN.set(Some(cache.clone()));
    Ok(cache)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_count_from_the_start_of_the_segment() {
        let whole = 4_194_304..8_388_608;
        assert_eq!(range_within(&whole, &whole), None);
        assert_eq!(range_within(&whole, &(4_194_304..4_194_305)).unwrap(), "bytes=0-0");
        assert_eq!(range_within(&whole, &(8_388_600..8_388_608)).unwrap(), "bytes=4194296-4194303");
    }

    #[test]
    fn keys_are_on_the_host_of_the_request_and_not_on_its_path() {
        let url = worker::Url::parse("https://edge.example:8443/models/demo/model.onnx?x").unwrap();
        assert_eq!(prefix(&url, "bafy"), "https://edge.example:8443/.segments/bafy/");
    }
}
