//! The functions between the products of an MLP.

use super::lanes::sigmoid;
use crate::config::Activation;

/// Applies the function to each value.
pub(super) fn activate(activation: Activation, values: &mut [f32]) {
    match activation {
        Activation::Silu => values.iter_mut().for_each(|x| *x *= sigmoid(*x)),
        Activation::GeluTanh => values.iter_mut().for_each(|x| *x = gelu_tanh(*x)),
        Activation::Gelu => values.iter_mut().for_each(|x| *x = gelu(*x)),
    }
}

/// (1 + tanh(u)) / 2 is sigmoid(2u).
#[inline]
fn gelu_tanh(x: f32) -> f32 {
    /// 2 √(2 / π).
    const FACTOR: f32 = 1.595_769;
    x * sigmoid(FACTOR * (x + 0.044_715 * x * x * x))
}

#[inline]
fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Activation;

    const INPUTS: [f32; 9] = [-10.0, -3.0, -1.0, -0.1, 0.0, 0.1, 1.0, 3.0, 10.0];

    /// `silu`, `gelu(approximate="tanh")` and `gelu` of torch 2.8.0 in float64.
    const EXPECTED: [(Activation, [f32; 9]); 3] = [
        (
            Activation::Silu,
            [
                -0.000_453_978_7,
                -0.142_277_62,
                -0.268_941_42,
                -0.047_502_08,
                0.0,
                0.052_497_92,
                0.731_058_6,
                2.857_722_4,
                9.999_546,
            ],
        ),
        (
            Activation::GeluTanh,
            [
                0.0,
                -0.003_637_392,
                -0.158_808_01,
                -0.046_017_25,
                0.0,
                0.053_982_75,
                0.841_192,
                2.996_362_6,
                10.0,
            ],
        ),
        (
            Activation::Gelu,
            [
                0.0,
                -0.004_049_694,
                -0.158_655_25,
                -0.046_017_215,
                0.0,
                0.053_982_785,
                0.841_344_7,
                2.995_950_3,
                10.0,
            ],
        ),
    ];

    #[test]
    fn values_are_those_of_torch() {
        for (activation, expected) in EXPECTED {
            let mut values = INPUTS;
            activate(activation, &mut values);
            for (value, expected) in values.into_iter().zip(expected) {
                let error = (value - expected).abs();
                assert!(error < 4e-7 * expected.abs().max(1.0), "{activation:?}: {value}");
            }
        }
    }
}
