//! The writer.

use std::io::{self, Write};

use super::head::{ALIGNMENT, ALIGNMENT_KEY, MAGIC, MAX_DIMS};
use super::kind::Kind;
use crate::Dtype;
use crate::container::{Array, Element, Metadata, TensorInfo, Value, write_tensors, write_zeros};

/// The version of the format that is written.
const VERSION: u32 = 3;

/// Why a tensor is not added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriterError {
    /// The name is that of another tensor.
    #[error("two tensors have the name {name:?}")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// The dimensions do not go with the element type, or are too large.
    #[error("the tensor {name:?} of the shape {dims:?} cannot have the type {dtype}")]
    Shape {
        /// Name of the tensor.
        name: String,
        /// Dimensions, the outermost first.
        dims: Vec<usize>,
        /// The element type.
        dtype: Dtype,
    },
}

/// Lays out a file of version 3 and writes it. Tensors are aligned to 32 bytes, as is the end of
/// the file.
#[derive(Clone, Debug, Default)]
pub struct GgufWriter {
    metadata: Metadata,
    /// Offsets count from the beginning of the data.
    tensors: Vec<TensorInfo>,
}

impl GgufWriter {
    /// A writer of a file with these metadata. It drops `general.alignment`, because it writes the
    /// usual one.
    #[must_use]
    pub fn new(mut metadata: Metadata) -> Self {
        metadata.remove(ALIGNMENT_KEY);
        Self { metadata, tensors: Vec::new() }
    }

    /// Adds a tensor. Dimensions come the outermost first.
    ///
    /// # Errors
    /// [`WriterError`].
    pub fn add(&mut self, name: &str, dims: &[usize], dtype: Dtype) -> Result<(), WriterError> {
        if self.tensors.iter().any(|tensor| tensor.name == name) {
            return Err(WriterError::Duplicate { name: name.to_owned() });
        }
        let offset = self.tensors.last().map_or(0, TensorInfo::end).next_multiple_of(ALIGNMENT);
        let size = dtype.tensor_bytes(dims).filter(|_| dims.len() <= MAX_DIMS as usize);
        let size = size.filter(|size| offset.checked_add(*size).is_some_and(|end| end < 1 << 62));
        let shape = || WriterError::Shape { name: name.to_owned(), dims: dims.to_vec(), dtype };
        self.tensors.push(TensorInfo {
            name: name.to_owned(),
            dims: dims.to_vec(),
            element: Element::Weights(dtype),
            offset,
            size: size.ok_or_else(shape)?,
        });
        Ok(())
    }

    /// Size of the file in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        let data = self.tensors.last().map_or(0, TensorInfo::end).next_multiple_of(ALIGNMENT);
        (self.head().len() as u64).next_multiple_of(ALIGNMENT) + data
    }

    /// Writes the file. `source` is called with each tensor's place, in the order in which they
    /// were added, and writes its bytes.
    ///
    /// # Errors
    /// Those of `out` and `source`, and [`io::ErrorKind::InvalidData`] when `source` writes another
    /// number of bytes than the tensor has.
    pub fn write(
        &self,
        out: &mut dyn Write,
        mut source: impl FnMut(usize, &mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        let head = self.head();
        let at = head.len() as u64;
        out.write_all(&head)?;
        write_zeros(out, at.next_multiple_of(ALIGNMENT) - at)?;
        write_tensors(out, &self.tensors, 0, &mut source)?;
        let end = self.tensors.last().map_or(0, TensorInfo::end);
        write_zeros(out, end.next_multiple_of(ALIGNMENT) - end)
    }

    fn head(&self) -> Vec<u8> {
        let mut head = MAGIC.to_vec();
        head.extend(VERSION.to_le_bytes());
        head.extend((self.tensors.len() as u64).to_le_bytes());
        head.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in self.metadata.iter() {
            put_text(&mut head, key);
            head.extend(kind(value).number().to_le_bytes());
            put(&mut head, value);
        }
        for tensor in &self.tensors {
            put_text(&mut head, &tensor.name);
            head.extend(u32::try_from(tensor.dims.len()).unwrap_or(u32::MAX).to_le_bytes());
            for dim in tensor.dims.iter().rev() {
                head.extend((*dim as u64).to_le_bytes());
            }
            if let Element::Weights(dtype) = tensor.element {
                head.extend(dtype.ggml().to_le_bytes());
            }
            head.extend(tensor.offset.to_le_bytes());
        }
        head
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

const fn kind(value: &Value) -> Kind {
    match value {
        Value::U8(_) => Kind::U8,
        Value::I8(_) => Kind::I8,
        Value::U16(_) => Kind::U16,
        Value::I16(_) => Kind::I16,
        Value::U32(_) => Kind::U32,
        Value::I32(_) => Kind::I32,
        Value::F32(_) => Kind::F32,
        Value::Bool(_) => Kind::Bool,
        Value::String(_) => Kind::String,
        Value::Array(_) => Kind::Array,
        Value::U64(_) => Kind::U64,
        Value::I64(_) => Kind::I64,
        Value::F64(_) => Kind::F64,
    }
}

fn put(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::U8(number) => out.push(*number),
        Value::I8(number) => out.extend(number.to_le_bytes()),
        Value::U16(number) => out.extend(number.to_le_bytes()),
        Value::I16(number) => out.extend(number.to_le_bytes()),
        Value::U32(number) => out.extend(number.to_le_bytes()),
        Value::I32(number) => out.extend(number.to_le_bytes()),
        Value::F32(number) => out.extend(number.to_le_bytes()),
        Value::Bool(value) => out.push((*value).into()),
        Value::String(text) => put_text(out, text),
        Value::Array(array) => put_array(out, array),
        Value::U64(number) => out.extend(number.to_le_bytes()),
        Value::I64(number) => out.extend(number.to_le_bytes()),
        Value::F64(number) => out.extend(number.to_le_bytes()),
    }
}

fn put_array(out: &mut Vec<u8>, array: &Array) {
    let mut begin = |kind: Kind| {
        out.extend(kind.number().to_le_bytes());
        out.extend((array.len() as u64).to_le_bytes());
    };
    macro_rules! numbers {
        ($kind:ident, $numbers:ident) => {{
            begin(Kind::$kind);
            out.extend($numbers.iter().flat_map(|number| number.to_le_bytes()));
        }};
    }
    match array {
        Array::U8(numbers) => numbers!(U8, numbers),
        Array::I8(numbers) => numbers!(I8, numbers),
        Array::U16(numbers) => numbers!(U16, numbers),
        Array::I16(numbers) => numbers!(I16, numbers),
        Array::U32(numbers) => numbers!(U32, numbers),
        Array::I32(numbers) => numbers!(I32, numbers),
        Array::F32(numbers) => numbers!(F32, numbers),
        Array::U64(numbers) => numbers!(U64, numbers),
        Array::I64(numbers) => numbers!(I64, numbers),
        Array::F64(numbers) => numbers!(F64, numbers),
        Array::Bool(values) => {
            begin(Kind::Bool);
            out.extend(values.iter().map(|value| u8::from(*value)));
        }
        Array::Strings(texts) => {
            begin(Kind::String);
            for text in texts.iter() {
                put_text(out, text);
            }
        }
        Array::Arrays(arrays) => {
            begin(Kind::Array);
            for array in arrays {
                put_array(out, array);
            }
        }
    }
}
