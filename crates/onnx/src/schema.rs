//! The part of the ONNX schema that the streaming reader follows:
//! `ModelProto.graph`, `GraphProto.initializer`, and the value fields of `TensorProto`.

use std::fmt;

/// Field number of `ModelProto.graph`.
pub const GRAPH: u32 = 7;
/// Field number of `GraphProto.initializer`.
pub const INITIALIZER: u32 = 5;
/// Field number of `TensorProto.raw_data`: values as little-endian bytes.
pub const RAW_DATA: u32 = 9;

/// The nested messages of a format.
pub trait Schema: Copy {
    /// The treatment of the length-delimited field `number` of this message. Fields of other wire
    /// types are always [`Treatment::Whole`].
    fn treatment(self, number: u32) -> Treatment<Self>;
}

/// The treatment of a length-delimited field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment<M> {
    /// One `Event::Field` with the whole field; above the reader's limit the same as `Stream`.
    Whole,
    /// The field is a message of this kind: the reader reports its fields one by one.
    Enter(M),
    /// One `Event::Value`, then the value in pieces as `Event::Data`.
    Stream,
}

/// A message that the reader enters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// `ModelProto`: the file.
    Model,
    /// `ModelProto.graph`, a `GraphProto`.
    Graph,
    /// One entry of `GraphProto.initializer`, a `TensorProto`.
    Tensor,
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Model => "model",
            Self::Graph => "graph",
            Self::Tensor => "tensor",
        })
    }
}

impl Schema for Message {
    fn treatment(self, number: u32) -> Treatment<Self> {
        match (self, number) {
            (Self::Model, GRAPH) => Treatment::Enter(Self::Graph),
            (Self::Graph, INITIALIZER) => Treatment::Enter(Self::Tensor),
            (Self::Tensor, number) if is_values(number) => Treatment::Stream,
            _ => Treatment::Whole,
        }
    }
}

/// Whether a field of `TensorProto` has values as one run of bytes: `raw_data`, and the packed
/// `float_data`, `int32_data`, `int64_data`, `double_data` and `uint64_data`.
#[must_use]
pub const fn is_values(number: u32) -> bool {
    matches!(number, 4 | 5 | 7 | RAW_DATA | 10 | 11)
}
