//! The writer. Its bytes are those of the reference, the crate `safetensors`.

use std::io::{self, Write};

use serde_json::json;

use super::element::order;
use super::head::METADATA;
use crate::Dtype;
use crate::container::{Element, TensorInfo, write_tensors};

/// The head's length is a multiple of this many bytes.
const ALIGNMENT: usize = 8;

/// Why a tensor is not added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriterError {
    /// The name is that of another tensor, or of the metadata.
    #[error("the name {name:?} is taken")]
    Taken {
        /// The name.
        name: String,
    },
    /// The format has no such type.
    #[error("the tensor {name:?} has the type {dtype}, which safetensors does not have")]
    ElementType {
        /// Name of the tensor.
        name: String,
        /// The element type.
        dtype: Dtype,
    },
    /// The dimensions are too large.
    #[error("the tensor {name:?} of the shape {dims:?} is too large")]
    Shape {
        /// Name of the tensor.
        name: String,
        /// Dimensions, the outermost first.
        dims: Vec<usize>,
    },
}

/// Lays out a file and writes it. Tensors of wide types come first, then by name.
#[derive(Clone, Debug, Default)]
pub struct SafetensorsWriter {
    metadata: Vec<(String, String)>,
    tensors: Vec<TensorInfo>,
}

impl SafetensorsWriter {
    /// A writer of an empty file.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a key of the metadata.
    pub fn set(&mut self, key: &str, value: &str) {
        self.metadata.retain(|pair| pair.0 != key);
        self.metadata.push((key.to_owned(), value.to_owned()));
    }

    /// Adds a tensor. Dimensions come the outermost first.
    ///
    /// # Errors
    /// [`WriterError`].
    pub fn add(&mut self, name: &str, dims: &[usize], dtype: Dtype) -> Result<(), WriterError> {
        let named = || name.to_owned();
        if name == METADATA || self.tensors.iter().any(|tensor| tensor.name == name) {
            return Err(WriterError::Taken { name: named() });
        }
        if order(dtype).is_none() {
            return Err(WriterError::ElementType { name: named(), dtype });
        }
        let size = dtype.tensor_bytes(dims).filter(|size| *size < 1 << 48);
        let size = size.ok_or_else(|| WriterError::Shape { name: named(), dims: dims.to_vec() })?;
        let element = Element::Weights(dtype);
        self.tensors.push(TensorInfo {
            name: named(),
            dims: dims.to_vec(),
            element,
            offset: 0,
            size,
        });
        Ok(())
    }

    /// Size of the file in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        let data: u64 = self.tensors.iter().map(|tensor| tensor.size).sum();
        self.head(&self.order()).len() as u64 + data
    }

    /// Writes the file. `source` is called with each tensor's place among those that were added,
    /// in the order of the file, and writes its bytes.
    ///
    /// # Errors
    /// Those of `out` and `source`, and [`io::ErrorKind::InvalidData`] when `source` writes another
    /// number of bytes than the tensor has.
    pub fn write(
        &self,
        out: &mut dyn Write,
        mut source: impl FnMut(usize, &mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        let order = self.order();
        out.write_all(&self.head(&order))?;
        let tensors: Vec<TensorInfo> = order.iter().map(|(_, tensor)| tensor.clone()).collect();
        write_tensors(out, &tensors, 0, &mut |place, out| source(order[place].0, out))
    }

    /// The tensors in the order of the file, with their places and offsets.
    fn order(&self) -> Vec<(usize, TensorInfo)> {
        let mut tensors: Vec<(usize, TensorInfo)> =
            self.tensors.iter().cloned().enumerate().collect();
        tensors.sort_by(|(_, one), (_, other)| {
            let kind = |tensor: &TensorInfo| tensor.dtype().ok().and_then(order);
            kind(one).cmp(&kind(other)).then_with(|| one.name.cmp(&other.name))
        });
        let mut offset = 0;
        for (_, tensor) in &mut tensors {
            tensor.offset = offset;
            offset = tensor.end();
        }
        tensors
    }

    fn head(&self, order: &[(usize, TensorInfo)]) -> Vec<u8> {
        let mut members = Vec::with_capacity(order.len() + 1);
        if !self.metadata.is_empty() {
            let texts =
                self.metadata.iter().map(|(key, text)| member(key, &json!(text).to_string()));
            members.push(member(METADATA, &object(&texts.collect::<Vec<_>>())));
        }
        for (_, tensor) in order {
            let name = match tensor.element {
                Element::Weights(dtype) => dtype.name(),
                Element::Other(name) => name,
            };
            // The reference has the members in this order.
            let entry = format!(
                "{{\"dtype\":{},\"shape\":{},\"data_offsets\":[{},{}]}}",
                json!(name),
                json!(tensor.dims),
                tensor.offset,
                tensor.end()
            );
            members.push(member(&tensor.name, &entry));
        }
        let mut object = object(&members);
        while !object.len().is_multiple_of(ALIGNMENT) {
            object.push(' ');
        }
        [&(object.len() as u64).to_le_bytes(), object.as_bytes()].concat()
    }
}

fn object(members: &[String]) -> String {
    format!("{{{}}}", members.join(","))
}

fn member(name: &str, value: &str) -> String {
    format!("{}:{value}", json!(name))
}
