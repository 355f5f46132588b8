//! Blocks of a file to and from their places in packed strips.

use crate::{
    blocks::Block,
    format::Format,
    order::{BLOCK, LANES},
    plane,
};

/// Writes a block of row `lane` into a packed block, whose bytes of this row are 0.
pub(crate) fn write(format: Format, block: &Block, lane: usize, out: &mut [u8]) {
    out[2 * lane..][..2].copy_from_slice(&block.scale.to_le_bytes());
    if format.minima {
        out[2 * (LANES + lane)..][..2].copy_from_slice(&block.minimum.to_le_bytes());
    }
    let (head, parts) = out.split_at_mut(format.head_bytes());
    if format.paired_minima() {
        for part in 0..8 {
            head[minimum_at(part, lane)] = block.minima[part];
        }
    }
    for (part, out) in parts.chunks_exact_mut(format.part_bytes()).enumerate() {
        let (scales, planes) = out.split_at_mut(format.part_head_bytes());
        let count = format.scale_bytes() / LANES;
        for i in 0..count {
            scales[count * lane + i] = block.scales[count * part + i].cast_unsigned();
            if scales.len() > format.scale_bytes() {
                scales[format.scale_bytes() + count * lane + i] = block.minima[count * part + i];
            }
        }
        let (high, low) = planes.split_at_mut(4 * LANES * format.high as usize);
        let codes = &block.codes[BLOCK * part..][..BLOCK];
        plane::write(high, format.high, format.low, codes, lane);
        plane::write(low, format.low, 0, codes, lane);
    }
}

/// Reads the block of row `lane` from a packed block.
pub(crate) fn read(format: Format, bytes: &[u8], lane: usize, block: &mut Block) {
    let half = |at: usize| u16::from_le_bytes([bytes[2 * at], bytes[2 * at + 1]]);
    block.scale = half(lane);
    block.minimum = if format.minima { half(LANES + lane) } else { 0 };
    let (head, parts) = bytes.split_at(format.head_bytes());
    if format.paired_minima() {
        for part in 0..8 {
            block.minima[part] = head[minimum_at(part, lane)];
        }
    }
    for (part, bytes) in parts.chunks_exact(format.part_bytes()).enumerate() {
        let (scales, planes) = bytes.split_at(format.part_head_bytes());
        let count = format.scale_bytes() / LANES;
        for i in 0..count {
            block.scales[count * part + i] = scales[count * lane + i].cast_signed();
            if scales.len() > format.scale_bytes() {
                block.minima[count * part + i] = scales[format.scale_bytes() + count * lane + i];
            }
        }
        let (high, low) = planes.split_at(4 * LANES * format.high as usize);
        let codes = &mut block.codes[BLOCK * part..][..BLOCK];
        codes.fill(0);
        plane::read(high, format.high, format.low, codes, lane);
        plane::read(low, format.low, 0, codes, lane);
    }
}

/// Where a minimum of 32 elements is in a block's head: pairs follow the binary16 fields.
const fn minimum_at(part: usize, lane: usize) -> usize {
    4 * LANES + part / 2 * 2 * LANES + 2 * lane + part % 2
}
