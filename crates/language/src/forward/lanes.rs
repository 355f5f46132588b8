//! Sums and functions of many numbers, as loops that compilers turn into vector instructions.

#![allow(clippy::inline_always)] // Loops become vector instructions only with the function inside.

/// Sums that are kept side by side.
const LANES: usize = 8;

/// Σ a · b.
#[inline(always)]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        for i in 0..LANES {
            sums[i] += a[i] * b[i];
        }
    }
    for (sum, (a, b)) in sums.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        *sum += a * b;
    }
    total(sums)
}

/// Σ a.
#[inline(always)]
pub(super) fn sum(a: &[f32]) -> f32 {
    let (a, rest) = a.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for a in a {
        for i in 0..LANES {
            sums[i] += a[i];
        }
    }
    for (sum, a) in sums.iter_mut().zip(rest) {
        *sum += a;
    }
    total(sums)
}

/// The greatest; negative infinity of none.
#[inline(always)]
pub(super) fn greatest(a: &[f32]) -> f32 {
    let (a, rest) = a.as_chunks::<LANES>();
    let mut most = [f32::NEG_INFINITY; LANES];
    for a in a {
        for i in 0..LANES {
            most[i] = if a[i] > most[i] { a[i] } else { most[i] };
        }
    }
    most.into_iter().chain(rest.iter().copied()).fold(f32::NEG_INFINITY, f32::max)
}

#[inline(always)]
fn total(sums: [f32; LANES]) -> f32 {
    let half = [0, 1, 2, 3].map(|i| sums[i] + sums[i + 4]);
    (half[0] + half[2]) + (half[1] + half[3])
}

/// eˣ within 2 · 10⁻⁷ of it, relatively; from e⁻⁸⁷ to e⁸⁸. The polynomial is that of `expf` in
/// Cephes (Moshier 1992).
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    /// 1.5 × 2²³: adding it leaves the nearest integer in the lowest bits.
    const SHIFTER: f32 = 12_582_912.0;
    /// ln 2 in two parts. Products of the first with small integers are exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    const TERMS: [f32; 6] =
        [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5];
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + SHIFTER;
    let power = shifted - SHIFTER;
    let rest = x - power * LN_2[0] - power * LN_2[1];
    let mut sum = TERMS[0];
    for term in &TERMS[1..] {
        sum = sum * rest + term;
    }
    let sum = sum * rest * rest + rest + 1.0;
    let power = shifted.to_bits().wrapping_sub(SHIFTER.to_bits());
    sum * f32::from_bits(power.wrapping_add(127) << 23)
}

/// 1 / (1 + e⁻ˣ).
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// c · tanh(x / c) of each.
pub(super) fn cap(values: &mut [f32], c: f32) {
    for value in values {
        *value = c * (2.0 * sigmoid(2.0 * (*value / c)) - 1.0);
    }
}

#[cfg(test)]
mod tests {
    // Small integers, whose sums are exact.
    #![allow(clippy::cast_precision_loss, clippy::float_cmp)]

    use super::*;

    #[test]
    fn exponentials_are_near_those_of_double_floats() {
        let mut worst = 0.0_f64;
        for i in -87_000..88_000 {
            let x = i as f32 / 1000.0 + 0.000_3;
            let exact = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) / exact - 1.0).abs());
        }
        assert!(worst < 2e-7, "{worst}");
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::NEG_INFINITY) < 1e-37);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn all_elements_count() {
        for length in 0..40 {
            let values: Vec<f32> = (1..=length).map(|i| i as f32).collect();
            let squares: f32 = values.iter().map(|value| value * value).sum();
            assert_eq!(dot(&values, &values), squares);
            assert_eq!(sum(&values), values.iter().sum::<f32>());
            let most = if length == 0 { f32::NEG_INFINITY } else { length as f32 };
            assert_eq!(greatest(&values), most);
        }
    }

    #[test]
    fn caps_are_those_of_the_hyperbolic_tangent() {
        for i in -400..400 {
            let x = i as f32 / 2.0;
            let mut value = [x];
            cap(&mut value, 30.0);
            assert!((value[0] - 30.0 * (x / 30.0).tanh()).abs() < 1e-5, "{x}");
        }
    }
}
