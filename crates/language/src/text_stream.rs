//! Tokens of a model as text, while they come.

use crate::tokenizer::{Tokenizer, TokenizerError};

/// Turns tokens into text, one after another. A character whose bytes come in several tokens is
/// held back until it is whole. All pieces together are what [`Tokenizer::decode`] makes of all
/// tokens, and the work for each token depends only on its own length.
#[derive(Clone, Debug, Default)]
pub struct TextStream {
    held: Held,
    special: bool,
    begins_text: bool,
}

impl TextStream {
    /// Text that goes on after a prompt: a first space belongs to it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A text of its own: without the space that SentencePiece puts before a text.
    #[must_use]
    pub fn beginning() -> Self {
        Self { begins_text: true, ..Self::default() }
    }

    /// Shows special tokens.
    #[must_use]
    pub fn with_special(mut self) -> Self {
        self.special = true;
        self
    }

    /// The text that a token completes; it may be empty.
    ///
    /// # Errors
    /// [`TokenizerError::UnknownToken`].
    pub fn push(&mut self, tokenizer: &Tokenizer, token: u32) -> Result<String, TokenizerError> {
        let mut bytes = tokenizer.bytes(token)?;
        if !self.special && tokenizer.is_special(token) {
            return Ok(String::new());
        }
        if !bytes.is_empty() && std::mem::take(&mut self.begins_text) {
            let drops = tokenizer.drops_first_space() && bytes.first() == Some(&b' ');
            bytes = &bytes[usize::from(drops)..];
        }
        Ok(self.held.push(bytes))
    }

    /// What is left at the end: U+FFFD for a character that stayed incomplete.
    #[must_use]
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.held.0).into_owned()
    }
}

/// The first bytes of a character: at most 3.
#[derive(Clone, Debug, Default)]
struct Held(Vec<u8>);

impl Held {
    fn push(&mut self, bytes: &[u8]) -> String {
        self.0.extend(bytes);
        let whole = self.0.len() - unfinished(&self.0);
        let text = String::from_utf8_lossy(&self.0[..whole]).into_owned();
        self.0.drain(..whole);
        text
    }
}

/// Number of bytes at the end that are the beginning of a character, as far as they go.
fn unfinished(bytes: &[u8]) -> usize {
    let longest = bytes.len().min(3);
    (1..=longest)
        .rev()
        .find(|length| {
            let end = &bytes[bytes.len() - length..];
            std::str::from_utf8(end)
                .is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn streamed(chunks: &[Vec<u8>]) -> String {
        let mut stream = TextStream::new();
        let mut text = String::new();
        for chunk in chunks {
            text.push_str(&stream.held.push(chunk));
            assert!(stream.held.0.len() <= 3);
        }
        text + &stream.finish()
    }

    fn bytes() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let text = any::<String>().prop_map(String::into_bytes);
        let lead = prop_oneof![0x7Fu8..=0xC3, 0xDFu8..=0xFF, any::<u8>()];
        let noise = proptest::collection::vec(lead, 0..6);
        let all = proptest::collection::vec(prop_oneof![text, noise], 0..8);
        (all, proptest::collection::vec(1usize..5, 1..9)).prop_map(|(parts, sizes)| {
            let whole = parts.concat();
            let mut sizes = sizes.into_iter().cycle();
            let mut rest = whole.as_slice();
            let mut chunks = Vec::new();
            while !rest.is_empty() {
                let size = sizes.next().unwrap_or(1).min(rest.len());
                chunks.push(rest[..size].to_vec());
                rest = &rest[size..];
            }
            chunks
        })
    }

    proptest! {
        #[test]
        fn pieces_together_are_the_whole(chunks in bytes()) {
            let whole = String::from_utf8_lossy(&chunks.concat()).into_owned();
            prop_assert_eq!(streamed(&chunks), whole);
        }
    }
}
