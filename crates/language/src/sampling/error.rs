/// Why options cannot be used, or no token can be chosen.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SamplingError {
    /// An option is out of its range.
    #[error("{field} is {value}; it has to be {range}")]
    OutOfRange {
        /// Name of the option.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is allowed, such as "from 0 to 2".
        range: &'static str,
    },
    /// A logit is not a number or is positive infinity. Negative infinity means "never".
    #[error("the logit of token {token} is {value}")]
    NotFinite {
        /// The token.
        token: usize,
        /// Its logit.
        value: f32,
    },
    /// There is no logit, or all are negative infinity.
    #[error("no token is possible: none of {0} has a finite logit")]
    NothingPossible(usize),
    /// A token of the options or of the text is not in the vocabulary.
    #[error("token {token} is not in the vocabulary of {size} tokens")]
    UnknownToken {
        /// The token.
        token: u32,
        /// Number of logits.
        size: usize,
    },
}
