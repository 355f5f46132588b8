//! The loops that take the time, on vectors of 128 bits: the same source for WASM SIMD, SSE2 and NEON.

pub mod attention;
pub mod float;
pub mod linear;
pub mod norm;
