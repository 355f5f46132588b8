//! The bytes of a matrix: packed strips.

use crate::{
    Dtype,
    blocks::{self, Block},
    format::Format,
    half,
    order::LANES,
    pack,
};

/// Columns of floats that a kernel loads together; zeros fill the last ones.
const COLUMNS: usize = 4;

/// How a row of a file lies in strips.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub dtype: Dtype,
    /// The packed form, of quantized types.
    format: Option<Format>,
    /// Bytes of a strip.
    pub strip: usize,
}

impl Layout {
    /// The layout of rows of `columns` elements. `None` when a strip exceeds the address space.
    ///
    /// Blocks of the type divide the columns.
    pub(super) fn new(dtype: Dtype, columns: usize) -> Option<Self> {
        let format = (dtype.block_len() > 1).then(|| Format::of(dtype));
        let strip = match format {
            Some(format) => (columns / format.block_len).checked_mul(format.block_bytes())?,
            None => columns
                .checked_next_multiple_of(COLUMNS)?
                .checked_mul(LANES * dtype.block_bytes())?,
        };
        Some(Self { dtype, format, strip })
    }

    /// Writes block `index` of row `lane`, as it is in a file, to a strip whose bytes of this block
    /// are 0. Whether its scales are finite, as kernels need them.
    #[must_use]
    pub(super) fn write(
        self,
        strip: &mut [u8],
        index: usize,
        lane: usize,
        bytes: &[u8],
        block: &mut Block,
    ) -> bool {
        let Some(format) = self.format else {
            let at = (index * LANES + lane) * bytes.len();
            strip[at..at + bytes.len()].copy_from_slice(bytes);
            return match (self.dtype, bytes) {
                (Dtype::F16, [low, high]) => half::is_finite(u16::from_le_bytes([*low, *high])),
                _ => true,
            };
        };
        block.read(self.dtype, bytes);
        let packed = format.block_bytes();
        pack::write(format, block, lane, &mut strip[index * packed..][..packed]);
        half::is_finite(block.scale) && half::is_finite(block.minimum)
    }

    /// Computes the values of row `lane` of a strip.
    pub(super) fn read(self, strip: &[u8], lane: usize, out: &mut [f32]) {
        let Some(format) = self.format else {
            let size = self.dtype.block_bytes();
            for (element, out) in strip.chunks_exact(LANES * size).zip(out.chunks_mut(1)) {
                blocks::dequantize(self.dtype, &element[lane * size..][..size], out)
                    .expect("an element has its size");
            }
            return;
        };
        let mut block = Block::EMPTY;
        let packed = strip.chunks_exact(format.block_bytes());
        for (bytes, out) in packed.zip(out.chunks_exact_mut(format.block_len)) {
            pack::read(format, bytes, lane, &mut block);
            block.values(self.dtype, out);
        }
    }
}
