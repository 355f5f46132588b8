//! How weights are packed: strips of rows in the order of multiplication.
//!
//! A strip holds [`LANES`] rows, block after block. A block holds, of all rows,
//!
//! - scales, then minima, as the file's binary16;
//! - in types with minima of 32 elements each: these, two successive ones of each row together;
//! - for each 32 elements: scales, minima, then planes of bits, the higher ones first. A plane has
//!   vectors with a [word](crate::order) of each row; a byte holds the same bit field of as many
//!   successive vectors as fit.
//!
//! The scales and minima of K-quants take 8 bits each: Q4_K grows by 3 %, Q5_K by 2 %, Q3_K by 4 %,
//! Q2_K by 19 %, other types not at all. The last strip is filled with zeros.

use crate::{Dtype, blocks, nbits::NBits, order::LANES};

/// What weights are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A tensor's elements, as a file stores them.
    Tensor(Dtype),
    /// The weights of ONNX's MatMulNBits.
    NBits(NBits),
}

/// The parts of a packed block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    /// Elements of a block.
    pub block_len: usize,
    /// Whether there are minima.
    pub minima: bool,
    /// Elements that share a scale in a block of 256; 0 in other blocks.
    pub part_len: usize,
    /// Bits of the higher plane.
    pub high: u32,
    /// Bits of the lower plane.
    pub low: u32,
}

impl Format {
    /// The format of a quantized type.
    pub(crate) const fn of(dtype: Dtype) -> Self {
        let (high, low) = match dtype {
            Dtype::Q4_0 | Dtype::Q4_1 | Dtype::Q4K => (0, 4),
            Dtype::Q5_0 | Dtype::Q5_1 | Dtype::Q5K => (1, 4),
            Dtype::Q8_0 => (0, 8),
            Dtype::Q2K => (0, 2),
            Dtype::Q3K => (1, 2),
            Dtype::Q6K => (2, 4),
            Dtype::F32 | Dtype::F16 | Dtype::Bf16 => panic!("the type is not quantized"),
        };
        let block_len = dtype.block_len();
        let part_len = if block_len == 32 { 0 } else { blocks::part_len(dtype) };
        Self { block_len, minima: blocks::has_minima(dtype), part_len, high, low }
    }

    /// Whether minima are those of 32 elements in a block of 256.
    pub(crate) const fn paired_minima(self) -> bool {
        self.minima && self.part_len == 32
    }

    /// Bytes of a block of one strip before its parts of 32 elements.
    pub(crate) const fn head_bytes(self) -> usize {
        let halves = if self.minima { 4 } else { 2 };
        let minima = if self.paired_minima() { 8 } else { 0 };
        (halves + minima) * LANES
    }

    /// Bytes of scales of a part of 32 elements.
    pub(crate) const fn scale_bytes(self) -> usize {
        match self.part_len {
            0 => 0,
            len => 32 / len * LANES,
        }
    }

    /// Bytes of scales and minima of a part of 32 elements.
    pub(crate) const fn part_head_bytes(self) -> usize {
        let minima = self.minima && self.part_len == 16;
        self.scale_bytes() * if minima { 2 } else { 1 }
    }

    /// Bytes of a part of 32 elements.
    pub(crate) const fn part_bytes(self) -> usize {
        self.part_head_bytes() + 4 * LANES * (self.high + self.low) as usize
    }

    /// Bytes of a block of one strip.
    pub(crate) const fn block_bytes(self) -> usize {
        self.head_bytes() + self.block_len / 32 * self.part_bytes()
    }
}
