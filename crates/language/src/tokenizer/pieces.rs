use super::error::TokenizerError;

/// Most tokens of a vocabulary. The largest known one, of Gemma, has 262,144.
pub(super) const MAX_TOKENS: usize = 1 << 21;

/// Most bytes of all tokens of a vocabulary together.
const MAX_BYTES: usize = 1 << 28;

/// How a vocabulary writes the bytes of its tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// One character for each byte, as GPT-2 does.
    /// <https://github.com/openai/gpt-2/blob/master/src/encoder.py>
    Bytes,
    /// Text with U+2581 for the space, and `<0x0A>` for single bytes, as SentencePiece does.
    Sentence,
}

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Part of a text, written as [`Spelling`] says.
    Text,
    /// Part of a text, written as it is.
    Literal,
    /// A marker that is no text, such as the beginning of a turn.
    Special,
}

/// The bytes of all tokens, one after another.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    special: Vec<bool>,
}

impl Pieces {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Adds the next token; `text` is as the vocabulary writes it.
    pub(super) fn push(
        &mut self,
        text: &str,
        kind: Kind,
        spelling: Spelling,
    ) -> Result<(), TokenizerError> {
        match kind {
            Kind::Text => spell(text, spelling, &mut self.bytes),
            Kind::Literal | Kind::Special => self.bytes.extend(text.as_bytes()),
        }
        if self.ends.len() >= MAX_TOKENS || self.bytes.len() > MAX_BYTES {
            return Err(TokenizerError::Inconsistent(format!(
                "more than {MAX_TOKENS} tokens or {MAX_BYTES} bytes"
            )));
        }
        self.ends.push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
        self.special.push(kind == Kind::Special);
        Ok(())
    }

    pub(super) fn get(&self, token: u32) -> Result<&[u8], TokenizerError> {
        let unknown = TokenizerError::UnknownToken { token, size: self.len() };
        let index = token as usize;
        let Some(&end) = self.ends.get(index) else { return Err(unknown) };
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        Ok(&self.bytes[start as usize..end as usize])
    }

    pub(super) fn is_special(&self, token: u32) -> bool {
        self.special.get(token as usize).copied().unwrap_or(false)
    }
}

fn spell(text: &str, spelling: Spelling, bytes: &mut Vec<u8>) {
    match spelling {
        Spelling::Bytes => match text.chars().map(byte_of_char).collect::<Option<Vec<u8>>>() {
            Some(plain) => bytes.extend(plain),
            None => bytes.extend(text.as_bytes()),
        },
        Spelling::Sentence => match single_byte(text) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend(text.replace('\u{2581}', " ").as_bytes()),
        },
    }
}

/// The byte of a token such as `<0x0A>`.
pub(super) fn single_byte(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let is_pair = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_pair.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

/// The byte that a character stands for in [`Spelling::Bytes`]: printable characters of Latin-1
/// stand for themselves, those from U+0100 on for the other bytes in order.
fn byte_of_char(char: char) -> Option<u8> {
    let code = u32::from(char);
    let byte = match code {
        0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => code,
        0x100..=0x120 => code - 0x100,
        0x121..=0x142 => code - 0x121 + 0x7F,
        0x143 => 0xAD,
        _ => return None,
    };
    u8::try_from(byte).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_byte_has_one_character() {
        let bytes: BTreeSet<u8> = ('\0'..='\u{200}').filter_map(byte_of_char).collect();
        assert_eq!(bytes.len(), 256);
        assert_eq!(('\0'..='\u{200}').filter_map(byte_of_char).count(), 256);
        assert_eq!(byte_of_char('Ġ'), Some(b' '));
        assert_eq!(byte_of_char('Ċ'), Some(b'\n'));
    }

    #[test]
    fn single_bytes_have_two_digits() {
        assert_eq!(single_byte("<0x0A>"), Some(10));
        assert_eq!(single_byte("<0xA>"), None);
        assert_eq!(single_byte("<0x+A>"), None);
    }
}
