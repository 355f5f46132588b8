//! Texts to vectors.

use std::collections::BTreeMap;

use crate::model::{Model, RunError};
use crate::settings::{Pooling, Settings};
use crate::tokenizer::{Tokenizer, TokenizerError};

/// Tokens that are run together, unless a single text has more: bounds the memory besides the
/// weights.
const BATCH_TOKENS: usize = 512;

/// Why an input cannot be embedded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// The input has no tokens.
    #[error("the input has no tokens")]
    Empty,
    /// The input has too many tokens.
    #[error("the input has {tokens} tokens; this model takes at most {most}")]
    TooLong {
        /// Number of tokens.
        tokens: usize,
        /// The model's limit.
        most: usize,
    },
    /// The input has a token that is not in the vocabulary.
    #[error("the input has a token {token}; the tokens of this model are below {size}")]
    NoSuchToken {
        /// The token.
        token: u32,
        /// Size of the vocabulary.
        size: usize,
    },
    /// The input has a token that the model's tokenizer never makes.
    #[error(
        "the input has the token {token} ({text:?}), which this model's tokenizer makes of no \
         text: the tokens are from another tokenizer; send the text instead"
    )]
    Foreign {
        /// The token.
        token: u32,
        /// Its text.
        text: String,
    },
    /// The tokenizer rejects the input.
    #[error(transparent)]
    Untokenized(#[from] TokenizerError),
}

/// A model with its tokenizer and settings.
#[derive(Debug)]
pub struct Embedder {
    model: Model,
    tokenizer: Tokenizer,
    settings: Settings,
}

impl Embedder {
    /// An embedder; the three parts have to be from the same model.
    #[must_use]
    pub const fn new(model: Model, tokenizer: Tokenizer, settings: Settings) -> Self {
        Self { model, tokenizer, settings }
    }

    /// Length of the vectors.
    #[must_use]
    pub const fn dimensions(&self) -> usize {
        self.model.width()
    }

    /// Limit for the tokens of an input.
    #[must_use]
    pub const fn max_tokens(&self) -> usize {
        self.settings.max_tokens
    }

    /// The tokens of a text.
    ///
    /// # Errors
    /// [`InputError`].
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, InputError> {
        let tokens = self.tokenizer.encode(text)?;
        self.fits(&tokens)?;
        Ok(tokens)
    }

    /// Checks that these tokens can be embedded, and may be from this model's tokenizer.
    ///
    /// # Errors
    /// [`InputError`].
    pub fn check(&self, tokens: &[u32]) -> Result<(), InputError> {
        self.fits(tokens)?;
        let foreign = self.tokenizer.impossible(tokens);
        foreign.map_or(Ok(()), |(token, text)| Err(InputError::Foreign { token, text }))
    }

    fn fits(&self, tokens: &[u32]) -> Result<(), InputError> {
        let (most, size) = (self.settings.max_tokens, self.tokenizer.size());
        match tokens {
            [] => Err(InputError::Empty),
            _ if tokens.len() > most => Err(InputError::TooLong { tokens: tokens.len(), most }),
            _ => match tokens.iter().find(|token| **token as usize >= size) {
                Some(token) => Err(InputError::NoSuchToken { token: *token, size }),
                None => Ok(()),
            },
        }
    }

    /// The vectors of inputs that were [checked](Self::check). Only inputs of equal length are run
    /// together, without padding: a vector does not depend on the other inputs.
    ///
    /// # Errors
    /// [`RunError`].
    pub fn embed(&self, inputs: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, RunError> {
        let mut by_length: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (at, input) in inputs.iter().enumerate() {
            by_length.entry(input.len()).or_default().push(at);
        }
        let mut vectors = vec![Vec::new(); inputs.len()];
        for (length, places) in by_length.into_iter().filter(|(length, _)| *length > 0) {
            for places in places.chunks((BATCH_TOKENS / length).max(1)) {
                let tokens: Vec<u32> =
                    places.iter().flat_map(|at| inputs[*at].iter().copied()).collect();
                let rows = self.model.run(&tokens, places.len())?;
                for (at, rows) in places.iter().zip(rows.chunks_exact(length * self.model.width()))
                {
                    vectors[*at] = self.pool(rows, length);
                }
            }
        }
        Ok(vectors)
    }

    /// One vector from the `rows` of a text's tokens.
    fn pool(&self, rows: &[f32], length: usize) -> Vec<f32> {
        let mut rows = rows.chunks_exact(self.model.width());
        let mut vector = rows.next().unwrap_or_default().to_vec();
        #[allow(clippy::cast_precision_loss)] // Lengths are small.
        let share = match self.settings.pooling {
            Pooling::First => 1.0,
            Pooling::Max => {
                rows.for_each(|row| {
                    vector.iter_mut().zip(row).for_each(|(most, x)| *most = most.max(*x));
                });
                1.0
            }
            Pooling::Mean | Pooling::MeanSqrt => {
                rows.for_each(|row| vector.iter_mut().zip(row).for_each(|(sum, x)| *sum += x));
                let length = length as f32;
                1.0 / if self.settings.pooling == Pooling::Mean { length } else { length.sqrt() }
            }
        };
        for x in &mut vector {
            *x *= share;
        }
        if self.settings.normalize {
            normalize(&mut vector);
        }
        vector
    }
}

/// Scales a vector to length 1; a vector of zeros is left as it is.
pub fn normalize(vector: &mut [f32]) {
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    if length > 0.0 {
        for x in vector {
            *x /= length;
        }
    }
}
