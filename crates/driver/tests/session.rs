//! Downloads against a fake host.

#![cfg(target_arch = "wasm32")]

mod fake;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use edge_net_core::dag::layout::LEAF_SIZE;
use edge_net_core::transfer::download::{Config, Report};
use edge_net_core::transfer::source::Failure;
use edge_net_driver::host::{message, retry_after};
use edge_net_driver::session::Session;
use edge_net_driver::{into_stream, sleep};
use futures::FutureExt;
use js_sys::Uint8Array;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use wasm_bindgen_test::wasm_bindgen_test;
use web_sys::{ReadableStream, Response};

use fake::{Artifact, End, Memory, Reply, index, on_fetch, read};

const LEAF: usize = 262_144;

/// Asks one source at a time, the first until it fails.
fn one_at_a_time() -> Config {
    Config { share: false, enough: 0, ..Config::default() }
}

/// The failures that a session reported, with the index of their source.
fn refusals(reports: &[Report]) -> Vec<(usize, Failure)> {
    let refusal = |report: &Report| match report {
        Report::Refused { source, failure, .. } => Some((source.index(), failure.clone())),
        _ => None,
    };
    reports.iter().filter_map(refusal).collect()
}

/// The origins of each verified segment.
fn origins(reports: &[Report]) -> Vec<(u64, Vec<String>)> {
    let verified = |report: &Report| match report {
        Report::Verified { segment, origins } => Some((*segment, origins.clone())),
        _ => None,
    };
    reports.iter().filter_map(verified).collect()
}

async fn stored(session: &Session<Memory>) {
    while session.is_storing() {
        sleep(1).await;
    }
}

#[wasm_bindgen_test]
async fn a_segment_is_fetched_verified_and_stored() {
    let artifact = Artifact::new(5 * LEAF + 7);
    let bytes = artifact.bytes.clone();
    let requests = on_fetch(move |request| Reply::range(&bytes, request));
    let store = Memory::default();
    let (session, reports) = artifact.session(&["gcs"], store.clone(), Config::default());
    let reader = session.read(0..artifact.size());
    assert!(requests.borrow().is_empty(), "nothing is fetched before the reader pulls");
    assert_eq!(read(reader).await.unwrap(), artifact.bytes);
    stored(&session).await;
    assert_eq!(store.segments.borrow()[&0], artifact.bytes);
    assert_eq!(origins(&reports.borrow()), [(0, vec!["gcs".to_owned()])]);
    assert!(session.is_idle());
}

#[wasm_bindgen_test]
async fn a_range_is_cut_out_of_its_leaves() {
    let artifact = Artifact::new(3 * LEAF);
    let bytes = artifact.bytes.clone();
    let requests = on_fetch(move |request| Reply::range(&bytes, request));
    let config = Config { store: false, ..Config::default() };
    let (session, _) = artifact.session(&["gcs"], Memory::default(), config);
    let wanted = LEAF_SIZE - 3..LEAF_SIZE + 5;
    let part = read(session.read(wanted.clone())).await.unwrap();
    assert_eq!(part, artifact.bytes[index(wanted.start)..index(wanted.end)]);
    for request in requests.borrow().iter() {
        let range = request.range.clone().unwrap_or(0..artifact.size());
        assert_eq!(range.start % LEAF_SIZE, 0, "requests are for whole leaves");
    }
}

#[wasm_bindgen_test]
async fn a_wrong_leaf_is_fetched_again_from_another_source() {
    let artifact = Artifact::new(4 * LEAF);
    let bytes = artifact.bytes.clone();
    let requests = on_fetch(move |request| {
        let mut bytes = bytes.clone();
        if request.is_to("edge") {
            bytes[LEAF + 9] ^= 1;
        }
        Reply::range(&bytes, request)
    });
    let (session, reports) = artifact.session(&["edge", "gcs"], Memory::default(), one_at_a_time());
    assert_eq!(read(session.read(0..artifact.size())).await.unwrap(), artifact.bytes);
    assert_eq!(refusals(&reports.borrow()), [(0, Failure::BadLeaf(1))]);
    let requests = requests.borrow();
    let again: Vec<_> = requests.iter().filter(|request| request.is_to("gcs")).collect();
    assert_eq!(again[0].range, Some(LEAF_SIZE..2 * LEAF_SIZE), "only the bad leaf");
}

#[wasm_bindgen_test]
async fn a_stalled_request_is_aborted_and_another_source_asked() {
    let artifact = Artifact::new(2 * LEAF);
    let bytes = artifact.bytes.clone();
    let requests = on_fetch(move |request| {
        let reply = Reply::range(&bytes, request);
        if request.is_to("edge") { reply.cut(1000, End::Hangs) } else { reply }
    });
    let config = Config { stall: Duration::from_millis(200), ..one_at_a_time() };
    let (session, reports) = artifact.session(&["edge", "gcs"], Memory::default(), config);
    assert_eq!(read(session.read(0..artifact.size())).await.unwrap(), artifact.bytes);
    assert_eq!(refusals(&reports.borrow())[0], (0, Failure::Stalled));
    assert!(requests.borrow()[0].is_to("edge") && requests.borrow()[0].was_aborted());
}

#[wasm_bindgen_test]
async fn a_broken_connection_and_a_wrong_length_are_refused() {
    let artifact = Artifact::new(2 * LEAF);
    let bytes = artifact.bytes.clone();
    on_fetch(move |request| {
        let mut reply = Reply::range(&bytes, request);
        if request.is_to("edge") {
            return reply.cut(1000, End::Breaks);
        }
        if request.is_to("gcs") {
            reply.fields.retain(|(name, _)| *name != "Content-Length");
            reply.body.push(0);
        }
        reply
    });
    let config = Config { attempts: 1, ..one_at_a_time() };
    let (session, reports) = artifact.session(&["edge", "gcs", "ipfs"], Memory::default(), config);
    assert_eq!(read(session.read(0..artifact.size())).await.unwrap(), artifact.bytes);
    let refused = refusals(&reports.borrow());
    assert_eq!(refused[0], (0, Failure::Unreachable("terminated".into())));
    let want = artifact.size();
    assert_eq!(refused[1], (1, Failure::WrongLength { got: want + 1, want }));
}

#[wasm_bindgen_test]
async fn a_source_is_not_asked_before_its_retry_after() {
    let artifact = Artifact::new(LEAF);
    let bytes = artifact.bytes.clone();
    let first = Cell::new(true);
    let requests = on_fetch(move |request| {
        if first.replace(false) {
            return Reply::status(503).with("Retry-After", 1);
        }
        Reply::range(&bytes, request)
    });
    let (session, _) = artifact.session(&["gcs"], Memory::default(), Config::default());
    assert_eq!(read(session.read(0..artifact.size())).await.unwrap(), artifact.bytes);
    let waited = requests.borrow()[1].sent - requests.borrow()[0].sent;
    assert!(waited >= 990.0, "asked again after {waited} ms");
}

#[wasm_bindgen_test]
fn retry_after_is_a_number_of_seconds_or_a_date() {
    let of = |value: &str| {
        let response = Response::new().unwrap();
        response.headers().set("Retry-After", value).unwrap();
        retry_after(&response)
    };
    assert_eq!(retry_after(&Response::new().unwrap()), None);
    assert_eq!(of("3"), Some(Duration::from_secs(3)));
    assert_eq!(of("soon"), Some(Duration::ZERO));
    let later = js_sys::Date::new(&(js_sys::Date::now() + 5000.0).into());
    let wait = of(&String::from(later.to_utc_string())).unwrap();
    assert!((3..=5).contains(&wait.as_secs()), "{wait:?}");
}

#[wasm_bindgen_test]
async fn a_cancelled_reader_aborts_its_requests() {
    let artifact = Artifact::new(2 * LEAF);
    let bytes = artifact.bytes.clone();
    let requests = on_fetch(move |request| Reply::range(&bytes, request).cut(10, End::Hangs));
    let (session, _) = artifact.session(&["gcs"], Memory::default(), Config::default());
    let mut reader = session.read(0..artifact.size());
    assert!(reader.next().now_or_never().is_none());
    sleep(20).await;
    assert!(!requests.borrow()[0].was_aborted());
    drop(reader);
    assert!(requests.borrow()[0].was_aborted() && session.is_idle());
}

#[wasm_bindgen_test]
async fn stored_segments_are_verified_and_bad_ones_fetched_again() {
    let artifact = Artifact::new(LEAF);
    let bytes = artifact.bytes.clone();
    let requests = on_fetch(move |request| Reply::range(&bytes, request));
    let store = Memory::default();
    store.segments.borrow_mut().insert(0, artifact.bytes.clone());
    let (session, reports) = artifact.session(&["gcs"], store.clone(), Config::default());
    assert_eq!(read(session.read(0..artifact.size())).await.unwrap(), artifact.bytes);
    assert!(requests.borrow().is_empty());
    assert_eq!(origins(&reports.borrow()), [(0, vec![])]);

    store.segments.borrow_mut().get_mut(&0).unwrap()[5] ^= 1;
    let (session, _) = artifact.session(&["gcs"], store.clone(), Config::default());
    assert_eq!(read(session.read(0..artifact.size())).await.unwrap(), artifact.bytes);
    assert_eq!((requests.borrow().len(), &**store.deleted.borrow()), (1, &[0][..]));
}

#[wasm_bindgen_test]
async fn the_origin_is_what_the_edge_says_in_server_timing() {
    let artifact = Artifact::new(LEAF);
    let bytes = artifact.bytes.clone();
    on_fetch(move |request| {
        Reply::range(&bytes, request).with("Server-Timing", "total;dur=3, origin;desc=\"ipfs\"")
    });
    let (session, reports) = artifact.session(&["edge"], Memory::default(), Config::default());
    read(session.read(0..artifact.size())).await.unwrap();
    assert_eq!(origins(&reports.borrow()), [(0, vec!["edge:ipfs".to_owned()])]);
}

/// Reads a stream as JavaScript does.
async fn read_stream(stream: &ReadableStream) -> Result<Vec<u8>, String> {
    let response = Response::new_with_opt_readable_stream(Some(stream)).unwrap();
    let buffer = JsFuture::from(response.array_buffer().unwrap()).await;
    buffer.map(|buffer| Uint8Array::new(&buffer).to_vec()).map_err(|error| message(&error))
}

#[wasm_bindgen_test]
async fn a_stream_has_the_bytes_in_order() {
    let artifact = Artifact::new(6 * LEAF + 1);
    let bytes = artifact.bytes.clone();
    on_fetch(move |request| Reply::range(&bytes, request));
    let (session, _) = artifact.session(&["edge", "gcs"], Memory::default(), Config::default());
    let first = Uint8Array::from(&artifact.bytes[..LEAF]);
    let rest = session.read(LEAF_SIZE..artifact.size());
    let stream = into_stream(Some(first.into()), rest).unwrap();
    assert_eq!(read_stream(&stream).await.unwrap(), artifact.bytes);
}

#[wasm_bindgen_test]
async fn a_stream_errors_rather_than_ends_short() {
    let artifact = Artifact::new(6 * LEAF);
    let bytes = artifact.bytes.clone();
    on_fetch(move |request| match &request.range {
        Some(range) if range.end <= 4 * LEAF_SIZE => Reply::range(&bytes, request),
        _ => Reply::status(404),
    });
    let (session, reports) = artifact.session(&["gcs"], Memory::default(), Config::default());
    let stream = into_stream(None, session.read(0..artifact.size())).unwrap();
    let error = read_stream(&stream).await.unwrap_err();
    assert!(error.contains("gcs: status 404"), "{error}");
    assert!(reports.borrow().iter().any(|report| matches!(report, Report::Failed(_))));
}

#[wasm_bindgen_test]
async fn a_cancelled_stream_aborts_its_requests() {
    let artifact = Artifact::new(2 * LEAF);
    let bytes = artifact.bytes.clone();
    let requests = on_fetch(move |request| Reply::range(&bytes, request).cut(10, End::Hangs));
    let (session, _) = artifact.session(&["gcs"], Memory::default(), Config::default());
    let stream = into_stream(None, session.read(0..artifact.size())).unwrap();
    let reader: web_sys::ReadableStreamDefaultReader = stream.get_reader().unchecked_into();
    let pending = reader.read();
    sleep(20).await;
    let cancelled = JsFuture::from(reader.cancel()).await;
    assert!(cancelled.is_ok() && JsFuture::from(pending).await.is_ok());
    assert!(requests.borrow()[0].was_aborted() && session.is_idle());
}

#[wasm_bindgen_test]
async fn two_readers_share_their_segments() {
    let artifact = Artifact::new(LEAF);
    let bytes = artifact.bytes.clone();
    let requests = on_fetch(move |request| Reply::range(&bytes, request));
    let (session, _) = artifact.session(&["gcs"], Memory::default(), Config::default());
    let both = Rc::new(session);
    let (a, b) =
        futures::join!(read(both.read(0..artifact.size())), read(both.read(0..artifact.size())));
    assert_eq!((a.unwrap(), b.unwrap()), (artifact.bytes.clone(), artifact.bytes.clone()));
    assert_eq!(requests.borrow().len(), 1);
}
