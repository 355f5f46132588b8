//! Why tokens are not added.

/// Why tokens are not added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// The context is full.
    #[error("the context has room for {context} tokens; {needed} are needed")]
    Full {
        /// The most tokens.
        context: usize,
        /// The tokens there would be.
        needed: usize,
    },
    /// The allocator has no room.
    #[error("not enough memory for the keys and values of {tokens} tokens")]
    OutOfMemory {
        /// The tokens there would be.
        tokens: usize,
    },
    /// A key or a value is infinite or not a number: the weights are broken.
    #[error("layer {layer} has computed a number that is not finite for position {position}")]
    NotFinite {
        /// The layer, from 0.
        layer: usize,
        /// The position, from 0.
        position: usize,
    },
}
