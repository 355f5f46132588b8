//! Texts to vectors.

use std::collections::BTreeMap;

use crate::model::{Model, RunError};
use crate::settings::{Pooling, Settings};
use crate::tokenizer::{Tokenizer, TokenizerError};

/// Tokens that are run at once, at the most, where a single text does not have more: what they need besides the weights stays small.
const AT_ONCE: usize = 512;

/// Why an input cannot be embedded.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// It has no tokens.
    #[error("the input has no tokens")]
    Empty,
    /// It is too long.
    #[error("the input has {tokens} tokens; this model takes {most} at the most")]
    TooLong {
        /// How many it has.
        tokens: usize,
        /// How many there may be.
        most: usize,
    },
    /// It names a token that there is not.
    #[error("the input has a token {token}; this model has {size}, from 0")]
    NoSuchToken {
        /// The token.
        token: u32,
        /// How many there are.
        size: usize,
    },
    /// It cannot be cut into tokens.
    #[error(transparent)]
    Untokenized(#[from] TokenizerError),
}

/// A model, its tokenizer, and how its vectors are made.
pub struct Embedder {
    model: Model,
    tokenizer: Tokenizer,
    settings: Settings,
}

impl Embedder {
    /// Puts together what belongs together.
    #[must_use]
    pub const fn new(model: Model, tokenizer: Tokenizer, settings: Settings) -> Self {
        Self { model, tokenizer, settings }
    }

    /// Numbers in a vector.
    #[must_use]
    pub const fn dimensions(&self) -> usize {
        self.model.width()
    }

    /// Tokens of an input at the most.
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
        self.check(&tokens)?;
        Ok(tokens)
    }

    /// Whether these tokens can be embedded.
    ///
    /// # Errors
    /// [`InputError`].
    pub fn check(&self, tokens: &[u32]) -> Result<(), InputError> {
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

    /// The vectors of inputs that were [checked](Self::check). Inputs of one length are run together, and none is filled up: a vector
    /// does not depend on what else was asked for.
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
            for places in places.chunks((AT_ONCE / length).max(1)) {
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

/// Makes a vector of length 1; one of zeros stays.
pub fn normalize(vector: &mut [f32]) {
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    if length > 0.0 {
        for x in vector {
            *x /= length;
        }
    }
}
