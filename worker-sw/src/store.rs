//! What is kept on this device: `js/store.js`, and how much of it may be.

use std::ops::Range;

use edge_net_core::dag::layout::Layout;
use edge_net_core::time::UnixTime;
use edge_net_core::transfer::eviction::{Kept, victims};
use futures::lock::Mutex;
use js_sys::{Array, Reflect};
use wasm_bindgen::prelude::*;
use web_sys::Blob;

/// `js/store.js`. None of its functions fails: where nothing can be kept, nothing is there.
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
    async fn save(cid: &str, size: f64, segment: f64, parts: &Array) -> JsValue;
    pub async fn forget(cid: &str, size: f64, segment: f64);
    pub async fn pack(cid: &str, size: f64) -> JsValue;
    #[wasm_bindgen(js_name = drop)]
    pub async fn let_go(cid: &str, size: f64);
    pub async fn clear();
    pub async fn estimate() -> JsValue;
}

/// The stores of the index that hold single values.
pub const MANIFESTS: &str = "manifests";
/// See `js/store.js`.
pub const LEAF_TABLES: &str = "leaf-tables";

/// A number of bytes or of segments, below 2^53.
#[allow(clippy::cast_precision_loss)]
pub const fn number(n: u64) -> f64 {
    n as f64
}

/// The same back; what is no number is 0.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Saturates.
fn whole(value: &JsValue) -> u64 {
    value.as_f64().unwrap_or_default() as u64
}

fn member(object: &JsValue, name: &str) -> JsValue {
    Reflect::get(object, &name.into()).unwrap_or_default()
}

/// An artifact in the index.
pub struct Row {
    /// Its CID.
    pub cid: String,
    /// Its size in bytes.
    pub size: u64,
    /// Bytes kept of it.
    pub bytes: u64,
    /// When it was last used, in milliseconds since the Unix epoch.
    pub used: u64,
    /// Whether it must stay.
    pub pinned: bool,
}

/// All artifacts in the index.
pub async fn index() -> Vec<Row> {
    let read = |row: JsValue| {
        let size = whole(&member(&row, "size"));
        let have = Array::from(&member(&row, "have"));
        let bytes = |segment: JsValue| {
            let bytes = Layout::new(size).bytes_of_segment(whole(&segment));
            bytes.end.saturating_sub(bytes.start)
        };
        Some(Row {
            cid: member(&row, "cid").as_string()?,
            size,
            bytes: have.iter().map(bytes).sum(),
            used: whole(&member(&row, "used")),
            pinned: member(&row, "pinned").is_truthy(),
        })
    };
    Array::from(&rows().await).iter().filter_map(read).collect()
}

/// Consecutive segments in one entry, not to be trusted before they are verified.
#[derive(Clone)]
pub struct Piece {
    /// Which.
    pub segments: Range<u64>,
    /// Their bytes, which stay in the browser's storage.
    pub blob: Blob,
}

impl Piece {
    fn read(piece: &JsValue) -> Option<Self> {
        let first = whole(&member(piece, "first"));
        let blob = member(piece, "blob").dyn_into().ok()?;
        Some(Self { segments: first..first + whole(&member(piece, "count")), blob })
    }

    /// The entry that holds a segment.
    pub async fn holding(cid: &str, size: u64, segment: u64) -> Option<Self> {
        Self::read(&piece(cid, number(size), number(segment)).await)
    }

    /// The entries that hold these segments, if all are there.
    pub async fn all(cid: &str, size: u64, segments: &Range<u64>) -> Option<Vec<Self>> {
        let found = pieces(cid, number(size), number(segments.start), number(segments.end)).await;
        found.dyn_into::<Array>().ok()?.iter().map(|piece| Self::read(&piece)).collect()
    }
}

/// How much may be kept.
pub struct Budget {
    /// Bytes; without, the browser decides.
    pub limit: Option<u64>,
    /// With a limit one writes at a time: what is being written is in no row yet. Without, one makes room at a time.
    pub turn: Mutex<()>,
}

impl Budget {
    /// Keeps a segment of the artifact `cid`, letting others go for it if it must and may. What `in_use` says is in use stays.
    pub async fn save(
        &self,
        cid: &str,
        size: u64,
        segment: u64,
        parts: &Array,
        in_use: impl Fn(&str) -> bool,
    ) {
        let bytes = Layout::new(size).bytes_of_segment(segment);
        let (need, size) = (bytes.end - bytes.start, number(size));
        let mut turn = None;
        if let Some(limit) = self.limit {
            turn = Some(self.turn.lock().await);
            if !make_room(limit, need, &in_use).await {
                return;
            }
        }
        while !save(cid, size, number(segment), parts).await.is_truthy() {
            // The disk is full before the budget is. Whoever had the turn before may have made room for this too.
            if turn.is_none() {
                turn = Some(self.turn.lock().await);
                continue;
            }
            // Others go one by one.
            let kept: u64 = index().await.iter().map(|row| row.bytes).sum();
            if kept == 0 || !make_room(kept - 1, 0, &in_use).await {
                break;
            }
        }
    }
}

/// Lets go of what has to go so that `need` more bytes fit into `budget`. Whether they do.
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
        let_go(&rows[victim].cid, number(rows[victim].size)).await;
    }
    true
}
