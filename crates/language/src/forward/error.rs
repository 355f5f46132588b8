//! Why tokens are not computed.

use edge_net_tensor::{MatrixError, ShapeError};

use crate::cache::CacheError;

/// Why tokens are not computed. The cache has what it had before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// There is no token.
    #[error("there is no token to compute")]
    Empty,
    /// A token is not in the vocabulary.
    #[error("the token {token} is not in the vocabulary of {vocabulary}")]
    Token {
        /// The token.
        token: u32,
        /// Number of tokens.
        vocabulary: usize,
    },
    /// The cache takes no more tokens.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The cache is for another decoder.
    #[error("the cache was made for a decoder of another shape")]
    OtherCache,
    /// A logit is infinite or not a number: the weights are broken.
    #[error("the logits are not finite")]
    NotFinite,
    /// A matrix does not have the size that its place asks for.
    #[error(transparent)]
    Matrix(#[from] MatrixError),
    /// Values are not rows of the size that a matrix asks for.
    #[error(transparent)]
    Shape(#[from] ShapeError),
}
