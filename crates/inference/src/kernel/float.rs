//! Functions on four single floats.

use wide::{bytemuck, f32x4, i32x4};

/// x Φ(x) = x (1 + erf(x / √2)) / 2.
#[inline]
#[must_use]
pub fn gelu(x: f32x4) -> f32x4 {
    let half = f32x4::splat(0.5);
    let erf = erf(x * f32x4::splat(std::f32::consts::FRAC_1_SQRT_2));
    x * half * (f32x4::ONE + erf)
}

/// The error function, within 2e-7: the rational approximation of Eigen's `erf` for single floats,
/// odd / even on [-4, 4].
#[inline]
#[must_use]
pub fn erf(x: f32x4) -> f32x4 {
    const ODD: [f32; 7] = [
        -2.726_142_3e-10,
        2.770_681_4e-8,
        -2.101_024e-6,
        -5.692_506_4e-5,
        -7.349_906_3e-4,
        -2.954_6e-3,
        -1.609_603_3e-2,
    ];
    const EVEN: [f32; 5] =
        [-1.456_607_2e-5, -2.133_740_6e-4, -1.682_827e-3, -7.373_329e-3, -1.426_473_9e-2];
    let x = x.fast_max(f32x4::splat(-4.0)).fast_min(f32x4::splat(4.0));
    let square = x * x;
    let at = |coefficients: &[f32]| {
        coefficients[1..].iter().fold(f32x4::splat(coefficients[0]), |sum, next| {
            sum.mul_add(square, f32x4::splat(*next))
        })
    };
    x * at(&ODD) / at(&EVEN)
}

/// e^x for x of 0 or less, with a relative error below 2e-7: 2^n e^r with |r| at most ln(2) / 2.
/// Results below the smallest normal number are 0.
#[inline]
#[must_use]
pub fn exp_of_negative(x: f32x4) -> f32x4 {
    /// ln(2) in two parts. The first has few bits: its product with n is exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    const SERIES: [f32; 6] = [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0];
    let least = f32x4::splat(-87.0);
    let gone = x.simd_lt(least);
    let x = x.fast_max(least);
    let n = (x * f32x4::splat(std::f32::consts::LOG2_E)).round_int();
    let whole = f32x4::from_i32x4(n);
    let r = whole.mul_add(f32x4::splat(-LN_2[0]), x);
    let r = whole.mul_add(f32x4::splat(-LN_2[1]), r);
    let series = SERIES[1..]
        .iter()
        .fold(f32x4::splat(SERIES[0]), |sum, next| sum.mul_add(r, f32x4::splat(*next)));
    let e = series.mul_add(r, f32x4::ONE);
    let power: f32x4 = bytemuck::cast((n + i32x4::splat(127)) << 23);
    gone.bitselect(f32x4::ZERO, e * power)
}

/// The sum of the four numbers.
#[inline]
#[must_use]
pub fn sum(x: f32x4) -> f32 {
    x.to_array().iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erf_is_the_error_function() {
        // Tabulated erf(0.5), erf(1), erf(2), erf(3.5).
        let found = erf(f32x4::from([0.5, 1.0, -2.0, 3.5])).to_array();
        for (found, wanted) in
            found.into_iter().zip([0.520_499_9, 0.842_700_8, -0.995_322_3, 0.999_999_3])
        {
            assert!((found - wanted).abs() < 3e-7, "{found} {wanted}");
        }
        assert_eq!(erf(f32x4::splat(40.0)), erf(f32x4::splat(4.0)));
    }

    #[test]
    fn exp_is_the_exponential_function() {
        for i in 0..=8800_u16 {
            let x = -f32::from(i) / 100.0;
            let found = exp_of_negative(f32x4::splat(x)).to_array()[0];
            let wanted = x.exp();
            let near =
                if x < -87.0 { found == 0.0 } else { (found - wanted).abs() <= 3e-7 * wanted };
            assert!(near, "e^{x}: {found} {wanted}");
        }
        assert_eq!(exp_of_negative(f32x4::splat(f32::NEG_INFINITY)), f32x4::ZERO);
    }
}
