//! Multiplication by a matrix of 8-bit integers.
//!
//! Activations are rounded to integers of up to 16 bits and multiplied by the weights as stored:
//! an instruction sums two products into 32 bits (`i32x4.dot_i16x8_s`, `pmaddwd`), twice the rate
//! of single floats. The sums of a stretch are converted to single floats.

use wide::{bytemuck, f32x4, i16x8, i32x4};

use super::float::gelu;

/// Rows of activations that are multiplied together.
const ROWS: usize = 4;
/// Columns of weights that are multiplied together.
const COLUMNS: usize = 8;
/// Inputs whose products are summed as integers: 32,767 × 128 × 512 is less than 2^31.
const STRETCH: usize = 512;
/// Blocks of rows that stay in the first-level cache while the weights are read.
const GROUP: usize = 8;

/// Two successive activations of each of [`ROWS`] rows, the first in the low half.
type Pairs = [i32; ROWS];
/// Two successive weights of each of [`COLUMNS`] columns.
type Panel = [i8; 2 * COLUMNS];

/// A matrix of `inputs` × `outputs` weights, `q × scale` each, in the order of multiplication.
#[derive(Debug)]
pub struct Weights {
    inputs: usize,
    outputs: usize,
    /// `inputs / 2` panels, rounded up, for each eight columns.
    panels: Box<[Panel]>,
    /// One scale for each column.
    scales: Box<[f32]>,
}

impl Weights {
    /// Packs `values`, row by row as in ONNX; `value` turns each into a weight. `scales` has one
    /// number for each column.
    ///
    /// # Panics
    /// If there are not `inputs` × `scales.len()` values.
    #[must_use]
    pub fn pack(
        values: &[u8],
        value: impl Fn(u8) -> i8,
        inputs: usize,
        scales: Box<[f32]>,
    ) -> Self {
        let outputs = scales.len();
        assert_eq!(values.len(), inputs * outputs, "{inputs} × {outputs} weights");
        let pairs = inputs.div_ceil(2);
        let mut panels = vec![[0; 2 * COLUMNS]; outputs.div_ceil(COLUMNS) * pairs];
        for (row, values) in values.chunks_exact(outputs.max(1)).enumerate() {
            for (index, values) in values.chunks(COLUMNS).enumerate() {
                let panel = &mut panels[index * pairs + row / 2];
                values
                    .iter()
                    .enumerate()
                    .for_each(|(column, byte)| panel[2 * column + row % 2] = value(*byte));
            }
        }
        Self { inputs, outputs, panels: panels.into(), scales }
    }

    /// Number of columns.
    #[must_use]
    pub const fn outputs(&self) -> usize {
        self.outputs
    }

    /// Number of rows.
    #[must_use]
    pub const fn inputs(&self) -> usize {
        self.inputs
    }
}

/// The activation after a product.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Activation {
    /// None.
    None,
    /// GELU, x Φ(x), by `erf` (not the approximation by `tanh`).
    Gelu,
}

/// How activations are rounded to integers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rounding {
    /// Each stretch of a row to 16 bits: as precise as single floats for weights of 8 bits.
    Rows,
    /// Each sequence to 8 bits, as in ONNX's DynamicQuantizeLinear: for models that were exported
    /// and measured with it.
    Bytes,
}

/// The largest activation, as an integer: the sum of [`STRETCH`] products with weights of 8 bits
/// stays below 2^31.
const MOST: f32 = 32_767.0;

/// Activations as integers.
#[derive(Debug)]
pub struct Rounded {
    /// Block by block of [`ROWS`] rows.
    blocks: Vec<Pairs>,
    /// Value of one step, for each stretch of each block; 0 for the padding rows of the last block.
    scales: Vec<[f32; ROWS]>,
}

impl Rounded {
    /// Rounds sequences of `length` rows of `inputs` activations. Infinite ones become the largest
    /// finite ones: a sum with them has no meaning in either case.
    #[must_use]
    pub fn of(x: &[f32], inputs: usize, length: usize, rounding: Rounding) -> Self {
        let count = x.len().checked_div(inputs).unwrap_or(0);
        let (pairs, stretches) = (inputs.div_ceil(2), inputs.div_ceil(STRETCH));
        let mut blocks = vec![[0; ROWS]; count.div_ceil(ROWS) * pairs];
        let mut scales = vec![[0.0; ROWS]; count.div_ceil(ROWS) * stretches];
        let mut row = 0;
        for sequence in x.chunks((inputs * length).max(1)) {
            let steps = match rounding {
                Rounding::Rows => None,
                Rounding::Bytes => Some(Steps::of_bytes(sequence)),
            };
            for values in sequence.chunks_exact(inputs) {
                let (block, place) = (row / ROWS, row % ROWS);
                let pairs = blocks[block * pairs..][..pairs].chunks_mut(STRETCH / 2);
                let scales = &mut scales[block * stretches..][..stretches];
                for ((values, pairs), scales) in values.chunks(STRETCH).zip(pairs).zip(scales) {
                    let steps = steps.unwrap_or_else(|| Steps::of_row(values));
                    scales[place] = steps.size;
                    steps.round(values, pairs, place);
                }
                row += 1;
            }
        }
        Self { blocks, scales }
    }
}

/// The integers that activations are rounded to.
#[derive(Clone, Copy)]
struct Steps {
    /// Value of one step.
    size: f32,
    /// The smallest and the largest integer.
    ends: [f32; 2],
}

impl Steps {
    /// Steps of 16 bits for a stretch of a row.
    fn of_row(row: &[f32]) -> Self {
        let [low, high] = ends(row);
        Self { size: high.max(-low) / MOST, ends: [-MOST, MOST] }
    }

    /// The integers 0 to 255, less the zero point.
    fn of_bytes(x: &[f32]) -> Self {
        let [low, high] = ends(x);
        let size = (high - low) / 255.0;
        let zero = if size > 0.0 { (-low / size).round_ties_even() } else { 0.0 };
        Self { size, ends: [-zero, 255.0 - zero] }
    }

    /// Writes a row to its place in a block.
    fn round(self, row: &[f32], block: &mut [Pairs], place: usize) {
        if self.size <= 0.0 {
            return;
        }
        let pair = |low: i32, high: i32| (low & 0xFFFF) | (high << 16);
        let [low, high] = self.ends.map(f32x4::splat);
        let integers = |four: f32x4| {
            (four / f32x4::splat(self.size)).fast_max(low).fast_min(high).round_int().to_array()
        };
        let (fours, rest) = row.as_chunks::<4>();
        let (pairs, last) = block.split_at_mut(2 * fours.len());
        for (four, pairs) in fours.iter().zip(pairs.as_chunks_mut::<2>().0) {
            let [a, b, c, d] = integers(f32x4::from(*four));
            pairs[0][place] = pair(a, b);
            pairs[1][place] = pair(c, d);
        }
        if !rest.is_empty() {
            let mut four = [0.0; 4];
            four[..rest.len()].copy_from_slice(rest);
            let [a, b, c, _] = integers(f32x4::from(four));
            last.iter_mut().zip([pair(a, b), c]).for_each(|(last, pair)| last[place] = pair);
        }
    }
}

/// The smallest and the largest of `x` and 0, both finite.
fn ends(x: &[f32]) -> [f32; 2] {
    let (fours, rest) = x.as_chunks::<4>();
    let mut least = f32x4::ZERO;
    let mut most = f32x4::ZERO;
    for four in fours {
        let four = f32x4::from(*four);
        least = least.fast_min(four);
        most = most.fast_max(four);
    }
    let least = least.to_array().into_iter().chain(rest.iter().copied()).fold(0.0, f32::min);
    let most = most.to_array().into_iter().chain(rest.iter().copied()).fold(0.0, f32::max);
    [least.max(f32::MIN), most.min(f32::MAX)]
}

/// The sums of the products of a block with eight columns, for one stretch.
#[inline]
fn products(block: &[Pairs], panels: &[Panel]) -> [[i32x4; 2]; ROWS] {
    let mut sums = [[i32x4::ZERO; 2]; ROWS];
    for (pairs, panel) in block.iter().zip(panels) {
        let [low, high] =
            [0, 8].map(|at| i16x8::new(std::array::from_fn(|i| i16::from(panel[at + i]))));
        for (sums, pair) in sums.iter_mut().zip(pairs) {
            let pair: i16x8 = bytemuck::cast(i32x4::splat(*pair));
            sums[0] += pair.dot(low);
            sums[1] += pair.dot(high);
        }
    }
    sums
}

/// The sums of the products of a block with eight columns, without the scales of the columns.
#[inline]
fn tile(block: &[Pairs], panels: &[Panel], scales: &[[f32; ROWS]]) -> [[f32x4; 2]; ROWS] {
    let mut totals = [[f32x4::ZERO; 2]; ROWS];
    for ((block, panels), scales) in
        block.chunks(STRETCH / 2).zip(panels.chunks(STRETCH / 2)).zip(scales)
    {
        let sums = products(block, panels);
        for ((totals, sums), scale) in totals.iter_mut().zip(sums).zip(scales) {
            for (total, sum) in totals.iter_mut().zip(sums) {
                *total = f32x4::from_i32x4(sum).mul_add(f32x4::splat(*scale), *total);
            }
        }
    }
    totals
}

/// Writes `activation(x × weights + bias)` for the rows of `x` to the rows of `out`.
pub fn linear(
    x: &Rounded,
    weights: &Weights,
    bias: Option<&[f32]>,
    activation: Activation,
    out: &mut [f32],
) {
    let pairs = weights.inputs.div_ceil(2);
    let width = weights.outputs;
    if pairs == 0 || width == 0 {
        return;
    }
    let stretches = weights.inputs.div_ceil(STRETCH);
    let groups = x
        .blocks
        .chunks(GROUP * pairs)
        .zip(x.scales.chunks(GROUP * stretches))
        .zip(out.chunks_mut(GROUP * ROWS * width));
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
            let halves = |eight: [f32; COLUMNS]| {
                [0, 4]
                    .map(|at| f32x4::from([eight[at], eight[at + 1], eight[at + 2], eight[at + 3]]))
            };
            let (factors, offsets) = (halves(factors), halves(offsets));
            let rows = blocks
                .chunks_exact(pairs)
                .zip(scales.chunks_exact(stretches))
                .zip(out.chunks_mut(ROWS * width));
            for ((block, scales), out) in rows {
                let totals = tile(block, panels, scales);
                for (totals, out) in totals.into_iter().zip(out.chunks_exact_mut(width)) {
                    let mut eight = [0.0; COLUMNS];
                    for half in 0..2 {
                        let value = totals[half].mul_add(factors[half], offsets[half]);
                        let value =
                            if activation == Activation::Gelu { gelu(value) } else { value };
                        eight[4 * half..][..4].copy_from_slice(&value.to_array());
                    }
                    out[first..first + columns].copy_from_slice(&eight[..columns]);
                }
            }
        }
    }
}
