//! Blocks of 256 elements, whose parts of 16 or 32 have scales of their own: the "K-quants".

use super::block::Block;

pub(super) fn q2_k(bytes: &[u8; 84], block: &mut Block) {
    for (part, byte) in bytes[..16].iter().enumerate() {
        block.scales[part] = (byte & 15).cast_signed();
        block.minima[part] = byte >> 4;
    }
    low_two_bits(&bytes[16..80], block);
    block.scale = u16::from_le_bytes([bytes[80], bytes[81]]);
    block.minimum = u16::from_le_bytes([bytes[82], bytes[83]]);
}

pub(super) fn q3_k(bytes: &[u8; 110], block: &mut Block) {
    low_two_bits(&bytes[32..96], block);
    for (i, code) in block.codes.iter_mut().enumerate() {
        *code |= (bytes[i % 32] >> (i / 32) & 1) << 2;
    }
    let scales = &bytes[96..108];
    for (part, scale) in block.scales.iter_mut().enumerate() {
        let low = scales[part % 8] >> (part / 8 * 4) & 15;
        let high = scales[8 + part % 4] >> (part / 4 * 2) & 3;
        *scale = (low | high << 4).cast_signed() - 32;
    }
    block.scale = u16::from_le_bytes([bytes[108], bytes[109]]);
}

pub(super) fn q4_k(bytes: &[u8; 144], block: &mut Block) {
    head(&bytes[..16], block);
    low_nibbles(&bytes[16..], block);
}

pub(super) fn q5_k(bytes: &[u8; 176], block: &mut Block) {
    head(&bytes[..16], block);
    low_nibbles(&bytes[48..], block);
    for (i, code) in block.codes.iter_mut().enumerate() {
        *code |= (bytes[16 + i % 32] >> (i / 32) & 1) << 4;
    }
}

pub(super) fn q6_k(bytes: &[u8; 210], block: &mut Block) {
    for (i, code) in block.codes.iter_mut().enumerate() {
        let (half, quarter) = (i / 128, i % 128 / 32);
        let low = bytes[64 * half + i % 64] >> (quarter / 2 * 4) & 15;
        let high = bytes[128 + 32 * half + i % 32] >> (2 * quarter) & 3;
        *code = low | high << 4;
    }
    for (scale, byte) in block.scales.iter_mut().zip(&bytes[192..208]) {
        *scale = byte.cast_signed();
    }
    block.scale = u16::from_le_bytes([bytes[208], bytes[209]]);
}

/// Scale, minimum, and 8 scales and minima of 6 bits in 12 bytes.
fn head(bytes: &[u8], block: &mut Block) {
    block.scale = u16::from_le_bytes([bytes[0], bytes[1]]);
    block.minimum = u16::from_le_bytes([bytes[2], bytes[3]]);
    let packed = &bytes[4..16];
    for part in 0..4 {
        let (first, second, third) = (packed[part], packed[part + 4], packed[part + 8]);
        block.scales[part] = (first & 63).cast_signed();
        block.minima[part] = second & 63;
        block.scales[part + 4] = (third & 15 | first >> 6 << 4).cast_signed();
        block.minima[part + 4] = third >> 4 | second >> 6 << 4;
    }
}

/// 32 bytes hold 64 elements: the low halves first.
fn low_nibbles(bytes: &[u8], block: &mut Block) {
    for (bytes, codes) in bytes.chunks(32).zip(block.codes.chunks_mut(64)) {
        for (i, byte) in bytes.iter().enumerate() {
            codes[i] = byte & 15;
            codes[i + 32] = byte >> 4;
        }
    }
}

/// 32 bytes hold 128 elements: the lowest bits first.
fn low_two_bits(bytes: &[u8], block: &mut Block) {
    for (bytes, codes) in bytes.chunks(32).zip(block.codes.chunks_mut(128)) {
        for (i, byte) in bytes.iter().enumerate() {
            for (quarter, codes) in codes.chunks_mut(32).enumerate() {
                codes[i] = byte >> (2 * quarter) & 3;
            }
        }
    }
}
