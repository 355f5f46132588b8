//! A matrix from the tensors of ONNX's MatMulNBits.

use super::{
    error::{MatrixError, size},
    packed::Layout,
    product::Matrix,
};
use crate::{
    half,
    nbits::{Chunk, NBits},
    order::{BLOCK, LANES},
};

/// Scales as little-endian floats, block after block of each row.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Scales<'a> {
    /// IEEE 754 binary32.
    F32(&'a [u8]),
    /// IEEE 754 binary16.
    F16(&'a [u8]),
}

/// The tensors of `com.microsoft.MatMulNBits`, version 1: `rows` is its N, `columns` its K.
///
/// A weight is `scale × (code - zero point)`.
#[derive(Clone, Copy, Debug)]
pub struct MatMulNBits<'a> {
    /// Number of outputs.
    pub rows: usize,
    /// Number of inputs.
    pub columns: usize,
    /// Bits of a code: 4 or 8.
    pub bits: u32,
    /// Elements that share a scale: 16, 32, 64, 128 or 256.
    pub block_size: usize,
    /// Codes, `rows` × blocks × `block_size * bits / 8` bytes. The low half of a byte comes first.
    pub codes: &'a [u8],
    /// `rows` × blocks.
    pub scales: Scales<'a>,
    /// Integers of `bits` bits, in whole bytes for each row. Absent, all are `2^(bits - 1)`.
    pub zero_points: Option<&'a [u8]>,
}

impl MatMulNBits<'_> {
    /// Blocks of a row.
    fn blocks(&self) -> usize {
        self.columns.div_ceil(self.block_size)
    }

    /// Bytes of zero points of a row.
    fn zero_bytes(&self) -> usize {
        (self.blocks() * self.bits as usize).div_ceil(8)
    }

    fn check(&self) -> Result<(), MatrixError> {
        let Self { rows, columns, bits, block_size, .. } = *self;
        if rows == 0 || columns == 0 {
            return Err(MatrixError::Empty { rows, columns });
        }
        if !matches!(bits, 4 | 8) || !matches!(block_size, 16 | 32 | 64 | 128 | 256) {
            return Err(MatrixError::NBits { bits, block_size });
        }
        // A number of bytes that no slice has, where it exceeds the address space.
        let all = |of_row: usize| of_row.saturating_mul(rows);
        let row = self.blocks().saturating_mul(block_size / 8 * bits as usize);
        size("the tensor of codes", all(row), self.codes.len())?;
        let (scales, bytes) = match self.scales {
            Scales::F32(bytes) => (bytes, 4),
            Scales::F16(bytes) => (bytes, 2),
        };
        size("the tensor of scales", all(self.blocks().saturating_mul(bytes)), scales.len())?;
        match self.zero_points {
            Some(zeros) => size("the tensor of zero points", all(self.zero_bytes()), zeros.len()),
            None => Ok(()),
        }
    }

    fn scale(&self, at: usize) -> f32 {
        match self.scales {
            Scales::F32(bytes) => f32::from_le_bytes(bytes.as_chunks().0[at]),
            Scales::F16(bytes) => half::read(bytes.as_chunks().0[at]),
        }
    }

    fn zero(&self, row: usize, block: usize) -> u8 {
        let Some(zeros) = self.zero_points else { return 1 << (self.bits - 1) };
        let zeros = &zeros[row * self.zero_bytes()..];
        if self.bits == 8 { zeros[block] } else { zeros[block / 2] >> (block % 2 * 4) & 15 }
    }

    /// The elements `32 × index` and those that follow
    fn chunk(&self, row: usize, index: usize) -> Result<Chunk, MatrixError> {
        let mut chunk = Chunk::default();
        let first = BLOCK * index;
        let parts = BLOCK.div_ceil(self.block_size);
        for part in 0..parts {
            let block = (first + BLOCK / parts * part) / self.block_size;
            if block == self.blocks() {
                break;
            }
            let scale = self.scale(row * self.blocks() + block);
            if !scale.is_finite() {
                return Err(MatrixError::NotFinite { row, block });
            }
            chunk.scales[part] = scale;
            chunk.zeros[part] = self.zero(row, block);
        }
        let row_elements = self.blocks() * self.block_size;
        let codes = chunk.codes.iter_mut().take(self.columns - first).enumerate();
        for (i, code) in codes {
            let at = row * row_elements + first + i;
            *code = match self.bits {
                8 => self.codes[at],
                _ => self.codes[at / 2] >> (at % 2 * 4) & 15,
            };
        }
        Ok(chunk)
    }
}

impl Matrix {
    /// Packs the weights of MatMulNBits. Scales become single floats, which is exact.
    ///
    /// # Errors
    /// When tensors do not have the sizes that the attributes say, the attributes are not those of
    /// MatMulNBits, a scale is not finite, or memory does not suffice.
    pub fn from_matmul_nbits(tensors: &MatMulNBits<'_>) -> Result<Self, MatrixError> {
        tensors.check()?;
        let MatMulNBits { rows, columns, bits, block_size, .. } = *tensors;
        let form = NBits { bits, parts: if block_size == 16 { 2 } else { 1 } };
        let chunks = columns.div_ceil(BLOCK);
        let strip = chunks.checked_mul(form.block_bytes()).ok_or(MatrixError::NoRoom)?;
        let total = rows.div_ceil(LANES).checked_mul(strip).ok_or(MatrixError::NoRoom)?;
        let mut packed = Vec::new();
        packed.try_reserve_exact(total).map_err(|_| MatrixError::NoRoom)?;
        packed.resize(total, 0);
        for (group, strip) in packed.chunks_exact_mut(strip).enumerate() {
            for (index, block) in strip.chunks_exact_mut(form.block_bytes()).enumerate() {
                for lane in 0..LANES.min(rows - group * LANES) {
                    form.write(&tensors.chunk(group * LANES + lane, index)?, lane, block);
                }
            }
        }
        Ok(Self { layout: Layout::of_nbits(form, strip), rows, columns, packed })
    }
}
