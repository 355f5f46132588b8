use tokenizers::{
    AddedVocabulary, Model as _, NormalizerWrapper, OffsetReferential, OffsetType,
    PreTokenizedString, PreTokenizer, Token,
};

use super::error::TokenizerError;
use super::pieces::Pieces;
use super::sentence::SentencePieces;
use super::shield::{self, Shield};

/// What happens to special tokens, such as `<|im_end|>`, that are written out in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpecialText {
    /// They become the tokens. Only for text of templates: who writes such a text can end the turn
    /// and begin another one. Foreign parts of it go through [`Tokenizer::shield`] first.
    Parsed,
    /// They are text as any other. For everything that users or documents say.
    Plain,
}

/// Tokens around a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) before: Vec<u32>,
    pub(super) after: Vec<u32>,
}

#[derive(Debug)]
pub(super) enum Model {
    Library(Box<tokenizers::Tokenizer>),
    Sentence(SentencePieces),
}

pub(super) struct Parts {
    pub(super) model: Model,
    /// Without it, that of the library.
    pub(super) parsed: Option<AddedVocabulary>,
    pub(super) plain: AddedVocabulary,
    pub(super) pieces: Pieces,
    pub(super) ends: Ends,
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
    pub(super) stops: Vec<u32>,
    pub(super) drops_first_space: bool,
}

/// A vocabulary, and the way to split text into its tokens.
#[derive(Debug)]
pub struct Tokenizer {
    model: Model,
    parsed: AddedVocabulary,
    plain: AddedVocabulary,
    pieces: Pieces,
    shield: Shield,
    ends: Ends,
    bos: Option<u32>,
    eos: Option<u32>,
    stops: Vec<u32>,
    drops_first_space: bool,
}

impl Tokenizer {
    pub(super) fn assemble(parts: Parts) -> Result<Self, TokenizerError> {
        let parsed = match (parts.parsed, &parts.model) {
            (Some(parsed), _) => parsed,
            (None, Model::Library(library)) => library.get_added_vocabulary().clone(),
            (None, Model::Sentence(_)) => AddedVocabulary::new(),
        };
        let tokens = parsed.get_added_tokens_decoder().values();
        let special = tokens.filter(|token| token.special).map(|token| token.content.as_str());
        Ok(Self {
            shield: Shield::new(special)?,
            parsed,
            model: parts.model,
            plain: parts.plain,
            pieces: parts.pieces,
            ends: parts.ends,
            bos: parts.bos,
            eos: parts.eos,
            stops: parts.stops,
            drops_first_space: parts.drops_first_space,
        })
    }

    /// The tokens of a text. `ends` adds the tokens that the model's files want around a text,
    /// such as the beginning-of-text token; chat templates write them out themselves.
    ///
    /// # Errors
    /// [`TokenizerError::Refused`].
    pub fn encode(
        &self,
        text: &str,
        ends: bool,
        special: SpecialText,
    ) -> Result<Vec<u32>, TokenizerError> {
        let refused = |error: tokenizers::Error| TokenizerError::Refused(error.to_string());
        let added = match special {
            SpecialText::Parsed => &self.parsed,
            SpecialText::Plain => &self.plain,
        };
        let mut words = match &self.model {
            Model::Library(library) => added.extract_and_normalize(library.get_normalizer(), text),
            Model::Sentence(_) => {
                // To SentencePiece, both are spaces.
                let text = text.replace('\u{2581}', " ");
                added.extract_and_normalize(None::<&NormalizerWrapper>, &text)
            }
        };
        if special == SpecialText::Parsed {
            words.normalize(shield::remove).map_err(refused)?;
        }
        self.split(&mut words).map_err(refused)?;
        let mut tokens = if ends { self.ends.before.clone() } else { Vec::new() };
        for (_, _, word) in words.get_splits(OffsetReferential::Normalized, OffsetType::None) {
            tokens.extend(word.iter().flatten().map(|token| token.id));
        }
        if ends {
            tokens.extend(&self.ends.after);
        }
        Ok(tokens)
    }

    fn split(&self, words: &mut PreTokenizedString) -> tokenizers::Result<()> {
        match &self.model {
            Model::Library(library) => {
                if let Some(splitting) = library.get_pre_tokenizer() {
                    splitting.pre_tokenize(words)?;
                }
                words.tokenize(|word| library.get_model().tokenize(word.get()))
            }
            Model::Sentence(model) => words.tokenize(|word| {
                let tokens = model.encode(&self.pieces, word.get())?;
                Ok(tokens.into_iter().map(|id| Token::new(id, String::new(), (0, 0))).collect())
            }),
        }
    }

    /// A foreign text to be put into a template: the special tokens written in it stay text when
    /// the whole is encoded with [`SpecialText::Parsed`].
    ///
    /// A mark, U+FDD0, is put into each; `encode` removes it. Marks in the text itself, which is no
    /// character of any script, are replaced by U+FFFD.
    #[must_use]
    pub fn shield(&self, text: &str) -> String {
        self.shield.protect(text)
    }

    /// The text of tokens. Bytes that are not UTF-8 become U+FFFD. `special` shows special tokens.
    ///
    /// # Errors
    /// [`TokenizerError::UnknownToken`].
    pub fn decode(&self, tokens: &[u32], special: bool) -> Result<String, TokenizerError> {
        let mut bytes = Vec::with_capacity(tokens.len() * 4);
        for &token in tokens {
            let piece = self.pieces.get(token)?;
            if special || !self.pieces.is_special(token) {
                bytes.extend(piece);
            }
        }
        let drops = self.drops_first_space && bytes.first() == Some(&b' ');
        Ok(String::from_utf8_lossy(&bytes[usize::from(drops)..]).into_owned())
    }

    /// The bytes of a token, which need not be whole characters.
    ///
    /// # Errors
    /// [`TokenizerError::UnknownToken`].
    pub fn bytes(&self, token: u32) -> Result<&[u8], TokenizerError> {
        self.pieces.get(token)
    }

    /// Whether a token is a marker that is no text, such as the beginning of a turn.
    #[must_use]
    pub fn is_special(&self, token: u32) -> bool {
        self.pieces.is_special(token)
    }

    /// The id of a special or user-defined token.
    #[must_use]
    pub fn added(&self, text: &str) -> Option<u32> {
        self.parsed.get_vocab().get(text).copied()
    }

    /// Number of tokens: one more than the largest id.
    #[must_use]
    pub fn size(&self) -> usize {
        self.pieces.len()
    }

    /// The token at the beginning of a text.
    #[must_use]
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token at the end of a text.
    #[must_use]
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// Tokens that end what a model generates, in ascending order.
    #[must_use]
    pub fn stops(&self) -> &[u32] {
        &self.stops
    }

    /// Whether the first space of a text is an artefact: SentencePiece puts one there.
    #[must_use]
    pub fn drops_first_space(&self) -> bool {
        self.drops_first_space
    }
}
