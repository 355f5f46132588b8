//! IEEE 754 binary16.

/// The value of a binary16, exactly.
#[inline]
pub(crate) fn to_f32(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let magnitude = u32::from(bits & 0x7fff);
    match magnitude {
        // Infinity, and what is not a number.
        0x7c00.. => f32::from_bits(sign | 0x7f80_0000 | (magnitude << 13)),
        // The exponent's bias is 15 there and 127 here; the product also normalizes small values.
        _ => f32::from_bits(sign | (magnitude << 13)) * f32::from_bits((127 + 127 - 15) << 23),
    }
}

/// The value of two little-endian bytes.
#[inline]
pub(crate) fn read(bytes: [u8; 2]) -> f32 {
    to_f32(u16::from_le_bytes(bytes))
}

/// Whether the value is a number that is not infinite.
#[inline]
pub(crate) fn is_finite(bits: u16) -> bool {
    bits & 0x7c00 != 0x7c00
}

#[cfg(test)]
mod tests {
    use super::to_f32;

    #[test]
    fn values_of_each_kind() {
        for (bits, value) in [
            (0x0000, 0.0),
            (0x8000, -0.0),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0001, 2f32.powi(-24)),
            (0x83ff, -1023.0 * 2f32.powi(-24)),
            (0x0400, 2f32.powi(-14)),
            (0x7c00, f32::INFINITY),
            (0xfc00, f32::NEG_INFINITY),
        ] {
            assert_eq!(to_f32(bits).to_bits(), f32::to_bits(value), "{bits:#06x}");
        }
        assert!(to_f32(0x7e00).is_nan());
    }
}
