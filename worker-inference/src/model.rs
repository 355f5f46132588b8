//! The handle of a model, which runs in another WASM instance.

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

/// Why a call of a model failed.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The model refused its input, with this reason.
    #[error("{0}")]
    Refused(String),
    /// The model broke, and must not be called again.
    #[error("the model broke: {0}")]
    Broke(String),
}

impl From<JsValue> for Fault {
    fn from(thrown: JsValue) -> Self {
        thrown.as_string().map_or_else(|| Self::Broke(host::message(&thrown)), Self::Refused)
    }
}

/// A model in an instance of its own. The instance is freed with it.
pub struct Model(Instance);

impl Model {
    /// An instance for a model whose graph has `size` bytes; `create` makes it.
    ///
    /// # Errors
    /// [`Fault::Broke`] if there is not enough memory.
    pub fn new(create: &Function, size: u64) -> Result<Self, Fault> {
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        Ok(Self(create.call1(&JsValue::UNDEFINED, &size.into())?.unchecked_into()))
    }

    /// Passes a file of the model, other than the graph.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn file(&self, name: &str, bytes: &Uint8Array) -> Result<(), Fault> {
        Ok(self.0.file(name, bytes)?)
    }

    /// Passes the next piece of the graph.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn push(&self, piece: &Uint8Array) -> Result<(), Fault> {
        Ok(self.0.push(piece)?)
    }

    /// Makes the model ready to embed.
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

    /// Checks tokens of a client.
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

    /// Number of components of an embedding.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn dimensions(&self) -> Result<usize, Fault> {
        Ok(self.0.dimensions()? as usize)
    }

    /// Its memory in bytes; 0 if it does not tell.
    pub fn memory(&self) -> u64 {
        self.0.memory().unwrap_or_default().into()
    }
}
