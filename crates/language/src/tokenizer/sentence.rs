use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::error::TokenizerError;
use super::pieces::Pieces;

/// Splits text as SentencePiece's BPE does: of all neighbours that are a token together, those of
/// the highest score are joined first, the leftmost at equal scores.
///
/// <https://github.com/google/sentencepiece/blob/master/src/bpe_model.cc>
///
/// The BPE of the `tokenizers` crate cannot express this exactly: there every pair has a rank of
/// its own, here all pairs of one token share its score. It would also need the pairs of all
/// tokens, 580,000 for Gemma.
#[derive(Debug)]
pub(super) struct SentencePieces {
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
    scores: Vec<f32>,
    byte_tokens: Box<[Option<u32>; 256]>,
    unknown: Option<u32>,
    space_first: bool,
}

impl SentencePieces {
    /// `scores` and `mergeable` have one entry for each token of `pieces`.
    pub(super) fn new(
        pieces: &Pieces,
        scores: Vec<f32>,
        mergeable: impl Iterator<Item = u32>,
        byte_tokens: Box<[Option<u32>; 256]>,
        unknown: Option<u32>,
        space_first: bool,
    ) -> Result<Self, TokenizerError> {
        let hasher = DefaultHashBuilder::default();
        let mut table = HashTable::with_capacity(pieces.len());
        let hash = |bytes: &[u8]| hasher.hash_one(bytes);
        for token in mergeable {
            let bytes = pieces.get(token)?;
            let same = |other: &u32| pieces.get(*other).is_ok_and(|other| other == bytes);
            let rehash = |other: &u32| hash(pieces.get(*other).unwrap_or_default());
            match table.entry(hash(bytes), same, rehash) {
                hashbrown::hash_table::Entry::Occupied(mut entry) => *entry.get_mut() = token,
                hashbrown::hash_table::Entry::Vacant(entry) => drop(entry.insert(token)),
            }
        }
        Ok(Self { table, hasher, scores, byte_tokens, unknown, space_first })
    }

    fn find(&self, pieces: &Pieces, bytes: &[u8]) -> Option<u32> {
        let same = |token: &u32| pieces.get(*token).is_ok_and(|other| other == bytes);
        self.table.find(self.hasher.hash_one(bytes), same).copied()
    }

    /// The tokens of a text without special tokens. Its spaces are plain ones.
    pub(super) fn encode(&self, pieces: &Pieces, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let prefix = if self.space_first { " " } else { "" };
        let text = format!("{prefix}{text}");
        let mut joining = Joining::new(self, pieces, &text);
        joining.run();
        let mut tokens = Vec::with_capacity(text.len() / 3);
        for span in joining.spans() {
            match self.find(pieces, span) {
                Some(token) => tokens.push(token),
                None => self.fall_back(span, &mut tokens)?,
            }
        }
        Ok(tokens)
    }

    fn fall_back(&self, span: &[u8], tokens: &mut Vec<u32>) -> Result<(), TokenizerError> {
        let bytes: Option<Vec<u32>> =
            span.iter().map(|byte| self.byte_tokens[usize::from(*byte)]).collect();
        match (bytes, self.unknown) {
            (Some(bytes), _) => tokens.extend(bytes),
            (None, Some(unknown)) => tokens.push(unknown),
            (None, None) => {
                let text = String::from_utf8_lossy(span);
                return Err(TokenizerError::Refused(format!(
                    "the vocabulary has no token for {text:?}, no byte tokens and no unknown token"
                )));
            }
        }
        Ok(())
    }
}

/// A part of the text. Parts form a list, linked by their indices.
#[derive(Clone, Copy)]
struct Part {
    start: usize,
    /// Length in bytes; 0 when the part was joined to the one before.
    length: usize,
    before: Option<usize>,
    after: Option<usize>,
}

/// Two neighbours that may be joined.
struct Pair {
    score: f32,
    left: usize,
    right: usize,
    /// Length of both together, in bytes. Another length by now says that the pair is outdated.
    length: usize,
}

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Pair {}

struct Joining<'a> {
    vocabulary: &'a SentencePieces,
    pieces: &'a Pieces,
    text: &'a [u8],
    parts: Vec<Part>,
    pairs: BinaryHeap<Pair>,
}

impl<'a> Joining<'a> {
    fn new(vocabulary: &'a SentencePieces, pieces: &'a Pieces, text: &'a str) -> Self {
        let mut parts: Vec<Part> = text
            .char_indices()
            .enumerate()
            .map(|(index, (start, char))| Part {
                start,
                length: char.len_utf8(),
                before: index.checked_sub(1),
                after: Some(index + 1),
            })
            .collect();
        if let Some(last) = parts.last_mut() {
            last.after = None;
        }
        Self { vocabulary, pieces, text: text.as_bytes(), parts, pairs: BinaryHeap::new() }
    }

    fn consider(&mut self, left: Option<usize>, right: Option<usize>) {
        let (Some(left), Some(right)) = (left, right) else { return };
        let start = self.parts[left].start;
        let length = self.parts[left].length + self.parts[right].length;
        let joined = &self.text[start..start + length];
        if let Some(token) = self.vocabulary.find(self.pieces, joined) {
            let score = self.vocabulary.scores[token as usize];
            self.pairs.push(Pair { score, left, right, length });
        }
    }

    fn run(&mut self) {
        for right in 1..self.parts.len() {
            self.consider(Some(right - 1), Some(right));
        }
        while let Some(pair) = self.pairs.pop() {
            let (left, right) = (self.parts[pair.left], self.parts[pair.right]);
            let is_outdated =
                left.length == 0 || right.length == 0 || left.length + right.length != pair.length;
            if is_outdated {
                continue;
            }
            self.parts[pair.left].length = pair.length;
            self.parts[pair.right].length = 0;
            self.parts[pair.left].after = right.after;
            if let Some(after) = right.after {
                self.parts[after].before = Some(pair.left);
            }
            self.consider(left.before, Some(pair.left));
            self.consider(Some(pair.left), right.after);
        }
    }

    fn spans(&self) -> impl Iterator<Item = &'a [u8]> {
        let text = self.text;
        let whole = self.parts.iter().filter(|part| part.length > 0);
        whole.map(move |part| &text[part.start..part.start + part.length])
    }
}
