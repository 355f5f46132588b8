//! One pass of some positions through all layers.

use edge_net_tensor::Activations;

use super::activation::activate;
use super::attention::{self, Attention};
use super::error::DecodeError;
use super::hook::Hook;
use super::lanes::cap;
use super::norm::normalize;
use super::rope::Turns;
use crate::cache::{Cache, Side};
use crate::config::Config;
use crate::names::{Id, Part};
use crate::weights::{Layer, Linear, NormWeights, Precision, Weights};

/// Buffers that are kept from pass to pass. All have rows of positions.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    /// What layers add to.
    stream: Vec<f32>,
    query: Vec<f32>,
    key: Vec<f32>,
    value: Vec<f32>,
    attended: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    /// What attention adds to the stream.
    attention: Vec<f32>,
    /// What the MLP adds to the stream.
    mlp: Vec<f32>,
    normalized: Vec<f32>,
    /// The input of the products of attention and of the MLP.
    input: Activations,
    /// The input of the last products of both.
    inner: Activations,
    softmax: attention::Buffers,
    /// Turns of layers that see all positions, and of others.
    turns: [Turns; 2],
    logits: Vec<f32>,
}

/// A pass.
pub(super) struct Pass<'a> {
    pub config: &'a Config,
    pub weights: &'a Weights,
    pub precision: Precision,
    /// The first of the new positions.
    pub start: usize,
    pub buffers: &'a mut Buffers,
    pub cache: &'a mut Cache,
    pub hook: &'a mut dyn Hook,
}

impl Pass<'_> {
    /// Computes the stream after all layers.
    pub fn layers(&mut self, tokens: &[u32], angles: &[Vec<f32>; 2]) -> Result<(), DecodeError> {
        self.embed(tokens)?;
        for (turns, angles) in self.buffers.turns.iter_mut().zip(angles) {
            turns.set(angles, self.start, tokens.len());
        }
        let weights = self.weights;
        for (index, layer) in weights.layers().iter().enumerate() {
            self.normalize(&layer.attention_norm)?;
            self.attention(index, layer)?;
            if !self.config.parallel {
                add(&mut self.buffers.stream, &self.buffers.attention);
                self.normalize(layer.mlp_norm.as_ref().unwrap_or(&layer.attention_norm))?;
            }
            self.mlp(index, layer)?;
            if self.config.parallel {
                add(&mut self.buffers.stream, &self.buffers.attention);
            }
            add(&mut self.buffers.stream, &self.buffers.mlp);
        }
        Ok(())
    }

    /// Adds the logits of the last `count` positions to `out`.
    pub fn logits(&mut self, count: usize, out: &mut Vec<f32>) -> Result<(), DecodeError> {
        if count == 0 {
            return Ok(());
        }
        let weights = self.weights;
        let stream = &mut self.buffers.stream;
        stream.drain(..stream.len() - count * self.config.width);
        self.normalize(weights.output_norm())?;
        let id = Id { layer: None, part: Part::Head, bias: false };
        let Buffers { input, logits, .. } = &mut *self.buffers;
        weights.head().multiply(input, logits, self.precision)?;
        self.hook.product(id, input, logits);
        if let Some(most) = self.config.logit_cap {
            cap(logits, most);
        }
        if logits.iter().any(|logit| !logit.is_finite()) {
            return Err(DecodeError::NotFinite);
        }
        out.extend_from_slice(logits);
        Ok(())
    }

    fn embed(&mut self, tokens: &[u32]) -> Result<(), DecodeError> {
        let stream = &mut self.buffers.stream;
        stream.resize(tokens.len() * self.config.width, 0.0);
        let embedding = self.weights.embedding();
        for (row, token) in stream.chunks_exact_mut(self.config.width).zip(tokens) {
            embedding.row(usize::try_from(*token).unwrap_or(usize::MAX), row)?;
        }
        let scale = self.config.embedding_scale;
        if (scale - 1.0).abs() > 0.0 {
            for value in stream {
                *value *= scale;
            }
        }
        Ok(())
    }

    /// Makes the stream, normalized, the input of products.
    fn normalize(&mut self, weights: &NormWeights) -> Result<(), DecodeError> {
        let Buffers { stream, normalized, input, .. } = &mut *self.buffers;
        normalized.clear();
        normalized.extend_from_slice(stream);
        normalize(self.config.norm, self.config.epsilon, weights, normalized);
        Ok(input.set(normalized, self.config.width)?)
    }

    fn attention(&mut self, index: usize, layer: &Layer) -> Result<(), DecodeError> {
        let config = self.config;
        let Buffers { query, key, value, input, turns, .. } = &mut *self.buffers;
        let mut products = Products { layer: index, precision: self.precision, hook: self.hook };
        products.multiply(Part::Query, &layer.query, input, query)?;
        products.multiply(Part::Key, &layer.key, input, key)?;
        products.multiply(Part::Value, &layer.value, input, value)?;
        for (norm, rows) in [(&layer.query_norm, &mut *query), (&layer.key_norm, &mut *key)] {
            if let Some(norm) = norm {
                normalize(config.norm, config.epsilon, norm, rows);
            }
        }
        let (rope, turns) =
            (config.rope_of(index), &turns[usize::from(config.window(index).is_some())]);
        turns.turn(rope, config.head_dim, config.query_width(), query);
        turns.turn(rope, config.head_dim, config.kv_width(), key);
        self.cache.write(index, Side::Key, self.start, key)?;
        self.cache.write(index, Side::Value, self.start, value)?;
        self.attend(index);

        let Buffers { attended, attention, inner, .. } = &mut *self.buffers;
        let mut products = Products { layer: index, precision: self.precision, hook: self.hook };
        inner.set(attended, config.query_width())?;
        products.multiply(Part::AttentionOutput, &layer.attention_output, inner, attention)?;
        if let Some(norm) = &layer.post_attention_norm {
            normalize(config.norm, config.epsilon, norm, attention);
        }
        Ok(())
    }

    fn attend(&mut self, layer: usize) {
        let Buffers { query, attended, softmax, .. } = &mut *self.buffers;
        let attention =
            Attention { config: self.config, cache: self.cache, layer, start: self.start };
        attention.attend(query, softmax, attended);
    }

    fn mlp(&mut self, index: usize, layer: &Layer) -> Result<(), DecodeError> {
        let config = self.config;
        let Buffers { gate, up, mlp, input, inner, .. } = &mut *self.buffers;
        let mut products = Products { layer: index, precision: self.precision, hook: self.hook };
        if let Some(weights) = &layer.gate {
            products.multiply(Part::Gate, weights, input, gate)?;
            products.multiply(Part::Up, &layer.up, input, up)?;
            activate(config.activation, gate);
            for (up, gate) in up.iter_mut().zip(gate) {
                *up *= *gate;
            }
        } else {
            products.multiply(Part::Up, &layer.up, input, up)?;
            activate(config.activation, up);
        }
        inner.set(up, config.hidden)?;
        products.multiply(Part::Down, &layer.down, inner, mlp)?;
        if let Some(norm) = &layer.post_mlp_norm {
            normalize(config.norm, config.epsilon, norm, mlp);
        }
        Ok(())
    }
}

/// Products of a layer.
struct Products<'a> {
    layer: usize,
    precision: Precision,
    hook: &'a mut dyn Hook,
}

impl Products<'_> {
    fn multiply(
        &mut self,
        part: Part,
        weights: &Linear,
        input: &Activations,
        out: &mut Vec<f32>,
    ) -> Result<(), DecodeError> {
        weights.multiply(input, out, self.precision)?;
        self.hook.product(Id { layer: Some(self.layer), part, bias: false }, input, out);
        Ok(())
    }
}

fn add(stream: &mut [f32], values: &[f32]) {
    for (sum, value) in stream.iter_mut().zip(values) {
        *sum += value;
    }
}
