//! Why a description is refused.

use edge_net_tensor::container::MetadataError;

/// Why a description is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The metadata of a GGUF file lack a key, or have another type for it.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// `config.json` is not JSON, or too long.
    #[error("config.json cannot be read: {reason}")]
    Json {
        /// The reason.
        reason: String,
    },
    /// A member of `config.json` is absent or has another type.
    #[error("config.json needs {expected} for {member:?}, and has {found}")]
    Member {
        /// Name of the member.
        member: String,
        /// What is needed.
        expected: &'static str,
        /// What there is.
        found: String,
    },
    /// The architecture is none of the supported ones.
    #[error("the architecture {found:?} is not supported; these are: {supported}")]
    Architecture {
        /// The architecture of the file.
        found: String,
        /// The supported ones.
        supported: &'static str,
    },
    /// The model needs what the engine does not do.
    #[error("the model needs {what}, which is not supported")]
    Unsupported {
        /// What it needs.
        what: String,
    },
    /// A number is out of its range.
    #[error("{what} is {found}; it must be {expected}")]
    Number {
        /// What the number says.
        what: &'static str,
        /// The number.
        found: String,
        /// The range.
        expected: String,
    },
    /// A tensor that the description depends on is absent or has another shape.
    #[error("the tensor {name:?} is needed: {reason}")]
    Tensor {
        /// Name of the tensor.
        name: String,
        /// What it is needed for, or what is wrong.
        reason: String,
    },
}
