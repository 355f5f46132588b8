//! A product with a matrix or with some rows of one.

use std::ops::Range;
use std::sync::Arc;

use edge_net_tensor::{Activations, Matrix, MatrixError};

/// How exactly products are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Inputs are rounded to 8 bits where weights are quantized.
    #[default]
    Fast,
    /// Inputs are taken as they are, and summed in double floats. Slow: for tests.
    Exact,
}

/// A product: rows of a matrix, and a bias.
#[derive(Clone, Debug)]
pub struct Linear {
    /// The matrix. Several products may share it.
    pub matrix: Arc<Matrix>,
    /// The rows of the matrix that belong to this product.
    pub rows: Range<usize>,
    /// What is added; nothing where there is no bias.
    pub bias: Vec<f32>,
}

impl Linear {
    /// A product with all rows of a matrix.
    #[must_use]
    pub fn new(matrix: Arc<Matrix>, bias: Vec<f32>) -> Self {
        let rows = 0..matrix.rows();
        Self { matrix, rows, bias }
    }

    /// Number of outputs of an input.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.rows.len()
    }

    /// Replaces `out` by the outputs, those of each input after those of the one before.
    ///
    /// # Errors
    /// When an input does not have as many values as the matrix has columns.
    pub fn multiply(
        &self,
        input: &Activations,
        out: &mut Vec<f32>,
        precision: Precision,
    ) -> Result<(), MatrixError> {
        out.resize(input.rows() * self.outputs(), 0.0);
        let rows = self.rows.clone();
        match precision {
            Precision::Fast => self.matrix.multiply_rows(rows, input, out)?,
            Precision::Exact => self.matrix.multiply_rows_exact(rows, input, out)?,
        }
        if !self.bias.is_empty() {
            for out in out.chunks_exact_mut(self.bias.len()) {
                for (out, bias) in out.iter_mut().zip(&self.bias) {
                    *out += bias;
                }
            }
        }
        Ok(())
    }
}
