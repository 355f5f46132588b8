//! Several segments out of one body, against a fake host.

#![cfg(target_arch = "wasm32")]

mod fake;

use std::cell::Cell;
use std::rc::Rc;

use edge_net_core::dag::layout::{LEAVES_PER_SEGMENT, SEGMENT_SIZE};
use edge_net_core::transfer::download::Config;
use edge_net_core::transfer::source::Failure;
use edge_net_driver::rows::{InRows, Ledger};
use wasm_bindgen_test::wasm_bindgen_test;

use fake::{Artifact, Reply, index, on_fetch, read};

/// Counts; allows `left` requests.
struct Counts {
    left: Cell<u32>,
    hashed: Cell<u32>,
}

impl Ledger for Counts {
    fn ask(&self) -> Result<(), Failure> {
        let left = self.left.get().checked_sub(1);
        self.left.set(left.ok_or(Failure::Unreachable("no request is left".into()))?);
        Ok(())
    }

    fn hashed(&self, _: u64) {
        self.hashed.update(|hashed| hashed + 1);
    }
}

fn counts(left: u32) -> Rc<Counts> {
    Rc::new(Counts { left: Cell::new(left), hashed: Cell::default() })
}

/// Whole segments, one request at a time, as the edge downloads.
fn config() -> Config {
    Config {
        whole: true,
        lanes: 1,
        attempts: 1,
        probe: LEAVES_PER_SEGMENT,
        share: false,
        enough: 0,
        store: false,
        ..Config::default()
    }
}

#[wasm_bindgen_test]
async fn one_request_brings_all_segments_of_a_row() {
    let leaves = index(2 * LEAVES_PER_SEGMENT) + 3;
    let artifact = Artifact::of_equal_leaves(leaves);
    let bytes = artifact.bytes.clone();
    let requests = on_fetch(move |request| Reply::range(&bytes, request));
    let counts = counts(9);
    let rows = InRows::new(Rc::clone(&counts), 2 * SEGMENT_SIZE);
    let (session, _) = artifact.session(&["gcs"], rows, config());
    assert_eq!(read(session.read(0..artifact.size())).await.unwrap(), artifact.bytes);
    let ranges: Vec<_> = requests.borrow().iter().map(|request| request.range.clone()).collect();
    let row = 0..2 * SEGMENT_SIZE;
    assert_eq!(ranges, [Some(row.clone()), Some(row.end..artifact.size())]);
    assert_eq!((counts.left.get(), counts.hashed.get()), (7, 3));
}

#[wasm_bindgen_test]
async fn a_reader_that_leaves_ends_the_row() {
    let artifact = Artifact::of_equal_leaves(index(2 * LEAVES_PER_SEGMENT));
    let bytes = artifact.bytes.clone();
    let requests = on_fetch(move |request| Reply::range(&bytes, request));
    let rows = InRows::new(counts(9), 2 * SEGMENT_SIZE);
    let (session, _) = artifact.session(&["gcs"], rows, Config { held: 1, ..config() });
    let mut reader = session.read(0..artifact.size());
    assert_eq!(reader.next().await.unwrap().unwrap().view.length(), 4_194_304);
    drop(reader);
    assert_eq!(requests.borrow().len(), 1);
    assert!(requests.borrow()[0].was_aborted());
}

#[wasm_bindgen_test]
async fn the_ledger_may_refuse_a_request() {
    let artifact = Artifact::of_equal_leaves(1);
    let requests = on_fetch(|_| Reply::status(500));
    let (session, _) = artifact.session(&["gcs"], InRows::new(counts(0), 0), config());
    let error = read(session.read(0..artifact.size())).await.unwrap_err().to_string();
    assert!(error.contains("no request is left"), "{error}");
    assert!(requests.borrow().is_empty());
}
