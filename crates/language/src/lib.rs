//! Decoder language models.

pub mod sampling;
pub mod stop;
pub mod template;
pub mod text_stream;
pub mod tokenizer;
