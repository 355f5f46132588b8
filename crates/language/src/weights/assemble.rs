//! Weights from matrices.

use std::collections::HashMap;
use std::sync::Arc;

use edge_net_tensor::Matrix;

use super::{Layer, Linear, NormWeights, Weights, WeightsError};
use crate::config::{Config, Norm};
use crate::names::{Id, Part};

/// The tensors of a decoder.
#[derive(Debug, Default)]
pub(super) struct Parts {
    matrices: HashMap<Id, (String, Matrix)>,
    /// Bytes of what was taken.
    bytes: usize,
}

impl Parts {
    pub fn add(&mut self, id: Id, name: String, matrix: Matrix) {
        self.matrices.insert(id, (name, matrix));
    }

    /// All tensors are there: they are those of [`Config::tensors`].
    pub fn assemble(mut self, config: &Config) -> Result<Weights, WeightsError> {
        let embedding = self.matrix(Id { layer: None, part: Part::Embedding, bias: false })?;
        let layers = (0..config.layers).map(|index| self.layer(config, index));
        let layers = layers.collect::<Result<_, _>>()?;
        let output_norm = self.norm(config, None, Part::OutputNorm)?;
        let output_norm = output_norm.unwrap_or_default();
        let head = if config.tied_head {
            Linear::new(Arc::clone(&embedding), Vec::new())
        } else {
            self.linear(None, Part::Head)?
        };
        let factors = Id { layer: None, part: Part::RopeFactors, bias: false };
        let rope_factors = self.vector(factors)?.unwrap_or_default();
        let (config, bytes) = (config.clone(), self.bytes);
        Ok(Weights { config, embedding, layers, output_norm, head, rope_factors, bytes })
    }

    fn layer(&mut self, config: &Config, index: usize) -> Result<Layer, WeightsError> {
        let at = Some(index);
        let [query, key, value] = self.query_key_value(config, at)?;
        Ok(Layer {
            attention_norm: self.norm(config, at, Part::AttentionNorm)?.unwrap_or_default(),
            query,
            key,
            value,
            query_norm: self.norm(config, at, Part::QueryNorm)?,
            key_norm: self.norm(config, at, Part::KeyNorm)?,
            attention_output: self.linear(at, Part::AttentionOutput)?,
            post_attention_norm: self.norm(config, at, Part::PostAttentionNorm)?,
            mlp_norm: self.norm(config, at, Part::MlpNorm)?,
            gate: if self.has(at, Part::Gate) { Some(self.linear(at, Part::Gate)?) } else { None },
            up: self.linear(at, Part::Up)?,
            down: self.linear(at, Part::Down)?,
            post_mlp_norm: self.norm(config, at, Part::PostMlpNorm)?,
        })
    }

    /// The three products. Those of one tensor share its matrix.
    fn query_key_value(
        &mut self,
        config: &Config,
        layer: Option<usize>,
    ) -> Result<[Linear; 3], WeightsError> {
        if !config.fused_query_key_value {
            return Ok([
                self.linear(layer, Part::Query)?,
                self.linear(layer, Part::Key)?,
                self.linear(layer, Part::Value)?,
            ]);
        }
        let fused = self.linear(layer, Part::QueryKeyValue)?;
        let (query, key) = (config.query_width(), config.kv_width());
        let ranges = [0..query, query..query + key, query + key..query + 2 * key];
        Ok(ranges.map(|rows| Linear {
            matrix: Arc::clone(&fused.matrix),
            bias: fused.bias.get(rows.clone()).map(<[f32]>::to_vec).unwrap_or_default(),
            rows,
        }))
    }

    fn has(&self, layer: Option<usize>, part: Part) -> bool {
        self.matrices.contains_key(&Id { layer, part, bias: false })
    }

    fn linear(&mut self, layer: Option<usize>, part: Part) -> Result<Linear, WeightsError> {
        let matrix = self.matrix(Id { layer, part, bias: false })?;
        let bias = self.vector(Id { layer, part, bias: true })?.unwrap_or_default();
        Ok(Linear::new(matrix, bias))
    }

    fn norm(
        &mut self,
        config: &Config,
        layer: Option<usize>,
        part: Part,
    ) -> Result<Option<NormWeights>, WeightsError> {
        let Some(mut weight) = self.vector(Id { layer, part, bias: false })? else {
            return Ok(None);
        };
        if config.norm == Norm::RmsPlusOne {
            for weight in &mut weight {
                *weight += 1.0;
            }
        }
        let bias = self.vector(Id { layer, part, bias: true })?.unwrap_or_default();
        Ok(Some(NormWeights { weight, bias }))
    }

    fn matrix(&mut self, id: Id) -> Result<Arc<Matrix>, WeightsError> {
        match self.matrices.remove(&id) {
            Some((_, matrix)) => {
                self.bytes += matrix.bytes();
                Ok(Arc::new(matrix))
            }
            None => Err(WeightsError::Absent { name: format!("{id:?}"), expected: Vec::new() }),
        }
    }

    /// The only row of a tensor; `None` if the decoder has no such tensor.
    fn vector(&mut self, id: Id) -> Result<Option<Vec<f32>>, WeightsError> {
        let Some((name, matrix)) = self.matrices.remove(&id) else { return Ok(None) };
        let mut values = vec![0.0; matrix.columns()];
        if let Err(source) = matrix.row(0, &mut values) {
            return Err(WeightsError::Matrix { name, source });
        }
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Err(WeightsError::NotFinite { name, index });
        }
        self.bytes += size_of_val(&*values);
        Ok(Some(values))
    }
}
