//! The description in the metadata of a GGUF file. The keys are those of llama.cpp
//! (`src/llama-arch.cpp`), and so is what absent ones mean (`src/llama-model.cpp`).

use edge_net_tensor::container::{Array, Contents, Metadata, MetadataError, Value};

use super::check::{MAX_LAYERS, head_dim, over_root, root};
use super::description::{Activation, Architecture, Biases, Config, Local, Mlp, Norm, Scheme};
use super::error::ConfigError;
use super::rope::{Pairs, Rope, Scaling};

const SUPPORTED: &str = "llama, qwen2, qwen3, phi2, gemma, gemma2, gemma3";

impl Config {
    /// The description of the decoder in a GGUF file, from its metadata and the list of its
    /// tensors: which biases and heads a file has is said by its tensors only.
    ///
    /// # Errors
    /// [`ConfigError`], when the architecture is not supported or a number is impossible.
    pub fn from_gguf(file: &Contents) -> Result<Self, ConfigError> {
        let name = file.metadata.str("general.architecture")?;
        let architecture = match name {
            "llama" => Architecture::Llama,
            "qwen2" => Architecture::Qwen2,
            "qwen3" => Architecture::Qwen3,
            "phi2" => Architecture::Phi,
            "gemma" => Architecture::Gemma,
            "gemma2" => Architecture::Gemma2,
            "gemma3" => Architecture::Gemma3,
            _ => {
                let found = name.to_owned();
                return Err(ConfigError::Architecture { found, supported: SUPPORTED });
            }
        };
        Source { keys: Keys { metadata: &file.metadata, name }, architecture, file }.config()
    }
}

/// The keys of an architecture.
struct Keys<'a> {
    metadata: &'a Metadata,
    name: &'a str,
}

impl Keys<'_> {
    fn key(&self, suffix: &str) -> String {
        format!("{}.{suffix}", self.name)
    }

    fn size(&self, suffix: &str) -> Result<usize, ConfigError> {
        // Checked later: what does not fit is too large in any case.
        Ok(usize::try_from(self.metadata.u64(&self.key(suffix))?).unwrap_or(usize::MAX))
    }

    fn size_or(&self, suffix: &str, absent: usize) -> Result<usize, ConfigError> {
        if self.has(suffix) { self.size(suffix) } else { Ok(absent) }
    }

    fn number(&self, suffix: &str) -> Result<f32, ConfigError> {
        Ok(self.metadata.f32(&self.key(suffix))?)
    }

    fn number_or(&self, suffix: &str, absent: f32) -> Result<f32, ConfigError> {
        let number = MetadataError::optional(self.metadata.f32(&self.key(suffix)))?;
        Ok(number.unwrap_or(absent))
    }

    fn has(&self, suffix: &str) -> bool {
        self.metadata.get(&self.key(suffix)).is_some()
    }
}

struct Source<'a> {
    keys: Keys<'a>,
    architecture: Architecture,
    file: &'a Contents,
}

impl Source<'_> {
    fn config(&self) -> Result<Config, ConfigError> {
        let keys = &self.keys;
        self.refuse_what_is_unsupported()?;
        let architecture = self.architecture;
        let gemma = matches!(
            architecture,
            Architecture::Gemma | Architecture::Gemma2 | Architecture::Gemma3
        );
        let phi = architecture == Architecture::Phi;
        let width = keys.size("embedding_length")?;
        let heads = keys.size("attention.head_count")?;
        let head_dim = if keys.has("attention.key_length") {
            keys.size("attention.key_length")?
        } else {
            head_dim(width, heads)?
        };
        if keys.size_or("attention.value_length", head_dim)? != head_dim {
            return Err(unsupported("values of another size than keys"));
        }
        let layers = keys.size("block_count")?;
        let rope = self.rope(head_dim)?;
        let epsilon = if phi { "layer_norm_epsilon" } else { "layer_norm_rms_epsilon" };
        let config = Config {
            architecture,
            scheme: Scheme::Gguf,
            layers,
            width,
            heads,
            kv_heads: keys.size_or("attention.head_count_kv", heads)?,
            head_dim,
            hidden: keys.size("feed_forward_length")?,
            vocabulary: self.vocabulary(width)?,
            context: keys.size("context_length")?,
            norm: if phi { Norm::Layer } else { Norm::Rms },
            epsilon: keys.number(&format!("attention.{epsilon}"))?,
            post_norms: matches!(architecture, Architecture::Gemma2 | Architecture::Gemma3),
            query_key_norms: matches!(architecture, Architecture::Qwen3 | Architecture::Gemma3),
            parallel: phi,
            rope,
            local: self.local(layers, rope)?,
            attention_scale: self.attention_scale(layers, width, heads, head_dim)?,
            attention_cap: match architecture {
                Architecture::Gemma2 => positive(keys.number_or("attn_logit_softcapping", 50.0)?),
                _ => None,
            },
            mlp: if phi { Mlp::Plain } else { Mlp::Gated },
            activation: if phi || gemma { Activation::GeluTanh } else { Activation::Silu },
            biases: self.biases(),
            embedding_scale: if gemma { root(width) } else { 1.0 },
            tied_head: !self.has("output.weight"),
            logit_cap: match architecture {
                Architecture::Gemma2 => positive(keys.number_or("final_logit_softcapping", 30.0)?),
                Architecture::Gemma3 => positive(keys.number_or("final_logit_softcapping", 0.0)?),
                _ => None,
            },
            fused_query_key_value: self.has("blk.0.attn_qkv.weight"),
        };
        config.checked()
    }

    fn refuse_what_is_unsupported(&self) -> Result<(), ConfigError> {
        if self.keys.size_or("expert_count", 0)? > 0 {
            return Err(unsupported("a mixture of experts"));
        }
        Ok(())
    }

    fn has(&self, tensor: &str) -> bool {
        self.file.tensor(tensor).is_some()
    }

    /// Rows of the embedding.
    fn vocabulary(&self, width: usize) -> Result<usize, ConfigError> {
        const NAME: &str = "token_embd.weight";
        let wrong = |reason: String| ConfigError::Tensor { name: NAME.to_owned(), reason };
        let tensor = self.file.tensor(NAME);
        let tensor = tensor.ok_or_else(|| wrong("the file has no such tensor".to_owned()))?;
        match tensor.dims[..] {
            [rows, columns] if columns == width => Ok(rows),
            _ => Err(wrong(format!("its shape is {:?}, the width {width}", tensor.dims))),
        }
    }

    fn biases(&self) -> Biases {
        let phi = self.architecture == Architecture::Phi;
        let always = phi || self.architecture == Architecture::Qwen2;
        Biases {
            query_key_value: always || self.has("blk.0.attn_q.bias"),
            attention_output: phi || self.has("blk.0.attn_output.bias"),
            mlp: phi || self.has("blk.0.ffn_up.bias"),
            norms: phi,
            head: phi || self.has("output.bias"),
        }
    }

    fn rope(&self, head_dim: usize) -> Result<Rope, ConfigError> {
        let keys = &self.keys;
        let base = match self.architecture {
            // Without the key llama.cpp takes 10,000, which no Gemma 3 was trained with.
            Architecture::Gemma3 => keys.number("rope.freq_base")?,
            _ => keys.number_or("rope.freq_base", 10_000.0)?,
        };
        let interleaved = self.architecture == Architecture::Llama;
        Ok(Rope {
            pairs: if interleaved { Pairs::Interleaved } else { Pairs::Halves },
            dims: keys.size_or("rope.dimension_count", head_dim)?,
            base,
            scaling: self.scaling()?,
        })
    }

    fn scaling(&self) -> Result<Scaling, ConfigError> {
        let keys = &self.keys;
        let kind = keys.metadata.str(&keys.key("rope.scaling.type"));
        let kind = MetadataError::optional(kind)?.unwrap_or("linear");
        let factor =
            keys.number_or("rope.scaling.factor", keys.number_or("rope.scale_linear", 0.0)?)?;
        let linear = match kind {
            "none" => None,
            // 0 means that there is none.
            "linear" => positive(factor).filter(|factor| (factor - 1.0).abs() > f32::EPSILON),
            other => return Err(unsupported(&format!("rotary embeddings scaled by {other:?}"))),
        };
        match (linear, self.has("rope_freqs.weight")) {
            (None, false) => Ok(Scaling::None),
            (None, true) => Ok(Scaling::Tensor),
            (Some(factor), false) => Ok(Scaling::Linear { factor }),
            (Some(_), true) => Err(unsupported("rotary embeddings scaled in two ways")),
        }
    }

    /// `attention.sliding_window` of other architectures is not heeded, as in llama.cpp: files have
    /// it for models that do not use it.
    fn local(&self, layers: usize, rope: Rope) -> Result<Option<Local>, ConfigError> {
        let keys = &self.keys;
        let (window, period, rope) = match self.architecture {
            Architecture::Gemma2 => (keys.size_or("attention.sliding_window", 4096)?, 2, rope),
            Architecture::Gemma3 => {
                let base = keys.number_or("rope.freq_base_swa", 10_000.0)?;
                let rope = Rope { base, scaling: Scaling::None, ..rope };
                (keys.size("attention.sliding_window")?, 6, rope)
            }
            _ => return Ok(None),
        };
        let layers = layers.min(MAX_LAYERS);
        let key = keys.key("attention.sliding_window_pattern");
        let layers = match keys.metadata.get(&key) {
            Some(Value::Array(Array::Bool(kinds))) => kinds.clone(),
            Some(_) => every(layers, keys.size("attention.sliding_window_pattern")?),
            None => every(layers, period),
        };
        Ok(Some(Local { window, rope, layers }))
    }

    #[allow(clippy::cast_precision_loss)] // The numbers are small, or refused later.
    fn attention_scale(
        &self,
        layers: usize,
        width: usize,
        heads: usize,
        head_dim: usize,
    ) -> Result<f32, ConfigError> {
        if self.keys.has("attention.scale") {
            return self.keys.number("attention.scale");
        }
        // The largest Gemmas are known by their layers: the metadata do not say it.
        let by_width = matches!(
            (self.architecture, layers),
            (Architecture::Gemma2, 46) | (Architecture::Gemma3, 62)
        );
        Ok(over_root(if by_width { width as f64 / heads as f64 } else { head_dim as f64 }))
    }
}

/// Which layers are local when the last of each `period` is not. 0 makes all local, as in
/// llama.cpp.
fn every(layers: usize, period: usize) -> Vec<bool> {
    (1..=layers).map(|layer| period == 0 || layer % period != 0).collect()
}

fn positive(number: f32) -> Option<f32> {
    // A number that is none is kept, and refused by the check.
    (number != 0.0).then_some(number)
}

fn unsupported(what: &str) -> ConfigError {
    ConfigError::Unsupported { what: what.to_owned() }
}
