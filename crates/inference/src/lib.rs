//! Text embeddings from ONNX models of the BERT family (MiniLM, E5, BGE, GTE): tokenizer, graph and pooling, native and in WASM.
//!
//! tract reads and plans the graph; what takes the time and the memory is done by [kernels](kernel) of ours, which [`fuse`] puts in
//! place of what exporters write.

mod embedder;
mod file;
mod fuse;
pub mod kernel;
mod model;
mod ops;
mod settings;
mod tokenizer;

pub use embedder::{Embedder, InputError, normalize};
pub use file::ReadError;
pub use model::{Model, ModelError, ModelReader, RunError};
pub use settings::{Pooling, Settings, SettingsError};
pub use tokenizer::{Tokenizer, TokenizerError};
