//! A model without the values of its tensors, collected from the events of a reader.

use std::io::{self, Read, Seek, SeekFrom};

use prost::Message as _;

use crate::messages::{GraphProto, ModelProto, TensorProto};
use crate::reader::Event;
use crate::schema::{Message, is_values};
use crate::{Error, Reader};

/// Bytes that are read from a file at once.
const PIECE: usize = 64 << 10;

/// Default limit of [`Collector`]: bytes of a file besides the values of the graph's tensors.
pub const MAX_GRAPH: usize = 64 << 20;

/// A model; the values of the graph's tensors stay in the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    /// Everything besides the graph.
    pub head: ModelProto,
    /// The graph, without constants.
    pub graph: Option<GraphProto>,
    /// The constants of the graph.
    pub tensors: Vec<Tensor>,
}

/// A constant of the graph.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tensor {
    /// Everything besides the values, unless a file lists these one by one (not packed).
    pub head: TensorProto,
    /// Where the values are; empty for external data, strings, and tensors without elements.
    pub values: Vec<Values>,
}

/// Values of a tensor in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Values {
    /// Field number, such as [`RAW_DATA`](crate::schema::RAW_DATA): it tells the encoding.
    pub number: u32,
    /// Length in bytes.
    pub length: u64,
    /// Position of the first byte in the file.
    pub position: u64,
}

/// Collects a [`Model`] from the events of a [`Reader`].
///
/// Decoded messages take more memory than their encoding, up to a hundred times for hostile input:
/// choose the limit with that in mind.
#[derive(Debug)]
pub struct Collector {
    model: Model,
    /// Bytes of the fields that were collected.
    size: u64,
    most: usize,
}

impl Collector {
    /// A collector of up to `most` bytes of encoded fields.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { model: Model::default(), size: 0, most }
    }

    /// Adds an event. [`Event::Data`] is ignored: the caller does with it as it likes.
    ///
    /// # Errors
    /// [`Error::TooLarge`] above the limit, [`Error::Undecodable`] for fields against the schema.
    pub fn add(&mut self, event: &Event<'_, Message>) -> Result<(), Error> {
        match *event {
            Event::Start { message: Message::Graph, .. } => {
                self.model.graph.get_or_insert_default();
            }
            Event::Start { message: Message::Tensor, .. } => {
                // Each tensor is a field of its own: an empty one takes memory too.
                self.count(Message::Tensor, 2)?;
                self.model.tensors.push(Tensor::default());
            }
            Event::Field { message, encoded, .. } => {
                self.count(message, encoded.len() as u64)?;
                self.merge(message, encoded).map_err(|error| Error::undecodable(message, error))?;
            }
            Event::Value { message: Message::Tensor, number, length, position }
                if is_values(number) =>
            {
                self.count(Message::Tensor, 2)?;
                if let Some(tensor) = self.model.tensors.last_mut() {
                    tensor.values.push(Values { number, length, position });
                }
            }
            Event::Value { message, length, .. } => self.count(message, length)?,
            Event::Start { message: Message::Model, .. } | Event::Data(_) | Event::End { .. } => {}
        }
        Ok(())
    }

    /// The model.
    #[must_use]
    pub fn finish(self) -> Model {
        self.model
    }

    fn count(&mut self, message: Message, bytes: u64) -> Result<(), Error> {
        self.size = self.size.saturating_add(bytes);
        if self.size > self.most as u64 {
            return Err(Error::TooLarge { message, size: self.size, most: self.most });
        }
        Ok(())
    }

    fn merge(&mut self, message: Message, encoded: &[u8]) -> Result<(), prost::DecodeError> {
        match (message, &mut self.model.graph, self.model.tensors.last_mut()) {
            (Message::Model, ..) => self.model.head.merge(encoded),
            (Message::Graph, Some(graph), _) => graph.merge(encoded),
            (Message::Tensor, _, Some(tensor)) => tensor.head.merge(encoded),
            // The reader reports the start of each message first.
            _ => Ok(()),
        }
    }
}

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// Reading or seeking failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The file is not a readable ONNX file.
    #[error(transparent)]
    Onnx(#[from] Error),
}

/// Passes the events of a file to `visit`, without [`Event::Data`]: values are left out by
/// seeking. Fields above `whole` bytes are left out too, after their [`Event::Value`].
///
/// # Errors
/// [`FileError`]; errors of `visit` are returned as they are.
pub fn skim<F: Read + Seek>(
    file: &mut F,
    whole: usize,
    mut visit: impl FnMut(&Event<'_, Message>) -> Result<(), Error>,
) -> Result<(), FileError> {
    let size = file.seek(SeekFrom::End(0))?;
    file.rewind()?;
    let mut reader = Reader::new(Message::Model, size, whole);
    let mut piece = vec![0; PIECE];
    loop {
        let count = file.read(&mut piece)?;
        let mut input = &piece[..count];
        let mut skipped = 0;
        while let Some(event) = reader.next(&mut input)? {
            visit(&event)?;
            if matches!(event, Event::Value { .. }) {
                skipped += reader.skip(&mut input);
            }
        }
        if skipped > 0 {
            // Within the file, whose size the reader knows.
            file.seek_relative(skipped.cast_signed())?;
        } else if count == 0 {
            return Ok(reader.finish()?);
        }
    }
}

impl Model {
    /// Reads a model, but for the values of its tensors, which are left out by seeking.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn read<F: Read + Seek>(file: &mut F) -> Result<Self, FileError> {
        let mut collector = Collector::new(MAX_GRAPH);
        skim(file, MAX_GRAPH, |event| collector.add(event))?;
        Ok(collector.finish())
    }
}
