//! Digests of blobs (`js/hash.js`). Their bytes stay outside of WASM memory, and no buffer holds a
//! whole blob.

use std::ops::Range;

use edge_net_core::dag::digest::Digest;
use edge_net_core::dag::verify::{Bytes, Hashed};
use edge_net_driver::host::whole;
use js_sys::Uint8Array;
use wasm_bindgen::prelude::*;
use web_sys::Blob;

#[wasm_bindgen(module = "/js/hash.js")]
extern "C" {
    #[wasm_bindgen(catch)]
    async fn digests(blob: &Blob) -> Result<JsValue, JsValue>;
}

/// A part of a blob, as bytes to verify.
#[derive(Clone)]
pub struct BlobBytes {
    blob: Blob,
    part: Range<u64>,
}

impl Bytes for BlobBytes {
    fn len(&self) -> u64 {
        self.part.end - self.part.start
    }

    fn slice(&self, range: Range<u64>) -> Self {
        let start = self.part.start;
        Self { blob: self.blob.clone(), part: start + range.start..start + range.end }
    }
}

/// Hashes the leaves of a blob; `None` when the browser lost it.
pub async fn leaves_of(blob: Blob) -> Option<Hashed<BlobBytes>> {
    let all = Uint8Array::new(&digests(&blob).await.ok()?).to_vec();
    let (all, _) = all.as_chunks();
    let digests = all.iter().map(|digest| Digest(*digest)).collect();
    let part = 0..whole(blob.size());
    Some(Hashed::by_host(BlobBytes { blob, part }, digests))
}
