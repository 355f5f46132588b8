//! Why bytes are not read as a file of tensors.

use std::fmt;

/// A kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// GGUF of llama.cpp.
    Gguf,
    /// safetensors of Hugging Face.
    Safetensors,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gguf => "GGUF",
            Self::Safetensors => "safetensors",
        })
    }
}

/// Why bytes are not read as a file of tensors.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes violate the format.
    #[error("not a {format} file: at byte {at}, {reason}")]
    Malformed {
        /// The expected format.
        format: Format,
        /// Bytes read when the fault was noticed.
        at: u64,
        /// The fault.
        reason: String,
    },
    /// The version of GGUF is not read.
    #[error("the GGUF file has version {version}; versions 2 and 3 are supported")]
    Version {
        /// The version in the file.
        version: u32,
    },
    /// The numbers of a GGUF file are in the other order.
    #[error("the GGUF file is big-endian; only little-endian files are supported")]
    BigEndian,
    /// The file has more of something than is accepted.
    #[error("the {format} file has {found} {what}; the limit is {most}")]
    TooMany {
        /// The format of the file.
        format: Format,
        /// What there is too much of, in the plural.
        what: &'static str,
        /// The number in the file.
        found: u64,
        /// The limit.
        most: u64,
    },
    /// A key or a tensor's name comes twice.
    #[error("the {format} file has two {what} with the name {name:?}")]
    Duplicate {
        /// The format of the file.
        format: Format,
        /// "keys" or "tensors".
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A tensor has an element type that is unknown, or that is not supported.
    #[error("the tensor {tensor:?} has the unsupported element type {element}")]
    ElementType {
        /// Name of the tensor.
        tensor: String,
        /// Number (GGUF) or name (safetensors) of the type.
        element: String,
    },
    /// A tensor's dimensions do not go with its type or its bytes.
    #[error("the tensor {tensor:?} has the shape {dims:?}: {reason}")]
    Shape {
        /// Name of the tensor.
        tensor: String,
        /// Dimensions, the outermost first.
        dims: Vec<u64>,
        /// The fault.
        reason: String,
    },
    /// A tensor does not begin at a multiple of the file's alignment.
    #[error("the tensor {tensor:?} begins at {offset}, which is no multiple of {alignment}")]
    Misaligned {
        /// Name of the tensor.
        tensor: String,
        /// Offset in the file's data.
        offset: u64,
        /// Alignment in bytes.
        alignment: u64,
    },
    /// Two tensors share bytes.
    #[error("the tensors {first:?} and {second:?} overlap")]
    Overlap {
        /// The tensor that begins first.
        first: String,
        /// The other.
        second: String,
    },
    /// Bytes belong to no tensor, which safetensors does not allow.
    #[error("{length} bytes of the safetensors file, from byte {at}, belong to no tensor")]
    Hole {
        /// Position of the first such byte in the file.
        at: u64,
        /// Their number.
        length: u64,
    },
    /// The file ends before or inside a tensor.
    #[error("the file ends early: {missing} bytes of the tensor {tensor:?} are missing")]
    Missing {
        /// Name of the first tensor that is not complete.
        tensor: String,
        /// Bytes of it that are missing.
        missing: u64,
    },
    /// The file ends before the tensors, or in the padding after them.
    #[error("the {format} file ends early, after {at} bytes")]
    EndsEarly {
        /// The format of the file.
        format: Format,
        /// Bytes received.
        at: u64,
    },
    /// More bytes come than the file has.
    #[error("more bytes come than the {size} of the {format} file")]
    Trailing {
        /// The format of the file.
        format: Format,
        /// The announced size of the file in bytes.
        size: u64,
    },
}
