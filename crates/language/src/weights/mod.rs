//! The weights of a decoder, from the bytes of a file to matrices.

mod assemble;
mod builder;
mod error;
mod linear;
mod slot;

pub use builder::WeightsBuilder;
pub use error::WeightsError;
pub use linear::{Linear, Precision};

use std::sync::Arc;

use edge_net_tensor::Matrix;

use crate::config::Config;

/// The weight of a norm, and its bias.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NormWeights {
    /// What normalized values are multiplied by; 1 is added where the file has it without.
    pub weight: Vec<f32>,
    /// What is added afterwards; nothing where there is no bias.
    pub bias: Vec<f32>,
}

/// The weights of a layer.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The norm before attention.
    pub attention_norm: NormWeights,
    /// The product that gives the query.
    pub query: Linear,
    /// The product that gives the key.
    pub key: Linear,
    /// The product that gives the value.
    pub value: Linear,
    /// The norm of each head of the query.
    pub query_norm: Option<NormWeights>,
    /// The norm of each head of the key.
    pub key_norm: Option<NormWeights>,
    /// The product after attention.
    pub attention_output: Linear,
    /// The norm after attention.
    pub post_attention_norm: Option<NormWeights>,
    /// The norm before the MLP; `None` where it shares that of attention.
    pub mlp_norm: Option<NormWeights>,
    /// The product that passes the activation, where there are two.
    pub gate: Option<Linear>,
    /// The other, or the only one.
    pub up: Linear,
    /// The product at the end of the MLP.
    pub down: Linear,
    /// The norm after the MLP.
    pub post_mlp_norm: Option<NormWeights>,
}

/// The weights of a decoder, and its description.
#[derive(Clone, Debug)]
pub struct Weights {
    config: Config,
    embedding: Arc<Matrix>,
    layers: Vec<Layer>,
    output_norm: NormWeights,
    head: Linear,
    rope_factors: Vec<f32>,
    bytes: usize,
}

impl Weights {
    /// The description.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Rows of tokens.
    #[must_use]
    pub const fn embedding(&self) -> &Arc<Matrix> {
        &self.embedding
    }

    /// The layers, in order.
    #[must_use]
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The norm after all layers.
    #[must_use]
    pub const fn output_norm(&self) -> &NormWeights {
        &self.output_norm
    }

    /// The product that gives the logits. Its matrix may be that of the embedding.
    #[must_use]
    pub const fn head(&self) -> &Linear {
        &self.head
    }

    /// What angles of rotary embeddings are divided by, where the file says it.
    #[must_use]
    pub fn rope_factors(&self) -> &[f32] {
        &self.rope_factors
    }

    /// Bytes of memory. A matrix that is used twice counts once.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}
