//! The description in `config.json` of Hugging Face. What absent members mean is said by the
//! configuration classes of transformers.

use serde_json::{Map, Value};

use super::check::{MAX_LAYERS, head_dim, over_root, root};
use super::description::{Activation, Architecture, Biases, Config, Local, Mlp, Norm, Scheme};
use super::error::ConfigError;
use super::json::{Members, shown, wrong};
use super::rope::{Pairs, Rope, Scaling};

/// Limit for the bytes of `config.json`.
pub const MAX_JSON: usize = 1 << 20;

const SUPPORTED: &str = "llama, mistral, qwen2, qwen3, phi, gemma, gemma2, gemma3_text";

impl Config {
    /// The description in `config.json` of Hugging Face.
    ///
    /// # Errors
    /// [`ConfigError`], when the architecture is not supported or a number is impossible.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        let json = |reason: String| ConfigError::Json { reason };
        if text.len() > MAX_JSON {
            return Err(json(format!("it has {} bytes; the limit is {MAX_JSON}", text.len())));
        }
        let map: Map<String, Value> =
            serde_json::from_str(text).map_err(|error| json(error.to_string()))?;
        let members = Members(&map);
        let kind = members.str("model_type")?;
        let kind = kind.ok_or_else(|| wrong("model_type", "a string", "nothing"))?;
        let architecture = match kind {
            "llama" => Architecture::Llama,
            "mistral" => Architecture::Mistral,
            "qwen2" => Architecture::Qwen2,
            "qwen3" => Architecture::Qwen3,
            "phi" => Architecture::Phi,
            "gemma" => Architecture::Gemma,
            "gemma2" => Architecture::Gemma2,
            "gemma3_text" => Architecture::Gemma3,
            _ => {
                let found = kind.to_owned();
                return Err(ConfigError::Architecture { found, supported: SUPPORTED });
            }
        };
        Source { members, architecture }.config()
    }
}

struct Source<'a> {
    members: Members<'a>,
    architecture: Architecture,
}

impl Source<'_> {
    fn config(&self) -> Result<Config, ConfigError> {
        let members = self.members;
        self.refuse_what_is_unsupported()?;
        let architecture = self.architecture;
        let (gemma, phi) = (self.gemma(), architecture == Architecture::Phi);
        let layers = members.need_size("num_hidden_layers")?;
        let width = members.need_size("hidden_size")?;
        let heads = members.need_size("num_attention_heads")?;
        let head_dim = match (members.size("head_dim")?, architecture) {
            (Some(size), _) => size,
            (None, Architecture::Qwen3) => 128,
            (None, _) if gemma => 256,
            (None, _) => head_dim(width, heads)?,
        };
        let kv_heads = match members.size("num_key_value_heads")? {
            None if gemma => members.need_size("num_key_value_heads")?,
            heads_of_keys => heads_of_keys.unwrap_or(heads),
        };
        let rope = self.rope(head_dim)?;
        let epsilon = members.number(if phi { "layer_norm_eps" } else { "rms_norm_eps" })?;
        let capped = matches!(architecture, Architecture::Gemma2 | Architecture::Gemma3);
        let config = Config {
            architecture,
            scheme: Scheme::HuggingFace,
            layers,
            width,
            heads,
            kv_heads,
            head_dim,
            hidden: members.need_size("intermediate_size")?,
            vocabulary: members.need_size("vocab_size")?,
            context: members.need_size("max_position_embeddings")?,
            norm: match (phi, gemma) {
                (true, _) => Norm::Layer,
                (_, true) => Norm::RmsPlusOne,
                _ => Norm::Rms,
            },
            epsilon: single(epsilon.unwrap_or(if phi { 1e-5 } else { 1e-6 })),
            post_norms: capped,
            query_key_norms: matches!(architecture, Architecture::Qwen3 | Architecture::Gemma3),
            parallel: phi,
            rope,
            local: self.local(layers, rope)?,
            attention_scale: self.attention_scale(head_dim)?,
            attention_cap: if capped { self.cap("attn_logit_softcapping", 50.0)? } else { None },
            mlp: if phi { Mlp::Plain } else { Mlp::Gated },
            activation: self.activation()?,
            biases: self.biases()?,
            embedding_scale: if gemma { root(width) } else { 1.0 },
            tied_head: match members.get("tie_word_embeddings") {
                Some(_) => members.bool("tie_word_embeddings")?,
                None => gemma,
            },
            logit_cap: if capped { self.cap("final_logit_softcapping", 30.0)? } else { None },
            fused_query_key_value: false,
        };
        config.checked()
    }

    const fn gemma(&self) -> bool {
        matches!(
            self.architecture,
            Architecture::Gemma | Architecture::Gemma2 | Architecture::Gemma3
        )
    }

    fn refuse_what_is_unsupported(&self) -> Result<(), ConfigError> {
        if self.members.get("quantization_config").is_some() {
            return Err(unsupported("weights quantized by \"quantization_config\""));
        }
        if self.members.bool("use_bidirectional_attention")? {
            return Err(unsupported("attention in both directions"));
        }
        if self.members.bool("qk_layernorm")? {
            return Err(unsupported("\"qk_layernorm\""));
        }
        Ok(())
    }

    fn activation(&self) -> Result<Activation, ConfigError> {
        let name = match self.members.str("hidden_activation")? {
            Some(name) => Some(name),
            None => self.members.str("hidden_act")?,
        };
        match name {
            None if self.gemma() => Ok(Activation::GeluTanh),
            None if self.architecture == Architecture::Phi => Ok(Activation::GeluTanh),
            // The first files of Gemma say "gelu" and mean the approximation.
            Some("gelu") if self.architecture == Architecture::Gemma => Ok(Activation::GeluTanh),
            None | Some("silu" | "swish") => Ok(Activation::Silu),
            Some("gelu_new" | "gelu_pytorch_tanh" | "gelu_fast") => Ok(Activation::GeluTanh),
            Some("gelu") => Ok(Activation::Gelu),
            Some(other) => Err(unsupported(&format!("the activation {other:?}"))),
        }
    }

    fn biases(&self) -> Result<Biases, ConfigError> {
        let phi = self.architecture == Architecture::Phi;
        let attention = self.members.bool("attention_bias")?;
        let llama = self.architecture == Architecture::Llama;
        Ok(match self.architecture {
            Architecture::Mistral => Biases::default(),
            Architecture::Qwen2 => Biases { query_key_value: true, ..Biases::default() },
            _ => Biases {
                query_key_value: phi || attention,
                attention_output: phi || attention,
                mlp: phi || (llama && self.members.bool("mlp_bias")?),
                norms: phi,
                head: phi,
            },
        })
    }

    fn cap(&self, member: &str, absent: f64) -> Result<Option<f32>, ConfigError> {
        let absent = (self.architecture == Architecture::Gemma2 && !self.members.names(member))
            .then_some(absent);
        Ok(self.members.number(member)?.or(absent).map(single))
    }

    #[allow(clippy::cast_precision_loss)] // The size of a head is small, or refused later.
    fn attention_scale(&self, head_dim: usize) -> Result<f32, ConfigError> {
        let scalar = match self.architecture {
            Architecture::Gemma2 | Architecture::Gemma3 => {
                self.members.number("query_pre_attn_scalar")?.unwrap_or(256.0)
            }
            _ => head_dim as f64,
        };
        Ok(over_root(scalar))
    }

    /// The rotary embeddings of layers that see all positions. Transformers 5 writes
    /// `rope_parameters`, earlier versions `rope_theta` and `rope_scaling`.
    fn rope(&self, head_dim: usize) -> Result<Rope, ConfigError> {
        let members = self.members;
        let parameters = members.object("rope_parameters")?;
        let nested = parameters.filter(|_| self.architecture == Architecture::Gemma3);
        let parameters = match nested.map(|kinds| kinds.object("full_attention")).transpose()? {
            Some(Some(full)) => Some(full),
            _ => parameters,
        };
        let scaling = parameters.or(members.object("rope_scaling")?);
        let absent = if self.architecture == Architecture::Gemma3 { 1e6 } else { 1e4 };
        Ok(Rope {
            pairs: Pairs::Halves,
            dims: self.turning(parameters, head_dim)?,
            base: base(parameters, members, "rope_theta", absent)?,
            scaling: scaling.map_or(Ok(Scaling::None), |scaling| self.scaling(scaling))?,
        })
    }

    /// Values of a head that turn.
    // The factor is from 0 to 1, and the size of a head is checked later.
    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss)]
    fn turning(
        &self,
        parameters: Option<Members<'_>>,
        head_dim: usize,
    ) -> Result<usize, ConfigError> {
        if self.architecture != Architecture::Phi {
            return Ok(head_dim);
        }
        let inner =
            parameters.map(|members| members.number("partial_rotary_factor")).transpose()?;
        let outer = self.members.number("partial_rotary_factor")?;
        let factor = inner.flatten().or(outer).unwrap_or(0.5);
        if !(0.0..=1.0).contains(&factor) {
            let (what, found) = ("partial_rotary_factor", factor.to_string());
            let expected = "from 0 to 1".to_owned();
            return Err(ConfigError::Number { what, found, expected });
        }
        Ok((head_dim as f64 * factor) as usize)
    }

    fn scaling(&self, members: Members<'_>) -> Result<Scaling, ConfigError> {
        let kind = match members.str("rope_type")? {
            Some(kind) => kind,
            None => members.str("type")?.unwrap_or("default"),
        };
        let number = |member| members.need_number(member).map(single);
        match kind {
            "default" => Ok(Scaling::None),
            "linear" => Ok(Scaling::Linear { factor: number("factor")? }),
            "llama3" => Ok(Scaling::Llama3 {
                factor: number("factor")?,
                low: number("low_freq_factor")?,
                high: number("high_freq_factor")?,
                context: match members.size("original_max_position_embeddings")? {
                    Some(context) => context,
                    None => self.members.need_size("max_position_embeddings")?,
                },
            }),
            other => Err(unsupported(&format!("rotary embeddings scaled by {other:?}"))),
        }
    }

    fn local(&self, layers: usize, rope: Rope) -> Result<Option<Local>, ConfigError> {
        let members = self.members;
        let layers = layers.min(MAX_LAYERS);
        let window = members.size("sliding_window")?;
        let (window, kinds): (_, Vec<bool>) = match self.architecture {
            Architecture::Mistral => {
                let absent = (!members.names("sliding_window")).then_some(4096);
                (window.or(absent), vec![true; layers])
            }
            Architecture::Qwen2 | Architecture::Qwen3 => {
                let window = window.or((!members.names("sliding_window")).then_some(4096));
                let from = members.size("max_window_layers")?.unwrap_or(28);
                let used = members.bool("use_sliding_window")?;
                (window.filter(|_| used), (0..layers).map(|layer| layer >= from).collect())
            }
            Architecture::Gemma2 => {
                let absent = (!members.names("sliding_window")).then_some(4096);
                (window.or(absent), every(layers, 2))
            }
            Architecture::Gemma3 => {
                let period = members.size("sliding_window_pattern")?.unwrap_or(6);
                (Some(members.need_size("sliding_window")?), every(layers, period))
            }
            Architecture::Llama | Architecture::Phi | Architecture::Gemma => return Ok(None),
        };
        let Some(window) = window else { return Ok(None) };
        let kinds = self.layer_types()?.unwrap_or(kinds);
        let rope = self.local_rope(rope)?;
        Ok(Some(Local { window, rope, layers: kinds }).filter(|local| local.layers.contains(&true)))
    }

    /// For each layer, whether it sees the latest positions only.
    fn layer_types(&self) -> Result<Option<Vec<bool>>, ConfigError> {
        let Some(types) = self.members.array("layer_types")? else { return Ok(None) };
        let local = |kind: &Value| match kind.as_str() {
            Some("sliding_attention") => Ok(true),
            Some("full_attention") => Ok(false),
            _ => Err(unsupported(&format!("a layer of the type {}", shown(kind)))),
        };
        types.iter().map(local).collect::<Result<_, _>>().map(Some)
    }

    /// The rotary embeddings of layers that see the latest positions only.
    fn local_rope(&self, rope: Rope) -> Result<Rope, ConfigError> {
        if self.architecture != Architecture::Gemma3 {
            return Ok(rope);
        }
        let parameters = self.members.object("rope_parameters")?;
        let own = parameters.map(|kinds| kinds.object("sliding_attention")).transpose()?.flatten();
        let scaling = own.map_or(Ok(Scaling::None), |own| self.scaling(own))?;
        let base = base(own, self.members, "rope_local_base_freq", 1e4)?;
        Ok(Rope { base, scaling, ..rope })
    }
}

/// The base: `rope_theta` of the parameters, or a member of the whole.
fn base(
    parameters: Option<Members<'_>>,
    members: Members<'_>,
    member: &str,
    absent: f64,
) -> Result<f32, ConfigError> {
    let inner = parameters.map(|parameters| parameters.number("rope_theta")).transpose()?;
    Ok(single(inner.flatten().or(members.number(member)?).unwrap_or(absent)))
}

/// Which layers are local when the last of each `period` is not.
fn every(layers: usize, period: usize) -> Vec<bool> {
    (1..=layers).map(|layer| !layer.is_multiple_of(period)).collect()
}

#[allow(clippy::cast_possible_truncation)] // Too large numbers become infinity, and are refused.
const fn single(number: f64) -> f32 {
    number as f32
}

fn unsupported(what: &str) -> ConfigError {
    ConfigError::Unsupported { what: what.to_owned() }
}
