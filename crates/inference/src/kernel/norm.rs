//! Layer normalization.

use wide::f32x4;

use super::float::sum;

/// Normalizes each row of `x` to mean 0 and variance 1, then multiplies by `scale` and adds `bias`,
/// which have the length of a row. The variance is that of the differences from the mean, as in
/// ONNX's LayerNormalization.
pub fn layer_norm(x: &mut [f32], scale: &[f32], bias: &[f32], epsilon: f32) {
    let width = scale.len();
    #[allow(clippy::cast_precision_loss)] // Widths are small.
    let share = 1.0 / width as f32;
    for row in x.chunks_exact_mut(width) {
        let mean = total(row, 0.0, |x| x) * share;
        // Padded with the mean: the padding adds nothing to the variance.
        let deviation = |x| x - f32x4::splat(mean);
        let variance = total(row, mean, |x| deviation(x) * deviation(x)) * share;
        let factor = 1.0 / (variance + epsilon).sqrt();
        let (fours, rest) = row.as_chunks_mut::<4>();
        let (scales, scale_rest) = scale.as_chunks::<4>();
        let (biases, bias_rest) = bias.as_chunks::<4>();
        for ((four, scale), bias) in fours.iter_mut().zip(scales).zip(biases) {
            let x = (f32x4::from(*four) - f32x4::splat(mean)) * f32x4::splat(factor);
            *four = x.mul_add(f32x4::from(*scale), f32x4::from(*bias)).to_array();
        }
        for ((x, scale), bias) in rest.iter_mut().zip(scale_rest).zip(bias_rest) {
            *x = (*x - mean) * factor * scale + bias;
        }
    }
}

/// The sum of `of` over a row; the last four are padded with `padding`.
fn total(row: &[f32], padding: f32, of: impl Fn(f32x4) -> f32x4) -> f32 {
    let (fours, rest) = row.as_chunks::<4>();
    let mut sums = fours.iter().fold(f32x4::ZERO, |sums, four| sums + of(f32x4::from(*four)));
    if !rest.is_empty() {
        let mut last = [padding; 4];
        last[..rest.len()].copy_from_slice(rest);
        sums += of(f32x4::from(last));
    }
    sum(sums)
}
