//! Distributions of sampled tokens against probabilities computed plainly.

use std::collections::BTreeMap;

use edge_net_language::sampling::{Sampler, SamplingError, SamplingOptions};
use proptest::prelude::*;

/// The probabilities by the definitions, with everything sorted.
fn plainly(options: &SamplingOptions, logits: &[f32]) -> BTreeMap<u32, f64> {
    let softmax = |rows: &[(u32, f64)]| -> Vec<(u32, f64)> {
        let best = rows.iter().map(|row| row.1).fold(f64::NEG_INFINITY, f64::max);
        let whole: f64 = rows.iter().map(|row| (row.1 - best).exp()).sum();
        rows.iter().map(|row| (row.0, (row.1 - best).exp() / whole)).collect()
    };
    let temperature = f64::from(options.temperature);
    let mut rows: Vec<(u32, f64)> =
        (0..).zip(logits).map(|(token, logit)| (token, f64::from(*logit) / temperature)).collect();
    rows.sort_by(|left, right| right.1.total_cmp(&left.1).then(left.0.cmp(&right.0)));
    if options.top_k > 0 {
        rows.truncate(options.top_k);
    }
    let mut reached = 0.0;
    let probabilities = softmax(&rows);
    let keep = probabilities.iter().position(|row| {
        reached += row.1;
        reached >= f64::from(options.top_p)
    });
    rows.truncate(keep.map_or(rows.len(), |keep| keep + 1));
    let probabilities = softmax(&rows);
    let limit = probabilities[0].1 * f64::from(options.min_p);
    rows.truncate(probabilities.iter().take_while(|row| row.1 >= limit).count());
    softmax(&rows).into_iter().collect()
}

/// Logits without structure; all differ.
fn logits(count: usize, spread: f32) -> Vec<f32> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f32::from(u16::try_from(state >> 16).expect("16 bits")) / 65536.0
    };
    (0..count).map(|_| (next() + next() + next() - 1.5) * spread).collect()
}

/// Pearson's statistic, divided by its degrees of freedom. Rare tokens are one class.
fn chi_square(options: SamplingOptions, logits: &[f32], draws: u32) -> f64 {
    let expected = plainly(&options, logits);
    let mut sampler = Sampler::new(options).expect("valid");
    let mut counts: BTreeMap<u32, f64> = BTreeMap::new();
    for _ in 0..draws {
        let token = sampler.sample(&mut logits.to_vec()).expect("a token");
        assert!(expected.contains_key(&token), "token {token} has no probability");
        *counts.entry(token).or_default() += 1.0;
    }
    let mut classes: Vec<(f64, f64)> = Vec::new();
    let mut rare = (0.0, 0.0);
    for (token, probability) in expected {
        let class = (probability * f64::from(draws), counts.remove(&token).unwrap_or(0.0));
        if class.0 < 10.0 {
            rare = (rare.0 + class.0, rare.1 + class.1);
        } else {
            classes.push(class);
        }
    }
    if rare.0 >= 10.0 {
        classes.push(rare);
    }
    assert!(classes.len() > 1, "nothing to compare");
    let sum: f64 = classes.iter().map(|(mean, seen)| (seen - mean).powi(2) / mean).sum();
    let freedom = u32::try_from(classes.len() - 1).expect("few classes");
    sum / f64::from(freedom)
}

#[test]
fn distributions_are_those_of_the_definitions() {
    let base = SamplingOptions { temperature: 1.0, seed: 7, ..SamplingOptions::default() };
    let cases = [
        SamplingOptions { ..base.clone() },
        SamplingOptions { temperature: 0.5, ..base.clone() },
        SamplingOptions { temperature: 2.0, ..base.clone() },
        SamplingOptions { top_k: 10, ..base.clone() },
        SamplingOptions { top_p: 0.8, ..base.clone() },
        SamplingOptions { min_p: 0.2, ..base.clone() },
        SamplingOptions { temperature: 0.8, top_k: 40, top_p: 0.9, min_p: 0.05, ..base },
    ];
    for options in cases {
        // 20,000 draws: a mean off by 5 % in classes of 400 gives 2. Below 1.6 is 99.9 % of chance
        // at 40 degrees of freedom; at 10, it is 2.96.
        let statistic = chi_square(options.clone(), &logits(60, 3.0), 20_000);
        assert!(statistic < 2.5, "{options:?}: {statistic}");
    }
}

#[test]
fn the_comparison_notices_a_wrong_temperature() {
    let options = SamplingOptions { temperature: 1.0, seed: 7, ..SamplingOptions::default() };
    let scaled: Vec<f32> = logits(60, 3.0).iter().map(|logit| logit * 1.1).collect();
    let expected = plainly(&options, &logits(60, 3.0));
    let mut sampler = Sampler::new(options).expect("valid");
    let mut counts = vec![0.0; 60];
    for _ in 0..20_000 {
        counts[sampler.sample(&mut scaled.clone()).expect("a token") as usize] += 1.0;
    }
    let statistic: f64 = expected
        .iter()
        .map(|(token, share)| (counts[*token as usize] - share * 2e4).powi(2) / (share * 2e4))
        .sum();
    assert!(statistic / 59.0 > 2.5, "{statistic}");
}

proptest! {
    #[test]
    fn what_may_be_chosen_is_what_the_definitions_leave(
        top_k in 0usize..300,
        top_p in 0.01f32..=1.0,
        min_p in 0.0f32..0.5,
        temperature in 0.1f32..2.0,
        seed in any::<u64>(),
        spread in 0.5f32..8.0,
    ) {
        let logits = logits(500, spread);
        let options = SamplingOptions {
            temperature, top_k, top_p, min_p, seed, ..SamplingOptions::default()
        };
        let expected = plainly(&options, &logits);
        let mut sampler = Sampler::new(options).expect("valid");
        for _ in 0..20 {
            let token = sampler.sample(&mut logits.clone()).expect("a token");
            prop_assert!(expected.contains_key(&token));
        }
    }
}

#[test]
fn seeds_repeat_the_tokens() {
    let draw = |seed| -> Vec<u32> {
        let options = SamplingOptions { temperature: 1.0, seed, ..SamplingOptions::default() };
        let mut sampler = Sampler::new(options).expect("valid");
        (0..8).map(|_| sampler.sample(&mut logits(60, 3.0)).expect("a token")).collect()
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
}

#[test]
fn greedy_takes_the_first_of_the_best() {
    let mut sampler = Sampler::new(SamplingOptions::default()).expect("valid");
    assert_eq!(sampler.sample(&mut [1.0, 3.0, f32::NEG_INFINITY, 3.0]), Ok(1));
}

#[test]
fn penalties_change_the_choice() {
    let options = SamplingOptions { repetition_penalty: 2.0, ..SamplingOptions::default() };
    let mut sampler = Sampler::new(options).expect("valid");
    sampler.prompt(&[1]);
    assert_eq!(sampler.sample(&mut [2.0, 3.0]), Ok(0));
    let options = SamplingOptions { frequency_penalty: 0.6, ..SamplingOptions::default() };
    let mut sampler = Sampler::new(options).expect("valid");
    sampler.prompt(&[1, 1, 1]);
    assert_eq!(sampler.sample(&mut [2.0, 3.0]), Ok(1));
    sampler.accept(1);
    sampler.accept(1);
    assert_eq!(sampler.sample(&mut [2.0, 3.0]), Ok(0));
}

#[test]
fn logits_that_are_no_numbers_are_an_error() {
    for temperature in [0.0, 1.0] {
        let options = SamplingOptions { temperature, ..SamplingOptions::default() };
        let mut sampler = Sampler::new(options).expect("valid");
        let error = sampler.sample(&mut [0.0, f32::NAN]).expect_err("NaN").to_string();
        assert_eq!(error, "the logit of token 1 is NaN");
        assert!(sampler.sample(&mut [f32::INFINITY]).is_err());
        let banned = sampler.sample(&mut [f32::NEG_INFINITY; 3]);
        assert_eq!(banned, Err(SamplingError::NothingPossible(3)));
        assert_eq!(sampler.sample(&mut []), Err(SamplingError::NothingPossible(0)));
    }
}

#[test]
fn options_out_of_range_are_named() {
    let refused = |options: SamplingOptions| Sampler::new(options).expect_err("bad").to_string();
    let base = SamplingOptions::default();
    let text = refused(SamplingOptions { temperature: 2.5, ..base.clone() });
    assert_eq!(text, "temperature is 2.5; it has to be from 0 to 2");
    let text = refused(SamplingOptions { top_p: 0.0, ..base.clone() });
    assert_eq!(text, "top_p is 0; it has to be above 0 to 1");
    let text = refused(SamplingOptions { min_p: f32::NAN, ..base.clone() });
    assert_eq!(text, "min_p is NaN; it has to be from 0 to 1");
    assert!(refused(SamplingOptions { repetition_penalty: 0.0, ..base.clone() }).contains("10"));
    assert!(refused(SamplingOptions { presence_penalty: 3.0, ..base.clone() }).contains("-2 to 2"));
    let logit_bias = [(1, 101.0)].into();
    assert!(refused(SamplingOptions { logit_bias, ..base }).contains("logit_bias is 101"));
}
