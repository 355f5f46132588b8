//! What runs in a WASM instance of its own, one for each model: nothing else is lost when a model traps, and all of its memory is
//! given back with it.
//!
//! Every call is synchronous, so that whoever calls hears of a trap: it throws what is no text; what is said of a model or an
//! input is thrown as one.

use std::cell::RefCell;
use std::collections::HashMap;

use edge_net_inference::{Embedder, ModelReader, Settings, Tokenizer};
use wasm_bindgen::prelude::*;

/// A model that is being read, or has been.
#[wasm_bindgen]
pub struct Model {
    reader: Option<ModelReader>,
    files: RefCell<HashMap<String, Vec<u8>>>,
    embedder: Option<Embedder>,
}

/// The file that the tokenizer is read from; those of [`Settings::FILES`] are the others.
pub const TOKENIZER: &str = "tokenizer.json";

#[allow(clippy::needless_pass_by_value)] // As `map_err` gives it.
fn said(error: impl ToString) -> JsValue {
    error.to_string().into()
}

#[wasm_bindgen]
impl Model {
    /// A model whose graph has `size` bytes, of which none came yet.
    #[wasm_bindgen(constructor)]
    #[must_use]
    pub fn new(size: u32) -> Self {
        crate::panics::log();
        Self {
            reader: Some(ModelReader::new(size.into())),
            files: RefCell::default(),
            embedder: None,
        }
    }

    /// Takes a file that is needed besides the graph.
    pub fn file(&self, name: String, bytes: Vec<u8>) {
        self.files.borrow_mut().insert(name, bytes);
    }

    /// Takes the next piece of the graph.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), JsValue> {
        self.reader.as_mut().ok_or_else(|| said("the graph is complete"))?.push(piece).map_err(said)
    }

    /// Makes what was taken ready to embed.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn finish(&mut self) -> Result<(), JsValue> {
        let model = self
            .reader
            .take()
            .ok_or_else(|| said("the graph is complete"))?
            .finish()
            .map_err(said)?;
        let files = self.files.take();
        let file = |name: &str| files.get(name).map(Vec::as_slice);
        let tokenizer = Tokenizer::read(file(TOKENIZER).unwrap_or_default()).map_err(said)?;
        let settings = Settings::read(file).map_err(said)?;
        let embedder = Embedder::new(model, tokenizer, settings);
        // What cannot be run, or gives no numbers, is known now, and not by the first who asks.
        let tried = embedder.embed(&[vec![0]]).map_err(said)?.concat();
        if tried.is_empty() || tried.iter().any(|value| !value.is_finite()) {
            return Err(said("this model gives no numbers"));
        }
        self.embedder = Some(embedder);
        Ok(())
    }

    fn embedder(&self) -> Result<&Embedder, JsValue> {
        self.embedder.as_ref().ok_or_else(|| said("the model is not ready"))
    }

    /// The tokens of a text.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, JsValue> {
        self.embedder()?.encode(text).map_err(said)
    }

    /// Checks tokens that somebody else made.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check(&self, tokens: &[u32]) -> Result<(), JsValue> {
        self.embedder()?.check(tokens).map_err(said)
    }

    /// The embeddings of inputs, one after the other; `tokens` are theirs, as many of each as `lengths` says.
    ///
    /// # Errors
    /// Why there are none.
    pub fn embed(&self, tokens: &[u32], lengths: &[u32]) -> Result<Vec<f32>, JsValue> {
        let mut left = tokens;
        let mut inputs = Vec::with_capacity(lengths.len());
        for length in lengths {
            let (input, rest) = left
                .split_at_checked(*length as usize)
                .ok_or_else(|| said("there are fewer tokens"))?;
            inputs.push(input.to_vec());
            left = rest;
        }
        Ok(self.embedder()?.embed(&inputs).map_err(said)?.concat())
    }

    /// Components of an embedding.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.embedder.as_ref().map_or(0, Embedder::dimensions)
    }

    /// Bytes of memory that this instance has taken.
    #[must_use]
    #[allow(clippy::unused_self)] // The instance has one model.
    pub fn memory(&self) -> usize {
        memory()
    }
}

#[cfg(target_arch = "wasm32")]
fn memory() -> usize {
    core::arch::wasm32::memory_size(0) << 16
}

#[cfg(not(target_arch = "wasm32"))]
const fn memory() -> usize {
    0
}
