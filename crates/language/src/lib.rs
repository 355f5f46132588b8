//! Decoder language models.

pub mod config;
pub mod names;

pub use config::{Config, ConfigError};
