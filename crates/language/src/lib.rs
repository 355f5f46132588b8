//! Decoder language models.

pub mod cache;
pub mod config;
pub mod forward;
mod half;
pub mod load;
pub mod names;
pub mod weights;

pub use cache::{Cache, CacheError, Storage};
pub use config::{Config, ConfigError};
pub use forward::{DecodeError, Decoder, Hook, Logits};
pub use load::{LoadError, Loaded, Loader};
pub use weights::{Precision, Weights, WeightsBuilder, WeightsError};
