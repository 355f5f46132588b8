//! The kernels beside the definitions that they follow.

use edge_net_inference::kernel::attention::{Heads, Shape, attention};
use edge_net_inference::kernel::linear::{Activation, Rounded, Rounding, Weights, linear};
use edge_net_inference::kernel::norm::layer_norm;
use proptest::prelude::*;

fn floats(count: usize) -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(-4.0_f32..4.0, count)
}

/// x Φ(x), by a series for erf that converges for what tests have.
fn gelu(x: f64) -> f64 {
    let z = x / std::f64::consts::SQRT_2;
    let terms = (0..120).scan(z, |term, n| {
        let value = *term / (2.0 * f64::from(n) + 1.0);
        *term *= -z * z / (f64::from(n) + 1.0);
        Some(value)
    });
    0.5 * x * (1.0 + terms.sum::<f64>() * 2.0 / std::f64::consts::PI.sqrt())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_product_is_the_sum_of_products(
        (rows, inputs, outputs, x, q, scales, bias) in (1_usize..20, prop_oneof![3 => 1_usize..70, 1 => 500_usize..1100], 1_usize..20).prop_flat_map(|(rows, inputs, outputs)| (
            Just(rows), Just(inputs), Just(outputs), floats(rows * inputs), prop::collection::vec(any::<u8>(), inputs * outputs),
            prop::collection::vec(0.001_f32..0.02, outputs), floats(outputs),
        )),
        active in any::<bool>(),
    ) {
        let weights = Weights::pack(&q, u8::cast_signed, inputs, scales.clone().into());
        let activation = if active { Activation::Gelu } else { Activation::None };
        let mut found = vec![0.0; rows * outputs];
        linear(&Rounded::of(&x, inputs, rows, Rounding::Rows), &weights, Some(&bias), activation, &mut found);
        for (at, found) in found.iter().enumerate() {
            let (row, column) = (at / outputs, at % outputs);
            let weight = |i: usize| f64::from(q[i * outputs + column].cast_signed()) * f64::from(scales[column]);
            let products = (0..inputs).map(|i| f64::from(x[row * inputs + i]) * weight(i));
            // Rounding is by half a step at the most for each.
            let most = x[row * inputs..][..inputs].iter().fold(0.0_f32, |most, x| most.max(x.abs()));
            let bound = (0..inputs).map(|i| weight(i).abs()).sum::<f64>() * f64::from(most) / 32_767.0 / 2.0 + 1e-4;
            let sum = products.sum::<f64>() + f64::from(bias[column]);
            let wanted = if active && sum.abs() < 5.0 { gelu(sum) } else if active { sum.max(0.0) } else { sum };
            prop_assert!((f64::from(*found) - wanted).abs() < 1.2 * bound + 1e-5, "{at}: {found} {wanted} {bound}");
        }
    }

    #[test]
    fn bytes_are_rounded_as_onnx_says(x in floats(3 * 8), q in prop::collection::vec(any::<u8>(), 8 * 5)) {
        let weights = Weights::pack(&q, u8::cast_signed, 8, vec![1.0; 5].into());
        let mut found = vec![0.0; 3 * 5];
        linear(&Rounded::of(&x, 8, 3, Rounding::Bytes), &weights, None, Activation::None, &mut found);
        // DynamicQuantizeLinear, as its definition has it.
        let (least, most) = x.iter().fold((0.0_f32, 0.0_f32), |(least, most), x| (least.min(*x), most.max(*x)));
        let scale = (most - least) / 255.0;
        let zero = (-least / scale).round_ties_even().clamp(0.0, 255.0);
        let byte = |x: f32| ((x / scale).round_ties_even() + zero).clamp(0.0, 255.0) - zero;
        for (at, found) in found.iter().enumerate() {
            let sum: f32 = (0..8).map(|i| byte(x[at / 5 * 8 + i]) * f32::from(q[i * 5 + at % 5].cast_signed())).sum();
            prop_assert!((found - sum * scale).abs() <= 1e-5 * sum.abs() * scale, "{found} {}", sum * scale);
        }
    }

    #[test]
    fn attention_is_a_softmax_of_scores(
        (heads, queries, keys, width, q, k, v, mask) in (1_usize..4, 1_usize..12, 1_usize..12, 1_usize..20).prop_flat_map(|(heads, queries, keys, width)| (
            Just(heads), Just(queries), Just(keys), Just(width), floats(2 * heads * queries * width), floats(2 * heads * keys * width),
            floats(2 * heads * keys * width), prop::collection::vec(prop_oneof![4 => Just(0.0_f32), 1 => Just(f32::MIN), 1 => Just(f32::NEG_INFINITY)], 2 * queries * keys),
        )),
    ) {
        let shape = Shape { batch: 2, heads, queries, keys, width, value_width: width };
        let strides = |sequence: usize| [heads * sequence * width, width, heads * width, 1];
        let of = |values, sequence| Heads { values, strides: strides(sequence) };
        let masks = Heads { values: &mask, strides: [queries * keys, 0, keys, 1] };
        let mut found = vec![f32::NAN; q.len()];
        attention(shape, (of(&q, queries), of(&k, keys), of(&v, keys)), Some(masks), 0.3, &mut found, strides(queries));
        let at = |batch: usize, head: usize, place: usize, sequence: usize| ((batch * sequence + place) * heads + head) * width;
        for (batch, head, query) in (0..2).flat_map(|b| (0..heads).flat_map(move |h| (0..queries).map(move |q| (b, h, q)))) {
            let score = |key: usize| {
                let products = (0..width).map(|i| q[at(batch, head, query, queries) + i] * k[at(batch, head, key, keys) + i]);
                0.3 * products.sum::<f32>() + mask[(batch * queries + query) * keys + key]
            };
            let scores: Vec<f32> = (0..keys).map(score).collect();
            let most = scores.iter().copied().fold(f32::MIN, f32::max);
            let shares: Vec<f32> = scores.iter().map(|score| (score - most).exp()).collect();
            let total: f32 = shares.iter().sum();
            for i in 0..width {
                let sum: f32 = (0..keys).map(|key| shares[key] * v[at(batch, head, key, keys) + i]).sum();
                let wanted = if total > 0.0 { sum / total } else { 0.0 };
                let found = found[at(batch, head, query, queries) + i];
                prop_assert!((found - wanted).abs() < 1e-4, "{found} {wanted}");
            }
        }
    }

    #[test]
    fn a_norm_has_its_scale_and_its_bias((width, x, scale, bias) in (2_usize..40).prop_flat_map(|width| (Just(width), floats(3 * width), floats(width), floats(width)))) {
        let mut found = x.clone();
        layer_norm(&mut found, &scale, &bias, 1e-5);
        for (at, found) in found.iter().enumerate() {
            let row: Vec<f64> = x[at / width * width..][..width].iter().map(|x| f64::from(*x)).collect();
            let count = f64::from(u32::try_from(width).unwrap());
            let mean = row.iter().sum::<f64>() / count;
            let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count;
            let normal = (row[at % width] - mean) / (variance + 1e-5).sqrt();
            let wanted = normal * f64::from(scale[at % width]) + f64::from(bias[at % width]);
            prop_assert!((f64::from(*found) - wanted).abs() < 1e-3, "{found} {wanted}");
        }
    }
}

#[test]
fn what_is_no_number_takes_nothing_else_with_it() {
    let weights = Weights::pack(&[1; 4], u8::cast_signed, 2, vec![1.0; 2].into());
    let mut found = [0.0; 6];
    let x = [f32::NAN, 1.0, f32::INFINITY, 1.0, 2.0, 3.0];
    linear(&Rounded::of(&x, 2, 3, Rounding::Rows), &weights, None, Activation::None, &mut found);
    assert!((found[4] - 5.0).abs() < 1e-3 && (found[5] - 5.0).abs() < 1e-3, "{found:?}");
}
