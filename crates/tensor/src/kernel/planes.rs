//! Codes of 32 elements of a strip, from their planes of bits.

#![allow(clippy::inline_always)] // The function that all is inlined into has the instructions.

use super::machine::Machine;
use crate::{order::LANES, word::Word};

/// Codes: eight vectors with a word of each row.
pub(super) type Codes<M> = [<M as Machine>::Bytes; 8];

/// The next `N` bytes.
#[inline(always)]
pub(super) fn take<'a, const N: usize>(bytes: &mut &'a [u8]) -> &'a [u8; N] {
    let (taken, rest) = bytes.split_first_chunk().expect("the block has its length");
    *bytes = rest;
    taken
}

/// The codes of a plane of `HIGH` bits, and one of `LOW` bits.
#[inline(always)]
pub(super) fn codes<M: Machine, const HIGH: u32, const LOW: u32>(
    m: M,
    bytes: &mut &[u8],
) -> Codes<M> {
    let high = match HIGH {
        0 => None,
        1 => Some(single_bits::<M, LOW>(m, bytes)),
        2 => Some(two_bits::<M, LOW>(m, bytes)),
        _ => unreachable!("no format has such a plane"),
    };
    let mut codes = match LOW {
        2 => two_bits::<M, 0>(m, bytes),
        4 => nibbles(m, bytes),
        8 => whole_bytes(m, bytes),
        _ => unreachable!("no format has such a plane"),
    };
    if let Some(high) = high {
        for i in 0..8 {
            codes[i] = m.or(codes[i], high[i]);
        }
    }
    codes
}

/// Σ codes × activations of codes of `bits` bits.
#[inline(always)]
pub(super) fn total<M: Machine>(m: M, bits: u32, codes: &Codes<M>, words: &[Word; 8]) -> M::Ints {
    match bits {
        ..=4 => m.total::<8>(codes, words),
        5 => m.total::<4>(codes, words),
        6 => m.total::<2>(codes, words),
        _ => m.total_of_bytes(codes, words),
    }
}

/// Σ codes × activations × scales of codes of `bits` bits, at most 6.
#[inline(always)]
pub(super) fn scaled<M: Machine>(
    m: M,
    bits: u32,
    codes: &Codes<M>,
    words: &[Word; 8],
    scales: M::Pairs,
) -> M::Ints {
    match bits {
        ..=4 => m.scaled::<8>(codes, words, scales),
        5 => m.scaled::<4>(codes, words, scales),
        _ => m.scaled::<2>(codes, words, scales),
    }
}

#[inline(always)]
fn whole_bytes<M: Machine>(m: M, bytes: &mut &[u8]) -> Codes<M> {
    let bytes = take::<{ 32 * LANES }>(bytes).as_chunks().0;
    let mut codes = [m.load(&bytes[0]); 8];
    for i in 1..8 {
        codes[i] = m.load(&bytes[i]);
    }
    codes
}

#[inline(always)]
fn nibbles<M: Machine>(m: M, bytes: &mut &[u8]) -> Codes<M> {
    let bytes = take::<{ 16 * LANES }>(bytes).as_chunks().0;
    let mut codes = [m.load(&bytes[0]); 8];
    for i in 0..4 {
        let vector = m.load(&bytes[i]);
        codes[2 * i] = m.field::<0, 4, 0>(vector);
        codes[2 * i + 1] = m.field::<4, 4, 0>(vector);
    }
    codes
}

#[inline(always)]
fn two_bits<M: Machine, const TO: u32>(m: M, bytes: &mut &[u8]) -> Codes<M> {
    let bytes = take::<{ 8 * LANES }>(bytes).as_chunks().0;
    let mut codes = [m.load(&bytes[0]); 8];
    for i in 0..2 {
        let vector = m.load(&bytes[i]);
        codes[4 * i] = m.field::<0, 2, TO>(vector);
        codes[4 * i + 1] = m.field::<2, 2, TO>(vector);
        codes[4 * i + 2] = m.field::<4, 2, TO>(vector);
        codes[4 * i + 3] = m.field::<6, 2, TO>(vector);
    }
    codes
}

#[inline(always)]
fn single_bits<M: Machine, const TO: u32>(m: M, bytes: &mut &[u8]) -> Codes<M> {
    let vector = m.load(take::<{ 4 * LANES }>(bytes));
    [
        m.field::<0, 1, TO>(vector),
        m.field::<1, 1, TO>(vector),
        m.field::<2, 1, TO>(vector),
        m.field::<3, 1, TO>(vector),
        m.field::<4, 1, TO>(vector),
        m.field::<5, 1, TO>(vector),
        m.field::<6, 1, TO>(vector),
        m.field::<7, 1, TO>(vector),
    ]
}
