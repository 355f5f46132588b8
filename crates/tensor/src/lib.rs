//! Tensors of language models: element types, blocks of quantized weights, and products with them.

pub mod container;
mod dtype;
pub mod gguf;
pub mod safetensors;

pub use dtype::Dtype;
