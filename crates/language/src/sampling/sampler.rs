use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::SeedableRng;

use super::error::SamplingError;
use super::options::SamplingOptions;
use super::penalties::Seen;
use super::{choose, penalties};

/// Chooses tokens, one after another.
#[derive(Clone, Debug)]
pub struct Sampler {
    options: SamplingOptions,
    random: Pcg64Mcg,
    seen: Seen,
    candidates: Vec<(f32, u32)>,
}

impl Sampler {
    /// # Errors
    /// [`SamplingError::OutOfRange`].
    pub fn new(options: SamplingOptions) -> Result<Self, SamplingError> {
        options.check()?;
        let random = Pcg64Mcg::seed_from_u64(options.seed);
        Ok(Self { options, random, seen: Seen::default(), candidates: Vec::new() })
    }

    /// Tells the prompt, which the repetition penalty counts.
    pub fn prompt(&mut self, tokens: &[u32]) {
        for token in tokens {
            self.seen.prompt(*token);
        }
    }

    /// Tells a token that was generated. [`Self::sample`] does not do so itself, so that a token
    /// may be rejected.
    pub fn accept(&mut self, token: u32) {
        self.seen.generated(token);
    }

    /// Changes the logits by penalties and bias and chooses a token.
    ///
    /// Negative infinity bans a token: grammars set it. The work grows with the number of logits,
    /// not with the sorting of them, unless most of them are nearly as likely as the best.
    ///
    /// # Errors
    /// [`SamplingError::NotFinite`], [`SamplingError::NothingPossible`],
    /// [`SamplingError::UnknownToken`].
    pub fn sample(&mut self, logits: &mut [f32]) -> Result<u32, SamplingError> {
        check(logits)?;
        penalties::apply(&self.options, &self.seen, logits)?;
        if self.options.temperature == 0.0 {
            return choose::most_likely(logits);
        }
        choose::filter(&self.options, logits, &mut self.candidates)?;
        Ok(choose::random(&self.candidates, &mut self.random))
    }
}

/// Refuses logits that are no numbers.
fn check(logits: &[f32]) -> Result<(), SamplingError> {
    let wrong = |value: &f32| value.is_nan() || *value == f32::INFINITY;
    match logits.iter().position(wrong) {
        Some(token) => Err(SamplingError::NotFinite { token, value: logits[token] }),
        None => Ok(()),
    }
}
