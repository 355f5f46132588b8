//! Tensors of language models: element types, blocks of quantized weights, and products with them.

mod activations;
mod blocks;
mod dtype;
mod format;
mod half;
mod kernel;
mod matrix;
mod nbits;
mod order;
mod pack;
mod plane;
mod word;

pub use activations::{Activations, ShapeError};
pub use blocks::{BlockError, dequantize};
pub use dtype::Dtype;
pub use matrix::{MatMulNBits, Matrix, MatrixBuilder, MatrixError, Scales};
