//! Decoder language models.

pub mod text_stream;
pub mod tokenizer;
