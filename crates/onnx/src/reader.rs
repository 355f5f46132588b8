//! Reads an ONNX file piece by piece, as it comes: what is large is put where it stays, and nothing is there twice.
//!
//! ONNX is a Protocol Buffers message ([encoding](https://protobuf.dev/programming-guides/encoding/)); of its nested messages only the
//! path to the tensors is followed here (ModelProto.graph, GraphProto.initializer), the rest is left to the generated code.

use std::collections::HashMap;

use prost::Message;
use prost::encoding::{WireType, decode_varint, encode_key, encode_varint};
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, ModelProto, TensorProto};

/// Bytes of a file that are no tensors, at the most.
const MAX_GRAPH: usize = 16 << 20;
/// Bytes of one tensor at the most.
const MAX_TENSOR: usize = 512 << 20;
/// Bytes from which on a tensor of 8-bit integers is kept out of the graph.
const LARGE: usize = 1 << 12;

/// Why a file is not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It is not encoded as the format says.
    #[error("this is no ONNX file: byte {at} is not as Protocol Buffers has it")]
    Malformed {
        /// Where, from the beginning of the file.
        at: u64,
    },
    /// A part of it could not be decoded.
    #[error("this is no ONNX file: {part}: {reason}")]
    Undecodable {
        /// Which part.
        part: &'static str,
        /// The decoder's reason.
        reason: String,
    },
    /// It ends within a field.
    #[error("the ONNX file ends early, after {at} bytes")]
    EndsEarly {
        /// Bytes that came.
        at: u64,
    },
    /// A part is larger than what is read.
    #[error("the ONNX file's {part} has {size} bytes; {most} are read at the most")]
    TooLarge {
        /// Which part.
        part: &'static str,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        most: usize,
    },
    /// A tensor's bytes are not as many as its shape says.
    #[error("the tensor {name:?} has {found} bytes, and its shape says {wanted}")]
    TensorSize {
        /// Its name.
        name: String,
        /// Bytes that are there.
        found: usize,
        /// Bytes that its shape says.
        wanted: u64,
    },
}

/// A large tensor of 8-bit integers.
#[derive(Clone)]
pub struct Bytes {
    /// Its dimensions.
    pub dims: Vec<usize>,
    /// Whether they are of -128 to 127; else of 0 to 255.
    pub signed: bool,
    /// Its values, row by row.
    pub values: Vec<u8>,
}

/// What a file says.
pub struct File {
    /// Everything but the large tensors.
    pub model: ModelProto,
    /// The large tensors of 8-bit integers, by name.
    pub large: HashMap<String, Bytes>,
}

/// A message that is followed into.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Model,
    Graph,
    Tensor,
}

/// Fields of the messages that are followed.
const GRAPH: u32 = 7;
const INITIALIZER: u32 = 5;
const RAW_DATA: u32 = 9;

impl Place {
    /// The message that the field `tag` of this one is, if that is followed too.
    const fn below(self, tag: u32) -> Option<Self> {
        match (self, tag) {
            (Self::Model, GRAPH) => Some(Self::Graph),
            (Self::Graph, INITIALIZER) => Some(Self::Tensor),
            _ => None,
        }
    }
}

/// What the next bytes are.
enum Expect {
    /// The head of a field: its key, then its value or its length.
    Head,
    /// So many bytes more of the value of the field `tag`, of which some are here.
    Value { tag: u32, value: Vec<u8>, left: usize },
}

/// Reads a file; see the [module](self).
pub struct Reader {
    at: u64,
    /// The messages that are open, each with how many bytes of it are still to come.
    open: Vec<(Place, u64)>,
    expect: Expect,
    /// The head of a field, as far as it came.
    head: Vec<u8>,
    /// The fields of the model and of its graph that are not followed, as they came.
    model: Vec<u8>,
    graph: Vec<u8>,
    /// The same of the tensor that is open, and its values.
    tensor: Vec<u8>,
    raw: Vec<u8>,
    tensors: Vec<TensorProto>,
    large: HashMap<String, Bytes>,
}

impl Reader {
    /// A reader of a file of `size` bytes, of which it has seen none. No more memory is asked for than those need.
    #[must_use]
    pub fn new(size: u64) -> Self {
        Self {
            at: 0,
            open: vec![(Place::Model, size)],
            expect: Expect::Head,
            head: Vec::with_capacity(20),
            model: Vec::new(),
            graph: Vec::new(),
            tensor: Vec::new(),
            raw: Vec::new(),
            tensors: Vec::new(),
            large: HashMap::new(),
        }
    }

    /// Takes in the next bytes of the file.
    ///
    /// # Errors
    /// [`ReadError`]: then nothing more can be read.
    pub fn push(&mut self, mut piece: &[u8]) -> Result<(), ReadError> {
        while !piece.is_empty() {
            if self.open.is_empty() {
                return Err(ReadError::Malformed { at: self.at });
            }
            match &mut self.expect {
                Expect::Head => {
                    self.head.push(piece[0]);
                    self.advance(1)?;
                    piece = &piece[1..];
                    self.head_complete()?;
                }
                Expect::Value { value, left, .. } => {
                    let take = piece.len().min(*left);
                    value.extend_from_slice(&piece[..take]);
                    *left -= take;
                    self.advance(take)?;
                    piece = &piece[take..];
                }
            }
            self.settle()?;
        }
        Ok(())
    }

    /// What was read.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn finish(mut self) -> Result<File, ReadError> {
        if !self.open.is_empty() || self.at == 0 {
            return Err(ReadError::EndsEarly { at: self.at });
        }
        let undecodable = |part| {
            move |error: prost::DecodeError| ReadError::Undecodable {
                part,
                reason: error.to_string(),
            }
        };
        let mut graph =
            GraphProto::decode(&*std::mem::take(&mut self.graph)).map_err(undecodable("graph"))?;
        let mut model =
            ModelProto::decode(&*std::mem::take(&mut self.model)).map_err(undecodable("model"))?;
        graph.initializer = self.tensors;
        model.graph = Some(graph);
        Ok(File { model, large: self.large })
    }

    /// Counts bytes in all messages that are open.
    fn advance(&mut self, count: usize) -> Result<(), ReadError> {
        self.at += count as u64;
        for (_, left) in &mut self.open {
            *left = left.checked_sub(count as u64).ok_or(ReadError::Malformed { at: self.at })?;
        }
        Ok(())
    }

    /// Goes on, if the head of the field is all there.
    fn head_complete(&mut self) -> Result<(), ReadError> {
        let malformed = ReadError::Malformed { at: self.at };
        let mut rest = &*self.head;
        let Some(key) = varint(&mut rest).map_err(|()| malformed.clone())? else { return Ok(()) };
        let tag = u32::try_from(key >> 3).ok().filter(|tag| *tag > 0).ok_or(malformed.clone())?;
        let kind = WireType::try_from(key & 7).map_err(|_| malformed.clone())?;
        let Some(&(place, left)) = self.open.last() else { return Err(malformed) };
        let size = match kind {
            WireType::Varint => {
                let Some(number) = varint(&mut rest).map_err(|()| malformed)? else {
                    return Ok(());
                };
                self.head.clear();
                let into = self.fields_of(place);
                encode_key(tag, kind, into);
                encode_varint(number, into);
                return self.limit();
            }
            WireType::SixtyFourBit => 8,
            WireType::ThirtyTwoBit => 4,
            WireType::LengthDelimited => {
                let Some(size) = varint(&mut rest).map_err(|()| malformed.clone())? else {
                    return Ok(());
                };
                size
            }
            WireType::StartGroup | WireType::EndGroup => return Err(malformed),
        };
        if size > left {
            return Err(malformed);
        }
        self.head.clear();
        if kind == WireType::LengthDelimited
            && let Some(below) = place.below(tag)
        {
            self.open.push((below, size));
            return Ok(());
        }
        let raw = place == Place::Tensor && tag == RAW_DATA && kind == WireType::LengthDelimited;
        let (part, most) = if raw { ("tensor", MAX_TENSOR) } else { ("graph", MAX_GRAPH) };
        let left = usize::try_from(size)
            .ok()
            .filter(|size| *size <= most)
            .ok_or(ReadError::TooLarge { part, size, most })?;
        if !raw {
            let into = self.fields_of(place);
            encode_key(tag, kind, into);
            if kind == WireType::LengthDelimited {
                encode_varint(size, into);
            }
        }
        let mut value = Vec::new();
        value.try_reserve_exact(left).map_err(|_| ReadError::TooLarge { part, size, most })?;
        self.expect = Expect::Value { tag, value, left };
        Ok(())
    }

    /// Where the fields of a message go that are not followed.
    fn fields_of(&mut self, place: Place) -> &mut Vec<u8> {
        match place {
            Place::Model => &mut self.model,
            Place::Graph => &mut self.graph,
            Place::Tensor => &mut self.tensor,
        }
    }

    fn limit(&self) -> Result<(), ReadError> {
        let size = self.model.len() + self.graph.len() + self.tensor.len();
        if size > MAX_GRAPH {
            return Err(ReadError::TooLarge { part: "graph", size: size as u64, most: MAX_GRAPH });
        }
        Ok(())
    }

    /// Ends the value and the messages of which nothing is to come any more.
    fn settle(&mut self) -> Result<(), ReadError> {
        if let Expect::Value { tag, value, left: 0 } = &mut self.expect
            && let Some(&(place, _)) = self.open.last()
        {
            let (tag, value) = (*tag, std::mem::take(value));
            self.expect = Expect::Head;
            if place == Place::Tensor && tag == RAW_DATA {
                self.raw = value;
            } else {
                self.fields_of(place).extend_from_slice(&value);
                self.limit()?;
            }
        }
        // A field that its message has no room for is none.
        while let Some((place, 0)) = self.open.last() {
            if !self.head.is_empty() || matches!(self.expect, Expect::Value { .. }) {
                return Err(ReadError::Malformed { at: self.at });
            }
            let tensor = *place == Place::Tensor;
            self.open.pop();
            if tensor {
                self.end_tensor()?;
            }
        }
        Ok(())
    }

    fn end_tensor(&mut self) -> Result<(), ReadError> {
        let fields = std::mem::take(&mut self.tensor);
        let undecodable = |error: prost::DecodeError| ReadError::Undecodable {
            part: "tensor",
            reason: error.to_string(),
        };
        let mut tensor = TensorProto::decode(&*fields).map_err(undecodable)?;
        let raw = std::mem::take(&mut self.raw);
        let kind = DataType::try_from(tensor.data_type).unwrap_or(DataType::Undefined);
        let large = matches!(kind, DataType::Int8 | DataType::Uint8) && raw.len() >= LARGE;
        let width: usize = match kind {
            DataType::Int8 | DataType::Uint8 | DataType::Bool | DataType::String => 1,
            DataType::Float16 | DataType::Bfloat16 | DataType::Int16 | DataType::Uint16 => 2,
            DataType::Float | DataType::Int32 | DataType::Uint32 => 4,
            DataType::Double | DataType::Int64 | DataType::Uint64 => 8,
            other => {
                let reason = format!("{:?} is of a type that is not read: {other:?}", tensor.name);
                return Err(ReadError::Undecodable { part: "tensor", reason });
            }
        };
        // Values are in one of these, or as bytes; a shape that says more would have room made for it.
        let listed = tensor.float_data.len() + tensor.int32_data.len() + tensor.int64_data.len();
        let listed =
            listed + tensor.double_data.len() + tensor.uint64_data.len() + tensor.string_data.len();
        let found = if raw.is_empty() { listed * width } else { raw.len() };
        let dims = tensor
            .dims
            .iter()
            .try_fold(width as u64, |size, dim| u64::try_from(*dim).ok()?.checked_mul(size));
        let wanted = dims.unwrap_or(u64::MAX);
        if found as u64 != wanted {
            return Err(ReadError::TensorSize { name: tensor.name, found, wanted });
        }
        if large {
            let dims = tensor.dims.iter().filter_map(|dim| usize::try_from(*dim).ok()).collect();
            self.large
                .insert(tensor.name, Bytes { dims, signed: kind == DataType::Int8, values: raw });
        } else {
            tensor.raw_data = raw;
            self.tensors.push(tensor);
        }
        Ok(())
    }
}

/// A number at the beginning of `from`; `None` where more bytes are needed.
fn varint(from: &mut &[u8]) -> Result<Option<u64>, ()> {
    if from.iter().take(10).all(|byte| byte & 0x80 != 0) {
        return if from.len() < 10 { Ok(None) } else { Err(()) };
    }
    decode_varint(from).map(Some).map_err(|_| ())
}
