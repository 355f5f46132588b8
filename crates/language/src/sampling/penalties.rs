use std::collections::BTreeMap;

use super::error::SamplingError;
use super::options::SamplingOptions;

/// Tokens of a text, with their number in the generated part.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen(BTreeMap<u32, u32>);

impl Seen {
    pub(super) fn prompt(&mut self, token: u32) {
        self.0.entry(token).or_default();
    }

    pub(super) fn generated(&mut self, token: u32) {
        let count = self.0.entry(token).or_default();
        *count = count.saturating_add(1);
    }
}

/// A bias of this value bans the token.
const BAN: f32 = -100.0;

#[allow(clippy::float_cmp)] // The neutral values are exact.
pub(super) fn apply(
    options: &SamplingOptions,
    seen: &Seen,
    logits: &mut [f32],
) -> Result<(), SamplingError> {
    let penalizes = options.repetition_penalty != 1.0
        || options.frequency_penalty != 0.0
        || options.presence_penalty != 0.0;
    if penalizes {
        for (&token, &count) in &seen.0 {
            let logit = at(logits, token)?;
            *logit = penalized(options, *logit, count);
        }
    }
    for (&token, &bias) in &options.logit_bias {
        let logit = at(logits, token)?;
        *logit = if bias <= BAN { f32::NEG_INFINITY } else { *logit + bias };
    }
    Ok(())
}

/// `RepetitionPenaltyLogitsProcessor` of transformers, then OpenAI's formula: `count` times the
/// frequency penalty, and the presence penalty if `count` is not 0.
#[allow(clippy::cast_precision_loss, reason = "texts have fewer than 2^24 tokens")]
fn penalized(options: &SamplingOptions, logit: f32, count: u32) -> f32 {
    let penalty = options.repetition_penalty;
    let logit = if logit > 0.0 { logit / penalty } else { logit * penalty };
    let presence = if count > 0 { options.presence_penalty } else { 0.0 };
    // A huge logit divided by a tiny penalty overflows.
    (logit - options.frequency_penalty * count as f32 - presence).min(f32::MAX)
}

fn at(logits: &mut [f32], token: u32) -> Result<&mut f32, SamplingError> {
    let size = logits.len();
    logits.get_mut(token as usize).ok_or(SamplingError::UnknownToken { token, size })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::float_cmp)] // All values are exact.
    fn penalties_follow_their_formulas() {
        let mut seen = Seen::default();
        seen.prompt(0);
        seen.prompt(1);
        seen.generated(2);
        seen.generated(2);
        let options = SamplingOptions {
            repetition_penalty: 2.0,
            frequency_penalty: 0.5,
            presence_penalty: 0.25,
            logit_bias: [(3, 7.0), (4, -100.0)].into(),
            ..SamplingOptions::default()
        };
        let mut logits = [3.0, -3.0, 4.0, 1.0, 1.0, 1.0];
        apply(&options, &seen, &mut logits).expect("known tokens");
        assert_eq!(logits, [1.5, -6.0, 2.0 - 1.0 - 0.25, 8.0, f32::NEG_INFINITY, 1.0]);
    }

    #[test]
    fn tokens_outside_of_the_vocabulary_are_an_error() {
        let options =
            SamplingOptions { logit_bias: [(9, 1.0)].into(), ..SamplingOptions::default() };
        let error = apply(&options, &Seen::default(), &mut [0.0; 4]);
        assert_eq!(error, Err(SamplingError::UnknownToken { token: 9, size: 4 }));
    }
}
