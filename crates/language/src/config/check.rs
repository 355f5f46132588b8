//! Limits for the numbers of a description.

use std::fmt::Display;
use std::ops::RangeInclusive;

use super::description::Config;
use super::error::ConfigError;
use super::rope::{Rope, Scaling};

/// Limit for the number of layers.
pub const MAX_LAYERS: usize = 512;
/// Limit for the values of a position.
pub const MAX_WIDTH: usize = 1 << 16;
/// Limit for the number of heads.
pub const MAX_HEADS: usize = 1024;
/// Limit for the values of a head.
pub const MAX_HEAD_DIM: usize = 512;
/// Limit for the values inside an MLP.
pub const MAX_HIDDEN: usize = 1 << 18;
/// Limit for the number of tokens of a vocabulary.
pub const MAX_VOCABULARY: usize = 1 << 20;
/// Limit for the tokens of a context.
pub const MAX_CONTEXT: usize = 1 << 24;

impl Config {
    /// The description, if its numbers are possible.
    pub(super) fn checked(self) -> Result<Self, ConfigError> {
        within("the number of layers", self.layers, 1..=MAX_LAYERS)?;
        within("the width", self.width, 1..=MAX_WIDTH)?;
        within("the number of heads", self.heads, 1..=MAX_HEADS)?;
        within("the number of heads of keys", self.kv_heads, 1..=self.heads)?;
        multiple("the number of heads", self.heads, self.kv_heads, "of the heads of keys")?;
        within("the size of a head", self.head_dim, 2..=MAX_HEAD_DIM)?;
        multiple("the size of a head", self.head_dim, 2, "of 2")?;
        within("the width of the MLP", self.hidden, 1..=MAX_HIDDEN)?;
        within("the number of tokens", self.vocabulary, 1..=MAX_VOCABULARY)?;
        within("the length of the context", self.context, 1..=MAX_CONTEXT)?;
        within("the epsilon of the norms", self.epsilon, 1e-12..=0.1)?;
        within("the scale of attention", self.attention_scale, 1e-6..=1e3)?;
        if let Some(cap) = self.attention_cap {
            within("the cap of attention", cap, 1e-3..=1e6)?;
        }
        if let Some(cap) = self.logit_cap {
            within("the cap of logits", cap, 1e-3..=1e6)?;
        }
        rope(&self.rope, self.head_dim)?;
        if let Some(local) = &self.local {
            within("the window of attention", local.window, 1..=MAX_CONTEXT)?;
            rope(&local.rope, self.head_dim)?;
            within(
                "the number of layers with a kind",
                local.layers.len(),
                self.layers..=self.layers,
            )?;
        }
        Ok(self)
    }
}

fn rope(rope: &Rope, head_dim: usize) -> Result<(), ConfigError> {
    within("the number of values that turn", rope.dims, 2..=head_dim)?;
    multiple("the number of values that turn", rope.dims, 2, "of 2")?;
    within("the base of rotary embeddings", rope.base, 1.0..=1e12)?;
    match rope.scaling {
        Scaling::None | Scaling::Tensor => {}
        Scaling::Linear { factor } => {
            within("the factor of rotary embeddings", factor, 1e-3..=1e6)?;
        }
        Scaling::Llama3 { factor, low, high, context } => {
            within("the factor of rotary embeddings", factor, 1e-3..=1e6)?;
            within("low_freq_factor", low, 1e-3..=1e6)?;
            within("high_freq_factor", high, low..=1e6)?;
            if high <= low {
                return Err(number("high_freq_factor", high, "above low_freq_factor".to_owned()));
            }
            within("original_max_position_embeddings", context, 1..=MAX_CONTEXT)?;
        }
    }
    Ok(())
}

fn number(what: &'static str, found: impl Display, expected: String) -> ConfigError {
    ConfigError::Number { what, found: found.to_string(), expected }
}

/// Checks a range. A number that is none is in no range.
fn within<T: PartialOrd + Display>(
    what: &'static str,
    found: T,
    range: RangeInclusive<T>,
) -> Result<(), ConfigError> {
    if range.contains(&found) {
        return Ok(());
    }
    Err(number(what, found, format!("from {} to {}", range.start(), range.end())))
}

fn multiple(
    what: &'static str,
    found: usize,
    of: usize,
    named: &'static str,
) -> Result<(), ConfigError> {
    if found.is_multiple_of(of) {
        return Ok(());
    }
    Err(number(what, found, format!("a multiple {named}")))
}

/// Values of a head where nothing else says it: those of the width that a head has.
pub(super) fn head_dim(width: usize, heads: usize) -> Result<usize, ConfigError> {
    within("the number of heads", heads, 1..=MAX_HEADS)?;
    multiple("the width", width, heads, "of the number of heads")?;
    Ok(width / heads)
}

/// One over the root of a number that is checked later: 0 gives infinity, which is refused.
#[allow(clippy::cast_possible_truncation)] // The scale is an f32.
pub(super) fn over_root(number: f64) -> f32 {
    (1.0 / number.sqrt()) as f32
}

/// The root of the width, which Gemma multiplies embeddings by.
#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // The width is below 2¹⁶.
pub(super) fn root(width: usize) -> f32 {
    (width as f64).sqrt() as f32
}
