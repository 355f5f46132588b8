//! Products with packed weights of MatMulNBits.

#![allow(clippy::inline_always)] // The function that all is inlined into has the instructions.

use super::{
    formats::Kernel,
    machine::Machine,
    planes::{Codes, codes, take, total},
};
use crate::{activations::Row, nbits::NBits, order::LANES, word::Word};

/// Blocks of codes of `BITS` bits, with a scale and a zero point for each of `PARTS` halves.
pub(super) struct Zeroed<const BITS: u32, const PARTS: usize>;

impl<const BITS: u32, const PARTS: usize> Kernel for Zeroed<BITS, PARTS> {
    const BLOCK_BYTES: usize = NBits { bits: BITS, parts: PARTS }.block_bytes();

    #[inline(always)]
    fn add<M: Machine, const T: usize>(
        m: M,
        mut block: &[u8],
        index: usize,
        inputs: &[Row<'_>; T],
        sums: &mut [M::Floats; T],
    ) {
        let mut scales = [m.splat(0.0); PARTS];
        let mut zeros = [m.splat_pair(0); PARTS];
        for (scale, zero) in scales.iter_mut().zip(&mut zeros) {
            *scale = m.singles(take(&mut block));
            *zero = m.twice(*take::<LANES>(&mut block));
        }
        let codes = codes::<M, 0, BITS>(m, &mut block);
        for (input, sum) in inputs.iter().zip(sums) {
            let input = &input.blocks[index];
            for (part, (scale, zero)) in scales.iter().zip(&zeros).enumerate() {
                let (products, halves) = if PARTS == 1 {
                    (total(m, BITS, &codes, &input.words), input.halves)
                } else {
                    let mask = if part == 0 { 0xffff } else { !0xffff };
                    (half::<M, BITS>(m, &codes, &input.words, part), input.halves & mask)
                };
                let products = m.sub_ints(products, m.dot(*zero, m.splat_pair(halves)));
                let factors = m.mul(*scale, m.splat(input.scale));
                *sum = m.add(*sum, m.mul(m.to_floats(products), factors));
            }
        }
    }
}

/// Σ codes × activations of half a block.
#[inline(always)]
fn half<M: Machine, const BITS: u32>(
    m: M,
    codes: &Codes<M>,
    words: &[Word; 8],
    part: usize,
) -> M::Ints {
    let only = m.splat_pair(1 << (16 * part));
    if BITS == 4 {
        return m.scaled::<8>(codes, words, only);
    }
    let (mut low, mut high) = (*codes, *codes);
    for i in 0..8 {
        low[i] = m.field::<0, 4, 0>(codes[i]);
        high[i] = m.field::<4, 4, 0>(codes[i]);
    }
    let high = m.shift_left::<4>(m.scaled::<8>(&high, words, only));
    m.add_ints(m.scaled::<8>(&low, words, only), high)
}
