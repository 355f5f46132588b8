//! Blocks of a file to and from their places in packed strips.

use crate::{
    blocks::Block,
    format::Format,
    order::{self, BLOCK, LANES},
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
        write_plane(high, format.high, format.low, codes, lane);
        write_plane(low, format.low, 0, codes, lane);
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
        read_plane(high, format.high, format.low, codes, lane);
        read_plane(low, format.low, 0, codes, lane);
    }
}

/// Where a minimum of 32 elements is in a block's head: pairs follow the binary16 fields.
const fn minimum_at(part: usize, lane: usize) -> usize {
    4 * LANES + part / 2 * 2 * LANES + 2 * lane + part % 2
}

/// Bits of each byte of a word.
const fn mask(bits: u32) -> u32 {
    ((1 << bits) - 1) * 0x0101_0101
}

/// Vector and bit of a word in a plane.
const fn place(word: usize, bits: u32) -> (usize, u32) {
    let fields = 8 / bits as usize;
    (word / fields, (word % fields) as u32 * bits)
}

/// Writes `bits` of each of 32 codes from bit `from` on.
pub(crate) fn write_plane(plane: &mut [u8], bits: u32, from: u32, codes: &[u8], lane: usize) {
    let codes = codes.try_into().expect("a block of codes");
    match bits {
        0 => (),
        1 => write_bits::<1>(plane, from, codes, lane),
        2 => write_bits::<2>(plane, from, codes, lane),
        4 => write_bits::<4>(plane, from, codes, lane),
        _ => write_bits::<8>(plane, from, codes, lane),
    }
}

/// [`write_plane`] where all places are known.
fn write_bits<const BITS: u32>(plane: &mut [u8], from: u32, codes: &[u8; BLOCK], lane: usize) {
    let mut vectors = [0; BLOCK / 4];
    for word in 0..BLOCK / 4 {
        let (vector, shift) = place(word, BITS);
        let value = u32::from_le_bytes(order::elements(word).map(|element| codes[element]));
        vectors[vector] |= (value >> from & mask(BITS)) << shift;
    }
    let words = plane.as_chunks_mut::<4>().0.iter_mut().skip(lane).step_by(LANES);
    for (word, vector) in words.zip(vectors) {
        *word = vector.to_le_bytes();
    }
}

/// Adds `bits` to each of 32 codes from bit `to` on.
pub(crate) fn read_plane(plane: &[u8], bits: u32, to: u32, codes: &mut [u8], lane: usize) {
    if bits == 0 {
        return;
    }
    for word in 0..BLOCK / 4 {
        let (vector, shift) = place(word, bits);
        let bytes = plane.as_chunks::<4>().0[vector * LANES + lane];
        let value = (u32::from_le_bytes(bytes) >> shift & mask(bits)) << to;
        for (element, code) in order::elements(word).into_iter().zip(value.to_le_bytes()) {
            codes[element] |= code;
        }
    }
}
