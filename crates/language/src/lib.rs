//! Decoder language models: their description, the text that goes in and comes out, their weights
//! and computation, and the choice of tokens.

pub mod cache;
pub mod config;
pub mod forward;
pub mod load;
pub mod names;
pub mod sampling;
pub mod stop;
pub mod template;
pub mod text_stream;
pub mod tokenizer;
pub mod weights;

pub use cache::{Cache, CacheError, Storage};
pub use config::{Config, ConfigError};
pub use forward::{DecodeError, Decoder, Hook, Logits};
pub use load::{LoadError, Loaded, Loader};
pub use weights::{Precision, Weights, WeightsBuilder, WeightsError};
