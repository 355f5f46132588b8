//! What is known on this device, in IndexedDB: accepted manifests (the newest of a model is also the
//! floor below which none is accepted), leaf tables, and which segments are kept.
//!
//! Everything here may be missing or wrong, since browsers evict: manifests and leaf tables are verified
//! again when read, and the Cache API, not this index, says whether a segment is there.

use js_sys::{Array, Promise, Reflect, Uint8Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{IdbDatabase, IdbFactory, IdbKeyRange, IdbObjectStore, IdbRequest, IdbTransactionMode};

const DATABASE: &str = "edge-net";
const VERSION: u32 = 1;
/// Key: `{id}` for the newest, `{id}@{version}` for each version. Value: the manifest's text.
const MANIFESTS: &str = "manifests";
/// Key: CID. Value: the leaf table's bytes.
const LEAF_TABLES: &str = "leaf-tables";
/// Key: `{cid}/{segment}`. Value: its size in bytes.
const SEGMENTS: &str = "segments";

/// The index, or none where the host has no IndexedDB: then nothing is remembered, and all else works.
pub struct Index(Option<IdbDatabase>);

/// An IndexedDB request as a promise of its result.
async fn done(request: &IdbRequest) -> Result<JsValue, JsValue> {
    let settled = Promise::new(&mut |resolve, reject| {
        request.set_onsuccess(Some(&resolve));
        request.set_onerror(Some(&reject));
    });
    JsFuture::from(settled).await?;
    request.result()
}

async fn open() -> Result<IdbDatabase, JsValue> {
    let factory: IdbFactory = Reflect::get(&js_sys::global(), &"indexedDB".into())?.dyn_into()?;
    let request = factory.open_with_u32(DATABASE, VERSION)?;
    let opening = request.clone();
    let upgrade = Closure::once_into_js(move || {
        if let Ok(database) = opening.result().map(IdbDatabase::from) {
            for store in [MANIFESTS, LEAF_TABLES, SEGMENTS] {
                // Version 1 is the first: none of them exists.
                let _ = database.create_object_store(store);
            }
        }
    });
    request.set_onupgradeneeded(Some(upgrade.unchecked_ref()));
    Ok(done(&request).await?.unchecked_into())
}

impl Index {
    /// Opens the index.
    pub async fn open() -> Self {
        Self(open().await.ok())
    }

    fn store(&self, name: &str, mode: IdbTransactionMode) -> Option<IdbObjectStore> {
        let database = self.0.as_ref()?;
        database.transaction_with_str_and_mode(name, mode).ok()?.object_store(name).ok()
    }

    async fn get(&self, store: &str, key: &str) -> Option<JsValue> {
        let request = self.store(store, IdbTransactionMode::Readonly)?.get(&key.into()).ok()?;
        done(&request).await.ok().filter(|value| !value.is_undefined())
    }

    async fn put(&self, store: &str, key: &str, value: &JsValue) {
        let request = self.store(store, IdbTransactionMode::Readwrite).map(|store| store.put_with_key(value, &key.into()));
        if let Some(Ok(request)) = request {
            let _ = done(&request).await;
        }
    }

    async fn delete(&self, store: &str, key: &JsValue) {
        let request = self.store(store, IdbTransactionMode::Readwrite).map(|store| store.delete(key));
        if let Some(Ok(request)) = request {
            let _ = done(&request).await;
        }
    }

    /// The text of an accepted manifest; `name` is `{id}` or `{id}@{version}`.
    pub async fn manifest(&self, name: &str) -> Option<String> {
        self.get(MANIFESTS, name).await?.as_string()
    }

    /// Notes an accepted manifest.
    pub async fn note_manifest(&self, name: &str, text: &str) {
        self.put(MANIFESTS, name, &text.into()).await;
    }

    /// The texts of all accepted manifests.
    pub async fn manifests(&self) -> Vec<String> {
        let Some(Ok(request)) = self.store(MANIFESTS, IdbTransactionMode::Readonly).map(|store| store.get_all()) else {
            return Vec::new();
        };
        let all = done(&request).await.map(Array::unchecked_from_js).unwrap_or_default();
        all.iter().filter_map(|text| text.as_string()).collect()
    }

    /// The leaf table of an artifact, not yet verified.
    pub async fn leaf_table(&self, cid: &str) -> Option<Vec<u8>> {
        let table = self.get(LEAF_TABLES, cid).await?;
        Some(table.dyn_into::<Uint8Array>().ok()?.to_vec())
    }

    /// Notes a leaf table.
    pub async fn note_leaf_table(&self, cid: &str, table: &[u8]) {
        self.put(LEAF_TABLES, cid, &Uint8Array::from(table)).await;
    }

    /// Notes that a segment of `bytes` bytes is kept.
    pub async fn note_segment(&self, cid: &str, segment: u64, bytes: u32) {
        self.put(SEGMENTS, &format!("{cid}/{segment}"), &bytes.into()).await;
    }

    /// Notes that a segment is not kept.
    pub async fn forget_segment(&self, cid: &str, segment: u64) {
        self.delete(SEGMENTS, &format!("{cid}/{segment}").into()).await;
    }

    /// Bytes kept of an artifact.
    pub async fn bytes_kept(&self, cid: &str) -> f64 {
        let (Ok(range), Some(store)) = (of_artifact(cid), self.store(SEGMENTS, IdbTransactionMode::Readonly)) else {
            return 0.0;
        };
        let Ok(request) = store.get_all_with_key(&range) else {
            return 0.0;
        };
        let sizes = done(&request).await.map(Array::unchecked_from_js).unwrap_or_default();
        sizes.iter().filter_map(|size| size.as_f64()).sum()
    }

    /// Notes that nothing of an artifact is kept. Its manifest stays: it is the floor.
    pub async fn forget_artifact(&self, cid: &str) {
        if let Ok(range) = of_artifact(cid) {
            self.delete(SEGMENTS, &range).await;
        }
        self.delete(LEAF_TABLES, &cid.into()).await;
    }
}

/// The keys `{cid}/…`; '0' is the character after '/'.
fn of_artifact(cid: &str) -> Result<IdbKeyRange, JsValue> {
    IdbKeyRange::bound(&format!("{cid}/").into(), &format!("{cid}0").into())
}
