/// Why a vocabulary cannot be used, or a text or token cannot be converted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// A JSON file of the tokenizer is malformed.
    #[error("{file} cannot be used: {reason}")]
    Unread {
        /// Name of the file.
        file: &'static str,
        /// What is wrong in it.
        reason: String,
    },
    /// The vocabulary needs an algorithm that is not implemented.
    #[error("{what} {found:?} is not supported; supported: {supported}")]
    Unsupported {
        /// What is not supported, such as "tokenizer.ggml.model".
        what: &'static str,
        /// Its value.
        found: String,
        /// The values that are supported.
        supported: &'static str,
    },
    /// Parts of the vocabulary contradict one another.
    #[error("the vocabulary is inconsistent: {0}")]
    Inconsistent(String),
    /// The tokenizer rejects a text.
    #[error("the text cannot be split into tokens: {0}")]
    Refused(String),
    /// A token is not in the vocabulary.
    #[error("token {token} is not in the vocabulary of {size} tokens")]
    UnknownToken {
        /// The token.
        token: u32,
        /// Number of tokens in the vocabulary.
        size: usize,
    },
}
