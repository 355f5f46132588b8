//! The store of one artifact's segments, for its download.

use std::rc::Rc;
use std::sync::Arc;

use edge_net_core::dag::verify::LeafTable;
use edge_net_driver::host::{self, HostBytes};
use edge_net_driver::session::SegmentStore;
use js_sys::{Array, Uint8Array};
use wasm_bindgen::prelude::*;

use crate::store::{self, Budget, Piece, number};

/// The store of one artifact's segments.
pub struct Segments {
    /// CID of the artifact.
    pub cid: String,
    /// Its leaf table.
    pub table: Arc<LeafTable>,
    /// The storage budget, shared by all artifacts.
    pub budget: Rc<Budget>,
    /// Whether the artifact with this CID is in use; it is not evicted then.
    pub in_use: Rc<dyn Fn(&str) -> bool>,
}

impl Segments {
    fn size(&self) -> u64 {
        self.table.layout().size()
    }
}

impl SegmentStore for Segments {
    const BLOBS: bool = true;

    async fn load(&self, segment: u64) -> Option<Uint8Array> {
        let piece = Piece::holding(&self.cid, self.size(), segment).await?;
        let blob = piece.slice(self.table.layout(), segment)?;
        host::bytes_of(&blob).await.ok()
    }

    async fn save(&self, segment: u64, parts: Vec<HostBytes>) {
        let part = |part: HostBytes| part.blob.map_or_else(|| part.view.into(), JsValue::from);
        let parts: Array = parts.into_iter().map(part).collect();
        if let Some(piece) = Piece::gathered(&self.cid, self.size(), segment, &parts).await {
            self.budget.save(&self.cid, self.size(), &piece, &*self.in_use).await;
        }
    }

    async fn forget(&self, segment: u64) {
        store::forget(&self.cid, number(self.size()), number(segment)).await;
    }
}
