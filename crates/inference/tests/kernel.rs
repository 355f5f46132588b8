//! The kernels compared with their definitions.

use edge_net_inference::kernel::attention::{Heads, Shape, attention};
use edge_net_inference::kernel::linear::{Activation, Rounded, Rounding, Weights, linear};
use edge_net_inference::kernel::norm::layer_norm;
use proptest::prelude::*;

fn floats(count: usize) -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(-4.0_f32..4.0, count)
}

/// x Φ(x), by a series for erf that converges for the values in these tests.
fn gelu(x: f64) -> f64 {
    let z = x / std::f64::consts::SQRT_2;
    let terms = (0..120).scan(z, |term, n| {
        let value = *term / (2.0 * f64::from(n) + 1.0);
        *term *= -z * z / (f64::from(n) + 1.0);
        Some(value)
    });
    0.5 * x * (1.0 + terms.sum::<f64>() * 2.0 / std::f64::consts::PI.sqrt())
}

prop_compose! {
    /// Rows, inputs, outputs, `x`, weights, scales and bias of a product.
    fn product()(
        rows in 1_usize..20,
        inputs in prop_oneof![3 => 1_usize..70, 1 => 500_usize..1100],
        outputs in 1_usize..20,
    )(
        rows in Just(rows),
        inputs in Just(inputs),
        outputs in Just(outputs),
        x in floats(rows * inputs),
        q in prop::collection::vec(any::<u8>(), inputs * outputs),
        scales in prop::collection::vec(0.001_f32..0.02, outputs),
        bias in floats(outputs),
    ) -> (usize, usize, usize, Vec<f32>, Vec<u8>, Vec<f32>, Vec<f32>) {
        (rows, inputs, outputs, x, q, scales, bias)
    }
}

prop_compose! {
    /// Heads, queries, keys, width, `q`, `k`, `v` and mask of an attention.
    fn two_sequences()(
        heads in 1_usize..4,
        queries in 1_usize..12,
        keys in 1_usize..12,
        width in 1_usize..20,
    )(
        heads in Just(heads),
        queries in Just(queries),
        keys in Just(keys),
        width in Just(width),
        q in floats(2 * heads * queries * width),
        k in floats(2 * heads * keys * width),
        v in floats(2 * heads * keys * width),
        mask in prop::collection::vec(
            prop_oneof![4 => Just(0.0_f32), 1 => Just(f32::MIN), 1 => Just(f32::NEG_INFINITY)],
            2 * queries * keys,
        ),
    ) -> (usize, usize, usize, usize, Vec<f32>, Vec<f32>, Vec<f32>, Vec<f32>) {
        (heads, queries, keys, width, q, k, v, mask)
    }
}

prop_compose! {
    /// Width, `x`, scale and bias of a normalization.
    fn three_rows()(width in 2_usize..40)(
        width in Just(width),
        x in floats(3 * width),
        scale in floats(width),
        bias in floats(width),
    ) -> (usize, Vec<f32>, Vec<f32>, Vec<f32>) {
        (width, x, scale, bias)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_product_is_the_sum_of_products(
        (rows, inputs, outputs, x, q, scales, bias) in product(),
        active in any::<bool>(),
    ) {
        let weights = Weights::pack(&q, u8::cast_signed, inputs, scales.clone().into());
        let activation = if active { Activation::Gelu } else { Activation::None };
        let mut found = vec![0.0; rows * outputs];
        let rounded = Rounded::of(&x, inputs, rows, Rounding::Rows);
        linear(&rounded, &weights, Some(&bias), activation, &mut found);
        for (at, found) in found.iter().enumerate() {
            let (row, column) = (at / outputs, at % outputs);
            let weight = |i: usize| {
                f64::from(q[i * outputs + column].cast_signed()) * f64::from(scales[column])
            };
            let products = (0..inputs).map(|i| f64::from(x[row * inputs + i]) * weight(i));
            // The rounding error of each is at most half a step.
            let values = &x[row * inputs..][..inputs];
            let most = values.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
            let all = (0..inputs).map(|i| weight(i).abs()).sum::<f64>();
            let bound = all * f64::from(most) / 32_767.0 / 2.0 + 1e-4;
            let sum = products.sum::<f64>() + f64::from(bias[column]);
            let wanted = match active {
                true if sum.abs() < 5.0 => gelu(sum),
                true => sum.max(0.0),
                false => sum,
            };
            let far = (f64::from(*found) - wanted).abs();
            prop_assert!(far < 1.2 * bound + 1e-5, "{at}: {found} {wanted} {bound}");
        }
    }

    #[test]
    fn bytes_are_rounded_as_in_onnx(
        x in floats(3 * 8),
        q in prop::collection::vec(any::<u8>(), 8 * 5),
    ) {
        let weights = Weights::pack(&q, u8::cast_signed, 8, vec![1.0; 5].into());
        let mut found = vec![0.0; 3 * 5];
        let rounded = Rounded::of(&x, 8, 3, Rounding::Bytes);
        linear(&rounded, &weights, None, Activation::None, &mut found);
        // DynamicQuantizeLinear by its definition.
        let least = x.iter().copied().fold(0.0, f32::min);
        let most = x.iter().copied().fold(0.0, f32::max);
        let scale = (most - least) / 255.0;
        let zero = (-least / scale).round_ties_even().clamp(0.0, 255.0);
        let byte = |x: f32| ((x / scale).round_ties_even() + zero).clamp(0.0, 255.0) - zero;
        for (at, found) in found.iter().enumerate() {
            let weight = |i: usize| f32::from(q[i * 5 + at % 5].cast_signed());
            let sum: f32 = (0..8).map(|i| byte(x[at / 5 * 8 + i]) * weight(i)).sum();
            let far = (found - sum * scale).abs();
            prop_assert!(far <= 1e-5 * sum.abs() * scale, "{found} {}", sum * scale);
        }
    }

    #[test]
    fn attention_is_a_softmax_of_scores(
        (heads, queries, keys, width, q, k, v, mask) in two_sequences(),
    ) {
        let shape = Shape { batch: 2, heads, queries, keys, width, value_width: width };
        let strides = |sequence: usize| [heads * sequence * width, width, heads * width, 1];
        let of = |values, sequence| Heads { values, strides: strides(sequence) };
        let masks = Heads { values: &mask, strides: [queries * keys, 0, keys, 1] };
        let mut found = vec![f32::NAN; q.len()];
        let inputs = (of(&q, queries), of(&k, keys), of(&v, keys));
        attention(shape, inputs, Some(masks), 0.3, &mut found, strides(queries));
        let at = |batch: usize, head: usize, place: usize, sequence: usize| {
            ((batch * sequence + place) * heads + head) * width
        };
        let all = (0..2 * heads * queries)
            .map(|i| (i / heads / queries, i / queries % heads, i % queries));
        for (batch, head, query) in all {
            let score = |key: usize| {
                let products = (0..width).map(|i| {
                    q[at(batch, head, query, queries) + i] * k[at(batch, head, key, keys) + i]
                });
                0.3 * products.sum::<f32>() + mask[(batch * queries + query) * keys + key]
            };
            let scores: Vec<f32> = (0..keys).map(score).collect();
            let most = scores.iter().copied().fold(f32::MIN, f32::max);
            let shares: Vec<f32> = scores.iter().map(|score| (score - most).exp()).collect();
            let total: f32 = shares.iter().sum();
            for i in 0..width {
                let value = |key: usize| v[at(batch, head, key, keys) + i];
                let sum: f32 = (0..keys).map(|key| shares[key] * value(key)).sum();
                let wanted = if total > 0.0 { sum / total } else { 0.0 };
                let found = found[at(batch, head, query, queries) + i];
                prop_assert!((found - wanted).abs() < 1e-4, "{found} {wanted}");
            }
        }
    }

    #[test]
    fn a_norm_has_its_scale_and_its_bias((width, x, scale, bias) in three_rows()) {
        let mut found = x.clone();
        layer_norm(&mut found, &scale, &bias, 1e-5);
        for (at, found) in found.iter().enumerate() {
            let row = &x[at / width * width..][..width];
            let row: Vec<f64> = row.iter().map(|x| f64::from(*x)).collect();
            let count = f64::from(u32::try_from(width).unwrap());
            let mean = row.iter().sum::<f64>() / count;
            let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count;
            let normal = (row[at % width] - mean) / (variance + 1e-5).sqrt();
            let wanted = normal * f64::from(scale[at % width]) + f64::from(bias[at % width]);
            prop_assert!((f64::from(*found) - wanted).abs() < 1e-3, "{found} {wanted}");
        }
    }
}

/// A row of two nearly equal numbers far from 0: padding with zeros once cancelled its variance.
#[test]
fn a_norm_of_a_nearly_constant_row_is_exact() {
    let mut found = [2.867_151, 2.871_168];
    let (mean, variance) = (2.869_159_5, 4.034_072e-6);
    let wanted = (2.871_168 - mean) / (variance + 1e-5_f64).sqrt() * -2.353_211;
    layer_norm(&mut found, &[0.0, -2.353_211], &[0.0, 0.0], 1e-5);
    assert!((f64::from(found[1]) - wanted).abs() < 1e-3, "{found:?} {wanted}");
}

#[test]
fn nan_and_infinity_do_not_affect_other_rows() {
    let weights = Weights::pack(&[1; 4], u8::cast_signed, 2, vec![1.0; 2].into());
    let mut found = [0.0; 6];
    let x = [f32::NAN, 1.0, f32::INFINITY, 1.0, 2.0, 3.0];
    linear(&Rounded::of(&x, 2, 3, Rounding::Rows), &weights, None, Activation::None, &mut found);
    assert!((found[4] - 5.0).abs() < 1e-3 && (found[5] - 5.0).abs() < 1e-3, "{found:?}");
}
