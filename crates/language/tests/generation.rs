//! SmolLM2 beside llama.cpp: `tests/reference/smollm2.json` has the greedy tokens of llama.cpp, and
//! margins and likelihoods of a computation in numpy with dequantized weights.

#![allow(clippy::cast_precision_loss)] // Counts are small.

use std::io::Read as _;

use edge_net_language::{Decoder, Loader, Logits, Precision, Weights};
use serde::Deserialize;

#[derive(Deserialize)]
struct Reference {
    prompts: Vec<Prompt>,
}

#[derive(Deserialize)]
#[allow(clippy::struct_field_names)] // The names of the file.
struct Prompt {
    name: String,
    prompt_ids: Vec<u32>,
    /// Of llama.cpp.
    generated_ids: Vec<u32>,
    /// Of the tokens of the prompt after the first.
    prompt_mean_nll: f64,
    generated_mean_nll: f64,
    /// Between the two greatest logits, at each generated token.
    margins: Vec<f32>,
}

fn reference() -> Reference {
    serde_json::from_str(include_str!("reference/smollm2.json")).unwrap()
}

fn weights() -> Weights {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../.tools/models/smollm2-135m-instruct-q4-1/SmolLM2-135M-Instruct.Q4_1.gguf"
    );
    let mut file = std::fs::File::open(path).expect("dev/setup.sh has fetched the language model");
    let mut loader = Loader::gguf(file.metadata().unwrap().len());
    let mut buffer = vec![0; 1 << 18];
    loop {
        let length = file.read(&mut buffer).unwrap();
        if length == 0 {
            break;
        }
        loader.push(&buffer[..length]).unwrap();
    }
    let found = loader.finish().unwrap();
    assert_eq!(found.metadata.strings("tokenizer.ggml.tokens").unwrap().len(), 49_152);
    // No more than the file: it has 98,362,432 bytes, two million of them the vocabulary.
    assert!(found.weights.bytes() < 97_000_000);
    found.weights
}

fn greatest(logits: &[f32]) -> usize {
    logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0
}

/// Negative logarithm of the token's probability.
fn nll(logits: &[f32], token: u32) -> f64 {
    let most = f64::from(logits.iter().copied().fold(f32::MIN, f32::max));
    let sum: f64 = logits.iter().map(|logit| (f64::from(*logit) - most).exp()).sum();
    most + sum.ln() - f64::from(logits[token as usize])
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[test]
fn llama_cpps_tokens_are_the_likeliest_where_the_margin_is_clear() {
    let mut decoder = Decoder::new(weights(), Precision::Fast);
    let vocabulary = decoder.config().vocabulary;
    let (mut clear, mut same, mut all) = (0, 0, 0);
    // Of all tokens: here, and in the reference.
    let mut sums = (0.0, 0.0);
    for prompt in reference().prompts {
        let tokens = [&prompt.prompt_ids[..], &prompt.generated_ids].concat();
        let mut cache = decoder.cache(usize::MAX);
        let logits = decoder.forward(&tokens[..tokens.len() - 1], &mut cache, Logits::All).unwrap();
        let rows: Vec<&[f32]> = logits.chunks_exact(vocabulary).collect();
        let nlls: Vec<f64> = rows.iter().zip(&tokens[1..]).map(|(row, id)| nll(row, *id)).collect();
        let (first, generated) = nlls.split_at(prompt.prompt_ids.len() - 1);
        for (found, expected) in
            [(mean(first), prompt.prompt_mean_nll), (mean(generated), prompt.generated_mean_nll)]
        {
            let error = found / expected - 1.0;
            println!("{}: mean nll {found:.4}, reference {expected:.4}: {error:+.5}", prompt.name);
        }
        sums.0 += nlls.iter().sum::<f64>();
        sums.1 += prompt.prompt_mean_nll * first.len() as f64
            + prompt.generated_mean_nll * generated.len() as f64;
        let steps = rows[first.len()..].iter().zip(&prompt.generated_ids).zip(&prompt.margins);
        for (step, ((row, id), margin)) in steps.enumerate() {
            all += 1;
            same += usize::from(greatest(row) == *id as usize);
            if *margin > 0.3 {
                clear += 1;
                assert_eq!(greatest(row), *id as usize, "{}: step {step}", prompt.name);
            }
        }
    }
    println!("{same} of {all} tokens are the likeliest, {clear} have a margin above 0.3");
    assert!(clear > 130, "{clear}");
    let error = sums.0 / sums.1 - 1.0;
    println!("mean nll of all tokens: {error:+.5}");
    assert!(error.abs() < 0.01, "{error}");
}

/// Without rounding nothing is left but the order of sums.
#[test]
fn the_exact_pass_has_the_likelihood_of_the_reference() {
    let mut decoder = Decoder::new(weights(), Precision::Exact);
    let vocabulary = decoder.config().vocabulary;
    let prompts = reference().prompts;
    let prompt = prompts.iter().find(|prompt| prompt.name == "chatml").unwrap();
    let tokens = &prompt.prompt_ids;
    let mut cache = decoder.cache(usize::MAX);
    let logits = decoder.forward(&tokens[..tokens.len() - 1], &mut cache, Logits::All).unwrap();
    let rows = logits.chunks_exact(vocabulary).zip(&tokens[1..]);
    let found = mean(&rows.map(|(row, id)| nll(row, *id)).collect::<Vec<_>>());
    let error = found / prompt.prompt_mean_nll - 1.0;
    println!("mean nll {found}: {error:+.7}");
    assert!(error.abs() < 1e-5, "{error}");
}
