//! A model, as the front has it: in another WASM instance.

use edge_net_driver::host;
use js_sys::{Float32Array, Function, Uint8Array, Uint32Array};
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    /// [`crate::instance::Model`].
    type Instance;
    #[wasm_bindgen(method, structural, catch)]
    fn file(this: &Instance, name: &str, bytes: &Uint8Array) -> Result<(), JsValue>;
    #[wasm_bindgen(method, structural, catch)]
    fn push(this: &Instance, piece: &Uint8Array) -> Result<(), JsValue>;
    #[wasm_bindgen(method, structural, catch)]
    fn finish(this: &Instance) -> Result<(), JsValue>;
    #[wasm_bindgen(method, structural, catch)]
    fn encode(this: &Instance, text: &str) -> Result<Uint32Array, JsValue>;
    #[wasm_bindgen(method, structural, catch)]
    fn check(this: &Instance, tokens: &Uint32Array) -> Result<(), JsValue>;
    #[wasm_bindgen(method, structural, catch)]
    fn embed(
        this: &Instance,
        tokens: &Uint32Array,
        lengths: &Uint32Array,
    ) -> Result<Float32Array, JsValue>;
    #[wasm_bindgen(method, structural, catch)]
    fn dimensions(this: &Instance) -> Result<u32, JsValue>;
    #[wasm_bindgen(method, structural, catch)]
    fn memory(this: &Instance) -> Result<u32, JsValue>;
}

/// Why a model did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It says what is wrong with what it was given.
    #[error("{0}")]
    Said(String),
    /// It broke: nothing may be asked of it any more.
    #[error("the model broke: {0}")]
    Broke(String),
}

impl From<JsValue> for Fault {
    fn from(thrown: JsValue) -> Self {
        thrown.as_string().map_or_else(|| Self::Broke(host::message(&thrown)), Self::Said)
    }
}

/// A model in an instance of its own, which goes with it.
pub struct Model(Instance);

impl Model {
    /// An instance for a model whose graph has `size` bytes; `create` makes it.
    ///
    /// # Errors
    /// [`Fault::Broke`] where there is no memory left for it.
    pub fn new(create: &Function, size: u64) -> Result<Self, Fault> {
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        Ok(Self(create.call1(&JsValue::UNDEFINED, &size.into())?.unchecked_into()))
    }

    /// Takes a file that is needed besides the graph.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn file(&self, name: &str, bytes: &Uint8Array) -> Result<(), Fault> {
        Ok(self.0.file(name, bytes)?)
    }

    /// Takes the next piece of the graph.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn push(&self, piece: &Uint8Array) -> Result<(), Fault> {
        Ok(self.0.push(piece)?)
    }

    /// Makes it ready.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn finish(&self) -> Result<(), Fault> {
        Ok(self.0.finish()?)
    }

    /// The tokens of a text.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Fault> {
        Ok(self.0.encode(text)?.to_vec())
    }

    /// Checks tokens that a client made.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn check(&self, tokens: &[u32]) -> Result<(), Fault> {
        Ok(self.0.check(&Uint32Array::from(tokens))?)
    }

    /// The embeddings of inputs.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn embed(&self, inputs: &[&[u32]]) -> Result<Vec<Vec<f32>>, Fault> {
        let lengths: Vec<u32> =
            inputs.iter().map(|input| u32::try_from(input.len()).unwrap_or(u32::MAX)).collect();
        let embeddings = self
            .0
            .embed(&Uint32Array::from(&*inputs.concat()), &Uint32Array::from(&*lengths))?
            .to_vec();
        let width = embeddings.len() / inputs.len().max(1);
        Ok(embeddings.chunks_exact(width.max(1)).map(<[f32]>::to_vec).collect())
    }

    /// Components of an embedding.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn dimensions(&self) -> Result<usize, Fault> {
        Ok(self.0.dimensions()? as usize)
    }

    /// Bytes of memory that it takes; 0 where it does not tell.
    pub fn memory(&self) -> u64 {
        self.0.memory().unwrap_or_default().into()
    }
}
