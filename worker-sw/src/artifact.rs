//! One artifact in the memory of this worker: its leaf table, its download, and the stored entries
//! that were verified.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use edge_net_core::dag::verify::LeafTable;
use edge_net_driver::session::Session;
use edge_net_driver::sleep;
use futures::join;
use futures::lock::Mutex;
use js_sys::Array;
use wasm_bindgen_futures::spawn_local;
use web_sys::Blob;

use crate::hash;
use crate::segments::Segments;
use crate::store::{self, Piece, number};

/// The wait before an artifact is packed, in milliseconds: the page that loaded it gets the CPU
/// first.
const REST: u64 = 2_000;

/// An artifact whose leaf table is known.
pub struct Artifact {
    /// Its CID.
    pub cid: String,
    /// Its leaf table.
    pub table: Arc<LeafTable>,
    /// Its download, which all readers share. It ends when it has no readers.
    pub download: RefCell<Option<Session<Segments>>>,
    /// Stored entries that were verified since this worker started. A blob keeps the bytes that
    /// were verified, whatever is written to the store later.
    verified: RefCell<Vec<Piece>>,
    /// Held by the task that verifies; the others wait for its result.
    verifying: Mutex<()>,
}

impl Artifact {
    /// An artifact without a download and without verified entries.
    pub fn new(cid: String, table: Arc<LeafTable>) -> Self {
        Self {
            cid,
            table,
            download: RefCell::default(),
            verified: RefCell::default(),
            verifying: Mutex::default(),
        }
    }

    /// Whether its download has readers, or segments are still being stored.
    pub fn is_in_use(&self) -> bool {
        self.download
            .borrow()
            .as_ref()
            .is_some_and(|download| !download.is_idle() || download.is_storing())
    }

    /// Forgets the verified entries: they are read from the store and verified again.
    pub fn forget_verified(&self) {
        self.verified.borrow_mut().clear();
    }

    fn size(&self) -> u64 {
        self.table.layout().size()
    }

    /// A byte range as a blob, composed of verified entries, if all of it is stored. Records the
    /// use. The browser sends the blob without a copy in script or WASM memory.
    pub async fn kept(self: &Rc<Self>, range: &Range<u64>) -> Option<Blob> {
        if !store::note_use(&self.cid, number(self.size())).await.is_truthy() {
            self.forget_verified();
        }
        if let Some(blob) = self.compose(range) {
            return Some(blob);
        }
        let _turn = self.verifying.lock().await;
        // The task that held the lock may have verified this range.
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

    /// Verifies entries. Bad segments are deleted from the store and returned.
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
        // Two lanes: one hashes while the other waits for the disk.
        join!(lane(), lane());
        bad.into_inner()
    }

    async fn is_good(&self, piece: &Piece, segment: u64) -> bool {
        let layout = self.table.layout();
        let found = async {
            let hashed = hash::leaves_of(piece.slice(layout, segment)?).await?;
            let leaves = layout.leaves_of_segment(segment);
            Some(self.table.verify_leaves(leaves, &hashed).bad.is_empty())
        };
        found.await.unwrap_or(false)
    }

    /// Verifies all of its stored segments again: the number of good ones, and the bad ones, which
    /// are deleted.
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

    /// Packs its stored segments after a wait, unless it is in use then.
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
