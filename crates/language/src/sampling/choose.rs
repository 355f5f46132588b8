use std::cmp::Ordering;

use rand_pcg::rand_core::Rng;

use super::error::SamplingError;
use super::options::SamplingOptions;

/// A logit, later a probability, and its token.
type Candidate = (f32, u32);

/// The likelier first; at equal logits the lower id.
#[allow(clippy::trivially_copy_pass_by_ref)] // What the sorting functions take.
fn by_likelihood(left: &Candidate, right: &Candidate) -> Ordering {
    right.0.total_cmp(&left.0).then(left.1.cmp(&right.1))
}

/// The most likely token; at equal logits the one of the lowest id.
pub(super) fn most_likely(logits: &[f32]) -> Result<u32, SamplingError> {
    let best = (0u32..).zip(logits).fold(None, |best: Option<Candidate>, (token, &logit)| {
        let is_better = logit > best.map_or(f32::NEG_INFINITY, |best| best.0);
        if is_better { Some((logit, token)) } else { best }
    });
    best.map(|best| best.1).ok_or(SamplingError::NothingPossible(logits.len()))
}

/// Leaves in `candidates` those that may be chosen, with their probabilities, which need not sum
/// up to 1.
pub(super) fn filter(
    options: &SamplingOptions,
    logits: &[f32],
    candidates: &mut Vec<Candidate>,
) -> Result<(), SamplingError> {
    let best = logits[most_likely(logits)? as usize];
    candidates.clear();
    let weighed = (0u32..).zip(logits).filter_map(|(token, &logit)| {
        // Divided after the subtraction: a tiny temperature cannot overflow.
        let weight = ((logit - best) / options.temperature).exp();
        (weight > 0.0).then_some((weight, token))
    });
    candidates.extend(weighed);
    let top_k = options.top_k;
    if top_k > 0 && top_k < candidates.len() {
        candidates.select_nth_unstable_by(top_k - 1, by_likelihood);
        candidates.truncate(top_k);
    }
    if options.top_p < 1.0 {
        keep_nucleus(candidates, f64::from(options.top_p));
    }
    // The best has the weight 1.
    candidates.retain(|candidate| candidate.0 >= options.min_p);
    // In the order of ids, so that the choice does not depend on how the selection went.
    candidates.sort_unstable_by_key(|candidate| candidate.1);
    Ok(())
}

/// How many candidates are sorted at first.
const FIRST: usize = 64;

/// The fewest likeliest candidates that have the share `top_p` of all weight. Sorts only as many as
/// are needed, four times more at each step.
fn keep_nucleus(candidates: &mut Vec<Candidate>, top_p: f64) {
    let wanted = candidates.iter().map(|candidate| f64::from(candidate.0)).sum::<f64>() * top_p;
    let mut sorted = 0;
    let mut reached = 0.0;
    let mut step = FIRST;
    while sorted < candidates.len() {
        let rest = &mut candidates[sorted..];
        let part = step.min(rest.len());
        if part < rest.len() {
            rest.select_nth_unstable_by(part - 1, by_likelihood);
        }
        rest[..part].sort_unstable_by(by_likelihood);
        for index in sorted..sorted + part {
            reached += f64::from(candidates[index].0);
            if reached >= wanted {
                candidates.truncate(index + 1);
                return;
            }
        }
        sorted += part;
        step *= 4;
    }
}

/// A candidate, by its weight.
pub(super) fn random(candidates: &[Candidate], random: &mut impl Rng) -> u32 {
    let whole: f64 = candidates.iter().map(|candidate| f64::from(candidate.0)).sum();
    // 53 bits: a number from 0 to below 1.
    #[allow(clippy::cast_precision_loss, reason = "53 bits fit")]
    let share = (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
    let mut left = share * whole;
    for &(weight, token) in candidates {
        left -= f64::from(weight);
        if left < 0.0 {
            return token;
        }
    }
    candidates.last().map_or(0, |last| last.1)
}
