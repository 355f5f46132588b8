//! The head of a file: metadata and the list of tensors.

use std::collections::BTreeSet;

use super::value::{Fault, ValueReader};
use crate::Dtype;
use crate::container::{self, Cursor, Element, Error, Format, Step, TensorInfo, Value};

/// First bytes of a file.
pub const MAGIC: [u8; 4] = *b"GGUF";
/// Limit for the bytes of all keys and values. A vocabulary has some megabytes.
const MAX_METADATA: u64 = 64 << 20;
/// Limit for the number of keys. Files have some 40.
const MAX_KEYS: u64 = 4096;
/// Limit for the bytes of a key; that of the format.
const MAX_KEY: u64 = 65_535;
/// Limit for the number of tensors.
const MAX_TENSORS: u64 = 65_536;
/// Limit for the bytes of a tensor's name. The format says 64, but tools write more.
const MAX_NAME: u64 = 256;
/// Limit for the number of dimensions; that of GGML.
pub(super) const MAX_DIMS: u32 = 4;
/// Bytes of magic, version, number of tensors and number of keys.
const START: usize = 24;
/// Alignment of tensors without `general.alignment`, in bytes.
pub(super) const ALIGNMENT: u64 = 32;
/// Limit for the alignment in bytes.
const MAX_ALIGNMENT: u64 = 1 << 20;
/// The key of the alignment.
pub(super) const ALIGNMENT_KEY: &str = "general.alignment";

/// What comes next.
#[derive(Debug)]
enum Next {
    Start,
    KeyLength,
    Key(usize),
    Value(String, ValueReader),
    NameLength,
    Name(usize),
    /// The number of dimensions of a tensor.
    Rank(String),
    /// Dimensions, type and offset of a tensor.
    Place(String, usize),
}

/// Parser of the head of a file.
#[derive(Debug)]
pub struct Head {
    next: Next,
    field: Vec<u8>,
    keys_left: u64,
    tensors_left: u64,
    /// Keys, then names of tensors.
    seen: BTreeSet<String>,
    alignment: u64,
    /// The tensors so far. Offsets count from the beginning of the data.
    tensors: Vec<TensorInfo>,
}

impl Default for Head {
    fn default() -> Self {
        Self {
            next: Next::Start,
            field: Vec::new(),
            keys_left: 0,
            tensors_left: 0,
            seen: BTreeSet::new(),
            alignment: ALIGNMENT,
            tensors: Vec::new(),
        }
    }
}

impl container::Head for Head {
    const FORMAT: Format = Format::Gguf;
    const DENSE: bool = false;

    fn next(&mut self, cursor: &mut Cursor<'_, '_>) -> Result<Option<Step>, Error> {
        loop {
            if let Next::Value(key, reader) = &mut self.next {
                let limit = limit(cursor);
                let value = reader.next(cursor, limit);
                let value = value.map_err(|fault| refused(fault, key, cursor, limit))?;
                let Some(value) = value else { return Ok(None) };
                let key = std::mem::take(key);
                self.end_of_value(&key, &value, cursor)?;
                return Ok(Some(Step::Metadata(key, value)));
            }
            if self.keys_left == 0 && self.tensors_left == 0 && !matches!(self.next, Next::Start) {
                return self.finish(cursor).map(Some);
            }
            let length = self.wanted();
            if !cursor.fill(&mut self.field, length) {
                return Ok(None);
            }
            let mut field = std::mem::take(&mut self.field);
            self.read(&field, cursor)?;
            field.clear();
            self.field = field;
        }
    }
}

impl Head {
    /// Bytes of the next field.
    fn wanted(&self) -> usize {
        match self.next {
            Next::Start => START,
            Next::KeyLength | Next::NameLength => 8,
            Next::Key(length) | Next::Name(length) => length,
            Next::Rank(_) => 4,
            Next::Place(_, rank) => 8 * rank + 4 + 8,
            Next::Value(..) => 0,
        }
    }

    fn read(&mut self, field: &[u8], cursor: &Cursor<'_, '_>) -> Result<(), Error> {
        let next = std::mem::replace(&mut self.next, Next::Start);
        self.next = match next {
            Next::Start => self.start(field, cursor)?,
            Next::KeyLength => Next::Key(length("bytes in a key", field, MAX_KEY)?),
            Next::Key(_) => {
                let key = self.unique("keys", field, cursor)?;
                Next::Value(key, ValueReader::new())
            }
            Next::NameLength => Next::Name(length("bytes in a tensor's name", field, MAX_NAME)?),
            Next::Name(_) => Next::Rank(self.unique("tensors", field, cursor)?),
            Next::Rank(name) => {
                let rank = u32_at(field, 0);
                if rank > MAX_DIMS {
                    let what = "dimensions of a tensor";
                    return Err(too_many(what, rank.into(), MAX_DIMS.into()));
                }
                Next::Place(name, rank as usize)
            }
            Next::Place(name, rank) => {
                self.tensors.push(tensor(name, rank, field, self.alignment)?);
                self.tensors_left -= 1;
                Next::NameLength
            }
            // It takes its bytes itself.
            value @ Next::Value(..) => value,
        };
        Ok(())
    }

    fn start(&mut self, field: &[u8], cursor: &Cursor<'_, '_>) -> Result<Next, Error> {
        if field[..4] != MAGIC {
            return Err(malformed(cursor, "the file does not begin with GGUF"));
        }
        let version = u32_at(field, 4);
        match version {
            2 | 3 => {}
            // 2 or 3 with its bytes in the other order.
            0x0200_0000 | 0x0300_0000 => return Err(Error::BigEndian),
            _ => return Err(Error::Version { version }),
        }
        self.tensors_left = u64_at(field, 8);
        self.keys_left = u64_at(field, 16);
        if self.tensors_left > MAX_TENSORS {
            return Err(too_many("tensors", self.tensors_left, MAX_TENSORS));
        }
        if self.keys_left > MAX_KEYS {
            return Err(too_many("keys", self.keys_left, MAX_KEYS));
        }
        Ok(if self.keys_left > 0 { Next::KeyLength } else { Next::NameLength })
    }

    /// A text that was not there before.
    fn unique(
        &mut self,
        what: &'static str,
        field: &[u8],
        cursor: &Cursor<'_, '_>,
    ) -> Result<String, Error> {
        let text = std::str::from_utf8(field);
        let text = text.map_err(|_| malformed(cursor, "a key or a name is not UTF-8"))?;
        if !self.seen.insert(text.to_owned()) {
            return Err(Error::Duplicate { format: Format::Gguf, what, name: text.to_owned() });
        }
        Ok(text.to_owned())
    }

    fn end_of_value(
        &mut self,
        key: &str,
        value: &Value,
        cursor: &Cursor<'_, '_>,
    ) -> Result<(), Error> {
        if key == ALIGNMENT_KEY {
            let alignment = value.integer().and_then(|value| u64::try_from(value).ok());
            let fits = |value: &u64| value.is_power_of_two() && *value <= MAX_ALIGNMENT;
            self.alignment = alignment.filter(fits).ok_or_else(|| {
                malformed(cursor, "general.alignment is no power of two from 1 to 1,048,576")
            })?;
        }
        self.keys_left -= 1;
        self.next = Next::KeyLength;
        if self.keys_left == 0 {
            self.seen.clear();
            self.next = Next::NameLength;
        }
        Ok(())
    }

    fn finish(&mut self, cursor: &Cursor<'_, '_>) -> Result<Step, Error> {
        let data = cursor.at().next_multiple_of(self.alignment);
        let mut tensors = std::mem::take(&mut self.tensors);
        for tensor in &mut tensors {
            let offset = tensor.offset.checked_add(data);
            let fits = offset.filter(|offset| offset.checked_add(tensor.size).is_some());
            tensor.offset = fits.ok_or_else(|| Error::Missing {
                tensor: tensor.name.clone(),
                missing: tensor.size,
            })?;
        }
        Ok(Step::Tensors { tensors, data })
    }
}

/// Where the metadata have to end.
fn limit(cursor: &Cursor<'_, '_>) -> u64 {
    cursor.size().min(START as u64 + MAX_METADATA)
}

fn refused(fault: Fault, key: &str, cursor: &Cursor<'_, '_>, limit: u64) -> Error {
    match fault {
        Fault::Malformed(reason) => {
            malformed(cursor, &format!("in the value of {key:?}, {reason}"))
        }
        Fault::TooLong(_) if limit == cursor.size() => {
            malformed(cursor, &format!("the value of {key:?} passes the end of the file"))
        }
        Fault::TooLong(length) => {
            too_many("bytes of metadata", cursor.at().saturating_add(length), MAX_METADATA)
        }
    }
}

fn malformed(cursor: &Cursor<'_, '_>, reason: &str) -> Error {
    Error::Malformed { format: Format::Gguf, at: cursor.at(), reason: reason.to_owned() }
}

const fn too_many(what: &'static str, found: u64, most: u64) -> Error {
    Error::TooMany { format: Format::Gguf, what, found, most }
}

fn u32_at(field: &[u8], at: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&field[at..at + 4]);
    u32::from_le_bytes(bytes)
}

fn u64_at(field: &[u8], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&field[at..at + 8]);
    u64::from_le_bytes(bytes)
}

fn length(what: &'static str, field: &[u8], most: u64) -> Result<usize, Error> {
    let length = u64_at(field, 0);
    let fits = usize::try_from(length).ok().filter(|_| length <= most);
    fits.ok_or_else(|| too_many(what, length, most))
}

/// A tensor of the list, from its dimensions, type and offset.
fn tensor(name: String, rank: usize, field: &[u8], alignment: u64) -> Result<TensorInfo, Error> {
    // The file has the innermost dimension first.
    let stored: Vec<u64> = (0..rank).rev().map(|at| u64_at(field, 8 * at)).collect();
    let number = u32_at(field, 8 * rank);
    let offset = u64_at(field, 8 * rank + 4);
    let Some(dtype) = Dtype::from_ggml(number) else {
        return Err(Error::ElementType { tensor: name, element: number.to_string() });
    };
    let dims: Result<Vec<usize>, _> = stored.iter().map(|dim| usize::try_from(*dim)).collect();
    let size = dims.as_ref().ok().and_then(|dims| dtype.tensor_bytes(dims));
    let (Ok(dims), Some(size)) = (dims, size) else {
        let reason = format!("it does not go with blocks of {} {dtype}", dtype.block_len());
        return Err(Error::Shape { tensor: name, dims: stored, reason });
    };
    if !offset.is_multiple_of(alignment) {
        return Err(Error::Misaligned { tensor: name, offset, alignment });
    }
    Ok(TensorInfo { name, dims, element: Element::Weights(dtype), offset, size })
}
