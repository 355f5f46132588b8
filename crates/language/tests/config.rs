//! Descriptions of decoders, from both sources.

use edge_net_language::config::{
    Activation, Architecture, Biases, Config, ConfigError, Mlp, Norm, Pairs, Rope, Scaling, Scheme,
};
use edge_net_tensor::Dtype;
use edge_net_tensor::container::{Contents, Element, TensorInfo, Value};

fn json(name: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/configs");
    std::fs::read_to_string(format!("{folder}/{name}.json")).unwrap()
}

fn hugging_face(name: &str) -> Config {
    Config::from_json(&json(name)).unwrap()
}

/// The head of a GGUF file with these keys and tensors.
fn file(architecture: &str, keys: &[(&str, Value)], tensors: &[(&str, &[usize])]) -> Contents {
    let mut file = Contents::default();
    file.metadata.set("general.architecture", architecture);
    for (key, value) in keys {
        file.metadata.set(&format!("{architecture}.{key}"), value.clone());
    }
    for (name, dims) in tensors {
        let (name, dims, element) =
            ((*name).to_owned(), dims.to_vec(), Element::Weights(Dtype::F32));
        file.tensors.push(TensorInfo { name, dims, element, offset: 0, size: 0 });
    }
    file
}

/// The keys of SmolLM2-135M-Instruct, as its GGUF file has them.
fn smollm2() -> Vec<(&'static str, Value)> {
    vec![
        ("block_count", 30_u32.into()),
        ("context_length", 8192_u32.into()),
        ("embedding_length", 576_u32.into()),
        ("feed_forward_length", 1536_u32.into()),
        ("attention.head_count", 9_u32.into()),
        ("attention.head_count_kv", 3_u32.into()),
        ("rope.freq_base", 1e5_f32.into()),
        ("attention.layer_norm_rms_epsilon", 1e-5_f32.into()),
        ("vocab_size", 49152_u32.into()),
        ("rope.dimension_count", 64_u32.into()),
    ]
}

/// Keys of a Gemma 3 of 270 million parameters.
fn gemma3() -> Vec<(&'static str, Value)> {
    vec![
        ("block_count", 18_u32.into()),
        ("context_length", 32768_u32.into()),
        ("embedding_length", 640_u32.into()),
        ("feed_forward_length", 2048_u32.into()),
        ("attention.head_count", 4_u32.into()),
        ("attention.head_count_kv", 1_u32.into()),
        ("attention.key_length", 256_u32.into()),
        ("attention.value_length", 256_u32.into()),
        ("attention.sliding_window", 512_u32.into()),
        ("attention.layer_norm_rms_epsilon", 1e-6_f32.into()),
        ("rope.freq_base", 1e6_f32.into()),
    ]
}

const SMOLLM2: (&str, &[usize]) = ("token_embd.weight", &[49152, 576]);

/// What the two sources may differ in without saying different things.
fn as_gguf(mut config: Config) -> Config {
    config.scheme = Scheme::Gguf;
    if config.norm == Norm::RmsPlusOne {
        config.norm = Norm::Rms;
    }
    config
}

#[test]
fn both_sources_describe_smollm2_alike() {
    let from_gguf = Config::from_gguf(&file("llama", &smollm2(), &[SMOLLM2])).unwrap();
    let mut from_json = as_gguf(hugging_face("smollm2"));
    assert_eq!(from_gguf.rope.pairs, Pairs::Interleaved);
    assert_eq!(from_json.rope.pairs, Pairs::Halves);
    from_json.rope.pairs = Pairs::Interleaved;
    assert_eq!(from_gguf, from_json);
    assert_eq!((from_gguf.query_width(), from_gguf.kv_width()), (576, 192));
    assert_eq!((from_gguf.head_dim, from_gguf.rope.dims), (64, 64));
    assert_eq!(from_gguf.attention_scale.to_bits(), 0.125_f32.to_bits());
    assert!(from_gguf.tied_head && from_gguf.local.is_none());
}

#[test]
fn both_sources_describe_gemma_3_alike() {
    let tensors: [(&str, &[usize]); 1] = [("token_embd.weight", &[262_144, 640])];
    let from_gguf = Config::from_gguf(&file("gemma3", &gemma3(), &tensors)).unwrap();
    assert_eq!(from_gguf, as_gguf(hugging_face("gemma3")));
    assert_eq!(hugging_face("gemma3"), hugging_face("gemma3-rope-parameters"));
    let global: Vec<usize> =
        (0..from_gguf.layers).filter(|layer| from_gguf.window(*layer).is_none()).collect();
    assert_eq!(global, [5, 11, 17]);
    assert_eq!(from_gguf.window(0), Some(512));
    let bases = [0, 5].map(|layer| from_gguf.rope_of(layer).base.to_bits());
    assert_eq!(bases, [1e4_f32, 1e6].map(f32::to_bits));
    assert_eq!(from_gguf.rope.pairs, Pairs::Halves);
    assert!((from_gguf.embedding_scale - 25.298_221).abs() < 1e-5);
    assert!((from_gguf.attention_scale - 0.0625).abs() < 1e-9);
    assert!(from_gguf.post_norms && from_gguf.query_key_norms);
    assert_eq!((from_gguf.attention_cap, from_gguf.logit_cap), (None, None));
    assert_eq!(hugging_face("gemma3").norm, Norm::RmsPlusOne);
}

#[test]
fn the_pattern_of_local_layers_can_be_in_the_metadata() {
    let tensors: [(&str, &[usize]); 1] = [("token_embd.weight", &[262_144, 640])];
    let mut keys = gemma3();
    keys.push(("attention.sliding_window_pattern", 3_u32.into()));
    keys.push(("rope.scaling.type", "linear".into()));
    keys.push(("rope.scaling.factor", 8_f32.into()));
    let config = Config::from_gguf(&file("gemma3", &keys, &tensors)).unwrap();
    assert_eq!([0, 1, 2, 3].map(|layer| config.window(layer).is_some()), [true, true, false, true]);
    // Only layers that see all positions are scaled.
    assert_eq!(config.rope_of(2).scaling, Scaling::Linear { factor: 8.0 });
    assert_eq!(config.rope_of(0).scaling, Scaling::None);
}

#[test]
fn llama_3_scales_long_waves() {
    let config = hugging_face("llama");
    let scaling = Scaling::Llama3 { factor: 32.0, low: 1.0, high: 4.0, context: 8192 };
    assert_eq!(config.rope.scaling, scaling);
    assert!(config.tied_head && config.biases == Biases::default());
    assert_eq!((config.activation, config.mlp), (Activation::Silu, Mlp::Gated));
    // A GGUF file of the same model has the numbers in a tensor.
    let keys = [smollm2(), vec![("rope.scaling.type", "none".into())]].concat();
    let tensors: [(&str, &[usize]); 2] = [SMOLLM2, ("rope_freqs.weight", &[32])];
    let config = Config::from_gguf(&file("llama", &keys, &tensors)).unwrap();
    assert_eq!(config.rope.scaling, Scaling::Tensor);
    let angles = config.rope.angles(&[2.0, 4.0]);
    assert_eq!((angles.len(), angles[0].to_bits()), (32, 0.5_f32.to_bits()));
}

#[test]
fn angles_are_those_that_the_reference_divides() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/angles/llama3.json");
    let factors: Vec<f32> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let by_formula = hugging_face("llama").rope;
    let by_tensor = Rope { scaling: Scaling::Tensor, ..by_formula };
    let pairs = by_formula.angles(&[]).into_iter().zip(by_tensor.angles(&factors));
    assert_eq!(pairs.len(), 32);
    for (angle, expected) in pairs {
        assert!((angle / expected - 1.0).abs() < 2e-6, "{angle}, {expected}");
    }
    let plain = Rope { scaling: Scaling::None, ..by_formula }.angles(&[]);
    assert_eq!(plain[0].to_bits(), 1_f32.to_bits());
    assert!((plain[16] * 5e5_f32.sqrt() - 1.0).abs() < 1e-6);
    let linear = Rope { scaling: Scaling::Linear { factor: 4.0 }, ..by_formula }.angles(&[]);
    assert!((linear[16] * 4.0 / plain[16] - 1.0).abs() < 1e-6);
}

#[test]
fn windows_of_mistral_and_qwen() {
    let mistral = hugging_face("mistral");
    assert_eq!((mistral.window(0), mistral.window(31)), (Some(4096), Some(4096)));
    let without = json("mistral").replace("\"sliding_window\": 4096", "\"sliding_window\": null");
    assert_eq!(Config::from_json(&without).unwrap().local, None);

    let qwen = hugging_face("qwen2");
    assert_eq!(qwen.local, None);
    let qkv = Biases { query_key_value: true, ..Biases::default() };
    assert_eq!((qwen.biases, qwen.head_dim), (qkv, 64));
    let with =
        json("qwen2").replace("\"use_sliding_window\": false", "\"use_sliding_window\": true");
    let with = Config::from_json(&with).unwrap();
    assert_eq!([20, 21].map(|layer| with.window(layer)), [None, Some(32768)]);

    let qwen = hugging_face("qwen3");
    assert!(qwen.query_key_norms && qwen.biases == Biases::default() && qwen.local.is_none());
    assert_eq!((qwen.query_width(), qwen.width), (2048, 1024));
}

#[test]
fn phi_has_parallel_blocks_and_turns_half_of_a_head() {
    let from_json = hugging_face("phi");
    assert_eq!((from_json.rope.dims, from_json.head_dim), (32, 64));
    assert!(from_json.parallel && !from_json.tied_head);
    assert_eq!((from_json.norm, from_json.mlp), (Norm::Layer, Mlp::Plain));
    assert_eq!(from_json.activation, Activation::GeluTanh);
    let all = Biases {
        query_key_value: true,
        attention_output: true,
        mlp: true,
        norms: true,
        head: true,
    };
    assert_eq!(from_json.biases, all);
    let keys = [
        ("block_count", 24_u32.into()),
        ("context_length", 2048_u32.into()),
        ("embedding_length", 2048_u32.into()),
        ("feed_forward_length", 8192_u32.into()),
        ("attention.head_count", 32_u32.into()),
        ("attention.head_count_kv", 32_u32.into()),
        ("attention.layer_norm_epsilon", 1e-5_f32.into()),
        ("rope.dimension_count", 32_u32.into()),
    ];
    let tensors: [(&str, &[usize]); 3] = [
        ("token_embd.weight", &[51200, 2048]),
        ("output.weight", &[51200, 2048]),
        ("blk.0.attn_qkv.weight", &[6144, 2048]),
    ];
    let from_gguf = Config::from_gguf(&file("phi2", &keys, &tensors)).unwrap();
    assert!(from_gguf.fused_query_key_value);
    assert_eq!(Config { fused_query_key_value: false, ..from_gguf }, as_gguf(from_json));
}

#[test]
fn gemma_1_and_2() {
    let gemma = hugging_face("gemma");
    assert_eq!((gemma.activation, gemma.tied_head), (Activation::GeluTanh, true));
    assert!(!gemma.post_norms && gemma.attention_cap.is_none() && gemma.local.is_none());

    let from_json = hugging_face("gemma2");
    assert_eq!((from_json.attention_cap, from_json.logit_cap), (Some(50.0), Some(30.0)));
    assert_eq!([0, 1, 2].map(|layer| from_json.window(layer)), [Some(4096), None, Some(4096)]);
    let keys = [
        ("block_count", 46_u32.into()),
        ("context_length", 8192_u32.into()),
        ("embedding_length", 4608_u32.into()),
        ("feed_forward_length", 36864_u32.into()),
        ("attention.head_count", 32_u32.into()),
        ("attention.head_count_kv", 16_u32.into()),
        ("attention.key_length", 128_u32.into()),
        ("attention.value_length", 128_u32.into()),
        ("attention.layer_norm_rms_epsilon", 1e-6_f32.into()),
        ("attention.sliding_window", 4096_u32.into()),
        ("attn_logit_softcapping", 50_f32.into()),
        ("final_logit_softcapping", 30_f32.into()),
    ];
    let tensors: [(&str, &[usize]); 1] = [("token_embd.weight", &[256_000, 4608])];
    let from_gguf = Config::from_gguf(&file("gemma2", &keys, &tensors)).unwrap();
    // The scale is by the width in both, 1/12: GGUF tells by the number of layers.
    assert_eq!(from_gguf, as_gguf(from_json));
}

#[test]
fn what_is_unsupported_is_named() {
    let cases = [
        ("llama", "\"llama3\"", "\"yarn\"", "yarn"),
        ("llama", "\"model_type\": \"llama\"", "\"model_type\": \"phi3\"", "phi3"),
        ("llama", "\"silu\"", "\"relu2\"", "relu2"),
        ("phi", "\"qk_layernorm\": false", "\"qk_layernorm\": true", "qk_layernorm"),
        ("llama", "\"use_cache\": true", "\"quantization_config\": {}", "quantization_config"),
        ("gemma3", "\"full_attention\"", "\"chunked_attention\"", "chunked_attention"),
        ("llama", "\"hidden_size\": 2048", "\"hidden_size\": \"2048\"", "hidden_size"),
        ("llama", "\"intermediate_size\": 8192,", "", "intermediate_size"),
        ("llama", "{", "", "JSON"),
    ];
    for (name, from, to, said) in cases {
        let text = json(name);
        assert!(text.contains(from), "{name} has no {from}");
        let error = Config::from_json(&text.replacen(from, to, 1)).unwrap_err();
        let message = error.to_string();
        assert!(message.contains(said) || matches!(error, ConfigError::Json { .. }), "{message}");
    }
    for (key, value, said) in [
        ("rope.scaling.type", Value::from("yarn"), "yarn"),
        ("expert_count", 8_u32.into(), "experts"),
        ("attention.value_length", 32_u32.into(), "values of another size"),
    ] {
        let keys = [smollm2(), vec![(key, value)]].concat();
        let error = Config::from_gguf(&file("llama", &keys, &[SMOLLM2])).unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
    let error = Config::from_gguf(&file("mamba", &smollm2(), &[SMOLLM2])).unwrap_err();
    assert!(error.to_string().contains("mamba"), "{error}");
}

#[test]
fn impossible_numbers_are_refused() {
    let numbers: [(&str, &[Value]); 9] = [
        ("block_count", &[0_u32.into(), 513_u32.into(), u64::MAX.into(), (-1_i32).into()]),
        ("embedding_length", &[0_u32.into(), 577_u32.into(), u32::MAX.into()]),
        ("attention.head_count", &[0_u32.into(), 7_u32.into(), 4096_u32.into(), "9".into()]),
        ("attention.head_count_kv", &[0_u32.into(), 2_u32.into(), 18_u32.into()]),
        ("attention.key_length", &[0_u32.into(), 63_u32.into(), 514_u32.into()]),
        ("feed_forward_length", &[0_u32.into(), u32::MAX.into()]),
        ("context_length", &[0_u32.into(), u32::MAX.into()]),
        ("rope.dimension_count", &[0_u32.into(), 63_u32.into(), 66_u32.into()]),
        ("rope.freq_base", &[0_f32.into(), f32::NAN.into(), f32::INFINITY.into(), (-1_f32).into()]),
    ];
    for (key, values) in numbers {
        for value in values {
            let mut keys = smollm2();
            keys.retain(|(other, _)| *other != key);
            keys.push((key, value.clone()));
            let result = Config::from_gguf(&file("llama", &keys, &[SMOLLM2]));
            assert!(result.is_err(), "{key} = {value:?}");
        }
    }
    let wide = ("token_embd.weight", &[(1 << 20) + 1, 576][..]);
    let flat = ("token_embd.weight", &[49152][..]);
    for tensors in [&[wide][..], &[flat], &[]] {
        assert!(Config::from_gguf(&file("llama", &smollm2(), tensors)).is_err());
    }
    for (from, to) in [
        ("\"factor\": 32.0", "\"factor\": 0"),
        ("\"high_freq_factor\": 4.0", "\"high_freq_factor\": 1.0"),
        ("\"rms_norm_eps\": 1e-05", "\"rms_norm_eps\": 0"),
        ("\"rope_theta\": 500000.0", "\"rope_theta\": 1e300"),
        ("\"vocab_size\": 128256", "\"vocab_size\": 128256128256"),
        ("\"num_key_value_heads\": 8", "\"num_key_value_heads\": 5"),
        ("\"num_hidden_layers\": 16", "\"num_hidden_layers\": 18446744073709551615"),
        ("\"head_dim\": 64", "\"head_dim\": 65"),
    ] {
        let text = json("llama");
        assert!(text.contains(from), "{from}");
        assert!(Config::from_json(&text.replace(from, to)).is_err(), "{to}");
    }
    let short = json("gemma3").replacen("\"full_attention\",", "", 1);
    assert!(Config::from_json(&short).is_err(), "a layer has no type");
    let no_window = json("gemma2").replace("\"sliding_window\": 4096", "\"sliding_window\": 0");
    assert!(Config::from_json(&no_window).is_err());
}

#[test]
fn every_family_is_read() {
    let families = [
        ("llama", Architecture::Llama),
        ("mistral", Architecture::Mistral),
        ("qwen2", Architecture::Qwen2),
        ("qwen3", Architecture::Qwen3),
        ("phi", Architecture::Phi),
        ("gemma", Architecture::Gemma),
        ("gemma2", Architecture::Gemma2),
        ("gemma3", Architecture::Gemma3),
    ];
    for (name, architecture) in families {
        let config = hugging_face(name);
        assert_eq!(config.architecture, architecture);
        assert_eq!(config.scheme, Scheme::HuggingFace);
    }
}
