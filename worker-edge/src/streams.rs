//! Response bodies that are streamed, and announce their length.

use std::fmt::Display;

use edge_net_driver::{host, log};
use js_sys::Uint8Array;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{ReadableStream, WritableStream};

#[wasm_bindgen]
extern "C" {
    /// workerd's transform stream whose length becomes the response's `Content-Length`.
    type FixedLengthStream;
    #[wasm_bindgen(constructor)]
    fn new(length: f64) -> FixedLengthStream;
    /// The side that the client reads.
    #[wasm_bindgen(method, getter)]
    fn readable(this: &FixedLengthStream) -> ReadableStream;
    /// The side that the worker writes.
    #[wasm_bindgen(method, getter)]
    fn writable(this: &FixedLengthStream) -> WritableStream;
}

impl FixedLengthStream {
    /// A stream of `length` bytes.
    fn of(length: u64) -> Self {
        #[allow(clippy::cast_precision_loss)] // Sizes are below 2^53.
        Self::new(length as f64)
    }
}

/// `stream` with an announced length of `length` bytes. If it errors, the connection breaks before
/// that length, so that the client notices.
pub fn with_length(stream: &ReadableStream, length: u64) -> ReadableStream {
    let fixed = FixedLengthStream::of(length);
    let piped = stream.pipe_to(&fixed.writable());
    spawn_local(async move {
        if let Err(error) = JsFuture::from(piped).await {
            log::error("cut-short").say(host::message(&error));
        }
    });
    fixed.readable()
}

/// Why a body was not sent to its end.
pub enum NotSent<E> {
    /// The rest of the body is not available.
    Failed(E),
    /// The client left.
    Left,
}

impl<E> From<E> for NotSent<E> {
    fn from(error: E) -> Self {
        Self::Failed(error)
    }
}

/// A body of `length` bytes of the artifact `cid`, which `send` writes. If `send` fails, the
/// connection breaks before that length, so that the client notices.
pub fn body<E: Display, S: Future<Output = Result<(), NotSent<E>>>>(
    length: u64,
    cid: String,
    send: impl FnOnce(WritableStream) -> S + 'static,
) -> ReadableStream {
    let fixed = FixedLengthStream::of(length);
    let (readable, writable) = (fixed.readable(), fixed.writable());
    spawn_local(async move {
        let ended = match send(writable.clone()).await {
            Ok(()) => writable.close(),
            Err(NotSent::Failed(error)) => {
                log::error("cut-short").fact("cid", cid).say(&error);
                writable.abort_with_reason(&error.to_string().into())
            }
            Err(NotSent::Left) => return,
        };
        let _ = JsFuture::from(ended).await;
    });
    readable
}

/// Writes bytes, and waits until the client took them.
///
/// # Errors
/// When the client left.
pub async fn write(writable: &WritableStream, bytes: &Uint8Array) -> Result<(), JsValue> {
    let writer = writable.get_writer()?;
    let written = JsFuture::from(writer.write_with_chunk(bytes)).await;
    writer.release_lock();
    written.map(drop)
}
