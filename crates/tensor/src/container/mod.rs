//! Files of tensors: what GGUF and safetensors have in common.
//!
//! A [`Reader`] takes a file in pieces of any size and reports [`Event`]s: first the metadata, then
//! every tensor, then the bytes of the tensors as they come. It holds the head of the file only.
//! Its two kinds are [`gguf::Reader`](crate::gguf::Reader) and
//! [`safetensors::Reader`](crate::safetensors::Reader).
//!
//! Input is not trusted: malformed bytes are an [`Error`], never a panic, and memory grows only
//! with bytes that have arrived.

mod contents;
mod error;
mod metadata;
mod reader;
mod spans;
mod tensor;
mod value;
mod write;

pub use contents::Contents;
pub use error::{Error, Format};
pub use metadata::{Metadata, MetadataError};
pub use reader::{Cursor, Event, Head, Reader, Step};
pub use tensor::{Element, TensorInfo};
pub use value::{Array, Strings, Value};
pub(crate) use write::{write_tensors, write_zeros};
