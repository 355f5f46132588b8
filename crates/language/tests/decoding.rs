//! Decoding in steps, and the cache.

mod random;

use edge_net_language::names::{Id, Part};
use edge_net_language::{
    Cache, CacheError, DecodeError, Decoder, Hook, Logits, Precision, Storage,
};
use edge_net_tensor::Activations;
use random::{FAMILIES, tokens};

const ALL: usize = usize::MAX;

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Logits of all positions in one pass.
fn at_once(decoder: &mut Decoder, tokens: &[u32]) -> Vec<f32> {
    let mut cache = decoder.cache(ALL);
    decoder.forward(tokens, &mut cache, Logits::All).unwrap().to_vec()
}

#[test]
fn steps_of_any_size_give_the_same_bits() {
    for family in FAMILIES {
        for precision in [Precision::Exact, Precision::Fast] {
            let mut decoder = family.decoder(precision);
            let expected = at_once(&mut decoder, &tokens());
            for step in [1, 3, Decoder::PIECE, 33] {
                let mut cache = decoder.cache(ALL);
                let mut logits = Vec::new();
                for piece in tokens().chunks(step) {
                    logits.extend(decoder.forward(piece, &mut cache, Logits::All).unwrap());
                }
                assert!(bits(&logits) == bits(&expected), "{} by {step}", family.name);
                assert_eq!(cache.tokens(), tokens());
            }
        }
    }
}

#[test]
fn only_the_logits_that_are_asked_for_are_computed() {
    let mut decoder = FAMILIES[0].decoder(Precision::Exact);
    let expected = at_once(&mut decoder, &tokens());
    let mut cache = decoder.cache(ALL);
    let (first, last) = (&tokens()[..40], &tokens()[40..]);
    assert_eq!(decoder.forward(first, &mut cache, Logits::None), Ok(&[][..]));
    let logits = decoder.forward(last, &mut cache, Logits::Last).unwrap();
    assert_eq!(bits(logits), bits(&expected[69 * 48..]));
}

#[test]
fn a_truncated_cache_is_as_if_the_rest_had_not_been() {
    for family in FAMILIES {
        let mut decoder = family.decoder(Precision::Fast);
        let other: Vec<u32> = tokens().into_iter().rev().collect();
        let mut cache = decoder.cache(ALL);
        decoder.forward(&tokens(), &mut cache, Logits::None).unwrap();
        cache.truncate(13);
        assert_eq!(cache.tokens(), &tokens()[..13]);
        let logits = decoder.forward(&other, &mut cache, Logits::Last).unwrap().to_vec();
        let whole = [&tokens()[..13], &other].concat();
        let expected = at_once(&mut decoder, &whole);
        assert_eq!(bits(&logits), bits(&expected[expected.len() - 48..]), "{}", family.name);
    }
}

#[test]
fn a_common_beginning_is_used_again() {
    let mut decoder = FAMILIES[5].decoder(Precision::Fast);
    let mut cache = decoder.cache(ALL);
    decoder.forward(&tokens(), &mut cache, Logits::None).unwrap();
    let mut next = tokens()[..50].to_vec();
    next.extend([1, 2, 3]);
    assert_eq!(cache.longest_common_prefix(&next), 50);
    let computed = cache.reuse(&next);
    assert_eq!(computed, 50);
    let logits = decoder.forward(&next[computed..], &mut cache, Logits::Last).unwrap().to_vec();
    let expected = at_once(&mut decoder, &next);
    assert_eq!(bits(&logits), bits(&expected[52 * 48..]));
    // Of the same tokens again the last one is computed, for its logits.
    assert_eq!(cache.reuse(&next), 52);
    assert_eq!(cache.reuse(&[40]), 0);
    assert!(cache.is_empty());
    assert_eq!(cache.reuse(&[]), 0);
}

#[test]
fn memory_grows_with_tokens_and_is_given_back() {
    let config = FAMILIES[0].config();
    let page = 3 * 2 * 2 * 8 * 64;
    for (storage, size) in [(Storage::F16, 2), (Storage::F32, 4)] {
        let mut decoder = FAMILIES[0].decoder(Precision::Fast);
        let mut cache = Cache::new(&config, storage, ALL);
        assert_eq!(cache.bytes(), 0);
        decoder.forward(&tokens()[..64], &mut cache, Logits::None).unwrap();
        let rest = |cache: &Cache| cache.bytes() % (page * size);
        assert_eq!(cache.bytes() - rest(&cache), page * size);
        decoder.forward(&tokens()[64..], &mut cache, Logits::None).unwrap();
        assert_eq!(cache.bytes() - rest(&cache), 2 * page * size);
        cache.truncate(64);
        cache.shrink();
        assert_eq!(cache.bytes(), page * size + 64 * 4);
        cache.clear();
        cache.shrink();
        assert_eq!(cache.bytes(), 0);
    }
}

#[test]
fn a_full_context_is_an_error_that_changes_nothing() {
    let mut decoder = FAMILIES[0].decoder(Precision::Fast);
    let mut cache = decoder.cache(20);
    decoder.forward(&tokens()[..18], &mut cache, Logits::None).unwrap();
    let error = decoder.forward(&[1, 2, 3], &mut cache, Logits::Last).unwrap_err();
    assert_eq!(error, DecodeError::Cache(CacheError::Full { context: 20, needed: 21 }));
    assert_eq!(cache.tokens(), &tokens()[..18]);
    decoder.forward(&[1, 2], &mut cache, Logits::Last).unwrap();
    // The decoder has a limit of its own.
    assert_eq!(decoder.cache(ALL).context(), 128);
    let many = vec![0; 129];
    assert!(
        decoder
            .forward(&many, &mut Cache::new(decoder.config(), Storage::F16, ALL), Logits::None)
            .is_err()
    );
}

#[test]
fn wrong_calls_are_errors() {
    let mut decoder = FAMILIES[0].decoder(Precision::Fast);
    let mut cache = decoder.cache(ALL);
    let error = decoder.forward(&[], &mut cache, Logits::Last).unwrap_err();
    assert_eq!(error, DecodeError::Empty);
    for token in [48, u32::MAX] {
        let error = decoder.forward(&[1, token], &mut cache, Logits::Last).unwrap_err();
        assert_eq!(error, DecodeError::Token { token, vocabulary: 48 });
    }
    let mut other = FAMILIES[3].decoder(Precision::Fast).cache(ALL);
    let error = decoder.forward(&[1], &mut other, Logits::Last).unwrap_err();
    assert_eq!(error, DecodeError::OtherCache);
    assert!(cache.is_empty() && other.is_empty());
}

#[derive(Default)]
struct Seen {
    ids: Vec<Id>,
    rows: usize,
}

impl Hook for Seen {
    fn product(&mut self, id: Id, input: &Activations, output: &mut [f32]) {
        self.ids.push(id);
        self.rows += input.rows();
        if id.part == Part::Head {
            output[7] += 1000.0;
        }
    }
}

#[test]
fn a_hook_sees_each_product_and_may_change_it() {
    for family in FAMILIES {
        let mut decoder = family.decoder(Precision::Exact);
        let mut cache = decoder.cache(ALL);
        let mut seen = Seen::default();
        let logits = decoder.forward_with(&[1, 2, 3], &mut cache, Logits::Last, &mut seen).unwrap();
        let most = logits.iter().position(|logit| logits.iter().all(|other| other <= logit));
        assert_eq!(most, Some(7), "{}", family.name);
        let config = family.config();
        let matrices = |id: Id| !id.bias && id.part != Part::Embedding;
        let needed = config.tensors().into_iter().filter(|needed| needed.dims.len() == 2);
        let mut expected: Vec<Id> =
            needed.map(|needed| needed.id).filter(|id| matrices(*id)).collect();
        if config.tied_head {
            expected.push(Id { layer: None, part: Part::Head, bias: false });
        }
        assert_eq!(seen.ids, expected, "{}", family.name);
        assert_eq!(seen.rows, 3 * (expected.len() - 1) + 1);
    }
}
