//! GGUF files, versions 2 and 3, little-endian.
//!
//! The format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. A head has metadata of
//! any type and the list of the tensors, whose bytes follow, each at a multiple of
//! `general.alignment`.

mod head;
mod kind;
mod value;
mod writer;

use crate::container;

pub use head::{Head, MAGIC};
pub use writer::{GgufWriter, WriterError};

/// Reader of a GGUF file.
pub type Reader = container::Reader<Head>;
