//! A reader as a `ReadableStream`.

use std::cell::Cell;
use std::rc::Rc;

use js_sys::{Object, Reflect};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::future_to_promise;
use web_sys::{QueuingStrategy, ReadableStream, ReadableStreamDefaultController};

use crate::host::HostBytes;
use crate::session::{Reader, SegmentStore};

/// A stream of `first` and then of the reader's bytes. Its consumer's pulls drive the download.
///
/// The stream errors when no source has a good copy. It never ends short.
///
/// # Errors
/// The exception of a host without streams.
pub fn into_stream<S: SegmentStore>(
    first: Option<HostBytes>,
    reader: Reader<S>,
) -> Result<ReadableStream, JsValue> {
    let cancel = reader.canceller();
    // A stream never pulls while a pull is pending, so the reader is present in every pull.
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
            // All three fail on a stream that was cancelled meanwhile, which is right.
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
    // The stream does not read ahead: the machine does.
    let strategy = QueuingStrategy::new();
    strategy.set_high_water_mark(0.0);
    ReadableStream::new_with_underlying_source_and_strategy(&source, &strategy)
}
