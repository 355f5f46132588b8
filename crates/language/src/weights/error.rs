//! Why weights are refused.

use edge_net_tensor::{MatrixError, container};

/// Why weights are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The decoder needs a tensor that the file does not have.
    #[error("the file lacks the tensor {name:?} of the shape {expected:?}")]
    Absent {
        /// Name of the tensor.
        name: String,
        /// Its dimensions, the outermost first.
        expected: Vec<usize>,
    },
    /// A tensor has another shape than the description says.
    #[error("the tensor {name:?} has the shape {found:?}; the description says {expected:?}")]
    Shape {
        /// Name of the tensor.
        name: String,
        /// The shape by the description, the outermost first.
        expected: Vec<usize>,
        /// The shape in the file.
        found: Vec<usize>,
    },
    /// A tensor's element type is not supported.
    #[error(transparent)]
    Element(container::Error),
    /// A tensor has bytes that are not its weights, or too many.
    #[error("the tensor {name:?} cannot be read: {source}")]
    Matrix {
        /// Name of the tensor.
        name: String,
        /// The reason.
        source: MatrixError,
    },
    /// Bytes come for a tensor that is not in the list.
    #[error("bytes come for the tensor number {tensor}; the list has {tensors}")]
    NoTensor {
        /// The number, from 0.
        tensor: usize,
        /// Length of the list.
        tensors: usize,
    },
    /// A tensor of few values has one that is infinite or not a number.
    #[error("the tensor {name:?} has no finite value at {index}")]
    NotFinite {
        /// Name of the tensor.
        name: String,
        /// Place of the value.
        index: usize,
    },
    /// Bytes of a tensor have not come.
    #[error("{missing} bytes of the tensor {name:?} are missing")]
    Missing {
        /// Name of the first tensor that is not complete.
        name: String,
        /// Bytes of it that are missing.
        missing: u64,
    },
}
