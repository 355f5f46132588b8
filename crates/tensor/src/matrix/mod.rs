//! Matrices of quantized weights, and products with them.

mod builder;
mod error;
mod matmul_nbits;
mod packed;
mod product;

pub use builder::MatrixBuilder;
pub use error::MatrixError;
pub use matmul_nbits::{MatMulNBits, Scales};
pub use product::Matrix;
