//! The description of a decoder, from GGUF metadata or from `config.json` of Hugging Face.

mod check;
mod description;
mod error;
mod gguf;
mod hugging_face;
mod json;
mod rope;

pub use check::{
    MAX_CONTEXT, MAX_HEAD_DIM, MAX_HEADS, MAX_HIDDEN, MAX_LAYERS, MAX_VOCABULARY, MAX_WIDTH,
};
pub use description::{Activation, Architecture, Biases, Config, Local, Mlp, Norm, Scheme};
pub use error::ConfigError;
pub use hugging_face::MAX_JSON;
pub use rope::{Pairs, Rope, Scaling};
