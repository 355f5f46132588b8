//! A model file for tract, read in pieces: large tensors are stored once, where they stay.

use std::collections::HashMap;

use edge_net_onnx::schema::RAW_DATA;
use edge_net_onnx::{Error, Event, Message, Reader};
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint};
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, ModelProto, TensorProto};

/// Limit for the bytes of a file besides raw tensor values.
const MAX_GRAPH: usize = 16 << 20;
/// Limit for the bytes of one tensor.
const MAX_TENSOR: usize = 512 << 20;
/// Tensors of 8-bit integers of this many bytes and more are kept out of the graph.
const LARGE: usize = 1 << 12;

/// Why a file is not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file is not a valid ONNX file, or too large.
    #[error(transparent)]
    Onnx(#[from] Error),
    /// A tensor has a data type that is not supported.
    #[error("the tensor {name:?} has the unsupported data type {kind}")]
    DataType {
        /// Name of the tensor.
        name: String,
        /// Number of the data type in `TensorProto.DataType`.
        kind: i32,
    },
    /// A tensor's values do not fit its shape.
    #[error("the tensor {name:?} has {found} bytes; its shape needs {wanted}")]
    TensorSize {
        /// Name of the tensor.
        name: String,
        /// Bytes in the file.
        found: usize,
        /// Bytes for the shape.
        wanted: u64,
    },
}

/// A large tensor of 8-bit integers.
#[derive(Clone, Debug)]
pub struct Bytes {
    /// Dimensions.
    pub dims: Vec<usize>,
    /// The values are from -128 to 127 if set, and from 0 to 255 otherwise.
    pub signed: bool,
    /// The values, row by row.
    pub values: Vec<u8>,
}

impl Bytes {
    /// The same as an initializer of the graph.
    pub fn into_tensor(self, name: String) -> TensorProto {
        let kind = if self.signed { DataType::Int8 } else { DataType::Uint8 };
        TensorProto {
            name,
            dims: self.dims.iter().map(|dim| i64::try_from(*dim).unwrap_or(i64::MAX)).collect(),
            data_type: kind.into(),
            raw_data: self.values,
            ..TensorProto::default()
        }
    }
}

/// The value of a byte of a tensor of 8-bit integers.
#[inline]
pub const fn integer(byte: u8, signed: bool) -> i16 {
    if signed { byte.cast_signed() as i16 } else { byte as i16 }
}

/// Content of a model file.
#[derive(Debug)]
pub struct File {
    /// Everything but the large tensors.
    pub model: ModelProto,
    /// The large tensors of 8-bit integers, by name.
    pub large: HashMap<String, Bytes>,
}

/// Reads a model file.
#[derive(Debug)]
pub struct FileReader {
    events: Reader,
    parts: Parts,
}

/// What has been read of a file.
#[derive(Debug, Default)]
struct Parts {
    model: ModelProto,
    graph: GraphProto,
    /// Size in bytes of the fields of model and graph.
    size: usize,
    tensor: TensorProto,
    /// Size in bytes of the fields of the open tensor.
    tensor_size: usize,
    /// Raw values of the open tensor.
    raw: Vec<u8>,
    /// Other fields with values of the open tensor, as encoded.
    listed: Vec<u8>,
    /// Whether the values that arrive are raw ones.
    is_raw: bool,
    large: HashMap<String, Bytes>,
}

impl FileReader {
    /// A reader of a file of `size` bytes. Memory is allocated as the file's content needs it.
    #[must_use]
    pub fn new(size: u64) -> Self {
        let events = Reader::new(Message::Model, size, MAX_GRAPH);
        Self { events, parts: Parts::default() }
    }

    /// Takes the next bytes of the file.
    ///
    /// # Errors
    /// [`ReadError`]: the reader is of no use afterwards.
    pub fn push(&mut self, mut piece: &[u8]) -> Result<(), ReadError> {
        while let Some(event) = self.events.next(&mut piece)? {
            self.parts.add(event)?;
        }
        Ok(())
    }

    /// The file's content.
    ///
    /// # Errors
    /// [`Error::EndsEarly`] when bytes are missing.
    pub fn finish(self) -> Result<File, ReadError> {
        self.events.finish()?;
        let Parts { mut model, graph, large, .. } = self.parts;
        model.graph = Some(graph);
        Ok(File { model, large })
    }
}

impl Parts {
    fn add(&mut self, event: Event<'_>) -> Result<(), ReadError> {
        match event {
            Event::Field { message, encoded, .. } => {
                self.count(message, encoded.len() as u64)?;
                match message {
                    Message::Model => self.model.merge(encoded),
                    Message::Graph => self.graph.merge(encoded),
                    Message::Tensor => self.tensor.merge(encoded),
                }
                .map_err(|error| Error::undecodable(message, error))?;
            }
            Event::Value { message, number, length, .. } => {
                self.begin_values(message, number, length)?;
            }
            Event::Data(data) if self.is_raw => self.raw.extend_from_slice(data),
            Event::Data(data) => self.listed.extend_from_slice(data),
            Event::End { message: Message::Tensor } => self.end_tensor()?,
            Event::Start { .. } | Event::End { .. } => {}
        }
        Ok(())
    }

    /// Counts bytes of fields besides raw values.
    fn count(&mut self, message: Message, bytes: u64) -> Result<(), Error> {
        let size = (self.size + self.tensor_size) as u64 + bytes;
        if size > MAX_GRAPH as u64 {
            return Err(Error::TooLarge { message, size, most: MAX_GRAPH });
        }
        let counted =
            if message == Message::Tensor { &mut self.tensor_size } else { &mut self.size };
        // Below the limit.
        *counted += usize::try_from(bytes).unwrap_or_default();
        Ok(())
    }

    fn begin_values(&mut self, message: Message, number: u32, size: u64) -> Result<(), Error> {
        self.is_raw = message == Message::Tensor && number == RAW_DATA;
        if !self.is_raw {
            // Only listed values pass: other fields in pieces are above this limit.
            self.count(message, size)?;
            encode_key(number, WireType::LengthDelimited, &mut self.listed);
            encode_varint(size, &mut self.listed);
        }
        let too_large = Error::TooLarge { message, size, most: MAX_TENSOR };
        let room =
            usize::try_from(size).ok().filter(|size| *size <= MAX_TENSOR).ok_or(too_large)?;
        self.raw.clear();
        let values = if self.is_raw { &mut self.raw } else { &mut self.listed };
        values.try_reserve_exact(room).map_err(|_| Error::OutOfMemory { size })
    }

    fn end_tensor(&mut self) -> Result<(), ReadError> {
        let mut tensor = std::mem::take(&mut self.tensor);
        let listed = std::mem::take(&mut self.listed);
        tensor.merge(&*listed).map_err(|error| Error::undecodable(Message::Tensor, error))?;
        self.tensor_size = 0;
        let raw = std::mem::take(&mut self.raw);
        let kind = DataType::try_from(tensor.data_type).unwrap_or(DataType::Undefined);
        let Some(width) = width(kind) else {
            return Err(ReadError::DataType { name: tensor.name, kind: tensor.data_type });
        };
        // tract allocates what the shape says.
        let found = if raw.is_empty() { listed_values(&tensor) * width } else { raw.len() };
        let dims = tensor
            .dims
            .iter()
            .try_fold(width as u64, |size, dim| u64::try_from(*dim).ok()?.checked_mul(size));
        let wanted = dims.unwrap_or(u64::MAX);
        if found as u64 != wanted {
            return Err(ReadError::TensorSize { name: tensor.name, found, wanted });
        }
        if matches!(kind, DataType::Int8 | DataType::Uint8) && raw.len() >= LARGE {
            let dims = tensor.dims.iter().filter_map(|dim| usize::try_from(*dim).ok()).collect();
            self.large
                .insert(tensor.name, Bytes { dims, signed: kind == DataType::Int8, values: raw });
        } else {
            tensor.raw_data = raw;
            self.graph.initializer.push(tensor);
        }
        Ok(())
    }
}

/// Bytes of an element in `raw_data`; `None` for types that are not supported.
const fn width(kind: DataType) -> Option<usize> {
    match kind {
        DataType::Int8 | DataType::Uint8 | DataType::Bool | DataType::String => Some(1),
        DataType::Float16 | DataType::Bfloat16 | DataType::Int16 | DataType::Uint16 => Some(2),
        DataType::Float | DataType::Int32 | DataType::Uint32 => Some(4),
        DataType::Double | DataType::Int64 | DataType::Uint64 => Some(8),
        _ => None,
    }
}

/// Number of values that are not in `raw_data`.
fn listed_values(tensor: &TensorProto) -> usize {
    tensor.float_data.len()
        + tensor.int32_data.len()
        + tensor.int64_data.len()
        + tensor.double_data.len()
        + tensor.uint64_data.len()
        + tensor.string_data.len()
}
