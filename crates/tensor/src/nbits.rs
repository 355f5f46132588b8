//! Packed blocks of MatMulNBits weights: 32 elements of each row of a strip.
//!
//! For each of `parts` halves of the block: scales as single floats, then zero points as bytes, of
//! all rows. Then a plane of codes, as in the other [formats](crate::format).

use crate::{
    order::{BLOCK, LANES},
    plane,
};

/// The form of packed blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NBits {
    /// Bits of a code: 4 or 8.
    pub bits: u32,
    /// Scales of a block: 1, or 2 where 16 elements share one.
    pub parts: usize,
}

/// 32 elements of a row: each is `scale × (code - zero)`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Chunk {
    pub codes: [u8; BLOCK],
    /// Of each part.
    pub scales: [f32; 2],
    /// Of each part.
    pub zeros: [u8; 2],
}

impl NBits {
    /// Bytes of scales and zero points.
    const fn head_bytes(self) -> usize {
        self.parts * 5 * LANES
    }

    /// Bytes of a block of one strip.
    pub(crate) const fn block_bytes(self) -> usize {
        self.head_bytes() + 4 * LANES * self.bits as usize
    }

    /// Writes elements of row `lane` to a packed block, whose bytes of this row are 0.
    pub(crate) fn write(self, chunk: &Chunk, lane: usize, out: &mut [u8]) {
        let (head, codes) = out.split_at_mut(self.head_bytes());
        for (part, head) in head.chunks_exact_mut(5 * LANES).enumerate() {
            head[4 * lane..][..4].copy_from_slice(&chunk.scales[part].to_le_bytes());
            head[4 * LANES + lane] = chunk.zeros[part];
        }
        plane::write(codes, self.bits, 0, &chunk.codes, lane);
    }

    /// Computes the values of row `lane` of a packed block. `out` has up to 32 elements.
    pub(crate) fn read(self, bytes: &[u8], lane: usize, out: &mut [f32]) {
        let (head, packed) = bytes.split_at(self.head_bytes());
        let mut codes = [0; BLOCK];
        plane::read(packed, self.bits, 0, &mut codes, lane);
        let part = BLOCK / self.parts;
        let parts = out.chunks_mut(part).zip(codes.chunks(part));
        for ((out, codes), head) in parts.zip(head.chunks_exact(5 * LANES)) {
            let scale = [0, 1, 2, 3].map(|byte: usize| head[4 * lane + byte]);
            let scale = f32::from_le_bytes(scale);
            let zero = f32::from(head[4 * LANES + lane]);
            for (out, code) in out.iter_mut().zip(codes) {
                *out = (f32::from(*code) - zero) * scale;
            }
        }
    }
}
