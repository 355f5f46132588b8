//! What a decoder is made of.

use super::rope::Rope;

/// A family of decoders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Architecture {
    /// Llama 1 to 3, SmolLM2, and what GGUF files call `llama`, such as Mistral.
    Llama,
    /// Mistral, as Hugging Face has it.
    Mistral,
    /// Qwen 2 and 2.5.
    Qwen2,
    /// Qwen 3, dense.
    Qwen3,
    /// Phi 1, 1.5 and 2.
    Phi,
    /// Gemma 1.
    Gemma,
    /// Gemma 2.
    Gemma2,
    /// Gemma 3, text only.
    Gemma3,
}

/// Which names the tensors have, and how their values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scheme {
    /// GGUF: `blk.0.attn_q.weight`.
    Gguf,
    /// Hugging Face: `model.layers.0.self_attn.q_proj.weight`.
    HuggingFace,
}

/// A kind of normalization. All have a weight for each value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Norm {
    /// x / √(mean(x²) + ε) · w.
    Rms,
    /// x / √(mean(x²) + ε) · (1 + w): Gemma as Hugging Face stores it. GGUF stores 1 + w.
    RmsPlusOne,
    /// (x - mean(x)) / √(variance(x) + ε) · w + b.
    Layer,
}

/// The function between the products of an MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activation {
    /// x · sigmoid(x).
    Silu,
    /// GELU by the approximation with tanh.
    GeluTanh,
    /// GELU by the error function.
    Gelu,
}

/// A kind of MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mlp {
    /// down(activation(gate(x)) · up(x)).
    Gated,
    /// down(activation(up(x))).
    Plain,
}

/// Which products have a bias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // Five independent facts.
pub struct Biases {
    /// Query, key and value.
    pub query_key_value: bool,
    /// The product after attention.
    pub attention_output: bool,
    /// The products of the MLP.
    pub mlp: bool,
    /// The norms.
    pub norms: bool,
    /// The head.
    pub head: bool,
}

/// Layers that see only the latest positions.
#[derive(Clone, Debug, PartialEq)]
pub struct Local {
    /// Positions that such a layer sees, its own one included.
    pub window: usize,
    /// Its rotary embeddings.
    pub rope: Rope,
    /// For each layer, whether it is such a one.
    pub layers: Vec<bool>,
}

/// The description of a decoder. All its numbers are checked.
///
/// A layer adds attention(norm(x)) and mlp(norm(x)) to its input x, one after the other with a norm
/// each, or with [`parallel`](Self::parallel) both from one norm. With
/// [`post_norms`](Self::post_norms) both results pass another norm before they are added.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::struct_excessive_bools)] // Independent facts.
pub struct Config {
    /// The family.
    pub architecture: Architecture,
    /// Where the description is from, which says how tensors are named and stored.
    pub scheme: Scheme,
    /// Number of layers.
    pub layers: usize,
    /// Values of a position between layers.
    pub width: usize,
    /// Heads of the query.
    pub heads: usize,
    /// Heads of key and value. It divides `heads`.
    pub kv_heads: usize,
    /// Values of a head. Even.
    pub head_dim: usize,
    /// Values inside an MLP.
    pub hidden: usize,
    /// Number of tokens: rows of the embedding.
    pub vocabulary: usize,
    /// Tokens of a context, at most.
    pub context: usize,
    /// The kind of all norms.
    pub norm: Norm,
    /// The ε of all norms.
    pub epsilon: f32,
    /// Whether results of attention and MLP pass a norm of their own.
    pub post_norms: bool,
    /// Whether each head of query and key passes a norm, before it is turned.
    pub query_key_norms: bool,
    /// Whether attention and MLP have the same input and one norm.
    pub parallel: bool,
    /// The rotary embeddings of layers that see all positions.
    pub rope: Rope,
    /// Layers that see only the latest positions.
    pub local: Option<Local>,
    /// What products of query and key are multiplied by.
    pub attention_scale: f32,
    /// Products of query and key, scaled, are replaced by c · tanh(x / c).
    pub attention_cap: Option<f32>,
    /// The kind of MLP.
    pub mlp: Mlp,
    /// Its activation.
    pub activation: Activation,
    /// Which products have a bias.
    pub biases: Biases,
    /// What embeddings are multiplied by.
    pub embedding_scale: f32,
    /// Whether the embedding is the head too.
    pub tied_head: bool,
    /// Logits are replaced by c · tanh(x / c).
    pub logit_cap: Option<f32>,
    /// Whether query, key and value are one tensor, in this order of rows (old GGUF files of Phi).
    pub fused_query_key_value: bool,
}

impl Config {
    /// Values of the query of a position.
    #[must_use]
    pub const fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Values of the key of a position, and of the value.
    #[must_use]
    pub const fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Positions that a layer sees, its own one included; `None` for all.
    #[must_use]
    pub fn window(&self, layer: usize) -> Option<usize> {
        self.local_at(layer).map(|local| local.window)
    }

    /// The rotary embeddings of a layer.
    #[must_use]
    pub fn rope_of(&self, layer: usize) -> &Rope {
        self.local_at(layer).map_or(&self.rope, |local| &local.rope)
    }

    fn local_at(&self, layer: usize) -> Option<&Local> {
        self.local.as_ref().filter(|local| local.layers.get(layer) == Some(&true))
    }
}
