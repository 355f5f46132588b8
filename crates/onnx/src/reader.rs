//! A streaming reader of [Protocol Buffers](https://protobuf.dev/programming-guides/encoding/).
//!
//! The caller pushes bytes as they come and pulls [`Event`]s. A [`Schema`] says which nested
//! messages the reader enters and which fields it passes on in pieces. The reader holds at most
//! one field, and no field above the limit given to [`Reader::new`].

use prost::encoding::{WireType, decode_varint};

use crate::Error;
use crate::schema::{Schema, Treatment};

/// The deepest nesting of messages that the reader enters.
const MAX_DEPTH: usize = 16;

/// What the reader found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a, M> {
    /// A nested message begins.
    Start {
        /// Its kind.
        message: M,
        /// Its encoded length in bytes.
        length: u64,
    },
    /// A complete field.
    Field {
        /// The message that it belongs to.
        message: M,
        /// The field number.
        number: u32,
        /// Key and value as in the file. [`prost::Message::merge`] adds it to a decoded message.
        encoded: &'a [u8],
    },
    /// The value of a length-delimited field begins. Its bytes follow as [`Event::Data`].
    Value {
        /// The message that it belongs to.
        message: M,
        /// The field number.
        number: u32,
        /// Length of the value in bytes.
        length: u64,
        /// Position of the value's first byte in the file.
        position: u64,
    },
    /// The next bytes of the value announced last.
    Data(&'a [u8]),
    /// A message ends. The outermost one ends with the file.
    End {
        /// Its kind.
        message: M,
    },
}

/// What the next bytes of the file are.
#[derive(Clone, Copy, Debug)]
enum State {
    /// The key of a field, then its number or its length.
    Head,
    /// The value of a field that is reported whole, up to the position `end`.
    Whole { number: u32, end: u64 },
    /// A field was reported: its bytes can go.
    Reported,
    /// A value that is reported in pieces, up to the position `end`.
    Stream { end: u64 },
}

/// Reads one message of known size; see the [module](self).
#[derive(Debug)]
pub struct Reader<M> {
    at: u64,
    /// The open messages, each with the position of its end.
    open: Vec<(M, u64)>,
    state: State,
    /// The field that is arriving, as encoded.
    field: Vec<u8>,
    /// The largest value of a field that is reported whole.
    whole: usize,
}

impl<M: Schema> Reader<M> {
    /// A reader of a message of `size` bytes. Fields with values above `whole` bytes are reported
    /// in pieces. Memory is allocated per field, as fields come.
    #[must_use]
    pub fn new(message: M, size: u64, whole: usize) -> Self {
        Self {
            at: 0,
            open: vec![(message, size)],
            state: State::Head,
            field: Vec::with_capacity(20),
            whole,
        }
    }

    /// The next event. Takes bytes from the front of `input`; `None` when more bytes are needed,
    /// which is also the case at the end of the file.
    ///
    /// # Errors
    /// [`Error::Malformed`] and [`Error::OutOfMemory`]; the reader is of no use afterwards.
    pub fn next<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<Event<'a, M>>, Error> {
        loop {
            let Some(&(message, end)) = self.open.last() else {
                return if input.is_empty() { Ok(None) } else { Err(self.malformed()) };
            };
            match self.state {
                State::Reported => {
                    self.field.clear();
                    self.state = State::Head;
                }
                State::Stream { end } if self.at == end => self.state = State::Head,
                State::Stream { end } => {
                    let data = self.take(input, end);
                    return Ok((!data.is_empty()).then_some(Event::Data(data)));
                }
                State::Whole { number, end } => {
                    let value = self.take(input, end);
                    self.field.extend_from_slice(value);
                    if self.at < end {
                        return Ok(None);
                    }
                    self.state = State::Reported;
                    return Ok(Some(Event::Field { message, number, encoded: &self.field }));
                }
                State::Head if self.at == end => {
                    // The message ends inside a key or a number.
                    if !self.field.is_empty() {
                        return Err(self.malformed());
                    }
                    self.open.pop();
                    return Ok(Some(Event::End { message }));
                }
                State::Head => {
                    let head = self.take(input, self.at + 1);
                    if head.is_empty() {
                        return Ok(None);
                    }
                    self.field.extend_from_slice(head);
                    if let Some(event) = self.begin(message, end)? {
                        return Ok(Some(event));
                    }
                }
            }
        }
    }

    /// Drops what is left of the value that is being reported in pieces, from `input` first.
    /// Returns how many further bytes the caller has to leave out: it can seek past them.
    pub fn skip(&mut self, input: &mut &[u8]) -> u64 {
        let State::Stream { end } = self.state else { return 0 };
        self.take(input, end);
        let left = end - self.at;
        self.at = end;
        left
    }

    /// Checks that the file is complete, after [`next`](Self::next) has returned `None`.
    ///
    /// # Errors
    /// [`Error::EndsEarly`].
    pub fn finish(&self) -> Result<(), Error> {
        if !self.open.is_empty() || self.at == 0 {
            return Err(Error::EndsEarly { at: self.at });
        }
        Ok(())
    }

    const fn malformed(&self) -> Error {
        Error::Malformed { at: self.at }
    }

    /// Takes bytes from the front of `input`, up to the position `end`.
    fn take<'i>(&mut self, input: &mut &'i [u8], end: u64) -> &'i [u8] {
        let left = usize::try_from(end - self.at).unwrap_or(usize::MAX);
        let (taken, rest) = input.split_at(left.min(input.len()));
        *input = rest;
        self.at += taken.len() as u64;
        taken
    }

    /// Begins the value of a field of `message`, which ends at `end`, if the head is complete.
    fn begin(&mut self, message: M, end: u64) -> Result<Option<Event<'static, M>>, Error> {
        let malformed = || self.malformed();
        let mut rest = &*self.field;
        let Some(key) = varint(&mut rest).map_err(|()| malformed())? else { return Ok(None) };
        let number = u32::try_from(key >> 3).ok().filter(|number| *number > 0);
        let number = number.ok_or_else(malformed)?;
        let kind = WireType::try_from(key & 7).map_err(|_| malformed())?;
        let length = match kind {
            WireType::SixtyFourBit => 8,
            WireType::ThirtyTwoBit => 4,
            WireType::Varint | WireType::LengthDelimited => {
                let Some(value) = varint(&mut rest).map_err(|()| malformed())? else {
                    return Ok(None);
                };
                // A number is its own value.
                if kind == WireType::LengthDelimited { value } else { 0 }
            }
            // Groups were removed from the format before ONNX existed.
            WireType::StartGroup | WireType::EndGroup => return Err(malformed()),
        };
        if length > end - self.at {
            return Err(malformed());
        }
        let value_end = self.at + length;
        let delimited = kind == WireType::LengthDelimited;
        match if delimited { message.treatment(number) } else { Treatment::Whole } {
            Treatment::Enter(nested) => {
                if self.open.len() == MAX_DEPTH {
                    return Err(malformed());
                }
                self.field.clear();
                self.open.push((nested, value_end));
                Ok(Some(Event::Start { message: nested, length }))
            }
            Treatment::Whole if length <= self.whole as u64 || !delimited => {
                let room = usize::try_from(length).unwrap_or(usize::MAX);
                let room = self.field.try_reserve_exact(room);
                room.map_err(|_| Error::OutOfMemory { size: length })?;
                self.state = State::Whole { number, end: value_end };
                Ok(None)
            }
            Treatment::Whole | Treatment::Stream => {
                self.field.clear();
                self.state = State::Stream { end: value_end };
                Ok(Some(Event::Value { message, number, length, position: self.at }))
            }
        }
    }
}

/// A number at the beginning of `from`; `None` where more bytes are needed.
fn varint(from: &mut &[u8]) -> Result<Option<u64>, ()> {
    if from.iter().take(10).all(|byte| byte & 0x80 != 0) {
        return if from.len() < 10 { Ok(None) } else { Err(()) };
    }
    decode_varint(from).map(Some).map_err(|_| ())
}
