//! The panic hook of an instance.

use std::cell::RefCell;

use edge_net_driver::log;
use js_sys::Function;
use wasm_bindgen::JsValue;

thread_local! {
    static ON_PANIC: RefCell<Option<Function>> = const { RefCell::new(None) };
}

/// Logs panics from now on.
pub fn log() {
    std::panic::set_hook(Box::new(|info| {
        log::error("panicked").say(info);
        // The first panic is enough: the callback drops this instance.
        if let Some(callback) = ON_PANIC.take() {
            let _ = callback.call0(&JsValue::UNDEFINED);
        }
    }));
}

/// Logs panics from now on, and calls `callback` at the first one.
pub fn report(callback: Function) {
    ON_PANIC.set(Some(callback));
    log();
}
