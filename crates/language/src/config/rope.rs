//! Rotary position embeddings.

use std::f64::consts::PI;

/// Which two values of a head turn together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pairs {
    /// Values 2i and 2i + 1. GGUF files of the architecture `llama` have the rows of query and key
    /// in the order for this.
    Interleaved,
    /// Values i and i + d/2 of the d that turn ("NEOX"). All others.
    Halves,
}

/// How angles are changed for contexts that are longer than those of the first training.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Scaling {
    /// They are not.
    None,
    /// All are divided by a factor.
    Linear {
        /// The factor.
        factor: f32,
    },
    /// Long waves are divided by a factor, short ones stay (Llama 3.1).
    Llama3 {
        /// The factor.
        factor: f32,
        /// Waves longer than `context` / `low` are divided.
        low: f32,
        /// Waves shorter than `context` / `high` stay.
        high: f32,
        /// Tokens of the contexts of the first training.
        context: usize,
    },
    /// Each is divided by a number of the tensor `rope_freqs.weight` of a GGUF file.
    Tensor,
}

/// Rotary position embeddings of a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rope {
    /// Which values turn together.
    pub pairs: Pairs,
    /// How many values of a head turn: the first ones. Even, at most the size of a head.
    pub dims: usize,
    /// The base of the frequencies.
    pub base: f32,
    /// The change for long contexts.
    pub scaling: Scaling,
}

impl Rope {
    /// The angle in radians by which each pair turns with each position: `dims` / 2 numbers.
    /// `factors` are those of [`Scaling::Tensor`], of which absent ones count as 1; else nothing.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // Angles are f32.
    pub fn angles(&self, factors: &[f32]) -> Vec<f32> {
        let angle = |pair: usize| {
            let exponent = -((2 * pair) as f64) / self.dims as f64;
            let angle = f64::from(self.base).powf(exponent);
            let angle = match self.scaling {
                Scaling::None => angle,
                Scaling::Linear { factor } => angle / f64::from(factor),
                Scaling::Llama3 { factor, low, high, context } => {
                    let [factor, low, high] = [factor, low, high].map(f64::from);
                    let waves = context as f64 * angle / (2.0 * PI);
                    let smooth = ((waves - low) / (high - low)).clamp(0.0, 1.0);
                    (1.0 - smooth) * angle / factor + smooth * angle
                }
                Scaling::Tensor => angle / f64::from(factors.get(pair).copied().unwrap_or(1.0)),
            };
            angle as f32
        };
        (0..self.dims / 2).map(angle).collect()
    }
}
