//! Scaled dot-product attention, four queries at a time: memory holds the scores of four queries,
//! not of a whole sequence.

use wide::f32x4;

use super::float::exp_of_negative;

/// Columns that are multiplied together.
const COLUMNS: usize = 8;

/// One value for each of four queries.
type Four = [f32; 4];
/// A row of [`COLUMNS`] columns.
type Panel = [f32; COLUMNS];

/// A tensor of four dimensions, batch × heads × sequence × width, in any memory layout.
#[derive(Clone, Copy, Debug)]
pub struct Heads<'a> {
    /// The values.
    pub values: &'a [f32],
    /// The distance between neighbours in each dimension; 0 repeats a value.
    pub strides: [usize; 4],
}

impl Heads<'_> {
    /// Index of the first value of a head.
    fn base(&self, batch: usize, head: usize) -> usize {
        batch * self.strides[0] + head * self.strides[1]
    }
}

/// The sizes of an attention.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Number of sequences.
    pub batch: usize,
    /// Number of heads.
    pub heads: usize,
    /// Number of queries of a sequence.
    pub queries: usize,
    /// Number of keys, and of values, of a sequence.
    pub keys: usize,
    /// Length of a query and of a key.
    pub width: usize,
    /// Length of a value.
    pub value_width: usize,
}

/// The right side of a product with four queries, or four rows of probabilities: panels of eight
/// columns, the last one padded with zeros.
struct Panels {
    rows: usize,
    columns: usize,
    all: Vec<Panel>,
}

impl Panels {
    fn new() -> Self {
        Self { rows: 0, columns: 0, all: Vec::new() }
    }

    /// Replaces the content by `rows` × `columns` values of `from`, whose neighbours are `strides`
    /// apart.
    fn pack(&mut self, from: &[f32], strides: [usize; 2], rows: usize, columns: usize) {
        (self.rows, self.columns) = (rows, columns);
        self.all.clear();
        for first in (0..columns).step_by(COLUMNS) {
            let width = COLUMNS.min(columns - first);
            self.all.extend((0..rows).map(|row| {
                let at = row * strides[0] + first * strides[1];
                let mut panel = [0.0; COLUMNS];
                if strides[1] == 1 {
                    panel[..width].copy_from_slice(&from[at..at + width]);
                } else {
                    (0..width).for_each(|i| panel[i] = from[at + i * strides[1]]);
                }
                panel
            }));
        }
    }

    /// Passes the product of `left`, one four for each row, with each column to `take`.
    fn product(&self, left: &[Four], mut take: impl FnMut(usize, f32x4)) {
        for (index, panels) in self.all.chunks_exact(self.rows.max(1)).enumerate() {
            let mut sums = [f32x4::ZERO; COLUMNS];
            for (four, panel) in left.iter().zip(panels) {
                let four = f32x4::from(*four);
                for (sum, x) in sums.iter_mut().zip(panel) {
                    *sum = four.mul_add(f32x4::splat(*x), *sum);
                }
            }
            let first = index * COLUMNS;
            sums.into_iter()
                .take(self.columns - first)
                .enumerate()
                .for_each(|(i, sum)| take(first + i, sum));
        }
    }
}

/// `softmax(scale × q kᵀ + mask) v` for each head. If minus infinity masks all keys of a query, the
/// result for it is 0. `strides` is the layout of `out`, as in [`Heads`].
pub fn attention(
    shape: Shape,
    (q, k, v): (Heads, Heads, Heads),
    mask: Option<Heads>,
    scale: f32,
    out: &mut [f32],
    strides: [usize; 4],
) {
    let Shape { batch, heads, queries, keys, width, value_width } = shape;
    let (mut transposed_keys, mut values) = (Panels::new(), Panels::new());
    let mut left = vec![[0.0; 4]; width];
    let mut scores = vec![[0.0; 4]; keys];
    for (batch, head) in (0..batch).flat_map(|batch| (0..heads).map(move |head| (batch, head))) {
        transposed_keys.pack(
            &k.values[k.base(batch, head)..],
            [k.strides[3], k.strides[2]],
            width,
            keys,
        );
        values.pack(
            &v.values[v.base(batch, head)..],
            [v.strides[2], v.strides[3]],
            keys,
            value_width,
        );
        for first in (0..queries).step_by(4) {
            let rows = 4.min(queries - first);
            let from = q.base(batch, head) + first * q.strides[2];
            for (i, four) in left.iter_mut().enumerate() {
                (0..rows).for_each(|row| {
                    four[row] = scale * q.values[from + row * q.strides[2] + i * q.strides[3]];
                });
            }
            let mut most = f32x4::splat(f32::NEG_INFINITY);
            transposed_keys.product(&left, |key, score| {
                let score = mask.map_or(score, |mask| {
                    let from = mask.base(batch, head) + key * mask.strides[3];
                    let of = |row: usize| {
                        mask.values[from + (first + row.min(rows - 1)) * mask.strides[2]]
                    };
                    score + f32x4::from([of(0), of(1), of(2), of(3)])
                });
                most = most.fast_max(score);
                scores[key] = score.to_array();
            });
            // Minus infinity less itself is NaN.
            let most = most.fast_max(f32x4::splat(f32::MIN));
            let mut total = f32x4::ZERO;
            for four in &mut scores {
                let e = exp_of_negative(f32x4::from(*four) - most);
                total += e;
                *four = e.to_array();
            }
            let each = total.to_array().map(|total| if total > 0.0 { 1.0 / total } else { 0.0 });
            let to = batch * strides[0] + head * strides[1] + first * strides[2];
            values.product(&scores, |column, value| {
                let value = (value * f32x4::from(each)).to_array();
                (0..rows)
                    .for_each(|row| out[to + row * strides[2] + column * strides[3]] = value[row]);
            });
        }
    }
}
