//! Text to tokens, by the model's `tokenizer.json`.

use std::collections::BTreeSet;

use tokenizers::ModelWrapper;

/// Why a `tokenizer.json` cannot be used, or a text cannot be split into tokens.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The file is not a valid tokenizer.
    #[error("tokenizer.json cannot be used: {0}")]
    Unread(String),
    /// The tokenizer rejects a text.
    #[error("the text cannot be split into tokens: {0}")]
    Refused(String),
}

/// A tokenizer of the `tokenizers` crate.
#[derive(Debug)]
pub struct Tokenizer(tokenizers::Tokenizer);

impl Tokenizer {
    /// Reads `tokenizer.json`. Padding and truncation are turned off: no text is cut
    /// silently.
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

    /// The tokens of a text, including the special ones at its ends.
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

    /// A token among `tokens`, with its text, that no text has, so that they must be from another
    /// tokenizer. That can be known of WordPiece, whose word is a token if it is one alone; the
    /// tokens of continuing pieces and special tokens are let pass.
    #[must_use]
    pub fn impossible(&self, tokens: &[u32]) -> Option<(u32, String)> {
        let ModelWrapper::WordPiece(model) = self.0.get_model() else { return None };
        let added = self.0.get_added_vocabulary().get_added_tokens_decoder();
        let distinct: BTreeSet<u32> = tokens.iter().copied().collect();
        distinct.into_iter().filter(|token| !added.contains_key(token)).find_map(|token| {
            let text = self.0.id_to_token(token)?;
            let is_piece = text.starts_with(&model.continuing_subword_prefix);
            let again = self.0.encode_fast(text.as_str(), false).ok()?;
            (!is_piece && again.get_ids() != [token]).then_some((token, text))
        })
    }

    /// Size of the vocabulary.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.get_vocab_size(true)
    }
}
