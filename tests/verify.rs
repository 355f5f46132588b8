//! Verification of leaf tables and leaves.

use std::sync::Arc;

use edge_net_core::dag::cid::RAW;
use edge_net_core::dag::hasher::{FileDigests, FileHasher};
use edge_net_core::dag::layout::{LEAF_SIZE, Layout};
use edge_net_core::dag::verify::{Hashed, LeafTable, LeafTableError, Verdict};
use proptest::prelude::*;

const LEAF: usize = 262_144;

fn artifact(size: usize) -> Vec<u8> {
    (0u32..).map(|i| (i.wrapping_mul(2_654_435_761) >> 23).to_le_bytes()[0]).take(size).collect()
}

fn digests_of(bytes: &[u8]) -> FileDigests {
    let mut hasher = FileHasher::default();
    hasher.update(bytes);
    hasher.finish()
}

fn table_of(bytes: &[u8]) -> LeafTable {
    let found = digests_of(bytes);
    LeafTable::from_digests(found.leaves, found.size, &found.cid).unwrap()
}

fn verify(table: &LeafTable, leaves: std::ops::Range<u64>, bytes: &[u8]) -> Verdict<Arc<[u8]>> {
    table.verify_leaves(leaves, &Hashed::here(bytes.into()))
}

/// Checks that the good runs have the artifact's bytes at their place, do not touch, and omit
/// exactly the bad leaves.
fn assert_runs(verdict: &Verdict<Arc<[u8]>>, leaves: std::ops::Range<u64>, artifact: &[u8]) {
    let mut seen: Vec<u64> = verdict.bad.clone();
    for run in &verdict.good {
        let at = usize::try_from(run.offset()).unwrap();
        assert_eq!(run.offset(), run.leaves().start * LEAF_SIZE);
        assert_eq!(**run.bytes(), artifact[at..(at + run.bytes().len())]);
        let end = Layout::new(artifact.len() as u64).bytes_of_leaves(run.leaves()).end;
        assert_eq!(run.offset() + run.bytes().len() as u64, end);
        seen.extend(run.leaves().clone());
    }
    seen.sort_unstable();
    assert_eq!(seen, leaves.collect::<Vec<_>>());
    assert!(
        verdict.good.windows(2).all(|runs| runs[0].leaves().end < runs[1].leaves().start),
        "runs are as long as can be"
    );
}

#[test]
fn good_leaves_pass_uncut() {
    for size in [0, 1, LEAF - 1, LEAF, LEAF + 1, 5 * LEAF + 77] {
        let bytes = artifact(size);
        let table = table_of(&bytes);
        let leaves = 0..table.layout().leaves();
        let verdict = verify(&table, leaves.clone(), &bytes);
        assert_eq!((verdict.good.len(), verdict.bad.len()), (1, 0), "{size} bytes");
        assert_runs(&verdict, leaves, &bytes);
    }
}

#[test]
fn bytes_of_another_length_are_all_bad() {
    let bytes = artifact(3 * LEAF + 10);
    let table = table_of(&bytes);
    for length in [0, 1, LEAF, 3 * LEAF, 3 * LEAF + 9] {
        assert_eq!(verify(&table, 0..4, &bytes[..length]).bad, [0, 1, 2, 3], "{length} bytes");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert_eq!(verify(&table, 0..4, &longer).bad, [0, 1, 2, 3]);
    assert_eq!(verify(&table, 1..2, &bytes[LEAF - 1..2 * LEAF]).bad, [1]);
    assert_eq!(verify(&table, 3..5, &bytes[3 * LEAF..]).bad, [3, 4], "there is no leaf 4");
    assert!(verify(&table, 2..2, &[]).good.is_empty());
}

#[test]
fn more_or_fewer_digests_than_leaves_are_all_bad() {
    let bytes = artifact(2 * LEAF);
    let (table, digests) = (table_of(&bytes), digests_of(&bytes).leaves);
    for digests in [vec![], digests[..1].to_vec(), [&digests[..], &digests[..1]].concat()] {
        let verdict =
            table.verify_leaves(0..2, &Hashed::by_host(Arc::<[u8]>::from(&bytes[..]), digests));
        assert_eq!((verdict.good.len(), verdict.bad), (0, vec![0, 1]));
    }
}

#[test]
fn leaf_tables_of_another_length_or_root_are_refused() {
    let bytes = artifact(3 * LEAF + 10);
    let found = digests_of(&bytes);
    let table = table_of(&bytes).to_bytes();
    assert_eq!(table.len(), 4 * 32);
    assert_eq!(LeafTable::verify(&table, found.size, &found.cid).unwrap().to_bytes(), table);

    for length in [0, 31, 32, 96, 127, 129, 160] {
        let mut wrong = table.clone();
        wrong.resize(length, 7);
        let error = LeafTable::verify(&wrong, found.size, &found.cid).unwrap_err();
        let want = LeafTableError::WrongLength { got: length as u64, want: 128, size: found.size };
        assert_eq!(error, want);
        assert!(error.to_string().contains(&format!("{length} bytes")), "{error}");
    }
    let too_few =
        LeafTable::from_digests(found.leaves[..3].to_vec(), found.size, &found.cid).unwrap_err();
    assert_eq!(too_few, LeafTableError::WrongLength { got: 96, want: 128, size: found.size });

    let refused = |table: &[u8], size: u64, cid: &cid::Cid| {
        let error = LeafTable::verify(table, size, cid).unwrap_err();
        assert!(matches!(error, LeafTableError::WrongRoot { .. }), "{error}");
        assert!(error.to_string().contains(&cid.to_string()), "{error}");
    };
    for at in 0..table.len() {
        let mut wrong = table.clone();
        wrong[at] ^= 0x10;
        refused(&wrong, found.size, &found.cid);
    }
    let mut swapped = found.leaves.clone();
    swapped.swap(0, 2);
    refused(
        &swapped.iter().flat_map(|digest| digest.0).collect::<Vec<_>>(),
        found.size,
        &found.cid,
    );
    // Another size with as many leaves: the root covers sizes too.
    refused(&table, found.size - 1, &found.cid);
    refused(&table, found.size, &digests_of(b"another").cid);
}

#[test]
fn the_table_of_a_single_leaf_is_in_its_cid() {
    for size in [0, 1, LEAF] {
        let bytes = artifact(size);
        let found = digests_of(&bytes);
        let table = LeafTable::of_single_leaf(found.size, &found.cid).unwrap();
        assert!(verify(&table, 0..1, &bytes).bad.is_empty());
    }
    let found = digests_of(&artifact(LEAF + 1));
    assert!(LeafTable::of_single_leaf(found.size, &found.cid).is_none(), "two leaves");
    assert!(LeafTable::of_single_leaf(5, &found.cid).is_none(), "an inner node");
    let md5 = cid::Cid::new_v1(RAW, cid::multihash::Multihash::wrap(0xd5, &[0; 16]).unwrap());
    assert!(LeafTable::of_single_leaf(5, &md5).is_none(), "another hash");
}

#[test]
fn intersections_are_cut_to_the_byte() {
    let bytes = artifact(2 * LEAF + 100);
    let verdict = verify(&table_of(&bytes), 1..3, &bytes[LEAF..]);
    let run = &verdict.good[0];
    let (leaf, end) = (LEAF as u64, bytes.len() as u64);
    for (start, stop) in [
        (0, u64::MAX),
        (leaf, end),
        (leaf + 1, end),
        (0, leaf + 1),
        (end - 1, end),
        (leaf + 5, leaf + 6),
    ] {
        let got = run.intersect(&(start..stop)).unwrap();
        let (from, to) =
            (usize::try_from(start.max(leaf)).unwrap(), usize::try_from(stop.min(end)).unwrap());
        assert_eq!(*got, bytes[from..to], "{start}..{stop}");
    }
    for (start, stop) in [(0, 0), (0, leaf), (end, u64::MAX), (leaf + 5, leaf + 5)] {
        assert!(run.intersect(&(start..stop)).is_none(), "{start}..{stop}");
    }
}

/// Ways to spoil bytes.
#[derive(Debug, Clone)]
enum Harm {
    Flip(prop::sample::Index, u8),
    Swap(prop::sample::Index, prop::sample::Index),
}

fn harm() -> impl Strategy<Value = Harm> {
    prop_oneof![
        (any::<prop::sample::Index>(), 1u8..).prop_map(|(at, mask)| Harm::Flip(at, mask)),
        (any::<prop::sample::Index>(), any::<prop::sample::Index>())
            .prop_map(|(a, b)| Harm::Swap(a, b)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 96,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn just_the_spoilt_leaves_are_bad(
        size in 1usize..8 * LEAF,
        window in any::<(prop::sample::Index, prop::sample::Index)>(),
        harms in prop::collection::vec(harm(), 0..5),
    ) {
        let bytes = artifact(size);
        let table = table_of(&bytes);
        let count = usize::try_from(table.layout().leaves()).unwrap();
        let first = window.0.index(count);
        let leaves = first as u64..(first + 1 + window.1.index(count - first)) as u64;
        let at = table.layout().bytes_of_leaves(&leaves);
        let honest = &bytes[usize::try_from(at.start).unwrap()..usize::try_from(at.end).unwrap()];

        let mut sent = honest.to_vec();
        for harm in harms {
            match harm {
                Harm::Flip(at, mask) => {
                    let at = at.index(sent.len());
                    sent[at] ^= mask;
                }
                Harm::Swap(a, b) => {
                    let whole = sent.len() / LEAF;
                    if whole > 0 {
                        let (a, b) = (a.index(whole) * LEAF, b.index(whole) * LEAF);
                        for i in 0..LEAF {
                            sent.swap(a + i, b + i);
                        }
                    }
                }
            }
        }
        let verdict = verify(&table, leaves.clone(), &sent);
        let differ = honest.chunks(LEAF).zip(sent.chunks(LEAF)).zip(leaves.clone());
        let spoilt: Vec<u64> = differ.filter(|((a, b), _)| a != b).map(|(_, leaf)| leaf).collect();
        prop_assert_eq!(&verdict.bad, &spoilt);
        assert_runs(&verdict, leaves, &bytes);
    }

    #[test]
    fn layouts_cut_without_gaps(
        size in prop_oneof![0u64..100_000_000, any::<u64>().prop_map(|n| n >> 11)],
        at: prop::sample::Index,
    ) {
        let layout = Layout::new(size);
        let segment = at.index(usize::try_from(layout.segments()).unwrap()) as u64;
        let bytes = layout.bytes_of_segment(segment);
        prop_assert_eq!(bytes.start, segment * 16 * LEAF_SIZE);
        prop_assert_eq!(
            bytes.end,
            if segment + 1 == layout.segments() { size } else { (segment + 1) * 16 * LEAF_SIZE }
        );
        prop_assert_eq!(layout.bytes_of_leaves(&layout.leaves_of_segment(segment)), bytes.clone());
        prop_assert_eq!(layout.leaves_of_segment(layout.segments() - 1).end, layout.leaves());
        if size > 0 {
            prop_assert_eq!(layout.segments_of_bytes(&bytes), segment..segment + 1);
            prop_assert_eq!(
                layout.segments_of_bytes(&(bytes.start..bytes.start + 1)),
                segment..segment + 1
            );
            prop_assert_eq!(
                layout.segments_of_bytes(&(bytes.start..size)),
                segment..layout.segments()
            );
        }
        prop_assert!(layout.segments_of_bytes(&(bytes.start..bytes.start)).is_empty());
    }
}
