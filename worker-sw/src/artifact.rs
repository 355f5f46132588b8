//! One artifact while this worker lives: its leaf table, its download, and what is kept of it and was verified.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use edge_net_core::dag::verify::LeafTable;
use edge_net_driver::session::{SegmentStore, Session};
use edge_net_driver::{HostBytes, hash_leaves, sleep};
use futures::join;
use futures::lock::Mutex;
use js_sys::{Array, Uint8Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::Blob;

use crate::store::{self, Budget, Piece, number};

/// How long an artifact is left alone before it is packed, in milliseconds: whoever loaded it is busy with it first.
const REST: u64 = 2_000;

/// See the [module](self).
pub struct Artifact {
    /// Its CID.
    pub cid: String,
    /// Its leaf table.
    pub table: Arc<LeafTable>,
    /// Its download, which all readers share; over when nobody reads.
    pub download: RefCell<Option<Session<Segments>>>,
    /// Entries of the store that were verified since this worker started. A blob is of the entry as it was then, so what is
    /// changed in the store later is not handed on.
    verified: RefCell<Vec<Piece>>,
    /// One verifies, the others wait for it.
    verifying: Mutex<()>,
}

/// Where a blob's bytes lie: in the browser's storage, not on a heap.
async fn bytes(blob: &Blob) -> Option<Uint8Array> {
    Some(Uint8Array::new(&JsFuture::from(blob.array_buffer()).await.ok()?))
}

impl Artifact {
    /// An artifact of which nothing is known but its leaf table.
    pub fn new(cid: String, table: Arc<LeafTable>) -> Self {
        Self {
            cid,
            table,
            download: RefCell::default(),
            verified: RefCell::default(),
            verifying: Mutex::default(),
        }
    }

    /// Whether somebody reads from its download, or what was read is still being kept.
    pub fn is_in_use(&self) -> bool {
        self.download
            .borrow()
            .as_ref()
            .is_some_and(|download| !download.is_idle() || download.is_storing())
    }

    /// Forgets what was verified: it is to be read from the store again.
    pub fn forget_verified(&self) {
        self.verified.borrow_mut().clear();
    }

    fn size(&self) -> u64 {
        self.table.layout().size()
    }

    /// A byte range, composed of verified entries, if all of it is kept; notes the use. The browser hands it on without a copy on any heap.
    pub async fn kept(self: &Rc<Self>, range: &Range<u64>) -> Option<Blob> {
        if !store::note_use(&self.cid, number(self.size())).await.is_truthy() {
            self.forget_verified();
        }
        if let Some(blob) = self.compose(range) {
            return Some(blob);
        }
        let _turn = self.verifying.lock().await;
        // Whoever had the turn may have verified just this.
        if let Some(blob) = self.compose(range) {
            return Some(blob);
        }
        let pieces =
            Piece::all(&self.cid, self.size(), &self.table.layout().segments_of_bytes(range))
                .await?;
        let new = pieces.into_iter().filter(|piece| {
            !self.verified.borrow().iter().any(|known| known.segments == piece.segments)
        });
        let new: Vec<Piece> = new.collect();
        if !self.verify(&new).await.is_empty() {
            return None;
        }
        if new.iter().any(|piece| piece.segments.end - piece.segments.start == 1) {
            self.pack_later();
        }
        self.verified.borrow_mut().extend(new);
        self.compose(range)
    }

    fn compose(&self, range: &Range<u64>) -> Option<Blob> {
        let layout = self.table.layout();
        let verified = self.verified.borrow();
        let parts = Array::new();
        let mut at = range.start;
        while at < range.end {
            let segment = layout.segments_of_bytes(&(at..range.end)).start;
            let piece = verified.iter().find(|piece| piece.segments.contains(&segment))?;
            let start = layout.bytes_of_segment(piece.segments.start).start;
            let end = layout.bytes_of_segment(piece.segments.end - 1).end.min(range.end);
            let part =
                piece.blob.slice_with_f64_and_f64(number(at - start), number(end - start)).ok()?;
            parts.push(part.as_ref());
            at = end;
        }
        Blob::new_with_blob_sequence(&parts).ok()
    }

    /// Verifies entries; those segments that are not good are dropped from the store, and returned.
    async fn verify(&self, pieces: &[Piece]) -> Vec<u64> {
        let queue = pieces
            .iter()
            .flat_map(|piece| piece.segments.clone().map(move |segment| (piece, segment)));
        let (queue, bad) = (RefCell::new(queue), RefCell::new(Vec::new()));
        let lane = async || loop {
            let next = queue.borrow_mut().next();
            let Some((piece, segment)) = next else { break };
            if !self.is_good(piece, segment).await {
                store::forget(&self.cid, number(self.size()), number(segment)).await;
                bad.borrow_mut().push(segment);
            }
        };
        // Reading waits for the disk, and hashing runs beside it.
        join!(lane(), lane(), lane());
        bad.into_inner()
    }

    async fn is_good(&self, piece: &Piece, segment: u64) -> bool {
        let layout = self.table.layout();
        let found = async {
            let hashed = hash_leaves(bytes(&slice(piece, &self.table, segment)?).await?.into())
                .await
                .ok()?;
            Some(
                self.table.verify_leaves(layout.leaves_of_segment(segment), &hashed).bad.is_empty(),
            )
        };
        found.await.unwrap_or(false)
    }

    /// Reads all that is kept of it again: how many segments are good, and which were not.
    pub async fn verify_now(&self) -> (u64, Vec<u64>) {
        let _turn = self.verifying.lock().await;
        self.forget_verified();
        let mut pieces: Vec<Piece> = Vec::new();
        let mut segment = 0;
        while segment < self.table.layout().segments() {
            let piece = Piece::holding(&self.cid, self.size(), segment).await;
            segment = piece.as_ref().map_or(segment + 1, |piece| piece.segments.end);
            pieces.extend(piece);
        }
        let all: u64 = pieces.iter().map(|piece| piece.segments.end - piece.segments.start).sum();
        let bad = self.verify(&pieces).await;
        (all - bad.len() as u64, bad)
    }

    /// Packs what is kept of it, when nobody reads it any more.
    pub fn pack_later(self: &Rc<Self>) {
        let this = Rc::clone(self);
        spawn_local(async move {
            sleep(REST).await;
            let _turn = this.verifying.lock().await;
            if !this.is_in_use() && store::pack(&this.cid, number(this.size())).await.is_truthy() {
                this.forget_verified();
            }
        });
    }
}

/// The bytes of a segment in the entry that holds it.
fn slice(piece: &Piece, table: &LeafTable, segment: u64) -> Option<Blob> {
    let layout = table.layout();
    let start = layout.bytes_of_segment(piece.segments.start).start;
    let bytes = layout.bytes_of_segment(segment);
    piece.blob.slice_with_f64_and_f64(number(bytes.start - start), number(bytes.end - start)).ok()
}

/// The segments of one artifact, for its download.
pub struct Segments {
    /// CID of the artifact.
    pub cid: String,
    /// Its leaf table.
    pub table: Arc<LeafTable>,
    /// How much may be kept.
    pub budget: Rc<Budget>,
    /// Whether an artifact is in use.
    pub in_use: Rc<dyn Fn(&str) -> bool>,
}

impl SegmentStore for Segments {
    const BLOBS: bool = true;

    async fn load(&self, segment: u64) -> Option<Uint8Array> {
        let piece = Piece::holding(&self.cid, self.table.layout().size(), segment).await?;
        bytes(&slice(&piece, &self.table, segment)?).await
    }

    async fn save(&self, segment: u64, parts: Vec<HostBytes>) {
        let part = |part: HostBytes| part.blob.map_or_else(|| part.view.into(), JsValue::from);
        let parts: Array = parts.into_iter().map(part).collect();
        self.budget
            .save(&self.cid, self.table.layout().size(), segment, &parts, &*self.in_use)
            .await;
    }

    async fn forget(&self, segment: u64) {
        store::forget(&self.cid, number(self.table.layout().size()), number(segment)).await;
    }
}
