//! What a file says of a tensor.

use super::error::Error;
use crate::Dtype;

/// The element type of a tensor in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Element {
    /// A type of weights.
    Weights(Dtype),
    /// A type that the format knows and the engine does not, by its name in the format.
    Other(&'static str),
}

/// A tensor of a file, without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name, unique in the file.
    pub name: String,
    /// Dimensions, the outermost first: a matrix is `[rows, columns]`, and a row is contiguous.
    pub dims: Vec<usize>,
    /// The element type.
    pub element: Element,
    /// Position of its first byte in the file.
    pub offset: u64,
    /// Number of its bytes.
    pub size: u64,
}

impl TensorInfo {
    /// The element type, if the engine has it.
    ///
    /// # Errors
    /// [`Error::ElementType`].
    pub fn dtype(&self) -> Result<Dtype, Error> {
        match self.element {
            Element::Weights(dtype) => Ok(dtype),
            Element::Other(name) => {
                Err(Error::ElementType { tensor: self.name.clone(), element: name.to_owned() })
            }
        }
    }

    /// Position after its last byte in the file.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.offset + self.size
    }
}
