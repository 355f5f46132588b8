//! The input of a product with quantized weights.

use crate::{
    order::BLOCK,
    word::{BITS, Pair, Quant, Word},
};

/// Activations whose sums share a scale.
pub(crate) const SPAN: usize = 256;

/// 32 rounded activations, in the order of [`crate::order`]: each is `scale × quant`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rounded {
    /// Integers from -127 to 127, unless `scale` is not a number.
    pub words: [Word; BLOCK / 4],
    /// Not a number when an activation is infinite or not a number.
    pub scale: f32,
    /// `scale` × the sum of the integers.
    pub sum: f32,
    /// The sums of the first and of the second 16 integers, as 16 bits each, the first in the low
    /// half.
    pub halves: i32,
}

/// The sums of 8 blocks: each is `scale` × an integer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sums {
    /// Two integers of 16 bits each, the first in the low half.
    pub pairs: [i32; SPAN / BLOCK / 2],
    /// 1/32767 of the greatest magnitude.
    pub scale: f32,
}

/// A row of activations.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row<'a> {
    /// The values as given.
    pub values: &'a [f32],
    /// Blocks of 32. Zeros fill the last one.
    pub blocks: &'a [Rounded],
    /// The sums of 8 blocks each. Zeros fill the last ones.
    pub sums: &'a [Sums],
}

/// Rows of values with their rounding to 8 bits, in blocks of 32 with a scale each.
///
/// Buffers are kept: [`Activations::set`] allocates only when it needs more than ever before.
#[derive(Clone, Debug, Default)]
pub struct Activations {
    rows: usize,
    columns: usize,
    values: Vec<f32>,
    blocks: Vec<Rounded>,
    sums: Vec<Sums>,
}

/// Why values are not rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{values} values are not rows of {columns}")]
pub struct ShapeError {
    /// Number of values given.
    pub values: usize,
    /// Length of a row.
    pub columns: usize,
}

impl Activations {
    /// No rows.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Rounds rows of `columns` values.
    ///
    /// # Errors
    /// When the values are not a whole number of rows.
    pub fn quantize(values: &[f32], columns: usize) -> Result<Self, ShapeError> {
        let mut activations = Self::new();
        activations.set(values, columns)?;
        Ok(activations)
    }

    /// Replaces all rows by those of `columns` values in `values`.
    ///
    /// # Errors
    /// When the values are not a whole number of rows.
    pub fn set(&mut self, values: &[f32], columns: usize) -> Result<(), ShapeError> {
        if columns == 0 || !values.len().is_multiple_of(columns) {
            return Err(ShapeError { values: values.len(), columns });
        }
        self.rows = values.len() / columns;
        self.columns = columns;
        self.values.clear();
        self.values.extend_from_slice(values);
        self.blocks.clear();
        self.sums.clear();
        for row in values.chunks_exact(columns) {
            let first = self.blocks.len();
            self.blocks.extend(row.chunks(BLOCK).map(round));
            self.sums.extend(self.blocks[first..].chunks(SPAN / BLOCK).map(sums));
        }
        Ok(())
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Length of a row.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The values as given, row after row.
    #[must_use]
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// A row.
    pub(crate) fn row(&self, index: usize) -> Row<'_> {
        let blocks = self.columns.div_ceil(BLOCK);
        let sums = self.columns.div_ceil(SPAN);
        Row {
            values: &self.values[index * self.columns..][..self.columns],
            blocks: &self.blocks[index * blocks..][..blocks],
            sums: &self.sums[index * sums..][..sums],
        }
    }
}

/// Rounds up to 32 values to the nearest multiple of 1/127 of their greatest magnitude.
#[inline]
fn round(values: &[f32]) -> Rounded {
    if let Ok(values) = values.try_into() {
        return round_block(values);
    }
    let mut padded = [0.0; BLOCK];
    padded[..values.len()].copy_from_slice(values);
    round_block(&padded)
}

/// Below this magnitude all values of a block count as 0: its reciprocal is not finite.
const LEAST: f32 = 1e-35;

/// 1.5 × 2²³: adding it leaves the nearest integer in the lowest bits.
const SHIFTER: f32 = 12_582_912.0;

fn round_block(values: &[f32; BLOCK]) -> Rounded {
    let mut greatest = [0.0_f32; 8];
    // Zeros, or not numbers.
    let mut faults = [0.0_f32; 8];
    for part in values.as_chunks::<8>().0 {
        for i in 0..8 {
            let magnitude = part[i].abs();
            greatest[i] = if magnitude > greatest[i] { magnitude } else { greatest[i] };
            faults[i] += part[i] * 0.0;
        }
    }
    let greatest = greatest.into_iter().fold(0.0, f32::max);
    let fault: f32 = faults.into_iter().sum();
    let reciprocal = if greatest < LEAST { 0.0 } else { 127.0 / greatest };
    let mut quants = [0; BLOCK];
    for (quant, value) in quants.iter_mut().zip(values) {
        *quant = nearest(value * reciprocal);
    }
    let sum = |half: &[Quant]| half.iter().map(|quant| i32::from(*quant)).sum::<i32>();
    let (first, second) = (sum(&quants[..BLOCK / 2]), sum(&quants[BLOCK / 2..]));
    let scale = greatest / 127.0 + fault;
    Rounded {
        words: words(quants),
        scale,
        #[allow(clippy::cast_precision_loss)] // At most 32 × 128.
        sum: scale * (first + second) as f32,
        halves: pair(first, second),
    }
}

/// The nearest integer to a value from -127 to 127; any of 8 bits to what is not a number.
#[allow(clippy::cast_possible_truncation)] // The lowest bits are the integer.
#[inline]
fn nearest(value: f32) -> Quant {
    Quant::from((value + SHIFTER).to_bits() as i8)
}

/// The words of a block: `order::elements`.
#[inline]
fn words(quants: [Quant; BLOCK]) -> [Word; BLOCK / 4] {
    let pairs: [Pair; BLOCK / 2] = bytemuck::must_cast(quants);
    let (first, second) = pairs.split_at(BLOCK / 4);
    let mut words = [0; BLOCK / 4];
    for (i, word) in words.iter_mut().enumerate() {
        *word = Word::from(first[i]) | Word::from(second[i]) << (2 * BITS);
    }
    words
}

/// Two integers of 16 bits.
#[inline]
fn pair(first: i32, second: i32) -> i32 {
    first & 0xffff | second << 16
}

fn sums(blocks: &[Rounded]) -> Sums {
    const MOST: f32 = 32767.0;
    let mut sums = [0.0; SPAN / BLOCK];
    for (sum, block) in sums.iter_mut().zip(blocks) {
        *sum = block.sum;
    }
    let greatest = sums.iter().fold(0.0, |most: f32, sum| most.max(sum.abs()));
    let reciprocal = if greatest < LEAST { 0.0 } else { MOST / greatest };
    let integers = sums.map(|sum| {
        ((sum * reciprocal + SHIFTER).to_bits().cast_signed() - SHIFTER.to_bits().cast_signed())
            .clamp(-32767, 32767)
    });
    // 0, or not a number.
    let fault: f32 = sums.iter().map(|sum| sum * 0.0).sum();
    let mut out = Sums { pairs: [0; SPAN / BLOCK / 2], scale: greatest / MOST + fault };
    for (out, integers) in out.pairs.iter_mut().zip(integers.as_chunks::<2>().0) {
        *out = pair(integers[0], integers[1]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{Activations, BLOCK};
    use crate::{order, word::quants};

    fn activations(values: &[f32]) -> Activations {
        Activations::quantize(values, values.len()).unwrap()
    }

    #[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
    #[cfg_attr(not(target_arch = "wasm32"), test)]
    #[allow(clippy::cast_precision_loss)]
    fn values_are_rounded_to_the_nearest_step() {
        let values: Vec<f32> = (0..40).map(|i| ((i * 37 % 64) as f32 - 31.5) * 0.73).collect();
        let activations = activations(&values);
        let blocks = activations.row(0).blocks;
        assert_eq!(blocks.len(), 2);
        for (b, block) in blocks.iter().enumerate() {
            let mut sum = 0;
            for (i, word) in block.words.iter().enumerate() {
                for (at, quant) in order::elements(i).into_iter().zip(quants(*word)) {
                    let value = values.get(BLOCK * b + at).copied().unwrap_or(0.0);
                    assert!((quant as f32 * block.scale - value).abs() <= block.scale * 0.5001);
                    sum += quant;
                }
            }
            assert_eq!(block.sum.to_bits(), (block.scale * sum as f32).to_bits());
            assert_eq!((block.halves << 16 >> 16) + (block.halves >> 16), sum);
        }
        let sums = activations.row(0).sums[0];
        let integers = [sums.pairs[0] << 16 >> 16, sums.pairs[0] >> 16];
        for (integer, block) in integers.into_iter().zip(blocks) {
            assert!((integer as f32 * sums.scale - block.sum).abs() <= sums.scale);
        }
    }

    #[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
    #[cfg_attr(not(target_arch = "wasm32"), test)]
    fn what_is_not_finite_is_kept_in_the_scale() {
        for fault in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = [1.0; 96];
            values[40] = fault;
            let activations = activations(&values);
            let row = activations.row(0);
            assert_eq!(row.blocks[0].scale.to_bits(), (1.0_f32 / 127.0).to_bits());
            assert!(!row.blocks[1].scale.is_finite(), "{fault}");
            assert!(!row.sums[0].scale.is_finite(), "{fault}");
        }
        let tiny = activations(&[f32::from_bits(1); 32]);
        assert_eq!(tiny.row(0).blocks[0].words, [0; 8]);
    }
}
