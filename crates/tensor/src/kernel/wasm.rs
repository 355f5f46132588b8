//! Kernels on vectors of 128 bits: WebAssembly with SIMD, and with relaxed SIMD.

#![allow(clippy::inline_always)] // Calls between these would cost more than what they do.

use core::cmp::Ordering;

use core::arch::wasm32::{
    f32x4_add, f32x4_convert_i32x4, f32x4_mul, f32x4_splat, f32x4_sub, i8x16,
    i16x8_extend_low_i8x16, i16x8_shl, i32x4_add, i32x4_dot_i16x8, i32x4_extend_low_i16x8,
    i32x4_shl, i32x4_splat, i32x4_sub, i64x2, u8x16_splat, u8x16_swizzle, u16x8_extend_low_u8x16,
    u16x8_shr, u32x4_extend_low_u16x8, v128, v128_and, v128_or,
};

use bytemuck::must_cast;

use super::machine::Machine;
use crate::{order::LANES, word::Word};

/// A processor that runs WebAssembly.
#[derive(Clone, Copy)]
pub(super) struct Wasm;

#[cfg(target_feature = "relaxed-simd")]
mod products {
    use core::arch::wasm32::{
        i16x8_add, i16x8_relaxed_dot_i8x16_i7x16, i16x8_splat, i32x4_add, i32x4_dot_i16x8,
        i32x4_splat, v128,
    };

    use super::{Machine, Wasm, Word};

    /// Pairs of products of codes with activations, as 16 bits. The codes are less than 128, so
    /// that all implementations of the relaxed instruction agree.
    #[inline(always)]
    fn products(codes: v128, word: Word) -> v128 {
        i16x8_relaxed_dot_i8x16_i7x16(i32x4_splat(word), codes)
    }

    /// Σ of pairs of products of `CHUNK` vectors.
    #[inline(always)]
    fn chunk<const CHUNK: usize>(first: usize, codes: &[v128; 8], words: &[Word; 8]) -> v128 {
        let mut sums = [products(codes[first], words[first]); 2];
        if CHUNK > 1 {
            sums[1] = products(codes[first + 1], words[first + 1]);
        }
        for i in 2..CHUNK {
            sums[i % 2] = i16x8_add(sums[i % 2], products(codes[first + i], words[first + i]));
        }
        if CHUNK > 1 { i16x8_add(sums[0], sums[1]) } else { sums[0] }
    }

    #[inline(always)]
    pub(super) fn total<const CHUNK: usize>(codes: &[v128; 8], words: &[Word; 8]) -> v128 {
        scaled::<CHUNK>(codes, words, i16x8_splat(1))
    }

    #[inline(always)]
    pub(super) fn scaled<const CHUNK: usize>(
        codes: &[v128; 8],
        words: &[Word; 8],
        scales: v128,
    ) -> v128 {
        let mut sum = i32x4_dot_i16x8(chunk::<CHUNK>(0, codes, words), scales);
        let mut first = CHUNK;
        while first < 8 {
            let next = i32x4_dot_i16x8(chunk::<CHUNK>(first, codes, words), scales);
            sum = i32x4_add(sum, next);
            first += CHUNK;
        }
        sum
    }

    #[inline(always)]
    pub(super) fn total_of_bytes(codes: &[v128; 8], words: &[Word; 8]) -> v128 {
        let (mut low, mut high) = (*codes, *codes);
        for i in 0..8 {
            low[i] = Wasm.field::<0, 4, 0>(codes[i]);
            high[i] = Wasm.field::<4, 4, 0>(codes[i]);
        }
        i32x4_add(total::<8>(&low, words), scaled::<8>(&high, words, i16x8_splat(16)))
    }
}

#[cfg(not(target_feature = "relaxed-simd"))]
mod products {
    use core::arch::wasm32::{
        i32x4_add, i32x4_dot_i16x8, i32x4_mul, i32x4_shuffle, i64x2_splat, u16x8_extend_high_u8x16,
        u16x8_extend_low_u8x16, v128,
    };

    use super::Word;

    /// Σ of pairs of products: bytes 0 and 1, then 2 and 3, of two lanes in each vector.
    #[inline(always)]
    fn sums(codes: &[v128; 8], words: &[Word; 8]) -> [v128; 2] {
        let mut sums = pairs(codes[0], words[0]);
        for i in 1..8 {
            let [low, high] = pairs(codes[i], words[i]);
            sums = [i32x4_add(sums[0], low), i32x4_add(sums[1], high)];
        }
        sums
    }

    #[inline(always)]
    fn pairs(codes: v128, word: Word) -> [v128; 2] {
        let word = i64x2_splat(word);
        [
            i32x4_dot_i16x8(u16x8_extend_low_u8x16(codes), word),
            i32x4_dot_i16x8(u16x8_extend_high_u8x16(codes), word),
        ]
    }

    #[inline(always)]
    fn fold(sums: [v128; 2]) -> v128 {
        i32x4_add(
            i32x4_shuffle::<0, 2, 4, 6>(sums[0], sums[1]),
            i32x4_shuffle::<1, 3, 5, 7>(sums[0], sums[1]),
        )
    }

    #[inline(always)]
    pub(super) fn total<const CHUNK: usize>(codes: &[v128; 8], words: &[Word; 8]) -> v128 {
        fold(sums(codes, words))
    }

    #[inline(always)]
    pub(super) fn scaled<const CHUNK: usize>(
        codes: &[v128; 8],
        words: &[Word; 8],
        scales: v128,
    ) -> v128 {
        use core::arch::wasm32::{i32x4_extend_high_i16x8, i32x4_extend_low_i16x8};
        let [low, high] = sums(codes, words);
        fold([
            i32x4_mul(low, i32x4_extend_low_i16x8(scales)),
            i32x4_mul(high, i32x4_extend_high_i16x8(scales)),
        ])
    }

    #[inline(always)]
    pub(super) fn total_of_bytes(codes: &[v128; 8], words: &[Word; 8]) -> v128 {
        total::<8>(codes, words)
    }
}

/// Eight bytes in the lower half.
#[inline(always)]
fn lower(bytes: [u8; 8]) -> v128 {
    i64x2(i64::from_le_bytes(bytes), 0)
}

impl Machine for Wasm {
    type Bytes = v128;
    type Pairs = v128;
    type Ints = v128;
    type Floats = v128;

    #[inline(always)]
    fn load(self, bytes: &[u8; 4 * LANES]) -> v128 {
        must_cast(*bytes)
    }

    #[inline(always)]
    fn field<const AT: u32, const WIDTH: u32, const TO: u32>(self, of: v128) -> v128 {
        let moved = match AT.cmp(&TO) {
            Ordering::Greater => u16x8_shr(of, AT - TO),
            Ordering::Less => i16x8_shl(of, TO - AT),
            Ordering::Equal => of,
        };
        v128_and(moved, u8x16_splat(u8::MAX >> (8 - WIDTH) << TO))
    }

    #[inline(always)]
    fn or(self, a: v128, b: v128) -> v128 {
        v128_or(a, b)
    }

    #[inline(always)]
    fn twice(self, bytes: [u8; LANES]) -> v128 {
        // An index out of range selects 0.
        let order = i8x16(0, -1, 0, -1, 1, -1, 1, -1, 2, -1, 2, -1, 3, -1, 3, -1);
        u8x16_swizzle(i32x4_splat(i32::from_le_bytes(bytes)), order)
    }

    #[inline(always)]
    fn unsigned(self, bytes: &[u8; 2 * LANES]) -> v128 {
        u16x8_extend_low_u8x16(lower(*bytes))
    }

    #[inline(always)]
    fn signed(self, bytes: &[u8; 2 * LANES]) -> v128 {
        i16x8_extend_low_i8x16(lower(*bytes))
    }

    #[inline(always)]
    fn splat_pair(self, pair: i32) -> v128 {
        i32x4_splat(pair)
    }

    #[inline(always)]
    fn dot(self, a: v128, b: v128) -> v128 {
        i32x4_dot_i16x8(a, b)
    }

    #[inline(always)]
    fn total<const CHUNK: usize>(self, codes: &[v128; 8], words: &[Word; 8]) -> v128 {
        products::total::<CHUNK>(codes, words)
    }

    #[inline(always)]
    fn scaled<const CHUNK: usize>(
        self,
        codes: &[v128; 8],
        words: &[Word; 8],
        scales: v128,
    ) -> v128 {
        products::scaled::<CHUNK>(codes, words, scales)
    }

    #[inline(always)]
    fn total_of_bytes(self, codes: &[v128; 8], words: &[Word; 8]) -> v128 {
        products::total_of_bytes(codes, words)
    }

    #[inline(always)]
    fn zero(self) -> v128 {
        i32x4_splat(0)
    }

    #[inline(always)]
    fn add_ints(self, a: v128, b: v128) -> v128 {
        i32x4_add(a, b)
    }

    #[inline(always)]
    fn sub_ints(self, a: v128, b: v128) -> v128 {
        i32x4_sub(a, b)
    }

    #[inline(always)]
    fn shift_left<const BITS: u32>(self, a: v128) -> v128 {
        i32x4_shl(a, BITS)
    }

    #[inline(always)]
    fn to_floats(self, a: v128) -> v128 {
        f32x4_convert_i32x4(a)
    }

    #[inline(always)]
    fn halves(self, bytes: &[u8; 2 * LANES]) -> v128 {
        // Bits 13 to 31 of the sign-extended halves: the sign, copies of it, and the magnitude.
        let moved = i32x4_shl(i32x4_extend_low_i16x8(lower(*bytes)), 13);
        let value = v128_and(moved, i32x4_splat(0x8fff_e000_u32.cast_signed()));
        f32x4_mul(value, f32x4_splat(f32::from_bits((127 + 127 - 15) << 23)))
    }

    #[inline(always)]
    fn upper_halves(self, bytes: &[u8; 2 * LANES]) -> v128 {
        i32x4_shl(u32x4_extend_low_u16x8(lower(*bytes)), 16)
    }

    #[inline(always)]
    fn singles(self, bytes: &[u8; 4 * LANES]) -> v128 {
        must_cast(*bytes)
    }

    #[inline(always)]
    fn splat(self, value: f32) -> v128 {
        f32x4_splat(value)
    }

    #[inline(always)]
    fn add(self, a: v128, b: v128) -> v128 {
        f32x4_add(a, b)
    }

    #[inline(always)]
    fn sub(self, a: v128, b: v128) -> v128 {
        f32x4_sub(a, b)
    }

    #[inline(always)]
    fn mul(self, a: v128, b: v128) -> v128 {
        f32x4_mul(a, b)
    }

    #[inline(always)]
    fn array(self, a: v128) -> [f32; LANES] {
        must_cast(a)
    }
}
