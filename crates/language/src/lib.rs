//! Decoder language models: their description, the text that goes in and comes out, and the choice
//! of tokens.

pub mod config;
pub mod names;
pub mod sampling;
pub mod stop;
pub mod template;
pub mod text_stream;
pub mod tokenizer;

pub use config::{Config, ConfigError};
