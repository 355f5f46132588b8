//! Values of metadata, read as their bytes arrive.

use super::kind::Kind;
use crate::container::{Array, Cursor, Strings, Value};

/// The deepest nesting of arrays.
const MAX_DEPTH: usize = 4;
/// Numbers of an array that are decoded at a time.
const CHUNK: u64 = 1024;

/// Why a value is refused.
#[derive(Debug)]
pub(super) enum Fault {
    /// The bytes violate the format.
    Malformed(String),
    /// More bytes are announced than may follow.
    TooLong(u64),
}

/// What comes next.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The number of the type.
    Kind,
    /// A number.
    Number(Kind),
    /// The length of a text.
    Length,
    /// A text of this many bytes.
    Text(usize),
    /// Type and number of an array's values.
    Array,
    /// The numbers of the innermost array.
    Numbers,
}

/// An array that is not complete.
#[derive(Debug)]
struct Open {
    kind: Kind,
    array: Array,
    left: u64,
}

/// Reads one value.
#[derive(Debug)]
pub(super) struct ValueReader {
    step: Step,
    field: Vec<u8>,
    open: Vec<Open>,
}

impl ValueReader {
    pub(super) const fn new() -> Self {
        Self { step: Step::Kind, field: Vec::new(), open: Vec::new() }
    }

    /// The value, when its bytes have arrived. It has to end at `limit`, a position in the file.
    pub(super) fn next(
        &mut self,
        cursor: &mut Cursor<'_, '_>,
        limit: u64,
    ) -> Result<Option<Value>, Fault> {
        loop {
            let length = self.wanted();
            let more = length.saturating_sub(self.field.len()) as u64;
            if more > limit.saturating_sub(cursor.at()) {
                return Err(Fault::TooLong(more));
            }
            if !cursor.fill(&mut self.field, length) {
                return Ok(None);
            }
            let mut field = std::mem::take(&mut self.field);
            let value = self.read(&field, limit.saturating_sub(cursor.at()))?;
            field.clear();
            self.field = field;
            if value.is_some() {
                return Ok(value);
            }
        }
    }

    /// Bytes that the step needs.
    fn wanted(&self) -> usize {
        match self.step {
            Step::Kind => 4,
            Step::Number(kind) => kind.bytes(),
            Step::Length => 8,
            Step::Text(length) => length,
            Step::Array => 12,
            Step::Numbers => self.open.last().map_or(0, |open| open.chunk() * open.kind.bytes()),
        }
    }

    /// Takes a step, the bytes of which are `field`. `left` is the number of bytes that may follow.
    fn read(&mut self, field: &[u8], left: u64) -> Result<Option<Value>, Fault> {
        match self.step {
            Step::Kind => {
                self.step = match kind(field)? {
                    Kind::String => Step::Length,
                    Kind::Array => Step::Array,
                    number => Step::Number(number),
                };
                Ok(None)
            }
            Step::Number(kind) => number(kind, field).map(Some),
            Step::Length => {
                let length = u64::from_le_bytes(fixed(field));
                let room = usize::try_from(length).ok().filter(|_| length <= left);
                self.step = Step::Text(room.ok_or(Fault::TooLong(length))?);
                Ok(None)
            }
            Step::Text(_) => {
                let text = std::str::from_utf8(field);
                let text = text.map_err(|_| malformed("a text is not UTF-8"))?;
                let Some(Open { array: Array::Strings(texts), left, .. }) = self.open.last_mut()
                else {
                    return Ok(Some(Value::String(text.to_owned())));
                };
                texts.push(text);
                *left -= 1;
                Ok(self.after_value())
            }
            Step::Array => {
                let count = u64::from_le_bytes(fixed(&field[4..]));
                let kind = kind(&field[..4])?;
                if count.checked_mul(kind.bytes() as u64).is_none_or(|bytes| bytes > left) {
                    return Err(Fault::TooLong(count.saturating_mul(kind.bytes() as u64)));
                }
                if self.open.len() == MAX_DEPTH {
                    return Err(malformed("arrays are nested too deep"));
                }
                self.open.push(Open { kind, array: empty(kind), left: count });
                Ok(self.after_value())
            }
            Step::Numbers => {
                if let Some(open) = self.open.last_mut() {
                    open.left -= open.chunk() as u64;
                    extend(&mut open.array, field)?;
                }
                Ok(self.after_value())
            }
        }
    }

    /// Closes arrays that are complete. Returns the outermost, or sets the next step.
    fn after_value(&mut self) -> Option<Value> {
        loop {
            let open = self.open.last()?;
            if open.left > 0 {
                self.step = match open.kind {
                    Kind::String => Step::Length,
                    Kind::Array => Step::Array,
                    _ => Step::Numbers,
                };
                return None;
            }
            let array = self.open.pop()?.array;
            match self.open.last_mut() {
                Some(Open { array: Array::Arrays(arrays), left, .. }) => {
                    arrays.push(array);
                    *left -= 1;
                }
                _ => return Some(Value::Array(array)),
            }
        }
    }
}

impl Open {
    /// Numbers that are decoded at once.
    fn chunk(&self) -> usize {
        usize::try_from(self.left.min(CHUNK)).unwrap_or_default()
    }
}

fn malformed(reason: &str) -> Fault {
    Fault::Malformed(reason.to_owned())
}

fn kind(field: &[u8]) -> Result<Kind, Fault> {
    let number = u32::from_le_bytes(fixed(field));
    let unknown = || Fault::Malformed(format!("a value has the unknown type {number}"));
    Kind::from_number(number).ok_or_else(unknown)
}

/// The first bytes of a field, which has them.
fn fixed<const N: usize>(field: &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&field[..N]);
    bytes
}

fn truth(byte: u8) -> Result<bool, Fault> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(malformed("a truth value is neither 0 nor 1")),
    }
}

fn number(kind: Kind, field: &[u8]) -> Result<Value, Fault> {
    Ok(match kind {
        Kind::U8 => Value::U8(field[0]),
        Kind::I8 => Value::I8(i8::from_le_bytes(fixed(field))),
        Kind::U16 => Value::U16(u16::from_le_bytes(fixed(field))),
        Kind::I16 => Value::I16(i16::from_le_bytes(fixed(field))),
        Kind::U32 => Value::U32(u32::from_le_bytes(fixed(field))),
        Kind::I32 => Value::I32(i32::from_le_bytes(fixed(field))),
        Kind::F32 => Value::F32(f32::from_le_bytes(fixed(field))),
        Kind::Bool => Value::Bool(truth(field[0])?),
        Kind::U64 => Value::U64(u64::from_le_bytes(fixed(field))),
        Kind::I64 => Value::I64(i64::from_le_bytes(fixed(field))),
        Kind::F64 => Value::F64(f64::from_le_bytes(fixed(field))),
        Kind::String | Kind::Array => return Err(malformed("a number is none")),
    })
}

const fn empty(kind: Kind) -> Array {
    match kind {
        Kind::U8 => Array::U8(Vec::new()),
        Kind::I8 => Array::I8(Vec::new()),
        Kind::U16 => Array::U16(Vec::new()),
        Kind::I16 => Array::I16(Vec::new()),
        Kind::U32 => Array::U32(Vec::new()),
        Kind::I32 => Array::I32(Vec::new()),
        Kind::F32 => Array::F32(Vec::new()),
        Kind::Bool => Array::Bool(Vec::new()),
        Kind::String => Array::Strings(Strings::new()),
        Kind::Array => Array::Arrays(Vec::new()),
        Kind::U64 => Array::U64(Vec::new()),
        Kind::I64 => Array::I64(Vec::new()),
        Kind::F64 => Array::F64(Vec::new()),
    }
}

/// Adds the numbers in `field`.
fn extend(array: &mut Array, field: &[u8]) -> Result<(), Fault> {
    macro_rules! numbers {
        ($numbers:ident: $type:ty) => {
            $numbers.extend(
                field
                    .chunks_exact(size_of::<$type>())
                    .map(|number| <$type>::from_le_bytes(fixed(number))),
            )
        };
    }
    match array {
        Array::U8(numbers) => numbers.extend_from_slice(field),
        Array::I8(numbers) => numbers!(numbers: i8),
        Array::U16(numbers) => numbers!(numbers: u16),
        Array::I16(numbers) => numbers!(numbers: i16),
        Array::U32(numbers) => numbers!(numbers: u32),
        Array::I32(numbers) => numbers!(numbers: i32),
        Array::F32(numbers) => numbers!(numbers: f32),
        Array::U64(numbers) => numbers!(numbers: u64),
        Array::I64(numbers) => numbers!(numbers: i64),
        Array::F64(numbers) => numbers!(numbers: f64),
        Array::Bool(values) => {
            for byte in field {
                values.push(truth(*byte)?);
            }
        }
        Array::Strings(_) | Array::Arrays(_) => {}
    }
    Ok(())
}
