//! Blocks of 32 elements with one scale.

use super::block::Block;

pub(super) fn q4_0(bytes: &[u8; 18], block: &mut Block) {
    block.scale = u16::from_le_bytes([bytes[0], bytes[1]]);
    nibbles(&bytes[2..], block);
}

pub(super) fn q4_1(bytes: &[u8; 20], block: &mut Block) {
    block.scale = u16::from_le_bytes([bytes[0], bytes[1]]);
    block.minimum = u16::from_le_bytes([bytes[2], bytes[3]]);
    nibbles(&bytes[4..], block);
}

pub(super) fn q5_0(bytes: &[u8; 22], block: &mut Block) {
    block.scale = u16::from_le_bytes([bytes[0], bytes[1]]);
    nibbles(&bytes[6..], block);
    fifth_bits([bytes[2], bytes[3], bytes[4], bytes[5]], block);
}

pub(super) fn q5_1(bytes: &[u8; 24], block: &mut Block) {
    block.scale = u16::from_le_bytes([bytes[0], bytes[1]]);
    block.minimum = u16::from_le_bytes([bytes[2], bytes[3]]);
    nibbles(&bytes[8..], block);
    fifth_bits([bytes[4], bytes[5], bytes[6], bytes[7]], block);
}

pub(super) fn q8_0(bytes: &[u8; 34], block: &mut Block) {
    block.scale = u16::from_le_bytes([bytes[0], bytes[1]]);
    for (code, byte) in block.codes.iter_mut().zip(&bytes[2..]) {
        *code = byte ^ 0x80;
    }
}

/// The low halves of 16 bytes are elements 0 to 15, the high halves 16 to 31.
fn nibbles(bytes: &[u8], block: &mut Block) {
    for (i, byte) in bytes.iter().enumerate() {
        block.codes[i] = byte & 15;
        block.codes[i + 16] = byte >> 4;
    }
}

/// Bit `i` belongs to element `i`.
fn fifth_bits(bytes: [u8; 4], block: &mut Block) {
    for (codes, byte) in block.codes.chunks_mut(8).zip(bytes) {
        for (bit, code) in codes.iter_mut().enumerate() {
            *code |= (byte >> bit & 1) << 4;
        }
    }
}
