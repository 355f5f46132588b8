//! Tensors of language models: element types, blocks of quantized weights, products with them, and
//! the files that hold them.

mod activations;
mod blocks;
pub mod container;
mod dtype;
mod format;
pub mod gguf;
pub mod half;
mod kernel;
mod matrix;
mod nbits;
mod order;
mod pack;
mod plane;
pub mod safetensors;
mod word;

pub use activations::{Activations, ShapeError};
pub use blocks::{BlockError, dequantize};
pub use dtype::Dtype;
pub use matrix::{MatMulNBits, Matrix, MatrixBuilder, MatrixError, Scales};
