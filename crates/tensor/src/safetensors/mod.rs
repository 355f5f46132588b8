//! safetensors files.
//!
//! The format: <https://github.com/huggingface/safetensors#format>. A head of JSON names the
//! tensors, whose bytes follow without any between them. A model in several files has an
//! [`Index`].

mod element;
mod head;
mod index;
mod writer;

use crate::container;

pub use head::Head;
pub use index::{Index, IndexError};
pub use writer::{SafetensorsWriter, WriterError};

/// Reader of a safetensors file.
pub type Reader = container::Reader<Head>;
