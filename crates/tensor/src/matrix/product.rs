//! A matrix of packed weights, and products with it.

use std::ops::Range;

use super::{
    error::{MatrixError, size},
    packed::Layout,
};
use crate::{
    Activations, Dtype,
    format::Kind,
    kernel::{self, Output, Weights},
    order::LANES,
};

/// A matrix of `rows` × `columns` weights in the order of multiplication.
#[derive(Clone, Debug)]
pub struct Matrix {
    pub(super) layout: Layout,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) packed: Vec<u8>,
}

impl Matrix {
    /// Rows that are multiplied together: where [`Matrix::multiply_rows`] is split best.
    pub const GROUP: usize = LANES;

    /// The type of the elements in the file. `None` for weights of MatMulNBits.
    #[must_use]
    pub fn dtype(&self) -> Option<Dtype> {
        match self.layout.kind {
            Kind::Tensor(dtype) => Some(dtype),
            Kind::NBits(_) => None,
        }
    }

    /// Number of rows: of outputs.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns: of inputs.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Bytes of memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.packed.len()
    }

    /// Writes the values of a row to `out`, bit for bit those of [`crate::dequantize`].
    ///
    /// # Errors
    /// When the row is not in the matrix, or `out` does not have its length.
    pub fn row(&self, index: usize, out: &mut [f32]) -> Result<(), MatrixError> {
        if index >= self.rows {
            return Err(MatrixError::NoRow { row: index, rows: self.rows });
        }
        size("a row's output", self.columns, out.len())?;
        let strip = &self.packed[index / LANES * self.layout.strip..][..self.layout.strip];
        self.layout.read(strip, index % LANES, out);
        Ok(())
    }

    /// Writes the products of all rows with all inputs: `out[b × rows + r] = Σ W[r, c] x[b, c]`,
    /// with the inputs rounded to 8 bits where the weights are quantized.
    ///
    /// # Errors
    /// When the input or `out` has another size.
    pub fn multiply(&self, input: &Activations, out: &mut [f32]) -> Result<(), MatrixError> {
        self.multiply_rows(0..self.rows, input, out)
    }

    /// [`Matrix::multiply`] for some rows: `out[b × range.len() + r - range.start]`.
    ///
    /// # Errors
    /// When the range is not in the matrix, or the input or `out` has another size.
    pub fn multiply_rows(
        &self,
        range: Range<usize>,
        input: &Activations,
        out: &mut [f32],
    ) -> Result<(), MatrixError> {
        self.fits(&range, input, out)?;
        let (weights, output) = self.part(&range, out);
        kernel::multiply(weights, input, output);
        Ok(())
    }

    /// [`Matrix::multiply`] with the inputs as they are, and sums in double floats.
    ///
    /// # Errors
    /// When the input or `out` has another size.
    pub fn multiply_exact(&self, input: &Activations, out: &mut [f32]) -> Result<(), MatrixError> {
        self.multiply_rows_exact(0..self.rows, input, out)
    }

    /// [`Matrix::multiply_rows`] with the inputs as they are, and sums in double floats.
    ///
    /// # Errors
    /// When the range is not in the matrix, or the input or `out` has another size.
    pub fn multiply_rows_exact(
        &self,
        range: Range<usize>,
        input: &Activations,
        out: &mut [f32],
    ) -> Result<(), MatrixError> {
        self.fits(&range, input, out)?;
        let mut weights = vec![0.0; self.columns];
        for (at, row) in range.clone().enumerate() {
            self.row(row, &mut weights)?;
            for (b, values) in input.values().chunks_exact(self.columns).enumerate() {
                let products =
                    weights.iter().zip(values).map(|(w, x)| f64::from(*w) * f64::from(*x));
                #[allow(clippy::cast_possible_truncation)] // The output's precision.
                let sum = products.sum::<f64>() as f32;
                out[b * range.len() + at] = sum;
            }
        }
        Ok(())
    }

    /// Adds the products of the transposed matrix: `out[b × columns + c] += Σ W[r, c] g[b, r]`, in
    /// single floats. The gradient of [`Matrix::multiply`] by its input.
    ///
    /// # Errors
    /// When `gradient` is not rows of `self.rows()`, or `out` not as many rows of `self.columns()`.
    pub fn multiply_transposed(
        &self,
        gradient: &[f32],
        out: &mut [f32],
    ) -> Result<(), MatrixError> {
        let count = gradient.len() / self.rows;
        size("the gradient", count * self.rows, gradient.len())?;
        size("the output", count * self.columns, out.len())?;
        let mut weights = vec![0.0; self.columns];
        for row in 0..self.rows {
            self.row(row, &mut weights)?;
            for (b, out) in out.chunks_exact_mut(self.columns).enumerate() {
                let factor = gradient[b * self.rows + row];
                for (out, weight) in out.iter_mut().zip(&weights) {
                    *out += factor * weight;
                }
            }
        }
        Ok(())
    }

    /// The strips with a range of rows, and where their products go.
    fn part<'a>(&self, range: &Range<usize>, out: &'a mut [f32]) -> (Weights<'_>, Output<'a>) {
        let strip = self.layout.strip;
        let first = range.start / LANES;
        let strips = if range.is_empty() { 0 } else { range.end.div_ceil(LANES) - first };
        let bytes = &self.packed[first * strip..][..strips * strip];
        let before = range.start % LANES;
        let weights = Weights { kind: self.layout.kind, bytes, strip };
        (weights, Output { values: out, rows: range.len(), before })
    }

    /// Whether sizes are those of a product.
    fn fits(
        &self,
        range: &Range<usize>,
        input: &Activations,
        out: &[f32],
    ) -> Result<(), MatrixError> {
        if range.start > range.end || range.end > self.rows {
            return Err(MatrixError::NoRow { row: range.end, rows: self.rows });
        }
        size("a row of the input", self.columns, input.columns())?;
        size("the output", input.rows() * range.len(), out.len())
    }
}

#[cfg(test)]
mod tests {
    use super::Matrix;
    use crate::{Activations, Dtype, MatrixBuilder, kernel};

    const TYPES: [(Dtype, &[usize]); 13] = [
        (Dtype::F32, &[]),
        (Dtype::F16, &[0]),
        (Dtype::Bf16, &[]),
        (Dtype::Q4_0, &[0]),
        (Dtype::Q4_1, &[0, 2]),
        (Dtype::Q5_0, &[0]),
        (Dtype::Q5_1, &[0, 2]),
        (Dtype::Q8_0, &[0]),
        (Dtype::Q2K, &[80, 82]),
        (Dtype::Q3K, &[108]),
        (Dtype::Q4K, &[0, 2]),
        (Dtype::Q5K, &[0, 2]),
        (Dtype::Q6K, &[208]),
    ];

    /// Weights of random bytes, with finite binary16 fields at `halves` in each block.
    fn matrix(dtype: Dtype, halves: &[usize], rows: usize, columns: usize) -> Matrix {
        let mut state = 1_u32;
        let mut bytes: Vec<u8> = (0..rows * dtype.row_bytes(columns).unwrap())
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        for block in bytes.chunks_mut(dtype.block_bytes()) {
            for at in halves {
                block[at + 1] &= 0xbb;
            }
        }
        let mut builder = MatrixBuilder::new(dtype, rows, columns).unwrap();
        builder.push(&bytes).unwrap();
        builder.finish().unwrap()
    }

    /// Bits of values, one for all that are not numbers.
    fn bits(values: &[f32]) -> Vec<u32> {
        let bits = |value: &f32| if value.is_nan() { u32::MAX } else { value.to_bits() };
        values.iter().map(bits).collect()
    }

    #[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
    #[cfg_attr(not(target_arch = "wasm32"), test)]
    #[allow(clippy::cast_precision_loss)] // Less than 97.
    fn the_best_machine_computes_the_bits_of_arrays() {
        for (dtype, halves) in TYPES {
            let (rows, columns) = (11, 3 * dtype.block_len());
            let matrix = matrix(dtype, halves, rows, columns);
            let values: Vec<f32> = (0..5 * columns).map(|i| (i * i % 97) as f32 - 48.3).collect();
            let input = Activations::quantize(&values, columns).unwrap();
            let (mut best, mut arrays) = (vec![0.0; 5 * rows], vec![0.0; 5 * rows]);
            matrix.multiply(&input, &mut best).unwrap();
            let (weights, output) = matrix.part(&(0..rows), &mut arrays);
            kernel::multiply_portable(weights, &input, output);
            assert_eq!(bits(&best), bits(&arrays), "{dtype:?}");
        }
    }
}
