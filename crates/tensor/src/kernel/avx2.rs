//! Kernels on vectors of 256 bits: x86-64 with AVX2.

#![allow(clippy::inline_always)] // The function that all is inlined into has the instructions.

use std::arch::x86_64::{__m128i, __m256, __m256i};
use std::cmp::Ordering;

use bytemuck::must_cast;
use pulp::x86::V3;

use super::machine::Machine;
use crate::{order::LANES, word::Word};

/// A processor with AVX2.
#[derive(Clone, Copy)]
pub(super) struct Avx2(pub(super) V3);

impl Avx2 {
    #[inline(always)]
    fn splat_byte(self, byte: u8) -> __m256i {
        self.0.avx._mm256_set1_epi8(byte.cast_signed())
    }

    /// Pairs of products of codes with activations, as 16 bits.
    #[inline(always)]
    fn products(self, codes: __m256i, word: Word) -> __m256i {
        self.0.avx2._mm256_maddubs_epi16(codes, self.0.avx._mm256_set1_epi32(word))
    }

    /// Σ of pairs of products of `CHUNK` vectors.
    #[inline(always)]
    fn chunk<const CHUNK: usize>(
        self,
        first: usize,
        codes: &[__m256i; 8],
        words: &[Word; 8],
    ) -> __m256i {
        let mut sums = [self.products(codes[first], words[first]); 2];
        if CHUNK > 1 {
            sums[1] = self.products(codes[first + 1], words[first + 1]);
        }
        for i in 2..CHUNK {
            let products = self.products(codes[first + i], words[first + i]);
            sums[i % 2] = self.0.avx2._mm256_add_epi16(sums[i % 2], products);
        }
        if CHUNK > 1 { self.0.avx2._mm256_add_epi16(sums[0], sums[1]) } else { sums[0] }
    }
}

impl Machine for Avx2 {
    type Bytes = __m256i;
    type Pairs = __m256i;
    type Ints = __m256i;
    type Floats = __m256;

    #[inline(always)]
    fn load(self, bytes: &[u8; 4 * LANES]) -> __m256i {
        must_cast(*bytes)
    }

    #[inline(always)]
    fn field<const AT: u32, const WIDTH: u32, const TO: u32>(self, of: __m256i) -> __m256i {
        let count = self.0.sse2._mm_cvtsi32_si128(AT.abs_diff(TO).cast_signed());
        let moved = match AT.cmp(&TO) {
            Ordering::Greater => self.0.avx2._mm256_srl_epi16(of, count),
            Ordering::Less => self.0.avx2._mm256_sll_epi16(of, count),
            Ordering::Equal => of,
        };
        self.0.avx2._mm256_and_si256(moved, self.splat_byte(u8::MAX >> (8 - WIDTH) << TO))
    }

    #[inline(always)]
    fn or(self, a: __m256i, b: __m256i) -> __m256i {
        self.0.avx2._mm256_or_si256(a, b)
    }

    #[inline(always)]
    fn twice(self, bytes: [u8; LANES]) -> __m256i {
        let bytes = must_cast::<_, __m128i>([u64::from_le_bytes(bytes), 0]);
        let bytes = self.0.sse2._mm_unpacklo_epi8(bytes, bytes);
        self.0.avx2._mm256_cvtepu8_epi16(bytes)
    }

    #[inline(always)]
    fn unsigned(self, bytes: &[u8; 2 * LANES]) -> __m256i {
        self.0.avx2._mm256_cvtepu8_epi16(must_cast::<_, __m128i>(*bytes))
    }

    #[inline(always)]
    fn signed(self, bytes: &[u8; 2 * LANES]) -> __m256i {
        self.0.avx2._mm256_cvtepi8_epi16(must_cast::<_, __m128i>(*bytes))
    }

    #[inline(always)]
    fn splat_pair(self, pair: i32) -> __m256i {
        self.0.avx._mm256_set1_epi32(pair)
    }

    #[inline(always)]
    fn dot(self, a: __m256i, b: __m256i) -> __m256i {
        self.0.avx2._mm256_madd_epi16(a, b)
    }

    #[inline(always)]
    fn total<const CHUNK: usize>(self, codes: &[__m256i; 8], words: &[Word; 8]) -> __m256i {
        self.scaled::<CHUNK>(codes, words, self.0.avx._mm256_set1_epi16(1))
    }

    #[inline(always)]
    fn scaled<const CHUNK: usize>(
        self,
        codes: &[__m256i; 8],
        words: &[Word; 8],
        scales: __m256i,
    ) -> __m256i {
        let mut sum = self.dot(self.chunk::<CHUNK>(0, codes, words), scales);
        let mut first = CHUNK;
        while first < 8 {
            let next = self.dot(self.chunk::<CHUNK>(first, codes, words), scales);
            sum = self.add_ints(sum, next);
            first += CHUNK;
        }
        sum
    }

    #[inline(always)]
    fn total_of_bytes(self, codes: &[__m256i; 8], words: &[Word; 8]) -> __m256i {
        let (mut low, mut high) = (*codes, *codes);
        for i in 0..8 {
            low[i] = self.field::<0, 4, 0>(codes[i]);
            high[i] = self.field::<4, 4, 0>(codes[i]);
        }
        let low = self.total::<8>(&low, words);
        self.add_ints(low, self.scaled::<8>(&high, words, self.0.avx._mm256_set1_epi16(16)))
    }

    #[inline(always)]
    fn zero(self) -> __m256i {
        self.0.avx._mm256_setzero_si256()
    }

    #[inline(always)]
    fn add_ints(self, a: __m256i, b: __m256i) -> __m256i {
        self.0.avx2._mm256_add_epi32(a, b)
    }

    #[inline(always)]
    fn sub_ints(self, a: __m256i, b: __m256i) -> __m256i {
        self.0.avx2._mm256_sub_epi32(a, b)
    }

    #[inline(always)]
    fn shift_left<const BITS: u32>(self, a: __m256i) -> __m256i {
        let count = self.0.sse2._mm_cvtsi32_si128(BITS.cast_signed());
        self.0.avx2._mm256_sll_epi32(a, count)
    }

    #[inline(always)]
    fn to_floats(self, a: __m256i) -> __m256 {
        self.0.avx._mm256_cvtepi32_ps(a)
    }

    #[inline(always)]
    fn halves(self, bytes: &[u8; 2 * LANES]) -> __m256 {
        // Bits 13 to 31 of the sign-extended halves: the sign, copies of it, and the magnitude.
        let halves = self.0.avx2._mm256_cvtepi16_epi32(must_cast::<_, __m128i>(*bytes));
        let moved = self.0.avx2._mm256_slli_epi32::<13>(halves);
        let mask = self.0.avx._mm256_set1_epi32(0x8fff_e000_u32.cast_signed());
        let value = self.0.avx._mm256_castsi256_ps(self.0.avx2._mm256_and_si256(moved, mask));
        self.mul(value, self.splat(f32::from_bits((127 + 127 - 15) << 23)))
    }

    #[inline(always)]
    fn upper_halves(self, bytes: &[u8; 2 * LANES]) -> __m256 {
        let halves = self.0.avx2._mm256_cvtepu16_epi32(must_cast::<_, __m128i>(*bytes));
        self.0.avx._mm256_castsi256_ps(self.0.avx2._mm256_slli_epi32::<16>(halves))
    }

    #[inline(always)]
    fn singles(self, bytes: &[u8; 4 * LANES]) -> __m256 {
        must_cast(*bytes)
    }

    #[inline(always)]
    fn splat(self, value: f32) -> __m256 {
        self.0.avx._mm256_set1_ps(value)
    }

    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        self.0.avx._mm256_add_ps(a, b)
    }

    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        self.0.avx._mm256_sub_ps(a, b)
    }

    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        self.0.avx._mm256_mul_ps(a, b)
    }

    #[inline(always)]
    fn array(self, a: __m256) -> [f32; LANES] {
        must_cast(a)
    }
}
