//! The command line tool `edge-net-models`: publishes, pulls and verifies model files.
//!
//! The binary only calls [`run`]. The YAML reader is public so that other crates can fuzz it.
//!
//! Order of the modules, lowest first:
//! - `terminal`, `files`, `proxy`, `network`, `http`, `yaml`, `lock`, `digest`, `document`: no
//!   knowledge of models;
//! - `config`, then `context`: the settings, and the options of all commands;
//! - `places`, `delivery`, `accepted`, `staging`, `cache`, `registry`, `catalog`, `check`: reading
//!   models;
//! - `key`, `onnx`, `model`, `facts`, `description`, `credentials`, `sessions`,
//!   `bucket`, `claim`, `ipfs`: publishing;
//! - `error`: the errors of all of these;
//! - `retrieval`: downloading models;
//! - `commands`: one module for each command.

#[macro_use]
mod terminal;

mod accepted;
mod bucket;
mod cache;
mod catalog;
mod check;
mod claim;
mod commands;
mod config;
mod context;
mod credentials;
mod delivery;
mod description;
mod digest;
mod document;
mod error;
mod facts;
mod files;
mod http;
mod ipfs;
mod key;
mod lock;
mod model;
mod network;
mod onnx;
mod places;
mod proxy;
mod registry;
mod retrieval;
mod sessions;
mod staging;
pub mod yaml;

pub use commands::run;
