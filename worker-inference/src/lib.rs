//! The inference worker: it embeds text. The edge delivers its models, and passes requests on to
//! it.
//!
//! The module runs in several WASM instances: one `front`, which answers requests, and one
//! `instance` for each model. `entry.js` makes them, and connects them.

mod admission;
mod batches;
mod config;
mod delivery;
mod front;
mod instance;
mod limits;
mod load;
mod model;
mod models;
mod panics;
mod room;
