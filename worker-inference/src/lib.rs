//! The worker that embeds text. It has the models; the edge, which it is bound to, delivers them, and sends it requests.
//!
//! The module runs in several WASM instances: one [`front`] that answers requests, without a model, and one [`instance`] for each
//! model. `entry.js` makes them, and is the only way from one to another.

mod admission;
mod config;
mod delivery;
mod front;
mod instance;
mod model;
mod models;
mod panics;
