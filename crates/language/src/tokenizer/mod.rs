//! Text to tokens and back.

mod error;
mod gguf;
mod json;
mod pieces;
mod sentence;
mod shield;
mod split;
mod vocabulary;

pub use error::TokenizerError;
pub use gguf::GgufVocabulary;
pub use vocabulary::{SpecialText, Tokenizer};
