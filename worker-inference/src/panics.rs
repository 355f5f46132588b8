//! What an instance does before it ends by a panic.

use std::cell::RefCell;

use edge_net_driver::log;
use js_sys::Function;
use wasm_bindgen::JsValue;

thread_local! {
    static TOLD: RefCell<Option<Function>> = const { RefCell::new(None) };
}

/// Panics are logged from now on.
pub fn log() {
    std::panic::set_hook(Box::new(|info| {
        log::error("panicked").say(info);
        // The first one is enough: what is told drops this instance.
        if let Some(told) = TOLD.take() {
            let _ = told.call0(&JsValue::UNDEFINED);
        }
    }));
}

/// Panics are logged from now on, and `told` is called.
pub fn tell(told: Function) {
    TOLD.set(Some(told));
    log();
}
