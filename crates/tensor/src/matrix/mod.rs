//! Matrices of quantized weights, and products with them.

mod builder;
mod error;

use std::ops::Range;

use crate::{Activations, Dtype, blocks};

pub use builder::MatrixBuilder;
pub use error::MatrixError;

/// A matrix of `rows` × `columns` weights in the order of multiplication.
#[derive(Clone, Debug)]
pub struct Matrix {
    dtype: Dtype,
    rows: usize,
    columns: usize,
    bytes: Vec<u8>,
}

impl Matrix {
    /// Rows that are multiplied together: where [`Matrix::multiply_rows`] is split best.
    pub const GROUP: usize = 4;

    /// The type of the elements in the file.
    #[must_use]
    pub fn dtype(&self) -> Dtype {
        self.dtype
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
        self.bytes.len()
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
        let row = self.bytes.len() / self.rows;
        blocks::dequantize(self.dtype, &self.bytes[index * row..][..row], out)
            .expect("the row has its length");
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
        self.multiply_rows_exact(range, input, out)
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

/// Whether `what` has its size.
fn size(what: &'static str, expected: usize, given: usize) -> Result<(), MatrixError> {
    if expected == given { Ok(()) } else { Err(MatrixError::Size { what, expected, given }) }
}
