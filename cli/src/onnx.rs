//! What an ONNX file says of itself, read without its weights: only the heads of the messages are looked at.
//!
//! The format is [`onnx.proto`](https://github.com/onnx/onnx/blob/main/onnx/onnx.proto); numbers below are its field numbers.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Onnx {
    /// Version of the default operator set.
    pub opset: Option<u64>,
    /// Names of the graph's outputs.
    pub outputs: Vec<String>,
    /// `metadata_props`.
    pub metadata: BTreeMap<String, String>,
    /// Bits of blockwise quantized weights (`MatMulNBits`), if there are any.
    bits: Option<u64>,
    /// Bytes of weights by data type.
    weights: BTreeMap<u64, u64>,
}

/// Longest text that is read.
const MAX_TEXT: u64 = 4096;

/// Skims a file; `None` where it is no ONNX.
pub fn skim(path: &Path) -> Option<Onnx> {
    let file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    let mut found = Onnx::default();
    let mut reader = Skimmer { reader: BufReader::with_capacity(64 << 10, file), at: 0 };
    reader.model(length, &mut found).ok()?;
    // A model has a graph and says which operators it means.
    found.opset.is_some().then_some(found)
}

impl Onnx {
    /// The quantization that most of the weights have, by the names that the registry knows.
    pub fn quantization(&self) -> Option<&'static str> {
        // TensorProto.DataType
        let share =
            |types: &[u64]| types.iter().filter_map(|kind| self.weights.get(kind)).sum::<u64>();
        match self.bits {
            Some(4) => return Some("INT4"),
            Some(8) => return Some("INT8"),
            _ => {}
        }
        let kinds = [
            ("INT4", share(&[21, 22])),
            ("INT8", share(&[2, 3])),
            ("FP16", share(&[10, 16])),
            ("FP32", share(&[1])),
        ];
        let (name, bytes) = kinds.into_iter().max_by_key(|(_, bytes)| *bytes)?;
        (bytes > 0).then_some(name)
    }
}

struct Skimmer {
    reader: BufReader<File>,
    at: u64,
}

/// A field's number and its value.
enum Value {
    Number(u64),
    /// Bytes that follow: they have to be read or skipped.
    Bytes(u64),
    Other,
}

impl Skimmer {
    fn bad<T>() -> io::Result<T> {
        Err(io::ErrorKind::InvalidData.into())
    }

    fn varint(&mut self) -> io::Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.reader.fill_buf()?.first().ok_or(io::ErrorKind::UnexpectedEof)?;
            self.reader.consume(1);
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Self::bad()
    }

    fn skip(&mut self, length: u64) -> io::Result<()> {
        self.reader.seek_relative(i64::try_from(length).or_else(|_| Self::bad())?)?;
        self.at += length;
        Ok(())
    }

    /// The next field of a message that ends at `end`.
    fn field(&mut self, end: u64) -> io::Result<Option<(u64, Value)>> {
        if self.at >= end {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.skip(8).map(|()| Value::Other)?,
            2 => {
                let length = self.varint()?;
                if length > end.saturating_sub(self.at) {
                    return Self::bad();
                }
                Value::Bytes(length)
            }
            5 => self.skip(4).map(|()| Value::Other)?,
            _ => return Self::bad(),
        };
        Ok(Some((tag >> 3, value)))
    }

    fn text(&mut self, length: u64) -> io::Result<String> {
        if length > MAX_TEXT {
            self.skip(length)?;
            return Ok(String::new());
        }
        let mut bytes = Vec::new();
        self.reader.by_ref().take(length).read_to_end(&mut bytes)?;
        self.at += length;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn model(&mut self, end: u64, found: &mut Onnx) -> io::Result<()> {
        while let Some((number, value)) = self.field(end)? {
            match (number, value) {
                (7, Value::Bytes(length)) => self.graph(self.at + length, found)?,
                (8, Value::Bytes(length)) => self.operator_set(self.at + length, found)?,
                (14, Value::Bytes(length)) => {
                    let (key, value) = self.pair(self.at + length)?;
                    found.metadata.insert(key, value);
                }
                (_, Value::Bytes(length)) => self.skip(length)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn operator_set(&mut self, end: u64, found: &mut Onnx) -> io::Result<()> {
        let (mut domain, mut version) = (String::new(), 0);
        while let Some((number, value)) = self.field(end)? {
            match (number, value) {
                (1, Value::Bytes(length)) => domain = self.text(length)?,
                (2, Value::Number(number)) => version = number,
                (_, Value::Bytes(length)) => self.skip(length)?,
                _ => {}
            }
        }
        if domain.is_empty() || domain == "ai.onnx" {
            found.opset = Some(version);
        }
        Ok(())
    }

    fn pair(&mut self, end: u64) -> io::Result<(String, String)> {
        let mut pair = (String::new(), String::new());
        while let Some((number, value)) = self.field(end)? {
            match (number, value) {
                (1, Value::Bytes(length)) => pair.0 = self.text(length)?,
                (2, Value::Bytes(length)) => pair.1 = self.text(length)?,
                (_, Value::Bytes(length)) => self.skip(length)?,
                _ => {}
            }
        }
        Ok(pair)
    }

    fn graph(&mut self, end: u64, found: &mut Onnx) -> io::Result<()> {
        while let Some((number, value)) = self.field(end)? {
            match (number, value) {
                (1, Value::Bytes(length)) => self.node(self.at + length, found)?,
                (5, Value::Bytes(length)) => self.tensor(self.at + length, found)?,
                (12, Value::Bytes(length)) => {
                    let (name, _) = self.pair(self.at + length)?;
                    found.outputs.push(name);
                }
                (_, Value::Bytes(length)) => self.skip(length)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn node(&mut self, end: u64, found: &mut Onnx) -> io::Result<()> {
        let (mut operator, mut bits) = (String::new(), None);
        while let Some((number, value)) = self.field(end)? {
            match (number, value) {
                (4, Value::Bytes(length)) => operator = self.text(length)?,
                (5, Value::Bytes(length)) => bits = self.bits(self.at + length)?.or(bits),
                (_, Value::Bytes(length)) => self.skip(length)?,
                _ => {}
            }
        }
        if operator == "MatMulNBits" {
            found.bits = bits.or(Some(4));
        }
        Ok(())
    }

    /// The attribute `bits`, if it is that.
    fn bits(&mut self, end: u64) -> io::Result<Option<u64>> {
        let (mut name, mut number) = (String::new(), None);
        while let Some((field, value)) = self.field(end)? {
            match (field, value) {
                (1, Value::Bytes(length)) => name = self.text(length)?,
                (3, Value::Number(value)) => number = Some(value),
                (_, Value::Bytes(length)) => self.skip(length)?,
                _ => {}
            }
        }
        Ok(number.filter(|_| name == "bits"))
    }

    fn tensor(&mut self, end: u64, found: &mut Onnx) -> io::Result<()> {
        let (mut elements, mut kind) = (1_u64, 0);
        while let Some((number, value)) = self.field(end)? {
            match (number, value) {
                (1, Value::Number(dimension)) => elements = elements.saturating_mul(dimension),
                (1, Value::Bytes(length)) => {
                    let packed = self.at + length;
                    while self.at < packed {
                        elements = elements.saturating_mul(self.varint()?);
                    }
                }
                (2, Value::Number(number)) => kind = number,
                (_, Value::Bytes(length)) => self.skip(length)?,
                _ => {}
            }
        }
        // Half bytes, of which the whole is what counts.
        let bits = match kind {
            21 | 22 => 4,
            2 | 3 | 9 => 8,
            4 | 5 | 10 | 16 => 16,
            7 | 11 | 13 => 64,
            _ => 32,
        };
        let weights = found.weights.entry(kind).or_default();
        *weights = weights.saturating_add(elements.saturating_mul(bits) / 8);
        Ok(())
    }
}
