//! Tensors of language models: element types, blocks of quantized weights, and products with them.

mod dtype;

pub use dtype::Dtype;
