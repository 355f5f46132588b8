//! Loads a GGUF file, computes a prompt and generates greedily, and prints how long it takes.
//!
//!     cargo run --release --package edge-net-language --example decode FILE [TOKENS [ID…]]
//!
//! Without ids the prompt is that of `tests/reference/smollm2.json`.

#![allow(clippy::cast_precision_loss)] // Counts are small.

use std::io::Read as _;
use std::time::Instant;

use edge_net_language::{Decoder, Loaded, Loader, Logits, Precision};

/// 67 tokens of SmolLM2 about the printing press.
const PROMPT: &str = include_str!("../tests/reference/smollm2.json");

/// Bytes that are read at a time.
const PIECE: usize = 1 << 18;

fn load(path: &str) -> Result<Loaded, Box<dyn std::error::Error>> {
    let mut file = std::fs::File::open(path)?;
    let mut loader = Loader::gguf(file.metadata()?.len());
    let mut buffer = vec![0; PIECE];
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            return Ok(loader.finish()?);
        }
        loader.push(&buffer[..length])?;
    }
}

fn greatest(logits: &[f32]) -> u32 {
    let most = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    most.map_or(0, |(token, _)| u32::try_from(token).unwrap_or(0))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let path = arguments.first().ok_or("usage: decode FILE [TOKENS [ID…]]")?;
    let count: usize = arguments.get(1).map_or(Ok(64), |count| count.parse())?;
    let ids: Result<Vec<u32>, _> = arguments.iter().skip(2).map(|id| id.parse()).collect();
    let mut prompt = ids?;
    if prompt.is_empty() {
        let reference: serde_json::Value = serde_json::from_str(PROMPT)?;
        prompt = serde_json::from_value(reference["prompts"][0]["prompt_ids"].clone())?;
    }

    let start = Instant::now();
    let Loaded { weights, .. } = load(path)?;
    let loading = start.elapsed().as_secs_f64();
    let bytes = weights.bytes();
    let mut decoder = Decoder::new(weights, Precision::Fast);
    let mut cache = decoder.cache(usize::MAX);

    let start = Instant::now();
    let mut token = greatest(decoder.forward(&prompt, &mut cache, Logits::Last)?);
    let prompting = start.elapsed().as_secs_f64();

    let start = Instant::now();
    let mut tokens = vec![token];
    for _ in 1..count {
        token = greatest(decoder.forward(&[token], &mut cache, Logits::Last)?);
        tokens.push(token);
    }
    let decoding = start.elapsed().as_secs_f64();

    println!("{tokens:?}");
    println!("load     {loading:8.3} s");
    println!("prompt   {prompting:8.3} s {:8.1} tokens/s", prompt.len() as f64 / prompting);
    println!("decode   {decoding:8.3} s {:8.1} tokens/s", (count - 1) as f64 / decoding);
    println!("weights  {:8.1} MB", bytes as f64 / 1e6);
    println!("cache    {:8.1} MB for {} tokens", cache.bytes() as f64 / 1e6, cache.len());
    Ok(())
}
