//! Blocks of quantized weights as files store them, and their values.
//!
//! The source of the layouts is GGML: `ggml-common.h` and `dequantize_row_*` in `ggml-quants.c` of
//! llama.cpp.

mod block;
mod classic;
mod superblock;

use crate::{Dtype, half};

pub(crate) use block::Block;

impl Block {
    /// Reads a block of a quantized type.
    ///
    /// # Panics
    /// When `bytes` is not one block, or the type is not quantized.
    pub(crate) fn read(&mut self, dtype: Dtype, bytes: &[u8]) {
        match dtype {
            Dtype::Q4_0 => classic::q4_0(exact(bytes), self),
            Dtype::Q4_1 => classic::q4_1(exact(bytes), self),
            Dtype::Q5_0 => classic::q5_0(exact(bytes), self),
            Dtype::Q5_1 => classic::q5_1(exact(bytes), self),
            Dtype::Q8_0 => classic::q8_0(exact(bytes), self),
            Dtype::Q2K => superblock::q2_k(exact(bytes), self),
            Dtype::Q3K => superblock::q3_k(exact(bytes), self),
            Dtype::Q4K => superblock::q4_k(exact(bytes), self),
            Dtype::Q5K => superblock::q5_k(exact(bytes), self),
            Dtype::Q6K => superblock::q6_k(exact(bytes), self),
            Dtype::F32 | Dtype::F16 | Dtype::Bf16 => unreachable!("{dtype:?} has no blocks"),
        }
    }

    /// Computes the values, with the roundings of GGML.
    pub(crate) fn values(&self, dtype: Dtype, out: &mut [f32]) {
        let (scale, minimum) = (half::to_f32(self.scale), half::to_f32(self.minimum));
        let zero = f32::from(zero(dtype));
        let part = part_len(dtype);
        for (p, (codes, out)) in self.codes.chunks(part).zip(out.chunks_mut(part)).enumerate() {
            let (factor, bias) = if dtype.block_len() == 32 {
                // Adding -0 changes nothing, not even the sign of a zero.
                (scale, if has_minima(dtype) { minimum } else { -0.0 })
            } else {
                let factor = scale * f32::from(self.scales[p]);
                let bias = -(minimum * f32::from(self.minima[p]));
                (factor, if has_minima(dtype) { bias } else { -0.0 })
            };
            for (out, code) in out.iter_mut().zip(codes) {
                *out = factor * (f32::from(*code) - zero) + bias;
            }
        }
    }
}

/// The code of the value 0 in types without minima.
pub(crate) const fn zero(dtype: Dtype) -> u8 {
    match dtype {
        Dtype::Q3K => 4,
        Dtype::Q4_0 => 8,
        Dtype::Q5_0 => 16,
        Dtype::Q6K => 32,
        Dtype::Q8_0 => 128,
        _ => 0,
    }
}

/// Whether blocks of the type have minima.
pub(crate) const fn has_minima(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::Q4_1 | Dtype::Q5_1 | Dtype::Q2K | Dtype::Q4K | Dtype::Q5K)
}

/// Elements that share a scale of a block.
pub(crate) const fn part_len(dtype: Dtype) -> usize {
    match dtype {
        Dtype::Q2K | Dtype::Q3K | Dtype::Q6K => 16,
        _ => 32,
    }
}

/// Why bytes have no values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{values} values of {dtype:?} do not take {bytes} bytes")]
pub struct BlockError {
    /// The type of the elements.
    pub dtype: Dtype,
    /// Number of values asked for.
    pub values: usize,
    /// Number of bytes given.
    pub bytes: usize,
}

/// Computes the values of `bytes`, bit for bit those of GGML's `dequantize_row_*`.
///
/// # Errors
/// When `out.len()` values of the type do not take `bytes.len()` bytes.
pub fn dequantize(dtype: Dtype, bytes: &[u8], out: &mut [f32]) -> Result<(), BlockError> {
    if dtype.row_bytes(out.len()) != Some(bytes.len()) {
        return Err(BlockError { dtype, values: out.len(), bytes: bytes.len() });
    }
    match dtype {
        Dtype::F32 => {
            for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                *out = f32::from_le_bytes(*bytes);
            }
        }
        Dtype::F16 => {
            for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                *out = half::read(*bytes);
            }
        }
        Dtype::Bf16 => {
            for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                *out = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
            }
        }
        _ => {
            let mut block = Block::EMPTY;
            let blocks = bytes.chunks_exact(dtype.block_bytes());
            for (out, bytes) in out.chunks_exact_mut(dtype.block_len()).zip(blocks) {
                block.read(dtype, bytes);
                block.values(dtype, out);
            }
        }
    }
    Ok(())
}

/// The bytes as an array.
fn exact<const N: usize>(bytes: &[u8]) -> &[u8; N] {
    bytes.try_into().expect("the length is that of a block")
}
