//! Rounded activations as kernels load them: of 8 bits, or of 16 where instructions multiply these.

#[cfg(not(all(
    target_arch = "wasm32",
    target_feature = "simd128",
    not(target_feature = "relaxed-simd")
)))]
mod size {
    pub(crate) type Quant = i8;
    pub(crate) type Pair = u16;
    pub(crate) type Word = i32;
}

#[cfg(all(
    target_arch = "wasm32",
    target_feature = "simd128",
    not(target_feature = "relaxed-simd")
))]
mod size {
    pub(crate) type Quant = i16;
    pub(crate) type Pair = u32;
    pub(crate) type Word = i64;
}

pub(crate) use size::{Pair, Quant, Word};

/// Bits of an activation.
pub(crate) const BITS: u32 = Quant::BITS;

/// The activations of a word.
#[cfg(any(test, not(all(target_arch = "wasm32", target_feature = "simd128"))))]
#[allow(clippy::cast_possible_truncation, clippy::unnecessary_cast)] // A part of the word.
#[inline]
pub(crate) fn quants(word: Word) -> [i32; 4] {
    [3, 2, 1, 0].map(|above: u32| (word << (above * BITS) >> (3 * BITS)) as i32)
}
