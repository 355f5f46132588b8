use std::collections::HashMap;

use tokenizers::models::bpe::BPE;
use tokenizers::models::wordlevel::WordLevel;
use tokenizers::normalizers::NFC;
use tokenizers::{AddedToken, AddedVocabulary, NormalizerWrapper};

use super::error::TokenizerError;
use super::pieces::{Kind, MAX_TOKENS, Pieces, Spelling, single_byte};
use super::sentence::SentencePieces;
use super::split::Splitting;
use super::vocabulary::{Ends, Model, Parts, Tokenizer};

/// The vocabulary of a GGUF file: its metadata below `tokenizer.ggml`.
///
/// <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md#tokenizer>
#[derive(Clone, Debug, Default)]
pub struct GgufVocabulary {
    /// `tokenizer.ggml.model`: `gpt2` (byte-level BPE) or `llama` (SentencePiece BPE).
    pub model: String,
    /// `tokenizer.ggml.pre`: how byte-level BPE cuts text into words. Without it, "default".
    pub pre: Option<String>,
    /// `tokenizer.ggml.tokens`.
    pub tokens: Vec<String>,
    /// `tokenizer.ggml.scores`, one for each token. Only `llama` needs them.
    pub scores: Vec<f32>,
    /// `tokenizer.ggml.token_type`, one for each token: 1 normal, 2 unknown, 3 control,
    /// 4 user-defined, 5 unused, 6 byte. Without it, all tokens are normal.
    pub types: Vec<i32>,
    /// `tokenizer.ggml.merges`: pairs separated by a space. Only `gpt2` needs them.
    pub merges: Vec<String>,
    /// `tokenizer.ggml.bos_token_id`: beginning of text.
    pub bos: Option<u32>,
    /// `tokenizer.ggml.eos_token_id`: end of text.
    pub eos: Option<u32>,
    /// `tokenizer.ggml.eot_token_id`: end of a turn.
    pub eot: Option<u32>,
    /// `tokenizer.ggml.eom_token_id`: end of a message.
    pub eom: Option<u32>,
    /// `tokenizer.ggml.unknown_token_id`.
    pub unknown: Option<u32>,
    /// `tokenizer.ggml.add_bos_token`.
    pub add_bos: Option<bool>,
    /// `tokenizer.ggml.add_eos_token`.
    pub add_eos: Option<bool>,
    /// `tokenizer.ggml.add_space_prefix`: a space before text and after special tokens.
    pub add_space_prefix: Option<bool>,
}

/// `tokenizer.ggml.token_type`.
mod kind {
    pub(super) const NORMAL: i32 = 1;
    pub(super) const UNKNOWN: i32 = 2;
    pub(super) const CONTROL: i32 = 3;
    pub(super) const USER_DEFINED: i32 = 4;
    pub(super) const BYTE: i32 = 6;
}

/// Control tokens that end what a model generates, as llama.cpp knows them by text.
const STOPS: [&str; 12] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "<|end_of_text|>",
    "<end_of_utterance>",
];

impl Tokenizer {
    /// The tokenizer of a GGUF file.
    ///
    /// # Errors
    /// [`TokenizerError::Unsupported`], [`TokenizerError::Inconsistent`].
    pub fn from_gguf(vocabulary: GgufVocabulary) -> Result<Self, TokenizerError> {
        vocabulary.check()?;
        match vocabulary.model.as_str() {
            "gpt2" => vocabulary.byte_level(),
            "llama" => vocabulary.sentence(),
            other => Err(TokenizerError::Unsupported {
                what: "tokenizer.ggml.model",
                found: other.to_owned(),
                supported: "gpt2, llama",
            }),
        }
    }
}

impl GgufVocabulary {
    fn check(&self) -> Result<(), TokenizerError> {
        let size = self.tokens.len();
        let inconsistent = |text| Err(TokenizerError::Inconsistent(text));
        if size == 0 || size > MAX_TOKENS {
            return inconsistent(format!("{size} tokens; from 1 to {MAX_TOKENS} are supported"));
        }
        if !self.types.is_empty() && self.types.len() != size {
            return inconsistent(format!("{} token types for {size} tokens", self.types.len()));
        }
        let named = [
            ("bos_token_id", self.bos),
            ("eos_token_id", self.eos),
            ("eot_token_id", self.eot),
            ("eom_token_id", self.eom),
            ("unknown_token_id", self.unknown),
        ];
        for (name, token) in named {
            if let Some(token) = token.filter(|token| *token as usize >= size) {
                return inconsistent(format!("{name} is {token}, there are {size} tokens"));
            }
        }
        Ok(())
    }

    fn kind(&self, token: usize) -> i32 {
        self.types.get(token).copied().unwrap_or(kind::NORMAL)
    }

    /// Tokens with their ids and types.
    fn entries(&self) -> impl Iterator<Item = (u32, &str, i32)> {
        let ids = 0u32..;
        ids.zip(&self.tokens).map(|(id, text)| (id, text.as_str(), self.kind(id as usize)))
    }

    fn byte_level(mut self) -> Result<Tokenizer, TokenizerError> {
        let splitting = Splitting::named(self.pre.as_deref().unwrap_or("default"))?;
        let pieces = self.pieces(Spelling::Bytes)?;
        let (parsed, plain) = self.added(Spelling::Bytes)?;
        let ends = self.ends(splitting.adds_bos);
        let stops = self.stops();
        let merges = pairs(&std::mem::take(&mut self.merges))?;
        let is_text = |kind: i32| !matches!(kind, kind::CONTROL | kind::UNKNOWN);
        let words = self.entries().filter(|(_, _, kind)| is_text(*kind));
        let words: tokenizers::models::bpe::Vocab =
            words.map(|(id, text, _)| (text.to_owned(), id)).collect();
        let bpe = BPE::builder()
            .vocab_and_merges(words, merges)
            .ignore_merges(splitting.whole_words)
            .build()
            .map_err(inconsistent)?;
        let mut library = tokenizers::Tokenizer::new(bpe);
        library.with_pre_tokenizer(Some(splitting.build()?));
        if splitting.composes {
            library.with_normalizer(Some(NFC)).map_err(inconsistent)?;
        }
        Tokenizer::assemble(Parts {
            model: Model::Library(Box::new(library)),
            parsed: Some(parsed),
            plain,
            pieces,
            ends,
            bos: self.bos,
            eos: self.eos,
            stops,
            drops_first_space: false,
        })
    }

    fn sentence(mut self) -> Result<Tokenizer, TokenizerError> {
        let size = self.tokens.len();
        if self.scores.len() != size {
            return Err(TokenizerError::Inconsistent(format!(
                "{} scores for {size} tokens",
                self.scores.len()
            )));
        }
        let pieces = self.pieces(Spelling::Sentence)?;
        let (parsed, plain) = self.added(Spelling::Sentence)?;
        let ends = self.ends(true);
        let stops = self.stops();
        let space_first = self.add_space_prefix.unwrap_or(true);
        let scores = std::mem::take(&mut self.scores);
        let mut byte_tokens = Box::new([None; 256]);
        for (id, text, kind) in self.entries() {
            if let Some(byte) = single_byte(text).filter(|_| kind == kind::BYTE) {
                byte_tokens[usize::from(byte)] = Some(id);
            }
        }
        let joins = |kind| !matches!(kind, kind::CONTROL | kind::UNKNOWN | kind::BYTE);
        let mergeable = self.entries().filter(|(_, _, kind)| joins(*kind)).map(|(id, _, _)| id);
        let model = SentencePieces::new(
            &pieces,
            scores,
            mergeable,
            byte_tokens,
            self.unknown,
            space_first,
        )?;
        Tokenizer::assemble(Parts {
            model: Model::Sentence(model),
            parsed: Some(parsed),
            plain,
            pieces,
            ends,
            bos: self.bos,
            eos: self.eos,
            stops,
            drops_first_space: space_first,
        })
    }

    fn pieces(&self, spelling: Spelling) -> Result<Pieces, TokenizerError> {
        let mut pieces = Pieces::default();
        for (_, text, kind) in self.entries() {
            let kind = match kind {
                kind::CONTROL | kind::UNKNOWN => Kind::Special,
                kind::USER_DEFINED if spelling == Spelling::Bytes => Kind::Literal,
                _ => Kind::Text,
            };
            pieces.push(text, kind, spelling)?;
        }
        Ok(pieces)
    }

    /// Tokens that are found in a text before it is split: all of them, and those that are text.
    fn added(
        &self,
        spelling: Spelling,
    ) -> Result<(AddedVocabulary, AddedVocabulary), TokenizerError> {
        let mut ids = HashMap::new();
        let mut tokens = Vec::new();
        for (id, text, kind) in self.entries() {
            let special = matches!(kind, kind::CONTROL | kind::UNKNOWN);
            if !special && kind != kind::USER_DEFINED {
                continue;
            }
            let text = match spelling {
                Spelling::Sentence if !special => text.replace('\u{2581}', " "),
                _ => text.to_owned(),
            };
            ids.insert(text.clone(), id);
            tokens.push(AddedToken::from(text, special).normalized(false));
        }
        let directory =
            WordLevel::builder().vocab(ids.into_iter().collect()).build().map_err(inconsistent)?;
        let build = |tokens: Vec<AddedToken>| {
            let mut added = AddedVocabulary::new();
            added.add_tokens(tokens, &directory, None::<&NormalizerWrapper>)?;
            Ok(added)
        };
        let text = tokens.iter().filter(|token| !token.special).cloned().collect();
        Ok((build(tokens).map_err(inconsistent)?, build(text).map_err(inconsistent)?))
    }

    fn ends(&self, adds_bos: bool) -> Ends {
        let begins = self.add_bos.unwrap_or(adds_bos);
        let closes = self.add_eos.unwrap_or(false);
        Ends {
            before: self.bos.filter(|_| begins).into_iter().collect(),
            after: self.eos.filter(|_| closes).into_iter().collect(),
        }
    }

    fn stops(&self) -> Vec<u32> {
        let named = self.entries().filter(|(_, text, kind)| {
            matches!(*kind, kind::CONTROL | kind::USER_DEFINED) && STOPS.contains(text)
        });
        let given = [self.eos, self.eot, self.eom].into_iter().flatten();
        let mut stops: Vec<u32> = named.map(|(id, _, _)| id).chain(given).collect();
        stops.sort_unstable();
        stops.dedup();
        stops
    }
}

#[allow(clippy::needless_pass_by_value, reason = "passed to map_err")]
fn inconsistent(error: tokenizers::Error) -> TokenizerError {
    TokenizerError::Inconsistent(error.to_string())
}

/// Merges as pairs. A token may begin with a space, so the first character does not separate.
fn pairs(merges: &[String]) -> Result<Vec<(String, String)>, TokenizerError> {
    let pair = |merge: &String| {
        let first = merge.chars().next().map_or(0, char::len_utf8);
        let (start, rest) = merge.split_at(first);
        let (left, right) = rest.split_once(' ')?;
        Some((format!("{start}{left}"), right.to_owned()))
    };
    let pairs: Option<Vec<_>> = merges.iter().map(pair).collect();
    pairs.ok_or_else(|| TokenizerError::Inconsistent("a merge is not a pair".to_owned()))
}
