//! Rows: consecutive segments from one response, for hosts that may send few requests and have no
//! store.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use edge_net_core::dag::layout::SEGMENT_SIZE;
use edge_net_core::dag::verify::Hashed;
use edge_net_core::transfer::download::{Event, FetchId, SourceId};
use edge_net_core::transfer::source::{Failure, REFUSES_RANGES};
use js_sys::Uint8Array;
use web_sys::AbortController;

use crate::host::{self, ByteBody, HostBytes};
use crate::session::{Fetched, Rest, SegmentStore, Session};

/// Counts the requests and the hashing of a session.
pub trait Ledger: 'static {
    /// Notes a request that is about to be sent.
    ///
    /// # Errors
    /// [`Failure::Unreachable`] when no request is left.
    fn ask(&self) -> Result<(), Failure>;
    /// Notes that hashing took `milliseconds`.
    fn hashed(&self, milliseconds: u64);
}

/// A store that stores nothing. A request for a segment includes the following ones, up to `end`,
/// whose bytes wait in the body. A session with it has one lane: a body cannot deliver two segments
/// at once.
#[derive(Debug)]
pub struct InRows<L> {
    ledger: Rc<L>,
    end: u64,
    row: RefCell<Option<Row>>,
}

/// A response with more segments in its body.
#[derive(Debug)]
struct Row {
    source: SourceId,
    /// The bytes of the artifact that are still in the body.
    left: Range<u64>,
    body: ByteBody,
    origin: String,
    controller: AbortController,
}

impl Drop for Row {
    fn drop(&mut self) {
        // A connection whose body was read to its end can serve another request.
        if !self.left.is_empty() {
            self.controller.abort();
        }
    }
}

impl<L> InRows<L> {
    /// Rows up to `end`, the end of a segment in bytes; without rows when it is 0.
    pub const fn new(ledger: Rc<L>, end: u64) -> Self {
        Self { ledger, end, row: RefCell::new(None) }
    }

    async fn hash(&self, body: HostBytes) -> Result<Hashed<HostBytes>, Failure>
    where
        L: Ledger,
    {
        let from = host::now();
        let hashed = host::hash_leaves(body).await?;
        self.ledger.hashed(host::now() - from);
        Ok(hashed)
    }

    /// The range to request for `bytes`: up to the end of the row, if a segment ends where they
    /// end.
    fn row_from(&self, bytes: &Range<u64>) -> Range<u64> {
        let whole = bytes.end.is_multiple_of(SEGMENT_SIZE);
        bytes.start..if whole { bytes.end.max(self.end) } else { bytes.end }
    }
}

/// Fetches from a source that refuses ranges.
async fn leaf_by_leaf<L: Ledger>(
    session: &Session<InRows<L>>,
    fetch: FetchId,
    source: SourceId,
    bytes: &Range<u64>,
) -> Result<Fetched, Failure> {
    let this = session.store();
    let body = session.leaf_by_leaf(fetch, source, bytes, || this.ledger.ask()).await?;
    Ok((this.hash(body).await?, session.name(source)))
}

impl<L: Ledger> SegmentStore for InRows<L> {
    const BLOBS: bool = false;
    async fn load(&self, _: u64) -> Option<Uint8Array> {
        None
    }
    async fn save(&self, _: u64, _: Vec<HostBytes>) {}
    async fn forget(&self, _: u64) {}

    async fn fetch(
        session: &Session<Self>,
        fetch: FetchId,
        source: SourceId,
        bytes: &Range<u64>,
        _: bool,
        rest: &Rest,
    ) -> Result<Fetched, Failure> {
        let this = session.store();
        if session.refuses_ranges(source) {
            return leaf_by_leaf(session, fetch, source, bytes).await;
        }
        let open = this.row.take().filter(|row| {
            row.source == source && row.left.start == bytes.start && row.left.end >= bytes.end
        });
        let mut row = if let Some(row) = open {
            session.under_way().borrow_mut().push((fetch, row.controller.clone()));
            row
        } else {
            this.ledger.ask()?;
            let left = this.row_from(bytes);
            let response = match session.ask(fetch, source, &left, rest).await {
                Err(REFUSES_RANGES) => return leaf_by_leaf(session, fetch, source, bytes).await,
                response => response?,
            };
            let controller = session
                .under_way()
                .borrow()
                .iter()
                .find(|(id, _)| *id == fetch)
                .map(|(_, controller)| controller.clone());
            // It is missing when the machine aborted the fetch.
            let controller = controller.ok_or(Failure::Stalled)?;
            Row {
                source,
                left,
                body: ByteBody::of(&response)?,
                origin: session.origin(source, &response),
                controller,
            }
        };
        let progressed = |bytes| session.step(Event::Progressed { fetch, bytes });
        let want = bytes.end - bytes.start;
        let body = row.body.read(want, &progressed).await?;
        let origin = row.origin.clone();
        row.left.start = bytes.end;
        if row.left.is_empty() {
            row.body.end(want).await?;
        } else {
            // Before anything is awaited: the machine may request the next segment already.
            this.row.replace(Some(row));
        }
        Ok((this.hash(body.into()).await?, origin))
    }

    fn left(&self) {
        self.row.take();
    }
}
