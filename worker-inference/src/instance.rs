//! The code of a model's own WASM instance. If a model traps, nothing else is lost, and its memory
//! is freed with the instance.
//!
//! All calls are synchronous, so that the caller sees a trap: a trap throws an object, and an error
//! about the model or the input throws a string.

use std::cell::RefCell;
use std::collections::HashMap;

use edge_net_inference::{Embedder, ModelReader, Settings, Tokenizer};
use wasm_bindgen::prelude::*;

/// A model that is being read, or that is ready.
#[wasm_bindgen]
pub struct Model {
    reader: Option<ModelReader>,
    files: RefCell<HashMap<String, Vec<u8>>>,
    embedder: Option<Embedder>,
}

/// The name of the tokenizer's file. The names of the others are [`Settings::FILES`].
pub const TOKENIZER: &str = "tokenizer.json";

#[allow(clippy::needless_pass_by_value)] // As `map_err` passes it.
fn thrown(error: impl ToString) -> JsValue {
    error.to_string().into()
}

#[wasm_bindgen]
impl Model {
    /// A model whose graph has `size` bytes, which are still to come.
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

    /// Takes a file other than the graph.
    pub fn file(&self, name: String, bytes: Vec<u8>) {
        self.files.borrow_mut().insert(name, bytes);
    }

    /// Takes the next piece of the graph.
    ///
    /// # Errors
    /// The graph is malformed.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), JsValue> {
        self.reader
            .as_mut()
            .ok_or_else(|| thrown("the graph is complete"))?
            .push(piece)
            .map_err(thrown)
    }

    /// Makes the model ready to embed.
    ///
    /// # Errors
    /// The model cannot be run.
    pub fn finish(&mut self) -> Result<(), JsValue> {
        let model = self
            .reader
            .take()
            .ok_or_else(|| thrown("the graph is complete"))?
            .finish()
            .map_err(thrown)?;
        let files = self.files.take();
        let file = |name: &str| files.get(name).map(Vec::as_slice);
        let tokenizer = Tokenizer::read(file(TOKENIZER).unwrap_or_default()).map_err(thrown)?;
        let settings = Settings::read(file).map_err(thrown)?;
        let embedder = Embedder::new(model, tokenizer, settings);
        // A trial: a model that cannot be run fails here, and not in the first request.
        let tried = embedder.embed(&[vec![0]]).map_err(thrown)?.concat();
        if tried.is_empty() || tried.iter().any(|value| !value.is_finite()) {
            return Err(thrown("the embeddings of this model are not finite numbers"));
        }
        self.embedder = Some(embedder);
        Ok(())
    }

    fn embedder(&self) -> Result<&Embedder, JsValue> {
        self.embedder.as_ref().ok_or_else(|| thrown("the model is not ready"))
    }

    /// The tokens of a text.
    ///
    /// # Errors
    /// The text is refused.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, JsValue> {
        self.embedder()?.encode(text).map_err(thrown)
    }

    /// Checks tokens of a client.
    ///
    /// # Errors
    /// The tokens are refused.
    pub fn check(&self, tokens: &[u32]) -> Result<(), JsValue> {
        self.embedder()?.check(tokens).map_err(thrown)
    }

    /// The embeddings of inputs, one after the other. `tokens` are the tokens of all inputs, and
    /// `lengths` their number for each.
    ///
    /// # Errors
    /// The inputs are refused.
    pub fn embed(&self, tokens: &[u32], lengths: &[u32]) -> Result<Vec<f32>, JsValue> {
        let mut left = tokens;
        let mut inputs = Vec::with_capacity(lengths.len());
        for length in lengths {
            let (input, rest) = left
                .split_at_checked(*length as usize)
                .ok_or_else(|| thrown("there are fewer tokens than the lengths say"))?;
            inputs.push(input.to_vec());
            left = rest;
        }
        Ok(self.embedder()?.embed(&inputs).map_err(thrown)?.concat())
    }

    /// Number of components of an embedding.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.embedder.as_ref().map_or(0, Embedder::dimensions)
    }

    /// Memory of this instance, in bytes.
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
