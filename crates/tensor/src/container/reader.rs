//! The streaming reader.

use super::error::{Error, Format};
use super::spans::{Span, in_order};
use super::tensor::TensorInfo;
use super::value::Value;

/// What a reader found.
#[derive(Clone, Debug, PartialEq)]
pub enum Event<'i> {
    /// A key of the metadata and its value.
    Metadata(String, Value),
    /// A tensor. All come before the first bytes, in the order of the file's list.
    Tensor(TensorInfo),
    /// The next bytes of a tensor. Those of a tensor come in order and without those of others
    /// between them.
    Data {
        /// Which tensor, as its place among the reported ones.
        tensor: usize,
        /// A part of the piece that was given to the reader.
        bytes: &'i [u8],
    },
}

/// The bytes that have arrived and are not read yet.
#[derive(Debug)]
pub struct Cursor<'r, 'i> {
    input: &'r mut &'i [u8],
    at: &'r mut u64,
    size: u64,
}

impl<'i> Cursor<'_, 'i> {
    /// Position of the next byte in the file.
    #[must_use]
    pub const fn at(&self) -> u64 {
        *self.at
    }

    /// Size of the file in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Takes up to `most` bytes.
    pub fn take(&mut self, most: usize) -> &'i [u8] {
        let left = usize::try_from(self.size - *self.at).unwrap_or(usize::MAX);
        let (taken, rest) = self.input.split_at(most.min(left).min(self.input.len()));
        *self.input = rest;
        *self.at += taken.len() as u64;
        taken
    }

    /// Moves bytes into `field` until it has `length`. Whether it has.
    pub fn fill(&mut self, field: &mut Vec<u8>, length: usize) -> bool {
        let bytes = self.take(length.saturating_sub(field.len()));
        field.extend_from_slice(bytes);
        field.len() >= length
    }
}

/// What the head of a file has next.
#[derive(Clone, Debug)]
pub enum Step {
    /// A key and its value.
    Metadata(String, Value),
    /// All tensors. The head ends.
    Tensors {
        /// The tensors, in the order of the file's list.
        tensors: Vec<TensorInfo>,
        /// Position of the first byte after the head.
        data: u64,
    },
}

/// The parser of a format's head.
pub trait Head {
    /// The format.
    const FORMAT: Format;
    /// Whether each byte after the head belongs to a tensor.
    const DENSE: bool;

    /// The next part of the head; `None` when more bytes are needed. It is not called again after
    /// [`Step::Tensors`] or an error.
    ///
    /// # Errors
    /// When the bytes violate the format or exceed a limit.
    fn next(&mut self, cursor: &mut Cursor<'_, '_>) -> Result<Option<Step>, Error>;
}

/// Reads a file of known size; see the [module](crate::container).
#[derive(Debug)]
pub struct Reader<H> {
    at: u64,
    size: u64,
    head: H,
    /// The tensors, once the head is complete.
    tensors: Option<Vec<TensorInfo>>,
    /// How many of them are reported.
    reported: usize,
    spans: Vec<Span>,
    /// How many spans are complete.
    passed: usize,
}

impl<H: Head + Default> Reader<H> {
    /// A reader of a file of `size` bytes.
    #[must_use]
    pub fn new(size: u64) -> Self {
        Self {
            at: 0,
            size,
            head: H::default(),
            tensors: None,
            reported: 0,
            spans: Vec::new(),
            passed: 0,
        }
    }
}

impl<H: Head> Reader<H> {
    /// The next event. Takes bytes from the front of `input`; `None` when more bytes are needed,
    /// which is also the case at the end of the file.
    ///
    /// # Errors
    /// See [`Error`]. The reader is of no use afterwards.
    pub fn next<'i>(&mut self, input: &mut &'i [u8]) -> Result<Option<Event<'i>>, Error> {
        let size = self.size;
        let mut cursor = Cursor { input, at: &mut self.at, size };
        let tensors = match &mut self.tensors {
            Some(tensors) => tensors,
            None => match self.head.next(&mut cursor)? {
                Some(Step::Metadata(key, value)) => return Ok(Some(Event::Metadata(key, value))),
                Some(Step::Tensors { tensors, data }) => {
                    self.spans = in_order(&tensors, data, size, H::DENSE)?;
                    self.tensors.insert(tensors)
                }
                None => return cursor.end::<H>(),
            },
        };
        if let Some(info) = tensors.get(self.reported) {
            self.reported += 1;
            return Ok(Some(Event::Tensor(info.clone())));
        }
        if let Some(&Span { start, end, tensor }) = self.spans.get(self.passed) {
            cursor.skip_to(start);
            if cursor.at() < start {
                return Ok(None);
            }
            let bytes = cursor.take(usize::try_from(end - cursor.at()).unwrap_or(usize::MAX));
            if cursor.at() == end {
                self.passed += 1;
            }
            return Ok((!bytes.is_empty()).then_some(Event::Data { tensor, bytes }));
        }
        cursor.skip_to(size);
        cursor.end::<H>()
    }

    /// Checks that the file is complete, after [`next`](Self::next) has returned `None`.
    ///
    /// # Errors
    /// [`Error::Missing`] and [`Error::EndsEarly`].
    pub fn finish(&self) -> Result<(), Error> {
        let early = Error::EndsEarly { format: H::FORMAT, at: self.at };
        let Some(tensors) = &self.tensors else { return Err(early) };
        if let Some(span) = self.spans.get(self.passed) {
            let missing = span.end - self.at.max(span.start);
            return Err(Error::Missing { tensor: tensors[span.tensor].name.clone(), missing });
        }
        if self.at < self.size { Err(early) } else { Ok(()) }
    }

    /// Number of bytes taken so far: the position of the next one in the file.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.at
    }
}

impl Cursor<'_, '_> {
    /// Drops bytes before the position `to`.
    fn skip_to(&mut self, to: u64) {
        let left = to.saturating_sub(*self.at);
        self.take(usize::try_from(left).unwrap_or(usize::MAX));
    }

    /// What to answer when nothing is found: an error if bytes come after the end of the file.
    fn end<'e, H: Head>(&self) -> Result<Option<Event<'e>>, Error> {
        if *self.at == self.size && !self.input.is_empty() {
            return Err(Error::Trailing { format: H::FORMAT, size: self.size });
        }
        Ok(None)
    }
}
