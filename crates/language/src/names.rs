//! Names of tensors, in GGUF files and in those of Hugging Face.

use crate::config::{Architecture, Config, Mlp, Scaling, Scheme};

/// What a tensor is in a decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Part {
    /// Rows of tokens.
    Embedding,
    /// The norm after all layers.
    OutputNorm,
    /// The product that gives the logits.
    Head,
    /// What angles of rotary embeddings are divided by ([`Scaling::Tensor`]).
    RopeFactors,
    /// The norm before attention.
    AttentionNorm,
    /// The product that gives the query.
    Query,
    /// The product that gives the key.
    Key,
    /// The product that gives the value.
    Value,
    /// Query, key and value in one, in this order of rows.
    QueryKeyValue,
    /// The norm of each head of the query.
    QueryNorm,
    /// The norm of each head of the key.
    KeyNorm,
    /// The product after attention.
    AttentionOutput,
    /// The norm after attention.
    PostAttentionNorm,
    /// The norm before the MLP.
    MlpNorm,
    /// The product of the MLP that passes the activation, where there are two.
    Gate,
    /// The other, or the only one.
    Up,
    /// The product at the end of the MLP.
    Down,
    /// The norm after the MLP.
    PostMlpNorm,
}

/// A tensor of a decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    /// Its layer; `None` outside of layers.
    pub layer: Option<usize>,
    /// What it is.
    pub part: Part,
    /// Whether it is the bias, not the weight.
    pub bias: bool,
}

/// A tensor that a decoder needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needed {
    /// What it is.
    pub id: Id,
    /// Its name in the file.
    pub name: String,
    /// Its dimensions: `[rows, columns]` or `[values]`.
    pub dims: Vec<usize>,
}

impl Part {
    const ALL: [Self; 18] = [
        Self::Embedding,
        Self::OutputNorm,
        Self::Head,
        Self::RopeFactors,
        Self::AttentionNorm,
        Self::Query,
        Self::Key,
        Self::Value,
        Self::QueryKeyValue,
        Self::QueryNorm,
        Self::KeyNorm,
        Self::AttentionOutput,
        Self::PostAttentionNorm,
        Self::MlpNorm,
        Self::Gate,
        Self::Up,
        Self::Down,
        Self::PostMlpNorm,
    ];

    /// Whether each layer has one.
    #[must_use]
    pub const fn in_layer(self) -> bool {
        !matches!(self, Self::Embedding | Self::OutputNorm | Self::Head | Self::RopeFactors)
    }

    /// The name without layer and suffix; `None` where files have no such tensor.
    const fn stem(self, scheme: Scheme, architecture: Architecture) -> Option<&'static str> {
        match scheme {
            Scheme::Gguf => Some(self.in_gguf()),
            Scheme::HuggingFace => match architecture {
                Architecture::Phi => self.in_phi(),
                Architecture::Gemma2 | Architecture::Gemma3 => self.in_late_gemma(),
                _ => self.in_llama(),
            },
        }
    }

    const fn in_gguf(self) -> &'static str {
        match self {
            Self::Embedding => "token_embd",
            Self::OutputNorm => "output_norm",
            Self::Head => "output",
            Self::RopeFactors => "rope_freqs",
            Self::AttentionNorm => "attn_norm",
            Self::Query => "attn_q",
            Self::Key => "attn_k",
            Self::Value => "attn_v",
            Self::QueryKeyValue => "attn_qkv",
            Self::QueryNorm => "attn_q_norm",
            Self::KeyNorm => "attn_k_norm",
            Self::AttentionOutput => "attn_output",
            Self::PostAttentionNorm => "post_attention_norm",
            Self::MlpNorm => "ffn_norm",
            Self::Gate => "ffn_gate",
            Self::Up => "ffn_up",
            Self::Down => "ffn_down",
            Self::PostMlpNorm => "post_ffw_norm",
        }
    }

    const fn in_llama(self) -> Option<&'static str> {
        Some(match self {
            Self::Embedding => "model.embed_tokens",
            Self::OutputNorm => "model.norm",
            Self::Head => "lm_head",
            Self::AttentionNorm => "input_layernorm",
            Self::Query => "self_attn.q_proj",
            Self::Key => "self_attn.k_proj",
            Self::Value => "self_attn.v_proj",
            Self::QueryNorm => "self_attn.q_norm",
            Self::KeyNorm => "self_attn.k_norm",
            Self::AttentionOutput => "self_attn.o_proj",
            Self::MlpNorm => "post_attention_layernorm",
            Self::Gate => "mlp.gate_proj",
            Self::Up => "mlp.up_proj",
            Self::Down => "mlp.down_proj",
            Self::RopeFactors
            | Self::QueryKeyValue
            | Self::PostAttentionNorm
            | Self::PostMlpNorm => return None,
        })
    }

    const fn in_late_gemma(self) -> Option<&'static str> {
        match self {
            Self::PostAttentionNorm => Some("post_attention_layernorm"),
            Self::MlpNorm => Some("pre_feedforward_layernorm"),
            Self::PostMlpNorm => Some("post_feedforward_layernorm"),
            other => other.in_llama(),
        }
    }

    const fn in_phi(self) -> Option<&'static str> {
        match self {
            Self::OutputNorm => Some("model.final_layernorm"),
            Self::AttentionOutput => Some("self_attn.dense"),
            Self::Up => Some("mlp.fc1"),
            Self::Down => Some("mlp.fc2"),
            Self::MlpNorm | Self::Gate | Self::QueryNorm | Self::KeyNorm => None,
            other => other.in_llama(),
        }
    }
}

const fn layers(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Gguf => "blk.",
        Scheme::HuggingFace => "model.layers.",
    }
}

impl Id {
    /// The name of the tensor; `None` where files have no such tensor, or a layer is missing or
    /// too much.
    #[must_use]
    pub fn name(self, scheme: Scheme, architecture: Architecture) -> Option<String> {
        let stem = self.part.stem(scheme, architecture)?;
        let suffix = if self.bias { "bias" } else { "weight" };
        match (self.layer, self.part.in_layer()) {
            (Some(layer), true) => Some(format!("{}{layer}.{stem}.{suffix}", layers(scheme))),
            (None, false) => Some(format!("{stem}.{suffix}")),
            _ => None,
        }
    }

    /// The tensor with this name; `None` for other names.
    #[must_use]
    pub fn of(name: &str, scheme: Scheme, architecture: Architecture) -> Option<Self> {
        let (rest, suffix) = name.rsplit_once('.')?;
        let (layer, stem) = match rest.strip_prefix(layers(scheme)) {
            Some(rest) => {
                let (layer, stem) = rest.split_once('.')?;
                (Some(layer.parse().ok()?), stem)
            }
            None => (None, rest),
        };
        let is = |part: &Part| {
            part.in_layer() == layer.is_some() && part.stem(scheme, architecture) == Some(stem)
        };
        let part = Part::ALL.into_iter().find(is)?;
        let id = Self { layer, part, bias: suffix == "bias" };
        // Other spellings of the layer and other suffixes are other names.
        (id.name(scheme, architecture)? == name).then_some(id)
    }
}

impl Config {
    /// The tensors that the decoder needs, in the order of their use. A file may have others, such
    /// as a head that equals the embedding.
    #[must_use]
    pub fn tensors(&self) -> Vec<Needed> {
        let mut list = List { config: self, layer: None, needed: Vec::new() };
        list.weight(Part::Embedding, &[self.vocabulary, self.width]);
        if self.rope.scaling == Scaling::Tensor {
            list.weight(Part::RopeFactors, &[self.rope.dims / 2]);
        }
        for layer in 0..self.layers {
            list.layer = Some(layer);
            list.attention();
            list.mlp();
        }
        list.layer = None;
        list.norm(Part::OutputNorm);
        if !self.tied_head {
            list.product(Part::Head, self.vocabulary, self.width, self.biases.head);
        }
        list.needed
    }
}

struct List<'a> {
    config: &'a Config,
    layer: Option<usize>,
    needed: Vec<Needed>,
}

impl List<'_> {
    fn attention(&mut self) {
        let Config { width, head_dim, biases, .. } = *self.config;
        let (query, key) = (self.config.query_width(), self.config.kv_width());
        self.norm(Part::AttentionNorm);
        if self.config.fused_query_key_value {
            self.product(Part::QueryKeyValue, query + 2 * key, width, biases.query_key_value);
        } else {
            self.product(Part::Query, query, width, biases.query_key_value);
            self.product(Part::Key, key, width, biases.query_key_value);
            self.product(Part::Value, key, width, biases.query_key_value);
        }
        if self.config.query_key_norms {
            self.weight(Part::QueryNorm, &[head_dim]);
            self.weight(Part::KeyNorm, &[head_dim]);
        }
        self.product(Part::AttentionOutput, width, query, biases.attention_output);
        if self.config.post_norms {
            self.norm(Part::PostAttentionNorm);
        }
    }

    fn mlp(&mut self) {
        let Config { width, hidden, mlp, biases, .. } = *self.config;
        if !self.config.parallel {
            self.norm(Part::MlpNorm);
        }
        if mlp == Mlp::Gated {
            self.product(Part::Gate, hidden, width, biases.mlp);
        }
        self.product(Part::Up, hidden, width, biases.mlp);
        self.product(Part::Down, width, hidden, biases.mlp);
        if self.config.post_norms {
            self.norm(Part::PostMlpNorm);
        }
    }

    fn norm(&mut self, part: Part) {
        self.weight(part, &[self.config.width]);
        if self.config.biases.norms {
            self.add(part, true, &[self.config.width]);
        }
    }

    fn product(&mut self, part: Part, rows: usize, columns: usize, bias: bool) {
        self.weight(part, &[rows, columns]);
        if bias {
            self.add(part, true, &[rows]);
        }
    }

    fn weight(&mut self, part: Part, dims: &[usize]) {
        self.add(part, false, dims);
    }

    fn add(&mut self, part: Part, bias: bool, dims: &[usize]) {
        let id = Id { layer: self.layer, part, bias };
        if let Some(name) = id.name(self.config.scheme, self.config.architecture) {
            self.needed.push(Needed { id, name, dims: dims.to_vec() });
        }
    }
}
