//! The forward pass of decoders.

mod activation;
mod attention;
mod error;
mod hook;
mod lanes;
mod norm;
mod pass;
mod rope;

pub use error::DecodeError;
pub use hook::{Hook, NoHook};

use std::sync::Arc;

use crate::cache::{Cache, Storage};
use crate::config::Config;
use crate::weights::{Precision, Weights};
use pass::{Buffers, Pass};

/// Which logits are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Logits {
    /// None: more of the prompt follows.
    None,
    /// Those of the last position.
    Last,
    /// Those of all positions: as many numbers as tokens times the vocabulary.
    All,
}

/// A decoder. Several may share weights; each has buffers of its own, which it keeps.
#[derive(Debug)]
pub struct Decoder {
    weights: Arc<Weights>,
    precision: Precision,
    /// Radians by which pairs turn with each position: of layers that see all positions, and of
    /// others.
    angles: [Vec<f32>; 2],
    buffers: Buffers,
    logits: Vec<f32>,
}

impl Decoder {
    /// Positions that are computed together. Buffers are as large as this asks for, and a caller
    /// that wants to stop between pieces of a prompt passes as many at a time.
    pub const PIECE: usize = 32;

    /// A decoder with these weights.
    #[must_use]
    pub fn new(weights: impl Into<Arc<Weights>>, precision: Precision) -> Self {
        let weights = weights.into();
        let config = weights.config();
        let local = config.local.as_ref().map_or(&config.rope, |local| &local.rope);
        let angles = [&config.rope, local].map(|rope| rope.angles(weights.rope_factors()));
        let buffers = Buffers::default();
        Self { weights, precision, angles, buffers, logits: Vec::new() }
    }

    /// The description.
    #[must_use]
    pub fn config(&self) -> &Config {
        self.weights.config()
    }

    /// The weights.
    #[must_use]
    pub const fn weights(&self) -> &Arc<Weights> {
        &self.weights
    }

    /// An empty cache of at most `context` tokens, as exact as the decoder.
    #[must_use]
    pub fn cache(&self, context: usize) -> Cache {
        let storage = match self.precision {
            Precision::Fast => Storage::F16,
            Precision::Exact => Storage::F32,
        };
        Cache::new(self.config(), storage, context)
    }

    /// Computes the tokens that follow those of the cache, and adds them to it. Returns the logits:
    /// `vocabulary` numbers for each position that is asked for.
    ///
    /// # Errors
    /// [`DecodeError`]; the cache then has the tokens that it had before.
    pub fn forward(
        &mut self,
        tokens: &[u32],
        cache: &mut Cache,
        logits: Logits,
    ) -> Result<&[f32], DecodeError> {
        self.forward_with(tokens, cache, logits, &mut NoHook)
    }

    /// [`Decoder::forward`] with something that looks on.
    ///
    /// # Errors
    /// Those of [`Decoder::forward`].
    pub fn forward_with(
        &mut self,
        tokens: &[u32],
        cache: &mut Cache,
        logits: Logits,
        hook: &mut dyn Hook,
    ) -> Result<&[f32], DecodeError> {
        self.check(tokens, cache)?;
        let start = cache.len();
        cache.extend(tokens)?;
        if let Err(error) = self.pieces(tokens, start, cache, logits, hook) {
            cache.truncate(start);
            return Err(error);
        }
        Ok(&self.logits)
    }

    fn check(&self, tokens: &[u32], cache: &Cache) -> Result<(), DecodeError> {
        let vocabulary = self.config().vocabulary;
        if tokens.is_empty() {
            return Err(DecodeError::Empty);
        }
        if !cache.fits(self.config()) {
            return Err(DecodeError::OtherCache);
        }
        let known = |token: &u32| usize::try_from(*token).is_ok_and(|token| token < vocabulary);
        match tokens.iter().find(|token| !known(token)) {
            Some(&token) => Err(DecodeError::Token { token, vocabulary }),
            None => Ok(()),
        }
    }

    fn pieces(
        &mut self,
        tokens: &[u32],
        start: usize,
        cache: &mut Cache,
        logits: Logits,
        hook: &mut dyn Hook,
    ) -> Result<(), DecodeError> {
        self.logits.clear();
        for (index, piece) in tokens.chunks(Self::PIECE).enumerate() {
            let first = index * Self::PIECE;
            let asked = match logits {
                Logits::All => piece.len(),
                Logits::Last if first + piece.len() == tokens.len() => 1,
                Logits::Last | Logits::None => 0,
            };
            let mut pass = Pass {
                config: self.weights.config(),
                weights: &self.weights,
                precision: self.precision,
                start: start + first,
                buffers: &mut self.buffers,
                cache,
                hook,
            };
            pass.layers(piece, &self.angles)?;
            pass.logits(asked, &mut self.logits)?;
        }
        Ok(())
    }
}
