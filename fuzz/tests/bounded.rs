//! The fuzz targets as tests: each one runs on its seeds, and on a fixed number of deterministic
//! mutations of these. It takes a few seconds for all, and needs no nightly compiler.

use std::path::Path;
use std::{fmt, fs};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

/// A change of a seed.
#[derive(Debug, Clone)]
enum Edit {
    Flip(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, u8),
    Repeat(Index, u8),
    Splice(Index, Vec<u8>),
    Truncate(Index),
}

impl Edit {
    fn apply(self, input: &mut Vec<u8>) {
        let range = |at: Index, length: u8| {
            let start = at.index(input.len() + 1);
            start..(start + usize::from(length)).min(input.len())
        };
        match self {
            Self::Flip(at, mask) => {
                let range = range(at, 1);
                input[range].iter_mut().for_each(|byte| *byte ^= mask);
            }
            Self::Insert(at, bytes) => {
                let at = range(at, 0);
                input.splice(at, bytes);
            }
            Self::Remove(at, length) => {
                let range = range(at, length);
                input.drain(range);
            }
            Self::Repeat(at, length) => {
                let range = range(at, length);
                let copy = input[range.clone()].to_vec();
                input.splice(range.end..range.end, copy);
            }
            Self::Splice(at, other) => {
                let start = at.index(input.len() + 1);
                input.truncate(start);
                input.extend(&other[start.min(other.len())..]);
            }
            Self::Truncate(at) => {
                let start = at.index(input.len() + 1);
                input.truncate(start);
            }
        }
    }
}

fn edit(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Edit> {
    // What separates and what ends numbers in the texts that are read here.
    let token = select(&b"\n :;,.=-+*/&?%\"'[]{}0189vW\\\x00\xff"[..]);
    prop_oneof![
        4 => (any::<Index>(), 1..=u8::MAX).prop_map(|(at, mask)| Edit::Flip(at, mask)),
        4 => (any::<Index>(), vec(token, 1..4)).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        2 => (any::<Index>(), vec(any::<u8>(), 1..9))
            .prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        3 => (any::<Index>(), 1..24_u8).prop_map(|(at, length)| Edit::Remove(at, length)),
        2 => (any::<Index>(), 1..64_u8).prop_map(|(at, length)| Edit::Repeat(at, length)),
        1 => (any::<Index>(), select(seeds)).prop_map(|(at, other)| Edit::Splice(at, other)),
        1 => any::<Index>().prop_map(Edit::Truncate),
    ]
}

/// An input, shown as the inside of a byte string literal.
#[derive(Clone)]
struct Input(Vec<u8>);

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

/// A seed after some edits, or any bytes.
fn input(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Input> {
    let edited = (select(seeds.clone()), vec(edit(seeds), 0..6)).prop_map(|(mut seed, edits)| {
        for edit in edits {
            edit.apply(&mut seed);
        }
        seed
    });
    prop_oneof![4 => edited, 1 => vec(any::<u8>(), 0..256)].prop_map(Input)
}

fn run(target: fn(&[u8]), name: &str, cases: u32) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus-seeds").join(name);
    let entries = fs::read_dir(&folder).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let seeds: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    for (seed, path) in seeds.iter().zip(&paths) {
        // A panic below is of this seed.
        println!("{}", path.display());
        target(seed);
    }
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let result = TestRunner::new_with_rng(config, rng).run(&input(seeds), |input| {
        target(&input.0);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

macro_rules! targets {
    ($($name:ident: $cases:literal),* $(,)?) => {$(
        #[test]
        fn $name() {
            run(edge_net_fuzz::$name, stringify!($name), $cases);
        }
    )*};
}

targets! {
    answer: 20_000,
    car: 300,
    filter: 10_000,
    gateway: 20_000,
    gguf: 20_000,
    leaf_table: 1_000,
    link: 5_000,
    manifest: 1_000,
    model_path: 20_000,
    onnx: 20_000,
    openai: 10_000,
    range: 50_000,
    safetensors: 20_000,
    walk: 2_000,
    yaml: 5_000,
}
