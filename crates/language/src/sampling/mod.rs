//! From logits to a token.
//!
//! The steps, in the order of Hugging Face's transformers: repetition penalty, frequency and
//! presence penalty, logit bias; then temperature, top-k, top-p, min-p; then a random choice among
//! what is left, by probability. Top-p and min-p see the probabilities that the steps before left.

mod choose;
mod error;
mod options;
mod penalties;
mod sampler;

pub use error::SamplingError;
pub use options::{MAX_BIASES, SamplingOptions};
pub use sampler::Sampler;
