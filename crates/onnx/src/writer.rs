//! Writes a model in canonical form, fields in ascending order, with the values of its tensors
//! from wherever the caller has them.

use std::io::{self, Write};

use prost::Message as _;
use prost::encoding::{DecodeContext, WireType, decode_key, encode_key, encode_varint, skip_field};

use crate::messages::GraphProto;
use crate::model::{Model, Values};
use crate::schema::{GRAPH, INITIALIZER};

/// A file to be written: encoded messages, and between them places for values.
///
/// All lengths are known before the first byte is written, as the format demands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    parts: Vec<Part>,
    size: u64,
}

/// A part of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// These bytes.
    Encoded(Vec<u8>),
    /// The values of a tensor.
    Values {
        /// Index in [`Model::tensors`].
        tensor: usize,
        /// Their entry in [`Tensor::values`](crate::Tensor::values).
        values: Values,
    },
}

impl Model {
    /// The file that this model is written as: the tensors in [`Model::tensors`] after those in
    /// [`GraphProto::initializer`], and of each tensor the values in memory (such as
    /// [`raw_data`](crate::messages::TensorProto::raw_data)) besides those in
    /// [`Tensor::values`](crate::Tensor::values).
    #[must_use]
    pub fn outline(&self) -> Outline {
        let mut graph = Outline { parts: Vec::new(), size: 0 };
        let fields = self.graph.as_ref().map(GraphProto::encode_to_vec).unwrap_or_default();
        let (before, after) = split(&fields, INITIALIZER);
        graph.encoded(before);
        for tensor in 0..self.tensors.len() {
            graph.message(INITIALIZER, self.tensor(tensor));
        }
        graph.encoded(after);

        let mut file = Outline { parts: Vec::new(), size: 0 };
        let fields = self.head.encode_to_vec();
        let (before, after) = split(&fields, GRAPH);
        file.encoded(before);
        if self.graph.is_some() || !self.tensors.is_empty() {
            file.message(GRAPH, graph);
        }
        file.encoded(after);
        file
    }

    fn tensor(&self, index: usize) -> Outline {
        let tensor = &self.tensors[index];
        let fields = tensor.head.encode_to_vec();
        let mut values = tensor.values.clone();
        values.sort_by_key(|values| values.number);
        let mut outline = Outline { parts: Vec::new(), size: 0 };
        let mut rest = &*fields;
        for values in values {
            let (before, after) = split(rest, values.number);
            rest = after;
            outline.encoded(before);
            outline.encoded(&key(values.number, values.length));
            outline.parts.push(Part::Values { tensor: index, values });
            outline.size += values.length;
        }
        outline.encoded(rest);
        outline
    }
}

impl Outline {
    /// Size of the file in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The parts of the file, in order.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Writes the file. `source` writes the values of a tensor, given by index, to the writer that
    /// it is passed.
    ///
    /// # Errors
    /// Those of `out` and `source`; [`io::ErrorKind::InvalidData`] where `source` writes more or
    /// fewer bytes than [`Values::length`].
    pub fn write(
        &self,
        out: &mut dyn Write,
        mut source: impl FnMut(usize, Values, &mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        for part in &self.parts {
            match part {
                Part::Encoded(bytes) => out.write_all(bytes)?,
                Part::Values { tensor, values } => {
                    let mut exactly = Exactly { out, left: values.length };
                    source(*tensor, *values, &mut exactly)?;
                    if exactly.left > 0 {
                        let (length, left) = (values.length, exactly.left);
                        return Err(io::Error::new(
                            io::ErrorKind::InvalidData,
                            format!("{left} of {length} bytes of tensor {tensor} are missing"),
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    fn encoded(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        match self.parts.last_mut() {
            Some(Part::Encoded(before)) => before.extend_from_slice(bytes),
            _ if bytes.is_empty() => {}
            _ => self.parts.push(Part::Encoded(bytes.to_vec())),
        }
    }

    /// Adds a field that is a message.
    fn message(&mut self, number: u32, message: Self) {
        self.encoded(&key(number, message.size));
        for part in message.parts {
            match part {
                Part::Encoded(bytes) => self.encoded(&bytes),
                Part::Values { values, .. } => {
                    self.size += values.length;
                    self.parts.push(part);
                }
            }
        }
    }
}

/// A writer of a certain number of bytes.
struct Exactly<'a> {
    out: &'a mut dyn Write,
    left: u64,
}

impl Write for Exactly<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{} bytes for the last {} of a tensor", bytes.len(), self.left),
            ));
        }
        let count = self.out.write(bytes)?;
        self.left -= count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The head of a length-delimited field.
fn key(number: u32, length: u64) -> Vec<u8> {
    let mut head = Vec::new();
    encode_key(number, WireType::LengthDelimited, &mut head);
    encode_varint(length, &mut head);
    head
}

/// The fields up to `number` and those after it, of fields in ascending order.
fn split(fields: &[u8], number: u32) -> (&[u8], &[u8]) {
    let mut after = fields;
    loop {
        let mut rest = after;
        match decode_key(&mut rest) {
            Ok((field, kind)) if field <= number => {
                if skip_field(kind, field, &mut rest, DecodeContext::default()).is_err() {
                    break;
                }
                after = rest;
            }
            // The end, or a field after it.
            _ => break,
        }
    }
    fields.split_at(fields.len() - after.len())
}
