//! Planes of bits of the codes of a strip; see [formats](crate::format).

use crate::order::{self, BLOCK, LANES};

/// Bits of each byte of a word.
const fn mask(bits: u32) -> u32 {
    ((1 << bits) - 1) * 0x0101_0101
}

/// Vector and bit of a word in a plane.
const fn place(word: usize, bits: u32) -> (usize, u32) {
    let fields = 8 / bits as usize;
    #[allow(clippy::cast_possible_truncation)] // Less than 8.
    (word / fields, (word % fields) as u32 * bits)
}

/// Writes `bits` of each of 32 codes from bit `from` on.
pub(crate) fn write(plane: &mut [u8], bits: u32, from: u32, codes: &[u8], lane: usize) {
    let codes = codes.try_into().expect("a block of codes");
    match bits {
        0 => (),
        1 => write_bits::<1>(plane, from, codes, lane),
        2 => write_bits::<2>(plane, from, codes, lane),
        4 => write_bits::<4>(plane, from, codes, lane),
        _ => write_bits::<8>(plane, from, codes, lane),
    }
}

/// [`write`] where all places are known.
fn write_bits<const BITS: u32>(plane: &mut [u8], from: u32, codes: &[u8; BLOCK], lane: usize) {
    let mut vectors = [0; BLOCK / 4];
    for word in 0..BLOCK / 4 {
        let (vector, shift) = place(word, BITS);
        let value = u32::from_le_bytes(order::elements(word).map(|element| codes[element]));
        vectors[vector] |= (value >> from & mask(BITS)) << shift;
    }
    let words = plane.as_chunks_mut::<4>().0.iter_mut().skip(lane).step_by(LANES);
    for (word, vector) in words.zip(vectors) {
        *word = vector.to_le_bytes();
    }
}

/// Adds `bits` to each of 32 codes from bit `to` on.
pub(crate) fn read(plane: &[u8], bits: u32, to: u32, codes: &mut [u8], lane: usize) {
    if bits == 0 {
        return;
    }
    for word in 0..BLOCK / 4 {
        let (vector, shift) = place(word, bits);
        let bytes = plane.as_chunks::<4>().0[vector * LANES + lane];
        let value = (u32::from_le_bytes(bytes) >> shift & mask(bits)) << to;
        for (element, code) in order::elements(word).into_iter().zip(value.to_le_bytes()) {
            codes[element] |= code;
        }
    }
}
