//! Kernels on arrays, for processors without an implementation of their own.

use super::machine::Machine;
use crate::{
    half,
    order::LANES,
    word::{self, Word},
};

#[derive(Clone, Copy)]
pub(super) struct Portable;

impl Portable {
    /// Σ products of the codes with the activations, of bytes 0 and 1 and of bytes 2 and 3.
    fn sums(codes: &[[u8; 4 * LANES]; 8], words: &[Word; 8]) -> [[i32; 2]; LANES] {
        let mut sums = [[0; 2]; LANES];
        for (codes, word) in codes.iter().zip(words) {
            let quants = word::quants(*word);
            for (sum, codes) in sums.iter_mut().zip(codes.as_chunks::<4>().0) {
                sum[0] += i32::from(codes[0]) * quants[0] + i32::from(codes[1]) * quants[1];
                sum[1] += i32::from(codes[2]) * quants[2] + i32::from(codes[3]) * quants[3];
            }
        }
        sums
    }
}

impl Machine for Portable {
    type Bytes = [u8; 4 * LANES];
    type Pairs = [[i16; 2]; LANES];
    type Ints = [i32; LANES];
    type Floats = [f32; LANES];

    fn load(self, bytes: &[u8; 4 * LANES]) -> Self::Bytes {
        *bytes
    }

    fn field<const AT: u32, const WIDTH: u32, const TO: u32>(self, of: Self::Bytes) -> Self::Bytes {
        of.map(|byte| (byte >> AT & ((1 << WIDTH) - 1)) << TO)
    }

    fn or(self, a: Self::Bytes, b: Self::Bytes) -> Self::Bytes {
        std::array::from_fn(|i| a[i] | b[i])
    }

    fn twice(self, bytes: [u8; LANES]) -> Self::Pairs {
        bytes.map(|byte| [i16::from(byte); 2])
    }

    fn unsigned(self, bytes: &[u8; 2 * LANES]) -> Self::Pairs {
        std::array::from_fn(|i| [i16::from(bytes[2 * i]), i16::from(bytes[2 * i + 1])])
    }

    fn signed(self, bytes: &[u8; 2 * LANES]) -> Self::Pairs {
        let at = |i: usize| i16::from(bytes[i].cast_signed());
        std::array::from_fn(|i| [at(2 * i), at(2 * i + 1)])
    }

    fn splat_pair(self, pair: i32) -> Self::Pairs {
        let [a, b, c, d] = pair.to_le_bytes();
        [[i16::from_le_bytes([a, b]), i16::from_le_bytes([c, d])]; LANES]
    }

    fn dot(self, a: Self::Pairs, b: Self::Pairs) -> Self::Ints {
        std::array::from_fn(|i| {
            i32::from(a[i][0]) * i32::from(b[i][0]) + i32::from(a[i][1]) * i32::from(b[i][1])
        })
    }

    fn total<const CHUNK: usize>(self, codes: &[Self::Bytes; 8], words: &[Word; 8]) -> Self::Ints {
        Self::sums(codes, words).map(|sum| sum[0] + sum[1])
    }

    fn scaled<const CHUNK: usize>(
        self,
        codes: &[Self::Bytes; 8],
        words: &[Word; 8],
        scales: Self::Pairs,
    ) -> Self::Ints {
        let sums = Self::sums(codes, words);
        std::array::from_fn(|i| {
            sums[i][0] * i32::from(scales[i][0]) + sums[i][1] * i32::from(scales[i][1])
        })
    }

    fn total_of_bytes(self, codes: &[Self::Bytes; 8], words: &[Word; 8]) -> Self::Ints {
        self.total::<1>(codes, words)
    }

    fn zero(self) -> Self::Ints {
        [0; LANES]
    }

    fn add_ints(self, a: Self::Ints, b: Self::Ints) -> Self::Ints {
        std::array::from_fn(|i| a[i] + b[i])
    }

    fn sub_ints(self, a: Self::Ints, b: Self::Ints) -> Self::Ints {
        std::array::from_fn(|i| a[i] - b[i])
    }

    fn shift_left<const BITS: u32>(self, a: Self::Ints) -> Self::Ints {
        a.map(|a| a << BITS)
    }

    #[allow(clippy::cast_precision_loss)] // Rounded as by other machines.
    fn to_floats(self, a: Self::Ints) -> Self::Floats {
        a.map(|a| a as f32)
    }

    fn halves(self, bytes: &[u8; 2 * LANES]) -> Self::Floats {
        std::array::from_fn(|i| half::read([bytes[2 * i], bytes[2 * i + 1]]))
    }

    fn upper_halves(self, bytes: &[u8; 2 * LANES]) -> Self::Floats {
        std::array::from_fn(|i| f32::from_le_bytes([0, 0, bytes[2 * i], bytes[2 * i + 1]]))
    }

    fn singles(self, bytes: &[u8; 4 * LANES]) -> Self::Floats {
        std::array::from_fn(|i| {
            f32::from_le_bytes([0, 1, 2, 3].map(|byte: usize| bytes[4 * i + byte]))
        })
    }

    fn splat(self, value: f32) -> Self::Floats {
        [value; LANES]
    }

    fn add(self, a: Self::Floats, b: Self::Floats) -> Self::Floats {
        std::array::from_fn(|i| a[i] + b[i])
    }

    fn sub(self, a: Self::Floats, b: Self::Floats) -> Self::Floats {
        std::array::from_fn(|i| a[i] - b[i])
    }

    fn mul(self, a: Self::Floats, b: Self::Floats) -> Self::Floats {
        std::array::from_fn(|i| a[i] * b[i])
    }

    fn array(self, a: Self::Floats) -> [f32; LANES] {
        a
    }
}
