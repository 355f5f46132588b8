//! The bytes of a matrix: packed strips.

use crate::{
    Dtype,
    blocks::{self, Block},
    format::{Format, Kind},
    half,
    nbits::NBits,
    order::{BLOCK, LANES},
    pack,
};

/// Columns of floats that a kernel loads together; zeros fill the last ones.
const COLUMNS: usize = 4;

/// How weights lie in strips.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub kind: Kind,
    /// Bytes of a strip.
    pub strip: usize,
}

impl Layout {
    /// The layout of rows of `columns` elements. `None` when a strip exceeds the address space.
    ///
    /// Blocks of the type divide the columns.
    pub(super) fn new(dtype: Dtype, columns: usize) -> Option<Self> {
        let strip = if dtype.block_len() > 1 {
            let format = Format::of(dtype);
            (columns / format.block_len).checked_mul(format.block_bytes())?
        } else {
            columns.checked_next_multiple_of(COLUMNS)?.checked_mul(LANES * dtype.block_bytes())?
        };
        Some(Self { kind: Kind::Tensor(dtype), strip })
    }

    /// The layout of strips of MatMulNBits weights.
    pub(super) fn of_nbits(form: NBits, strip: usize) -> Self {
        Self { kind: Kind::NBits(form), strip }
    }

    /// Computes the values of row `lane` of a strip.
    pub(super) fn read(self, strip: &[u8], lane: usize, out: &mut [f32]) {
        match self.kind {
            Kind::NBits(form) => {
                let packed = strip.chunks_exact(form.block_bytes());
                for (bytes, out) in packed.zip(out.chunks_mut(BLOCK)) {
                    form.read(bytes, lane, out);
                }
            }
            Kind::Tensor(dtype) if dtype.block_len() > 1 => read_blocks(dtype, strip, lane, out),
            Kind::Tensor(dtype) => {
                let size = dtype.block_bytes();
                for (element, out) in strip.chunks_exact(LANES * size).zip(out.chunks_mut(1)) {
                    blocks::dequantize(dtype, &element[lane * size..][..size], out)
                        .expect("an element has its size");
                }
            }
        }
    }
}

fn read_blocks(dtype: Dtype, strip: &[u8], lane: usize, out: &mut [f32]) {
    let format = Format::of(dtype);
    let mut block = Block::EMPTY;
    let packed = strip.chunks_exact(format.block_bytes());
    for (bytes, out) in packed.zip(out.chunks_exact_mut(format.block_len)) {
        pack::read(format, bytes, lane, &mut block);
        block.values(dtype, out);
    }
}

/// Writes blocks of row `lane` from the number `index` on, as they are in a file, to a strip whose
/// bytes of these blocks are 0.
///
/// # Errors
/// The number of a block whose scales are not finite, as kernels need them.
pub(super) fn write(
    dtype: Dtype,
    strip: &mut [u8],
    (lane, index): (usize, usize),
    bytes: &[u8],
    block: &mut Block,
) -> Result<(), usize> {
    match dtype {
        Dtype::F32 => write_elements::<4>(strip, lane, index, bytes, |_| true),
        Dtype::Bf16 => write_elements::<2>(strip, lane, index, bytes, |_| true),
        Dtype::F16 => write_elements::<2>(strip, lane, index, bytes, |element| {
            half::is_finite(u16::from_le_bytes(*element))
        }),
        _ => {
            let format = Format::of(dtype);
            let packed = strip.chunks_exact_mut(format.block_bytes()).enumerate().skip(index);
            for ((index, out), bytes) in packed.zip(bytes.chunks_exact(dtype.block_bytes())) {
                block.read(dtype, bytes);
                pack::write(format, block, lane, out);
                if !half::is_finite(block.scale) || !half::is_finite(block.minimum) {
                    return Err(index);
                }
            }
            Ok(())
        }
    }
}

fn write_elements<const SIZE: usize>(
    strip: &mut [u8],
    lane: usize,
    index: usize,
    bytes: &[u8],
    is_finite: impl Fn(&[u8; SIZE]) -> bool,
) -> Result<(), usize> {
    let places = strip.as_chunks_mut().0[index * LANES + lane..].iter_mut().step_by(LANES);
    for (i, (place, element)) in places.zip(bytes.as_chunks().0).enumerate() {
        if !is_finite(element) {
            return Err(index + i);
        }
        *place = *element;
    }
    Ok(())
}
