//! IEEE 754 binary16, as loops that compilers turn into vector instructions.

/// The greatest finite value.
const GREATEST: f32 = 65504.0;

/// The nearest binary16, ties to even; magnitudes above the greatest finite one become it. The
/// value is a number.
#[inline]
pub(crate) fn from_f32(value: f32) -> u16 {
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
#[inline]
pub(crate) fn to_f32(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let magnitude = u32::from(bits & 0x7fff) << 13;
    // The exponent's bias is 15 there and 127 here; the product also normalizes small values.
    f32::from_bits(sign | magnitude) * f32::from_bits((127 + 127 - 15) << 23)
}

#[cfg(test)]
#[allow(clippy::float_cmp)] // The values are exact.
mod tests {
    use super::{from_f32, to_f32};

    #[test]
    fn all_values_survive() {
        for bits in (0..=0xffff_u16).filter(|bits| bits & 0x7c00 != 0x7c00) {
            assert_eq!(from_f32(to_f32(bits)), bits, "{bits:#06x}");
        }
    }

    #[test]
    fn others_become_the_nearest_and_ties_even() {
        for bits in 0..0x7bff_u16 {
            let (lower, upper) = (to_f32(bits), to_f32(bits + 1));
            let middle = f32::midpoint(lower, upper);
            let even = if bits % 2 == 0 { bits } else { bits + 1 };
            assert_eq!(from_f32(middle), even, "{middle}");
            assert_eq!(from_f32(middle.next_down()), bits, "below {middle}");
            assert_eq!(from_f32(middle.next_up()), bits + 1, "above {middle}");
            assert_eq!(from_f32(-middle.next_up()), 0x8000 | (bits + 1), "below -{middle}");
        }
        for large in [65504.0, 65520.0, 1e6, f32::MAX] {
            assert_eq!(to_f32(from_f32(large)), 65504.0);
            assert_eq!(to_f32(from_f32(-large)), -65504.0);
        }
    }
}
