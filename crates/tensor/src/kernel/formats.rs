//! What a packed block adds to outputs, format by format.

#![allow(clippy::inline_always)] // The function that all is inlined into has the instructions.

use super::{
    machine::Machine,
    planes::{codes, scaled, take, total},
};
use crate::{activations::Row, format::Format, order::LANES};

/// Products with blocks of a format.
pub(super) trait Kernel {
    /// Bytes of a block of one strip.
    const BLOCK_BYTES: usize;

    /// Adds the products of block `index` of a strip with `T` inputs.
    fn add<M: Machine, const T: usize>(
        m: M,
        block: &[u8],
        index: usize,
        inputs: &[Row<'_>; T],
        sums: &mut [M::Floats; T],
    );
}

/// Blocks of 32 elements, with minima or with the code `ZERO` of the value 0.
pub(super) struct Classic<const HIGH: u32, const LOW: u32, const MINIMA: bool, const ZERO: i32>;

impl<const HIGH: u32, const LOW: u32, const MINIMA: bool, const ZERO: i32> Kernel
    for Classic<HIGH, LOW, MINIMA, ZERO>
{
    const BLOCK_BYTES: usize =
        Format { block_len: 32, minima: MINIMA, part_len: 0, high: HIGH, low: LOW }.block_bytes();

    #[inline(always)]
    fn add<M: Machine, const T: usize>(
        m: M,
        mut block: &[u8],
        index: usize,
        inputs: &[Row<'_>; T],
        sums: &mut [M::Floats; T],
    ) {
        let scales = m.halves(take(&mut block));
        let minima = if MINIMA { Some(m.halves(take(&mut block))) } else { None };
        let codes = codes::<M, HIGH, LOW>(m, &mut block);
        for (input, sum) in inputs.iter().zip(sums) {
            let input = &input.blocks[index];
            let mut products = total(m, HIGH + LOW, &codes, &input.words);
            if ZERO != 0 {
                let zero = m.splat_pair(ZERO | ZERO << 16);
                products = m.sub_ints(products, m.dot(zero, m.splat_pair(input.halves)));
            }
            let factors = m.mul(scales, m.splat(input.scale));
            *sum = m.add(*sum, m.mul(m.to_floats(products), factors));
            if let Some(minima) = minima {
                *sum = m.add(*sum, m.mul(minima, m.splat(input.sum)));
            }
        }
    }
}

/// Blocks of 256 elements, with a scale and a minimum for each 32.
pub(super) struct Super32<const HIGH: u32>;

impl<const HIGH: u32> Kernel for Super32<HIGH> {
    const BLOCK_BYTES: usize =
        Format { block_len: 256, minima: true, part_len: 32, high: HIGH, low: 4 }.block_bytes();

    #[inline(always)]
    fn add<M: Machine, const T: usize>(
        m: M,
        mut block: &[u8],
        index: usize,
        inputs: &[Row<'_>; T],
        sums: &mut [M::Floats; T],
    ) {
        let scale = m.halves(take(&mut block));
        let minimum = m.halves(take(&mut block));
        let mut below = [m.zero(); T];
        for pair in 0..4 {
            let minima = m.unsigned(take(&mut block));
            for (input, below) in inputs.iter().zip(&mut below) {
                let products = m.dot(minima, m.splat_pair(input.sums[index].pairs[pair]));
                *below = m.add_ints(*below, products);
            }
        }
        let mut above = [m.splat(0.0); T];
        for part in 0..8 {
            let scales = m.twice(*take(&mut block));
            let codes = codes::<M, HIGH, 4>(m, &mut block);
            for (input, above) in inputs.iter().zip(&mut above) {
                let input = &input.blocks[8 * index + part];
                let products = scaled(m, HIGH + 4, &codes, &input.words, scales);
                *above = m.add(*above, m.mul(m.to_floats(products), m.splat(input.scale)));
            }
        }
        for (i, sum) in sums.iter_mut().enumerate() {
            let factors = m.mul(minimum, m.splat(inputs[i].sums[index].scale));
            let below = m.mul(m.to_floats(below[i]), factors);
            *sum = m.add(*sum, m.sub(m.mul(above[i], scale), below));
        }
    }
}

/// Blocks of 256 elements, with a scale for each 16, and minima, or 2^`SHIFT` as the code of the
/// value 0.
pub(super) struct Super16<const HIGH: u32, const LOW: u32, const MINIMA: bool, const SHIFT: u32>;

impl<const HIGH: u32, const LOW: u32, const MINIMA: bool, const SHIFT: u32> Kernel
    for Super16<HIGH, LOW, MINIMA, SHIFT>
{
    const BLOCK_BYTES: usize =
        Format { block_len: 256, minima: MINIMA, part_len: 16, high: HIGH, low: LOW }.block_bytes();

    #[inline(always)]
    fn add<M: Machine, const T: usize>(
        m: M,
        mut block: &[u8],
        index: usize,
        inputs: &[Row<'_>; T],
        sums: &mut [M::Floats; T],
    ) {
        let scale = m.halves(take(&mut block));
        let minimum = if MINIMA { Some(m.halves(take(&mut block))) } else { None };
        let mut above = [m.splat(0.0); T];
        let mut below = [m.splat(0.0); T];
        for part in 0..8 {
            let scales = m.signed(take(&mut block));
            let minima = if MINIMA { m.unsigned(take(&mut block)) } else { scales };
            let codes = codes::<M, HIGH, LOW>(m, &mut block);
            for i in 0..T {
                let input = &inputs[i].blocks[8 * index + part];
                let mut products = scaled(m, HIGH + LOW, &codes, &input.words, scales);
                let offsets = m.dot(minima, m.splat_pair(input.halves));
                if MINIMA {
                    let offsets = m.mul(m.to_floats(offsets), m.splat(input.scale));
                    below[i] = m.add(below[i], offsets);
                } else {
                    products = m.sub_ints(products, m.shift_left::<SHIFT>(offsets));
                }
                let products = m.mul(m.to_floats(products), m.splat(input.scale));
                above[i] = m.add(above[i], products);
            }
        }
        for (i, sum) in sums.iter_mut().enumerate() {
            let mut total = m.mul(above[i], scale);
            if let Some(minimum) = minimum {
                total = m.sub(total, m.mul(below[i], minimum));
            }
            *sum = m.add(*sum, total);
        }
    }
}

/// Columns of weights that are floats.
const COLUMNS: usize = 4;

/// A type of floats, with its bytes of a column.
pub(super) trait Float {
    const BYTES: usize;
    fn load<M: Machine>(m: M, bytes: &mut &[u8]) -> M::Floats;
}

pub(super) struct Single;
pub(super) struct Half;
pub(super) struct UpperHalf;

impl Float for Single {
    const BYTES: usize = 4 * LANES;

    #[inline(always)]
    fn load<M: Machine>(m: M, bytes: &mut &[u8]) -> M::Floats {
        m.singles(take(bytes))
    }
}

impl Float for Half {
    const BYTES: usize = 2 * LANES;

    #[inline(always)]
    fn load<M: Machine>(m: M, bytes: &mut &[u8]) -> M::Floats {
        m.halves(take(bytes))
    }
}

impl Float for UpperHalf {
    const BYTES: usize = 2 * LANES;

    #[inline(always)]
    fn load<M: Machine>(m: M, bytes: &mut &[u8]) -> M::Floats {
        m.upper_halves(take(bytes))
    }
}

/// Weights that are floats, column after column, times inputs that are not rounded. The last
/// columns are filled with zeros.
pub(super) struct Plain<F>(std::marker::PhantomData<F>);

impl<F: Float> Kernel for Plain<F> {
    const BLOCK_BYTES: usize = COLUMNS * F::BYTES;

    #[inline(always)]
    fn add<M: Machine, const T: usize>(
        m: M,
        mut block: &[u8],
        index: usize,
        inputs: &[Row<'_>; T],
        sums: &mut [M::Floats; T],
    ) {
        let first = F::load(m, &mut block);
        let mut weights = [first; COLUMNS];
        for weights in &mut weights[1..] {
            *weights = F::load(m, &mut block);
        }
        for (input, sum) in inputs.iter().zip(sums) {
            let rest = &input.values[COLUMNS * index..];
            let mut values = [0.0; COLUMNS];
            if let Some(whole) = rest.first_chunk() {
                values = *whole;
            } else {
                values[..rest.len()].copy_from_slice(rest);
            }
            let product = |i: usize| m.mul(weights[i], m.splat(values[i]));
            let products = m.add(m.add(product(0), product(1)), m.add(product(2), product(3)));
            *sum = m.add(*sum, products);
        }
    }
}
