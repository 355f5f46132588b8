//! A matrix from the bytes of a file, in pieces.

use super::{
    error::MatrixError,
    packed::{Layout, write},
    product::Matrix,
};
use crate::{Dtype, blocks::Block, order::LANES};

/// Bytes of the longest block of a file.
const LONGEST_BLOCK: usize = Dtype::Q6K.block_bytes();

/// Takes the bytes of a matrix in pieces of any size, and packs them as they arrive.
///
/// Beside the matrix it holds one block.
#[derive(Debug)]
pub struct MatrixBuilder {
    dtype: Dtype,
    layout: Layout,
    rows: usize,
    columns: usize,
    /// Bytes of the matrix in the file.
    expected: usize,
    given: usize,
    packed: Vec<u8>,
    /// The row and the block of it that come next.
    next: (usize, usize),
    /// The beginning of a block.
    carry: [u8; LONGEST_BLOCK],
    carried: usize,
    block: Block,
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
        if !columns.is_multiple_of(dtype.block_len()) {
            return Err(MatrixError::Blocks { dtype, columns });
        }
        let no_room = || MatrixError::OutOfMemory { dtype, rows, columns };
        let row = dtype.row_bytes(columns).ok_or_else(no_room)?;
        let layout = Layout::new(dtype, columns).ok_or_else(no_room)?;
        let expected = row.checked_mul(rows).ok_or_else(no_room)?;
        let size = rows.div_ceil(LANES).checked_mul(layout.strip).ok_or_else(no_room)?;
        let mut packed = Vec::new();
        packed.try_reserve_exact(size).map_err(|_| no_room())?;
        Ok(Self {
            dtype,
            layout,
            rows,
            columns,
            expected,
            given: 0,
            packed,
            next: (0, 0),
            carry: [0; LONGEST_BLOCK],
            carried: 0,
            block: Block::EMPTY,
        })
    }

    /// Takes the next bytes. After an error the matrix cannot be finished.
    ///
    /// # Errors
    /// When there are more bytes than the matrix has, or a scale is not finite.
    pub fn push(&mut self, mut piece: &[u8]) -> Result<(), MatrixError> {
        self.given = self.given.saturating_add(piece.len());
        if self.given > self.expected {
            return Err(MatrixError::Bytes { expected: self.expected, given: self.given });
        }
        let size = self.dtype.block_bytes();
        if self.carried > 0 {
            let taken = piece.len().min(size - self.carried);
            self.carry[self.carried..][..taken].copy_from_slice(&piece[..taken]);
            self.carried += taken;
            piece = &piece[taken..];
            if self.carried < size {
                return Ok(());
            }
            self.carried = 0;
            let carry = self.carry;
            self.place(&carry[..size])?;
        }
        while piece.len() >= size {
            let blocks = (piece.len() / size).min(self.row_blocks() - self.next.1);
            let (placed, rest) = piece.split_at(blocks * size);
            self.place(placed)?;
            piece = rest;
        }
        self.carry[..piece.len()].copy_from_slice(piece);
        self.carried = piece.len();
        Ok(())
    }

    /// The matrix.
    ///
    /// # Errors
    /// When bytes are missing, or were refused.
    pub fn finish(self) -> Result<Matrix, MatrixError> {
        if self.next != (self.rows, 0) || self.given != self.expected {
            return Err(MatrixError::Bytes { expected: self.expected, given: self.given });
        }
        let Self { layout, rows, columns, packed, .. } = self;
        Ok(Matrix { layout, rows, columns, packed })
    }

    /// Blocks of a row.
    fn row_blocks(&self) -> usize {
        self.columns / self.dtype.block_len()
    }

    /// Packs the next blocks, of one row.
    fn place(&mut self, bytes: &[u8]) -> Result<(), MatrixError> {
        let (row, index) = self.next;
        let lane = row % LANES;
        if lane == 0 && index == 0 {
            self.packed.resize(self.packed.len() + self.layout.strip, 0);
        }
        let strip = self.packed.len() - self.layout.strip;
        let strip = &mut self.packed[strip..];
        write(self.dtype, strip, (lane, index), bytes, &mut self.block)
            .map_err(|block| MatrixError::NotFinite { row, block })?;
        let next = index + bytes.len() / self.dtype.block_bytes();
        self.next = if next == self.row_blocks() { (row + 1, 0) } else { (row, next) };
        Ok(())
    }
}
