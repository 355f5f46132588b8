//! Text to tokens, as the model's own `tokenizer.json` says.

/// Why a `tokenizer.json` cannot be used, or a text cannot be cut into tokens.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The file is not a tokenizer.
    #[error("tokenizer.json cannot be used: {0}")]
    Unread(String),
    /// The tokenizer refuses a text.
    #[error("the text cannot be cut into tokens: {0}")]
    Refused(String),
}

/// A tokenizer (the crate of Hugging Face).
pub struct Tokenizer(tokenizers::Tokenizer);

impl Tokenizer {
    /// Reads `tokenizer.json`. What it says of padding and of cutting off is left aside: no text loses a word unnoticed here.
    ///
    /// # Errors
    /// [`TokenizerError::Unread`].
    pub fn read(json: &[u8]) -> Result<Self, TokenizerError> {
        let unread = |error: tokenizers::Error| TokenizerError::Unread(error.to_string());
        let mut tokenizer = tokenizers::Tokenizer::from_bytes(json).map_err(unread)?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(unread)?;
        Ok(Self(tokenizer))
    }

    /// The tokens of a text, with those that the model wants at its ends.
    ///
    /// # Errors
    /// [`TokenizerError::Refused`].
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let encoding = self
            .0
            .encode_fast(text, true)
            .map_err(|error| TokenizerError::Refused(error.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// How many tokens there are.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.get_vocab_size(true)
    }
}
