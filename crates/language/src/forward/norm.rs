//! Normalization.

use super::lanes::{dot, sum};
use crate::config::Norm;
use crate::weights::NormWeights;

/// Normalizes rows, which have the length of the weight. What files store without 1 has it added
/// already.
#[allow(clippy::cast_precision_loss)] // Lengths are below 2²⁴.
pub(super) fn normalize(norm: Norm, epsilon: f32, weights: &NormWeights, rows: &mut [f32]) {
    let length = weights.weight.len();
    for row in rows.chunks_exact_mut(length) {
        if norm == Norm::Layer {
            let mean = sum(row) / length as f32;
            for value in &mut *row {
                *value -= mean;
            }
        }
        let factor = 1.0 / (dot(row, row) / length as f32 + epsilon).sqrt();
        for (value, weight) in row.iter_mut().zip(&weights.weight) {
            *value = *value * factor * weight;
        }
        for (value, bias) in row.iter_mut().zip(&weights.bias) {
            *value += bias;
        }
    }
}
