use std::collections::BTreeSet;

use aho_corasick::AhoCorasick;
use tokenizers::NormalizedString;

use super::error::TokenizerError;

/// Stands inside special tokens that are to stay text. A noncharacter of Unicode.
const MARK: char = '\u{FDD0}';

/// Stands for characters that a text may not have.
const REPLACEMENT: char = '\u{FFFD}';

/// Finds special tokens in foreign text.
#[derive(Debug)]
pub(super) struct Shield(AhoCorasick);

impl Shield {
    pub(super) fn new<'a>(special: impl Iterator<Item = &'a str>) -> Result<Self, TokenizerError> {
        let texts = special.filter(|text| !text.is_empty());
        AhoCorasick::new(texts)
            .map(Self)
            .map_err(|error| TokenizerError::Inconsistent(error.to_string()))
    }

    /// A mark after the first character of every special token. One of a single character cannot
    /// be marked and is replaced.
    pub(super) fn protect(&self, text: &str) -> String {
        let text = text.replace(MARK, "\u{FFFD}");
        let mut marked = BTreeSet::new();
        let mut replaced = BTreeSet::new();
        for found in self.0.find_overlapping_iter(&text) {
            let first = text[found.start()..].chars().next().map_or(0, char::len_utf8);
            let is_single = first == found.len();
            if is_single { &mut replaced } else { &mut marked }.insert(found.start());
        }
        let mut whole = String::with_capacity(text.len() + marked.len() * MARK.len_utf8());
        for (start, char) in text.char_indices() {
            whole.push(if replaced.contains(&start) { REPLACEMENT } else { char });
            if marked.contains(&start) {
                whole.push(MARK);
            }
        }
        whole
    }
}

/// Removes the marks.
pub(super) fn remove(text: &mut NormalizedString) -> tokenizers::Result<()> {
    if text.get().contains(MARK) {
        text.replace(MARK, "")?;
    }
    Ok(())
}
