//! The head of a file: the length of a JSON object, and the object.

use std::collections::BTreeSet;
use std::fmt;
use std::vec::IntoIter;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use super::element::named;
use crate::container::{self, Cursor, Error, Format, Step, TensorInfo, Value};

/// Limit for the bytes of the object. The format allows 100 MB; 16 MiB hold the limit of tensors
/// with 256 bytes for each.
const MAX_HEAD: u64 = 16 << 20;
/// Limit for the number of tensors.
const MAX_TENSORS: usize = 65_536;
/// Limit for the number of dimensions.
const MAX_DIMS: usize = 8;
/// Bytes of the length.
const LENGTH: usize = 8;
/// The member that is no tensor.
pub(super) const METADATA: &str = "__metadata__";

/// What comes next.
#[derive(Debug)]
enum Next {
    Length,
    Object(usize),
    Metadata(IntoIter<(String, String)>, Vec<TensorInfo>),
}

/// Parser of the head of a file.
#[derive(Debug)]
pub struct Head {
    next: Next,
    field: Vec<u8>,
}

impl Default for Head {
    fn default() -> Self {
        Self { next: Next::Length, field: Vec::new() }
    }
}

impl container::Head for Head {
    const FORMAT: Format = Format::Safetensors;
    const DENSE: bool = true;

    fn next(&mut self, cursor: &mut Cursor<'_, '_>) -> Result<Option<Step>, Error> {
        loop {
            let length = match &mut self.next {
                Next::Length => LENGTH,
                Next::Object(length) => *length,
                Next::Metadata(metadata, tensors) => {
                    if let Some((key, value)) = metadata.next() {
                        return Ok(Some(Step::Metadata(key, Value::String(value))));
                    }
                    let tensors = std::mem::take(tensors);
                    return Ok(Some(Step::Tensors { tensors, data: cursor.at() }));
                }
            };
            if !cursor.fill(&mut self.field, length) {
                return Ok(None);
            }
            let field = std::mem::take(&mut self.field);
            self.next = match self.next {
                Next::Length => Next::Object(object_length(&field, cursor)?),
                _ => object(&field, cursor)?,
            };
        }
    }
}

fn malformed(cursor: &Cursor<'_, '_>, reason: &str) -> Error {
    Error::Malformed { format: Format::Safetensors, at: cursor.at(), reason: reason.to_owned() }
}

fn object_length(field: &[u8], cursor: &Cursor<'_, '_>) -> Result<usize, Error> {
    let mut bytes = [0; LENGTH];
    bytes.copy_from_slice(field);
    let length = u64::from_le_bytes(bytes);
    if length > MAX_HEAD {
        let (what, most) = ("bytes of JSON", MAX_HEAD);
        return Err(Error::TooMany { format: Format::Safetensors, what, found: length, most });
    }
    if length > cursor.size() - cursor.at() {
        return Err(malformed(cursor, &format!("a head of {length} bytes passes the end")));
    }
    usize::try_from(length).map_err(|_| malformed(cursor, "the head is too long"))
}

fn object(field: &[u8], cursor: &Cursor<'_, '_>) -> Result<Next, Error> {
    if field.first() != Some(&b'{') {
        return Err(malformed(cursor, "the head is no JSON object"));
    }
    let object: Object = serde_json::from_slice(field)
        .map_err(|error| malformed(cursor, &format!("the head cannot be read: {error}")))?;
    let keys: Vec<&str> = object.metadata.iter().map(|pair| pair.0.as_str()).collect();
    unique("keys", &keys)?;
    let names: Vec<&str> = object.entries.iter().map(|entry| entry.0.as_str()).collect();
    unique("tensors", &names)?;
    let data = cursor.at();
    let tensors = object.entries.into_iter().map(|(name, entry)| entry.tensor(name, data));
    let tensors = tensors.collect::<Result<_, _>>()?;
    Ok(Next::Metadata(object.metadata.into_iter(), tensors))
}

fn unique(what: &'static str, names: &[&str]) -> Result<(), Error> {
    let format = Format::Safetensors;
    if names.len() > MAX_TENSORS {
        let (found, most) = (names.len() as u64, MAX_TENSORS as u64);
        return Err(Error::TooMany { format, what, found, most });
    }
    let mut seen = BTreeSet::new();
    match names.iter().find(|name| !seen.insert(**name)) {
        Some(name) => Err(Error::Duplicate { format, what, name: (*name).to_owned() }),
        None => Ok(()),
    }
}

/// The object as it is written, members that come twice included.
struct Object {
    metadata: Vec<(String, String)>,
    entries: Vec<(String, Entry)>,
}

/// What the object says of a tensor.
#[derive(serde::Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

impl Entry {
    /// The tensor. Offsets count from the position `data`.
    fn tensor(self, name: String, data: u64) -> Result<TensorInfo, Error> {
        let Self { dtype, shape: dims, data_offsets: (begin, end) } = self;
        let Some((element, bits)) = named(&dtype) else {
            return Err(Error::ElementType { tensor: name, element: dtype });
        };
        let mut bytes = dims.iter().try_fold(bits, |bits, dim| bits.checked_mul(*dim));
        bytes = bytes.filter(|bits| bits.is_multiple_of(8)).map(|bits| bits / 8);
        let sizes: Result<Vec<usize>, _> = dims.iter().map(|dim| usize::try_from(*dim)).collect();
        let offset = data.checked_add(begin).filter(|_| data.checked_add(end).is_some());
        let size = end.checked_sub(begin).filter(|size| bytes == Some(*size));
        let (Some(offset), Some(size), Ok(sizes), true) =
            (offset, size, sizes, dims.len() <= MAX_DIMS)
        else {
            let reason = format!("it does not go with bytes {begin} to {end} of type {dtype}");
            return Err(Error::Shape { tensor: name, dims, reason });
        };
        Ok(TensorInfo { name, dims: sizes, element, offset, size })
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Object;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
        let mut metadata: Option<Pairs> = None;
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if key != METADATA {
                entries.push((key, map.next_value()?));
            } else if metadata.replace(map.next_value()?).is_some() {
                return Err(A::Error::duplicate_field(METADATA));
            }
        }
        let metadata = metadata.map_or_else(Vec::new, |pairs| pairs.0);
        Ok(Object { metadata, entries })
    }
}

/// Members with texts, those that come twice included.
pub(super) struct Pairs(pub Vec<(String, String)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PairsVisitor)
    }
}

struct PairsVisitor;

impl<'de> Visitor<'de> for PairsVisitor {
    type Value = Pairs;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(Pairs(pairs))
    }
}
