//! A reader as a `ReadableStream`.

use std::cell::Cell;
use std::rc::Rc;

use js_sys::{Object, Reflect};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::future_to_promise;
use web_sys::{QueuingStrategy, ReadableStream, ReadableStreamDefaultController};

use crate::host::HostBytes;
use crate::session::{Reader, SegmentStore};

/// A stream of `first` and then of what `reader` brings, pulled by whoever reads the stream.
///
/// When no source has a good copy the stream errors; it never ends short.
///
/// # Errors
/// Where the host has no streams.
pub fn into_stream<S: SegmentStore>(
    first: Option<HostBytes>,
    reader: Reader<S>,
) -> Result<ReadableStream, JsValue> {
    let cancel = reader.canceller();
    // Streams never pull while a pull is pending, so whoever takes the reader finds it.
    let reader = Rc::new(Cell::new(Some(reader)));
    let first = Cell::new(first);
    let pull = move |controller: ReadableStreamDefaultController| {
        let first = first.take();
        let shared = Rc::clone(&reader);
        future_to_promise(async move {
            let next = match (first, shared.take()) {
                (Some(bytes), reader) => {
                    shared.set(reader);
                    Some(Ok(bytes))
                }
                (None, Some(mut reader)) => {
                    let next = reader.next().await;
                    shared.set(Some(reader));
                    next
                }
                (None, None) => None,
            };
            // A stream that was cancelled meanwhile refuses all three, rightly.
            let _ = match next {
                Some(Ok(bytes)) => controller.enqueue_with_chunk(&bytes.view),
                Some(Err(error)) => {
                    controller.error_with_e(&js_sys::TypeError::new(&error.to_string()));
                    Ok(())
                }
                None => controller.close(),
            };
            Ok(JsValue::UNDEFINED)
        })
    };
    let source = Object::new();
    let pull = Closure::<dyn FnMut(ReadableStreamDefaultController) -> js_sys::Promise>::new(pull);
    Reflect::set(&source, &"pull".into(), &pull.into_js_value())?;
    Reflect::set(&source, &"cancel".into(), &Closure::<dyn Fn()>::new(cancel).into_js_value())?;
    // Nothing is read ahead of the consumer: the machine plans that.
    let strategy = QueuingStrategy::new();
    strategy.set_high_water_mark(0.0);
    ReadableStream::new_with_underlying_source_and_strategy(&source, &strategy)
}
