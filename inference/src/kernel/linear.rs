//! Multiplication by a matrix of 8-bit integers.
//!
//! Activations are rounded to integers of 14 to 16 bits, row by row, and multiplied by the weights as they are stored: two products
//! at a time into 32 bits (`i32x4.dot_i16x8_s`, `pmaddwd`), twice what single floats give. No sum can overflow, see [`most`].

use wide::{bytemuck, f32x4, i16x8, i32x4};

use super::float::gelu;

/// Rows of activations that are multiplied at once.
const ROWS: usize = 4;
/// Columns of weights that are multiplied at once.
const COLUMNS: usize = 8;
/// Blocks of rows that stay in the first-level cache while the weights pass.
const GROUP: usize = 8;

/// Two successive activations of each of [`ROWS`] rows, the first in the low half.
type Pairs = [i32; ROWS];
/// Two successive weights of each of [`COLUMNS`] columns.
type Panel = [i8; 2 * COLUMNS];

/// A matrix of `inputs` × `outputs` weights, `q × scale` each, in the order in which they are multiplied.
pub struct Weights {
    inputs: usize,
    outputs: usize,
    /// For each eight columns, `inputs / 2` rounded up.
    panels: Box<[Panel]>,
    /// One for each column.
    scales: Box<[f32]>,
}

impl Weights {
    /// Packs `q`, row by row as ONNX has it, of `inputs` rows. `scales` are one for each column.
    ///
    /// # Panics
    /// Where the lengths do not fit each other.
    #[must_use]
    pub fn pack(q: impl Fn(usize, usize) -> i8, inputs: usize, scales: Box<[f32]>) -> Self {
        let outputs = scales.len();
        let pairs = inputs.div_ceil(2);
        let at = |row, column| if row < inputs && column < outputs { q(row, column) } else { 0 };
        let panel = |index: usize| {
            let (first, pair) = (index / pairs * COLUMNS, index % pairs);
            std::array::from_fn(|i| at(2 * pair + i % 2, first + i / 2))
        };
        let panels = (0..outputs.div_ceil(COLUMNS) * pairs).map(panel).collect();
        Self { inputs, outputs, panels, scales }
    }

    /// Columns.
    #[must_use]
    pub const fn outputs(&self) -> usize {
        self.outputs
    }

    /// Rows.
    #[must_use]
    pub const fn inputs(&self) -> usize {
        self.inputs
    }
}

/// What follows the product.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Activation {
    /// Nothing.
    None,
    /// x Φ(x), exactly: the one by `erf`.
    Gelu,
}

/// The largest activation, as an integer, of which `inputs` products with weights of 8 bits cannot overflow 32 bits.
const fn most(inputs: usize) -> i32 {
    let most = i32::MAX / 128 / if inputs == 0 { 1 } else { inputs as i32 };
    if most > 32_767 { 32_767 } else { most }
}

/// Activations as integers.
pub struct Rounded {
    /// Block by block of [`ROWS`] rows.
    blocks: Vec<Pairs>,
    /// What one is worth, for each row; rows that fill the last block are 0.
    scales: Vec<f32>,
}

impl Rounded {
    /// Rounds rows of `inputs` activations. What is not finite becomes so: a sum of it would not be a number either.
    #[must_use]
    pub fn of(rows: &[f32], inputs: usize) -> Self {
        let count = rows.len().checked_div(inputs).unwrap_or(0);
        let pairs = inputs.div_ceil(2);
        let mut blocks = vec![[0; ROWS]; count.div_ceil(ROWS) * pairs];
        let mut scales = vec![0.0; count.next_multiple_of(ROWS)];
        let most = most(inputs) as f32;
        for (at, row) in rows.chunks_exact(inputs).enumerate() {
            let largest = largest(row);
            if !(largest > 0.0) {
                continue;
            }
            let largest = largest.min(f32::MAX);
            scales[at] = largest / most;
            let factor = most / largest;
            let block = &mut blocks[at / ROWS * pairs..][..pairs];
            round(row, factor, block, at % ROWS);
        }
        Self { blocks, scales }
    }
}

/// The largest magnitude of a row.
fn largest(row: &[f32]) -> f32 {
    let (fours, rest) = row.as_chunks::<4>();
    let largest = fours.iter().fold(f32x4::ZERO, |most, four| most.fast_max(f32x4::from(*four).abs()));
    let largest = largest.to_array().into_iter().fold(0.0, f32::max);
    rest.iter().fold(largest, |most, x| most.max(x.abs()))
}

/// Writes a row into its place of a block.
fn round(row: &[f32], factor: f32, block: &mut [Pairs], place: usize) {
    let pair = |low: i32, high: i32| (low & 0xFFFF) | (high << 16);
    let (fours, rest) = row.as_chunks::<4>();
    let (pairs, last) = block.split_at_mut(2 * fours.len());
    for (four, pairs) in fours.iter().zip(pairs.as_chunks_mut::<2>().0) {
        let [a, b, c, d] = (f32x4::from(*four) * f32x4::splat(factor)).round_int().to_array();
        pairs[0][place] = pair(a, b);
        pairs[1][place] = pair(c, d);
    }
    for (two, last) in rest.chunks(2).zip(last) {
        let [low, high] = [0, 1].map(|i| two.get(i).map_or(0, |x| (x * factor).round_ties_even() as i32));
        last[place] = pair(low, high);
    }
}

/// The sums of products of a block with eight columns.
#[inline(always)]
fn tile(block: &[Pairs], panels: &[Panel]) -> [[i32x4; 2]; ROWS] {
    let mut sums = [[i32x4::ZERO; 2]; ROWS];
    for (pairs, panel) in block.iter().zip(panels) {
        let [low, high] = [0, 8].map(|at| i16x8::new(std::array::from_fn(|i| i16::from(panel[at + i]))));
        for (sums, pair) in sums.iter_mut().zip(pairs) {
            let pair: i16x8 = bytemuck::cast(i32x4::splat(*pair));
            sums[0] += pair.dot(low);
            sums[1] += pair.dot(high);
        }
    }
    sums
}

/// `activation(x × weights + bias)` for rows of `x`, into rows of `out`.
pub fn linear(x: &Rounded, weights: &Weights, bias: Option<&[f32]>, activation: Activation, out: &mut [f32]) {
    let pairs = weights.inputs.div_ceil(2);
    let width = weights.outputs;
    if pairs == 0 || width == 0 {
        return;
    }
    let groups = x.blocks.chunks(GROUP * pairs).zip(x.scales.chunks(GROUP * ROWS)).zip(out.chunks_mut(GROUP * ROWS * width));
    for ((blocks, scales), out) in groups {
        for (index, panels) in weights.panels.chunks_exact(pairs).enumerate() {
            let first = index * COLUMNS;
            let columns = COLUMNS.min(width - first);
            let mut factors = [0.0; COLUMNS];
            factors[..columns].copy_from_slice(&weights.scales[first..first + columns]);
            let mut offsets = [0.0; COLUMNS];
            if let Some(bias) = bias {
                offsets[..columns].copy_from_slice(&bias[first..first + columns]);
            }
            let halves =
                |eight: [f32; COLUMNS]| [0, 4].map(|at| f32x4::from([eight[at], eight[at + 1], eight[at + 2], eight[at + 3]]));
            let (factors, offsets) = (halves(factors), halves(offsets));
            let rows = blocks.chunks_exact(pairs).zip(scales.as_chunks::<ROWS>().0).zip(out.chunks_mut(ROWS * width));
            for ((block, scales), out) in rows {
                let sums = tile(block, panels);
                for ((sums, scale), out) in sums.iter().zip(scales).zip(out.chunks_exact_mut(width)) {
                    let scale = f32x4::splat(*scale);
                    let mut eight = [0.0; COLUMNS];
                    for half in 0..2 {
                        let sum = f32x4::from_i32x4(sums[half]);
                        let value = sum.mul_add(scale * factors[half], offsets[half]);
                        let value = if activation == Activation::Gelu { gelu(value) } else { value };
                        eight[4 * half..][..4].copy_from_slice(&value.to_array());
                    }
                    out[first..first + columns].copy_from_slice(&eight[..columns]);
                }
            }
        }
    }
}
