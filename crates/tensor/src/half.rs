//! IEEE 754 binary16. Loops over [`from_f32`] and [`finite_to_f32`] become vector instructions.

/// The greatest finite value.
const GREATEST: f32 = 65504.0;

/// The nearest binary16, ties to even; magnitudes above the greatest finite one become it. The
/// value is a number.
#[must_use]
#[inline]
pub fn from_f32(value: f32) -> u16 {
    /// 2⁻¹⁴: below it the distance between neighbours does not shrink.
    const LEAST_NORMAL: u32 = 0x3880_0000;
    let bits = value.to_bits();
    let sign = bits >> 16 & 0x8000;
    let magnitude = (bits & 0x7fff_ffff).min(GREATEST.to_bits());
    // Half the last place that stays, less one if the rest is even.
    let rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
    let normal = rounded.wrapping_sub((127 - 15) << 23) >> 13;
    // In the sum the last place is 2⁻²⁴, the distance of small binary16 values.
    let small = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0.5_f32.to_bits());
    let magnitude = if magnitude < LEAST_NORMAL { small } else { normal };
    #[allow(clippy::cast_possible_truncation)] // 16 bits are left.
    let half = (sign | magnitude) as u16;
    half
}

/// The value of a finite binary16, exactly.
#[must_use]
#[inline]
pub fn finite_to_f32(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let magnitude = u32::from(bits & 0x7fff) << 13;
    // The exponent's bias is 15 there and 127 here; the product also normalizes small values.
    f32::from_bits(sign | magnitude) * f32::from_bits((127 + 127 - 15) << 23)
}

/// The value of a binary16, exactly.
#[inline]
pub(crate) fn to_f32(bits: u16) -> f32 {
    if is_finite(bits) {
        return finite_to_f32(bits);
    }
    // Infinity, and what is not a number.
    let (sign, magnitude) = (u32::from(bits & 0x8000), u32::from(bits & 0x7fff));
    f32::from_bits(sign << 16 | 0x7f80_0000 | magnitude << 13)
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
#[allow(clippy::float_cmp)] // The values are exact.
mod tests {
    use super::{finite_to_f32, from_f32, to_f32};

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

    #[test]
    fn all_values_survive() {
        for bits in (0..=0xffff_u16).filter(|bits| bits & 0x7c00 != 0x7c00) {
            assert_eq!(from_f32(finite_to_f32(bits)), bits, "{bits:#06x}");
        }
    }

    #[test]
    fn others_become_the_nearest_and_ties_even() {
        for bits in 0..0x7bff_u16 {
            let (lower, upper) = (finite_to_f32(bits), finite_to_f32(bits + 1));
            let middle = f32::midpoint(lower, upper);
            let even = if bits % 2 == 0 { bits } else { bits + 1 };
            assert_eq!(from_f32(middle), even, "{middle}");
            assert_eq!(from_f32(middle.next_down()), bits, "below {middle}");
            assert_eq!(from_f32(middle.next_up()), bits + 1, "above {middle}");
            assert_eq!(from_f32(-middle.next_up()), 0x8000 | (bits + 1), "below -{middle}");
        }
        for large in [65504.0, 65520.0, 1e6, f32::MAX] {
            assert_eq!(finite_to_f32(from_f32(large)), 65504.0);
            assert_eq!(finite_to_f32(from_f32(-large)), -65504.0);
        }
    }
}
