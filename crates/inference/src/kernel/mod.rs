//! The inner loops, on vectors of 128 bits: one source for WASM SIMD, SSE2 and NEON.

pub mod attention;
pub mod float;
pub mod linear;
pub mod norm;
