//! The errors of matrices.

use crate::Dtype;

/// Why a matrix is not made, or not multiplied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MatrixError {
    /// A matrix without elements.
    #[error("a matrix of {rows} rows and {columns} columns has no elements")]
    Empty {
        /// Number of rows.
        rows: usize,
        /// Number of columns.
        columns: usize,
    },
    /// Blocks do not divide a row.
    #[error("a row of {columns} elements is not divided by blocks of {} ({dtype:?})",
        dtype.block_len())]
    Blocks {
        /// The type of the elements.
        dtype: Dtype,
        /// Number of columns.
        columns: usize,
    },
    /// The address space or the allocator has no room.
    #[error("not enough memory for {rows} rows of {columns} elements of type {dtype:?}")]
    OutOfMemory {
        /// The type of the elements.
        dtype: Dtype,
        /// Number of rows.
        rows: usize,
        /// Number of columns.
        columns: usize,
    },
    /// The attributes are not those of MatMulNBits, or are not supported.
    #[error("MatMulNBits of {bits} bits and blocks of {block_size} is not supported")]
    NBits {
        /// Bits of a code.
        bits: u32,
        /// Elements of a block.
        block_size: usize,
    },
    /// The address space or the allocator has no room for the packed weights of MatMulNBits.
    #[error("not enough memory for the weights of MatMulNBits")]
    NoRoom,
    /// More or fewer bytes than the matrix has.
    #[error("the matrix takes {expected} bytes, not {given}")]
    Bytes {
        /// Bytes of the matrix in a file.
        expected: usize,
        /// Bytes given, at least.
        given: usize,
    },
    /// A scale or a minimum is infinite or not a number.
    #[error("block {block} of row {row} has a scale that is not finite")]
    NotFinite {
        /// The row.
        row: usize,
        /// The block of the row.
        block: usize,
    },
    /// A row, or a range of rows, is not in the matrix.
    #[error("row {row} is not in a matrix of {rows} rows")]
    NoRow {
        /// The row.
        row: usize,
        /// Number of rows.
        rows: usize,
    },
    /// A slice or an input does not have the size that the matrix asks for.
    #[error("{what} has {given} elements; {expected} are needed")]
    Size {
        /// What has the wrong size.
        what: &'static str,
        /// Elements needed.
        expected: usize,
        /// Elements given.
        given: usize,
    },
}

/// Whether `what` has its size.
pub(super) fn size(what: &'static str, expected: usize, given: usize) -> Result<(), MatrixError> {
    if expected == given { Ok(()) } else { Err(MatrixError::Size { what, expected, given }) }
}
