//! The errors of this crate.

use crate::schema::Message;

/// Why bytes are not read as an ONNX file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes violate the Protocol Buffers encoding.
    #[error("not an ONNX file: malformed Protocol Buffers at byte {at}")]
    Malformed {
        /// Number of bytes read when the fault was noticed.
        at: u64,
    },
    /// The file ends inside a field, or is empty.
    #[error("the ONNX file ends early, after {at} bytes")]
    EndsEarly {
        /// Number of bytes received.
        at: u64,
    },
    /// A field violates the ONNX schema, for example a name that is not UTF-8.
    #[error("not an ONNX file: a field of the {message} cannot be decoded: {reason}")]
    Undecodable {
        /// The message with the field.
        message: Message,
        /// The decoder's reason.
        reason: String,
    },
    /// A field, or the graph as a whole, exceeds the reader's limit.
    #[error(
        "the ONNX file's {message} has {size} bytes besides tensor values; the limit is {most}"
    )]
    TooLarge {
        /// The message with the field.
        message: Message,
        /// Size in bytes.
        size: u64,
        /// The limit in bytes.
        most: usize,
    },
    /// The allocator has no room for a field.
    #[error("not enough memory for a field of {size} bytes of the ONNX file")]
    OutOfMemory {
        /// Size of the field in bytes.
        size: u64,
    },
}

impl Error {
    /// The error for a field of `message` that `prost` does not decode.
    #[must_use]
    #[allow(clippy::needless_pass_by_value)] // The type that `map_err` passes.
    pub fn undecodable(message: Message, error: prost::DecodeError) -> Self {
        Self::Undecodable { message, reason: error.to_string() }
    }
}
