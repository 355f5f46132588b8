//! The store on this device (`js/store.js`), and its budget.

use std::ops::Range;

use edge_net_core::dag::layout::Layout;
use edge_net_core::time::UnixTime;
use edge_net_core::transfer::eviction::{Kept, victims};
use edge_net_driver::host::whole;
use futures::lock::Mutex;
use js_sys::{Array, Reflect};
use wasm_bindgen::prelude::*;
use web_sys::Blob;

// `js/store.js`. Its functions do not throw: without storage they store nothing and find nothing.
#[wasm_bindgen(module = "/js/store.js")]
extern "C" {
    pub async fn get(store: &str, name: &str) -> JsValue;
    pub async fn put(store: &str, name: &str, value: &JsValue);
    pub async fn manifests() -> JsValue;
    async fn rows() -> JsValue;
    #[wasm_bindgen(js_name = use)]
    pub async fn note_use(cid: &str, size: f64) -> JsValue;
    pub async fn pin(cid: &str, size: f64, pinned: bool);
    async fn piece(cid: &str, size: f64, segment: f64) -> JsValue;
    async fn pieces(cid: &str, size: f64, from: f64, to: f64) -> JsValue;
    async fn gather(cid: &str, size: f64, segment: f64, parts: &Array) -> JsValue;
    async fn save(cid: &str, size: f64, first: f64, count: f64, blob: &Blob) -> JsValue;
    pub async fn forget(cid: &str, size: f64, segment: f64);
    pub async fn pack(cid: &str, size: f64) -> JsValue;
    #[wasm_bindgen(js_name = drop)]
    pub async fn delete(cid: &str, size: f64);
    pub async fn clear();
    pub async fn estimate() -> JsValue;
}

/// The object store of manifests: see `js/store.js`.
pub const MANIFESTS: &str = "manifests";
/// The object store of leaf tables: see `js/store.js`.
pub const LEAF_TABLES: &str = "leaf-tables";

/// A count of bytes or segments, below 2^53, as a JavaScript number.
#[allow(clippy::cast_precision_loss)]
pub const fn number(n: u64) -> f64 {
    n as f64
}

fn member(object: &JsValue, name: &str) -> JsValue {
    Reflect::get(object, &name.into()).unwrap_or_default()
}

/// A member that is a count; 0 for other values.
fn count(object: &JsValue, name: &str) -> u64 {
    whole(member(object, name).as_f64().unwrap_or_default())
}

/// An artifact in the index.
pub struct Row {
    /// Its CID.
    pub cid: String,
    /// Its size in bytes.
    pub size: u64,
    /// Bytes of it that are stored.
    pub bytes: u64,
    /// When it was last used, in milliseconds since the Unix epoch.
    pub used: u64,
    /// Whether it is pinned: never evicted.
    pub pinned: bool,
}

/// All artifacts in the index.
pub async fn index() -> Vec<Row> {
    let read = |row: JsValue| {
        let size = count(&row, "size");
        let have = Array::from(&member(&row, "have"));
        let bytes = |segment: JsValue| {
            let bytes =
                Layout::new(size).bytes_of_segment(whole(segment.as_f64().unwrap_or_default()));
            bytes.end.saturating_sub(bytes.start)
        };
        Some(Row {
            cid: member(&row, "cid").as_string()?,
            size,
            bytes: have.iter().map(bytes).sum(),
            used: count(&row, "used"),
            pinned: member(&row, "pinned").is_truthy(),
        })
    };
    Array::from(&rows().await).iter().filter_map(read).collect()
}

/// A stored entry: consecutive segments, not yet verified.
#[derive(Clone)]
pub struct Piece {
    /// The segments.
    pub segments: Range<u64>,
    /// Their bytes, still in the browser's storage.
    pub blob: Blob,
}

impl Piece {
    fn read(piece: &JsValue) -> Option<Self> {
        let first = count(piece, "first");
        let blob = member(piece, "blob").dyn_into().ok()?;
        Some(Self { segments: first..first + count(piece, "count"), blob })
    }

    /// The entry that holds a segment.
    pub async fn holding(cid: &str, size: u64, segment: u64) -> Option<Self> {
        Self::read(&piece(cid, number(size), number(segment)).await)
    }

    /// The bytes of a segment, sliced out of the entry.
    pub fn slice(&self, layout: Layout, segment: u64) -> Option<Blob> {
        let start = layout.bytes_of_segment(self.segments.start).start;
        let bytes = layout.bytes_of_segment(segment);
        let (from, to) = (number(bytes.start - start), number(bytes.end - start));
        self.blob.slice_with_f64_and_f64(from, to).ok()
    }

    /// The entry to save after a segment of verified `parts` arrived; `None` when it is saved with
    /// others of its pack.
    pub async fn gathered(cid: &str, size: u64, segment: u64, parts: &Array) -> Option<Self> {
        Self::read(&gather(cid, number(size), number(segment), parts).await)
    }

    /// The entries that hold these segments; `None` when one is missing.
    pub async fn all(cid: &str, size: u64, segments: &Range<u64>) -> Option<Vec<Self>> {
        let found = pieces(cid, number(size), number(segments.start), number(segments.end)).await;
        found.dyn_into::<Array>().ok()?.iter().map(|piece| Self::read(&piece)).collect()
    }
}

/// The limit on stored bytes.
pub struct Budget {
    /// Bytes; `None`: as many as the browser allows.
    pub limit: Option<u64>,
    /// With a limit, held while an entry is written, since the index does not count it yet.
    /// Without, held while others are evicted.
    pub turn: Mutex<()>,
}

impl Budget {
    /// Stores an entry of the artifact `cid` and evicts others when needed. Pinned artifacts and
    /// those for which `in_use` is true are not evicted; when the rest does not suffice, nothing is
    /// stored.
    pub async fn save(&self, cid: &str, size: u64, piece: &Piece, in_use: impl Fn(&str) -> bool) {
        let (layout, Range { start, end }) = (Layout::new(size), piece.segments.clone());
        let need = layout.bytes_of_segment(end - 1).end - layout.bytes_of_segment(start).start;
        let (size, start, count) = (number(size), number(start), number(end - start));
        let mut turn = None;
        if let Some(limit) = self.limit {
            turn = Some(self.turn.lock().await);
            if !make_room(limit, need, &in_use).await {
                return;
            }
        }
        while !save(cid, size, start, count, &piece.blob).await.is_truthy() {
            // The browser's quota is reached before the budget. The task that held the lock may
            // have made room already.
            if turn.is_none() {
                turn = Some(self.turn.lock().await);
                continue;
            }
            // Evict one artifact at a time.
            let kept: u64 = index().await.iter().map(|row| row.bytes).sum();
            if kept == 0 || !make_room(kept - 1, 0, &in_use).await {
                break;
            }
        }
    }
}

/// Evicts artifacts until `need` more bytes fit into `budget`; false when they cannot.
async fn make_room(budget: u64, need: u64, in_use: &impl Fn(&str) -> bool) -> bool {
    let rows = index().await;
    let kept = rows.iter().map(|row| Kept {
        bytes: row.bytes,
        used: UnixTime::from_millis(row.used),
        held: row.pinned || in_use(&row.cid),
    });
    let Some(victims) = victims(&kept.collect::<Vec<_>>(), budget, need) else {
        return false;
    };
    for victim in victims {
        delete(&rows[victim].cid, number(rows[victim].size)).await;
    }
    true
}
