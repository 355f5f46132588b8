//! Text embeddings from ONNX models of the BERT family (MiniLM, E5, BGE, GTE): tokenizer, graph
//! and pooling, native and in WASM.
//!
//! tract plans and runs the graph. The expensive parts of it, such as products with quantized
//! matrices and attention, are recognized in the graph and replaced by [kernels](kernel) of this
//! crate.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use edge_net_inference::{Embedder, ModelReader, Settings, Tokenizer};
//!
//! let bytes = std::fs::read("model.onnx")?;
//! let mut reader = ModelReader::new(bytes.len() as u64);
//! for piece in bytes.chunks(1 << 20) {
//!     reader.push(piece)?;
//! }
//! let tokenizer = Tokenizer::read(&std::fs::read("tokenizer.json")?)?;
//! let settings = Settings::read(|_name| None)?;
//! let embedder = Embedder::new(reader.finish()?, tokenizer, settings);
//! let tokens = embedder.encode("a sentence")?;
//! let vectors = embedder.embed(&[tokens])?;
//! assert_eq!(vectors[0].len(), embedder.dimensions());
//! # Ok(())
//! # }
//! ```

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
