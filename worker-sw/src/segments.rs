//! Segments in the Cache API, keyed by content, so that versions and URLs share them and none goes stale.

use std::rc::Rc;

use edge_net_driver::session::SegmentStore;
use js_sys::{Array, Reflect, Uint8Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{Blob, Cache, CacheStorage, Response};

use crate::index::Index;

/// Name of the cache.
const CACHE: &str = "edge-net-segments-v1";

/// The segments of one artifact.
pub struct Segments {
    /// CID of the artifact.
    pub cid: String,
    /// Where it is noted what is kept.
    pub index: Rc<Index>,
}

/// Keys of the Cache API are URLs; this one is never fetched.
fn key(cid: &str, segment: u64) -> String {
    format!("https://edge-net.invalid/{cid}/{segment}")
}

/// The cache, where the host has one (private windows may not).
async fn cache() -> Result<Cache, JsValue> {
    let caches: CacheStorage = Reflect::get(&js_sys::global(), &"caches".into())?.dyn_into()?;
    Ok(JsFuture::from(caches.open(CACHE)).await?.unchecked_into())
}

async fn read(cid: &str, segment: u64) -> Result<Option<Uint8Array>, JsValue> {
    let found = JsFuture::from(cache().await?.match_with_str(&key(cid, segment))).await?;
    let Ok(response) = found.dyn_into::<Response>() else {
        return Ok(None);
    };
    let buffer = JsFuture::from(response.array_buffer()?).await?;
    Ok(Some(Uint8Array::new(&buffer)))
}

async fn write(cid: &str, segment: u64, parts: &[Uint8Array]) -> Result<(), JsValue> {
    let blob = Blob::new_with_u8_array_sequence(&parts.iter().collect::<Array>())?;
    let response = Response::new_with_opt_blob(Some(&blob))?;
    JsFuture::from(cache().await?.put_with_str(&key(cid, segment), &response)).await?;
    Ok(())
}

/// Deletes a segment.
pub async fn delete(cid: &str, segment: u64) -> Result<(), JsValue> {
    JsFuture::from(cache().await?.delete_with_str(&key(cid, segment))).await?;
    Ok(())
}

impl SegmentStore for Segments {
    async fn load(&self, segment: u64) -> Option<Uint8Array> {
        read(&self.cid, segment).await.ok().flatten()
    }

    // Keeping is a convenience: a full disk or a private window costs the next visit time, not this one.
    async fn save(&self, segment: u64, parts: Vec<Uint8Array>) {
        if write(&self.cid, segment, &parts).await.is_ok() {
            let bytes = parts.iter().map(Uint8Array::length).sum();
            self.index.note_segment(&self.cid, segment, bytes).await;
        }
    }

    async fn forget(&self, segment: u64) {
        let _ = delete(&self.cid, segment).await;
        self.index.forget_segment(&self.cid, segment).await;
    }
}
