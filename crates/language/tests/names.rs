//! Names of tensors in both schemes.

use std::collections::BTreeSet;

use edge_net_language::config::{Config, Scheme};
use edge_net_language::names::{Id, Part};

fn config(name: &str) -> Config {
    let path = format!("{}/tests/configs/{name}.json", env!("CARGO_MANIFEST_DIR"));
    Config::from_json(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Names and dimensions of the tensors outside of layers and in the first layer.
fn first(config: &Config) -> Vec<(String, Vec<usize>)> {
    let tensors = config.tensors().into_iter();
    let first = tensors.filter(|tensor| tensor.id.layer.unwrap_or(0) == 0);
    first.map(|tensor| (tensor.name, tensor.dims)).collect()
}

fn named(names: &[(&str, &[usize])]) -> Vec<(String, Vec<usize>)> {
    names.iter().map(|(name, dims)| ((*name).to_owned(), dims.to_vec())).collect()
}

#[test]
fn names_are_read_as_they_are_written() {
    for name in ["llama", "mistral", "qwen2", "qwen3", "phi", "gemma", "gemma2", "gemma3"] {
        for scheme in [Scheme::HuggingFace, Scheme::Gguf] {
            let config = Config { scheme, ..config(name) };
            let tensors = config.tensors();
            let names: BTreeSet<&str> = tensors.iter().map(|tensor| &*tensor.name).collect();
            assert_eq!(names.len(), tensors.len(), "two tensors of {name} have one name");
            for tensor in &tensors {
                let id = Id::of(&tensor.name, scheme, config.architecture);
                assert_eq!(id, Some(tensor.id), "{}", tensor.name);
            }
        }
    }
}

#[test]
fn tensors_of_phi() {
    let config = config("phi");
    let expected = named(&[
        ("model.embed_tokens.weight", &[51200, 2048]),
        ("model.layers.0.input_layernorm.weight", &[2048]),
        ("model.layers.0.input_layernorm.bias", &[2048]),
        ("model.layers.0.self_attn.q_proj.weight", &[2048, 2048]),
        ("model.layers.0.self_attn.q_proj.bias", &[2048]),
        ("model.layers.0.self_attn.k_proj.weight", &[2048, 2048]),
        ("model.layers.0.self_attn.k_proj.bias", &[2048]),
        ("model.layers.0.self_attn.v_proj.weight", &[2048, 2048]),
        ("model.layers.0.self_attn.v_proj.bias", &[2048]),
        ("model.layers.0.self_attn.dense.weight", &[2048, 2048]),
        ("model.layers.0.self_attn.dense.bias", &[2048]),
        ("model.layers.0.mlp.fc1.weight", &[8192, 2048]),
        ("model.layers.0.mlp.fc1.bias", &[8192]),
        ("model.layers.0.mlp.fc2.weight", &[2048, 8192]),
        ("model.layers.0.mlp.fc2.bias", &[2048]),
        ("model.final_layernorm.weight", &[2048]),
        ("model.final_layernorm.bias", &[2048]),
        ("lm_head.weight", &[51200, 2048]),
        ("lm_head.bias", &[51200]),
    ]);
    assert_eq!(first(&config), expected);
    let fused = Config { scheme: Scheme::Gguf, fused_query_key_value: true, ..config };
    let names: Vec<String> = first(&fused).into_iter().map(|tensor| tensor.0).collect();
    let expected = [
        "token_embd.weight",
        "blk.0.attn_norm.weight",
        "blk.0.attn_norm.bias",
        "blk.0.attn_qkv.weight",
        "blk.0.attn_qkv.bias",
        "blk.0.attn_output.weight",
        "blk.0.attn_output.bias",
        "blk.0.ffn_up.weight",
        "blk.0.ffn_up.bias",
        "blk.0.ffn_down.weight",
        "blk.0.ffn_down.bias",
        "output_norm.weight",
        "output_norm.bias",
        "output.weight",
        "output.bias",
    ];
    assert_eq!(names, expected);
}

#[test]
fn tensors_of_gemma_3() {
    let config = config("gemma3");
    let expected = named(&[
        ("model.embed_tokens.weight", &[262_144, 640]),
        ("model.layers.0.input_layernorm.weight", &[640]),
        ("model.layers.0.self_attn.q_proj.weight", &[1024, 640]),
        ("model.layers.0.self_attn.k_proj.weight", &[256, 640]),
        ("model.layers.0.self_attn.v_proj.weight", &[256, 640]),
        ("model.layers.0.self_attn.q_norm.weight", &[256]),
        ("model.layers.0.self_attn.k_norm.weight", &[256]),
        ("model.layers.0.self_attn.o_proj.weight", &[640, 1024]),
        ("model.layers.0.post_attention_layernorm.weight", &[640]),
        ("model.layers.0.pre_feedforward_layernorm.weight", &[640]),
        ("model.layers.0.mlp.gate_proj.weight", &[2048, 640]),
        ("model.layers.0.mlp.up_proj.weight", &[2048, 640]),
        ("model.layers.0.mlp.down_proj.weight", &[640, 2048]),
        ("model.layers.0.post_feedforward_layernorm.weight", &[640]),
        ("model.norm.weight", &[640]),
    ]);
    assert_eq!(first(&config), expected);
    let names: Vec<String> = first(&Config { scheme: Scheme::Gguf, ..config })
        .into_iter()
        .map(|(name, _)| name.replace("blk.0.", "").replace(".weight", ""))
        .collect();
    let expected = "token_embd attn_norm attn_q attn_k attn_v attn_q_norm attn_k_norm \
                    attn_output post_attention_norm ffn_norm ffn_gate ffn_up ffn_down \
                    post_ffw_norm output_norm";
    assert_eq!(names, expected.split_whitespace().collect::<Vec<_>>());
}

#[test]
fn one_name_means_another_tensor_in_another_family() {
    let name = "model.layers.3.post_attention_layernorm.weight";
    let part = |family| Id::of(name, Scheme::HuggingFace, config(family).architecture);
    assert_eq!(part("llama").map(|id| (id.part, id.layer)), Some((Part::MlpNorm, Some(3))));
    assert_eq!(part("gemma2").map(|id| id.part), Some(Part::PostAttentionNorm));
}

#[test]
fn other_names_are_none() {
    let architecture = config("llama").architecture;
    for name in [
        "",
        "blk",
        "blk.0.weight",
        "blk.00.attn_q.weight",
        "blk.+1.attn_q.weight",
        "blk.-1.attn_q.weight",
        "blk.0.attn_q.scale",
        "blk.0.token_embd.weight",
        "attn_q.weight",
        "blk.99999999999999999999.attn_q.weight",
        "model.layers.0.self_attn.q_proj.weight",
    ] {
        assert_eq!(Id::of(name, Scheme::Gguf, architecture), None, "{name:?}");
    }
    let head = Id { layer: Some(1), part: Part::Head, bias: false };
    assert_eq!(head.name(Scheme::Gguf, architecture), None);
}
