//! A matrix from the bytes of a file, in pieces.

use super::{Matrix, MatrixError};
use crate::Dtype;

/// Takes the bytes of a matrix in pieces of any size, and packs them as they arrive.
#[derive(Debug)]
pub struct MatrixBuilder {
    dtype: Dtype,
    rows: usize,
    columns: usize,
    expected: usize,
    bytes: Vec<u8>,
}

impl MatrixBuilder {
    /// Begins a matrix whose rows of `columns` elements follow one another in a file.
    ///
    /// Memory for the whole matrix is reserved: compare its size with that of the file before.
    ///
    /// # Errors
    /// When there are no elements, blocks do not divide a row, or memory does not suffice.
    pub fn new(dtype: Dtype, rows: usize, columns: usize) -> Result<Self, MatrixError> {
        if rows == 0 || columns == 0 {
            return Err(MatrixError::Empty { rows, columns });
        }
        let row = dtype.row_bytes(columns).ok_or(MatrixError::Blocks { dtype, columns })?;
        let no_room = || MatrixError::OutOfMemory { dtype, rows, columns };
        let expected = row.checked_mul(rows).ok_or_else(no_room)?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(expected).map_err(|_| no_room())?;
        Ok(Self { dtype, rows, columns, expected, bytes })
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// When there are more bytes than the matrix has.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), MatrixError> {
        let given = self.bytes.len() + piece.len();
        if given > self.expected {
            return Err(MatrixError::Bytes { expected: self.expected, given });
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }

    /// The matrix.
    ///
    /// # Errors
    /// When bytes are missing.
    pub fn finish(self) -> Result<Matrix, MatrixError> {
        if self.bytes.len() != self.expected {
            return Err(MatrixError::Bytes { expected: self.expected, given: self.bytes.len() });
        }
        Ok(Matrix { dtype: self.dtype, rows: self.rows, columns: self.columns, bytes: self.bytes })
    }
}
