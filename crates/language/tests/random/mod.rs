//! Small random decoders of each family, with the logits of transformers
//! (`tests/families/make.py`).

#![allow(dead_code)] // Each test file uses a part.

use edge_net_language::config::{Config, Norm, Pairs, Rope, Scheme};
use edge_net_language::names::{Id, Part};
use edge_net_language::{Decoder, Precision, Weights, WeightsBuilder};
use edge_net_tensor::Dtype;
use edge_net_tensor::container::{Element, TensorInfo};

pub struct Family {
    pub name: &'static str,
    json: &'static str,
    logits: &'static [u8],
}

macro_rules! families {
    ($($name:literal),*) => {
        [$(Family {
            name: $name,
            json: include_str!(concat!("../families/", $name, ".json")),
            logits: include_bytes!(concat!("../families/", $name, ".f32")),
        }),*]
    };
}

pub const FAMILIES: [Family; 8] =
    families!["llama", "mistral", "qwen2", "qwen3", "phi", "gemma", "gemma2", "gemma3"];

/// The tokens whose logits are known.
pub fn tokens() -> Vec<u32> {
    (0..70).map(|i| (7 * i * i + 3 * i + 5) % 48).collect()
}

impl Family {
    pub fn config(&self) -> Config {
        Config::from_json(self.json).unwrap()
    }

    /// The logits of all positions.
    pub fn logits(&self) -> Vec<f32> {
        self.logits.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }

    /// A decoder of its tensors with the names of Hugging Face.
    pub fn decoder(&self, precision: Precision) -> Decoder {
        let config = self.config();
        Decoder::new(weights(&config, &tensors(&config)), precision)
    }
}

/// A tensor and its values.
pub struct Tensor {
    pub info: TensorInfo,
    pub values: Vec<f32>,
}

impl Tensor {
    pub fn new(name: &str, dims: &[usize], values: Vec<f32>) -> Self {
        let (name, dims, element) = (name.to_owned(), dims.to_vec(), Element::Weights(Dtype::F32));
        let size = 4 * values.len() as u64;
        Self { info: TensorInfo { name, dims, element, offset: 0, size }, values }
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }
}

/// The tensors that a description of Hugging Face needs.
pub fn tensors(config: &Config) -> Vec<Tensor> {
    assert_eq!(config.scheme, Scheme::HuggingFace);
    let needed = config.tensors().into_iter();
    needed
        .map(|one| Tensor::new(&one.name, &one.dims, values(config, &one.name, &one.dims)))
        .collect()
}

pub fn weights(config: &Config, tensors: &[Tensor]) -> Weights {
    let infos: Vec<TensorInfo> = tensors.iter().map(|tensor| tensor.info.clone()).collect();
    let mut builder = WeightsBuilder::new(config, &infos).unwrap();
    for (place, tensor) in tensors.iter().enumerate() {
        builder.push(place, &tensor.bytes()).unwrap();
    }
    builder.finish().unwrap()
}

/// The generator of `make.py`.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // As there.
fn values(config: &Config, name: &str, dims: &[usize]) -> Vec<f32> {
    let fnv = |digest: u32, byte| (digest ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    let mut seed = name.bytes().fold(0x811c_9dc5, fnv);
    let mut byte = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 24) as f32
    };
    let mut value = || (byte() - 127.5 + byte() / 256.0) / 128.0;
    let (scale, base) = match *dims {
        [_, _] if name.contains("embed") => (1.0, 0.0),
        [_, columns] => ((1.5 / (columns as f64).sqrt()) as f32, 0.0),
        _ if name.ends_with("bias") => (0.25, 0.0),
        _ if config.norm == Norm::RmsPlusOne => (0.25, 0.0),
        _ => (0.25, 1.0),
    };
    (0..dims.iter().product()).map(|_| value() * scale + base).collect()
}

/// The same decoder as GGUF files have it: other names, 1 + w in norms of Gemma, rows of query and
/// key of Llama in the order for interleaved pairs, one tensor for query, key and value of Phi.
pub fn as_gguf(config: &Config, interleaved: bool, fused: bool) -> (Config, Vec<Tensor>) {
    let rope = |rope: Rope| Rope {
        pairs: if interleaved { Pairs::Interleaved } else { Pairs::Halves },
        ..rope
    };
    let mut out = config.clone();
    out.scheme = Scheme::Gguf;
    out.rope = rope(out.rope);
    if let Some(local) = &mut out.local {
        local.rope = rope(local.rope);
    }
    if out.norm == Norm::RmsPlusOne {
        out.norm = Norm::Rms;
    }
    out.fused_query_key_value = fused;
    let find = |id: Id| {
        let name = id.name(Scheme::HuggingFace, config.architecture).unwrap();
        let needed = config.tensors().into_iter().find(|one| one.name == name).unwrap();
        let mut values = values(config, &name, &needed.dims);
        if config.norm == Norm::RmsPlusOne && needed.dims.len() == 1 {
            for value in &mut values {
                *value += 1.0;
            }
        }
        if interleaved && matches!(id.part, Part::Query | Part::Key) {
            values = interleave(&values, config.head_dim, values.len() / needed.dims[0]);
        }
        values
    };
    let tensors = out.tensors().into_iter().map(|needed| {
        let values = if needed.id.part == Part::QueryKeyValue {
            let parts = [Part::Query, Part::Key, Part::Value];
            parts.map(|part| find(Id { part, ..needed.id })).concat()
        } else {
            find(needed.id)
        };
        Tensor::new(&needed.name, &needed.dims, values)
    });
    let tensors = tensors.collect();
    (out, tensors)
}

/// Rows i and i + d/2 of each head of d rows become neighbours.
fn interleave(values: &[f32], head_dim: usize, columns: usize) -> Vec<f32> {
    let rows: Vec<&[f32]> = values.chunks_exact(columns).collect();
    let heads = rows.chunks_exact(head_dim);
    let mixed = heads.flat_map(|head| {
        (0..head_dim).flat_map(|i| head[i % 2 * head_dim / 2 + i / 2].iter().copied())
    });
    mixed.collect()
}

/// The greatest difference.
pub fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).fold(0.0, |most, (a, b)| {
        let difference = (a - b).abs();
        // What is not a number is the worst.
        if difference <= most { most } else { difference }
    })
}
