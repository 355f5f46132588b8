//! Products of packed weights with inputs.
//!
//! A kernel is written once, on a [`machine::Machine`], and compiled for each: x86-64 with AVX2
//! (found at run time), WebAssembly with SIMD or with relaxed SIMD (chosen at compile time), and
//! arrays. All compute the same bits.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod formats;
mod machine;
mod nbits;
mod planes;
#[cfg(any(test, not(all(target_arch = "wasm32", target_feature = "simd128"))))]
mod portable;
mod product;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm;

#[cfg(test)]
pub(crate) use product::multiply_portable;
pub(crate) use product::{Output, Weights, multiply};
