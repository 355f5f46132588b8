//! Leaf tables, and the verification of leaves against them.

use std::ops::Range;

use arbitrary::{Arbitrary, Unstructured};
use edge_net_core::dag::digest::Digest;
use edge_net_core::dag::layout::{LEAF_SIZE, Layout};
use edge_net_core::dag::unixfs::root;
use edge_net_core::dag::verify::{Bytes, Hashed, LeafTable, LeafTableError, VerifiedLeaves};

use crate::artifact::Artifact;

/// Input: a case as [`arbitrary`] decodes it.
///
/// - The table of an artifact is accepted, and travels unchanged.
/// - A table with one changed bit, of another length, or for another size is refused.
/// - Bytes are accepted as a table only where their root is the CID.
/// - Leaves are good exactly where the digest of the host is the table's, in runs as long as
///   possible, with the bytes of just these leaves.
/// - Bytes of another length than the leaves make all leaves bad.
/// - What is cut out of good leaves lies within these and within what was wanted.
///
/// # Panics
/// When a property does not hold.
pub fn leaf_table(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let Ok(artifact) = Artifact::arbitrary(&mut input) else { return };
    let Ok(edit) = Edit::arbitrary(&mut input) else { return };
    let Ok(fetch) = Fetch::arbitrary(&mut input) else { return };
    let table = artifact.table();
    let bytes = table.to_bytes();
    let again = LeafTable::verify(&bytes, artifact.size, &artifact.cid).expect("the right table");
    assert_eq!(again.digests(), artifact.digests);
    assert_edits_are_refused(&artifact, &bytes, &edit);
    assert_only_roots_are_accepted(data, &artifact);
    assert_leaves(&table, &artifact, &fetch);
}

/// A change of a table.
#[derive(Debug, Arbitrary)]
struct Edit {
    at: u32,
    bit: u8,
    shorter: u8,
    longer: bool,
    size: u32,
}

fn assert_edits_are_refused(artifact: &Artifact, table: &[u8], edit: &Edit) {
    let verify = |table: &[u8], size| LeafTable::verify(table, size, &artifact.cid).map(drop);
    let mut flipped = table.to_vec();
    flipped[edit.at as usize % table.len()] ^= 1 << (edit.bit % 8);
    let refused = verify(&flipped, artifact.size);
    assert!(matches!(refused, Err(LeafTableError::WrongRoot { .. })));

    let mut other = table.to_vec();
    if edit.longer {
        other.push(edit.bit);
    } else {
        other.truncate(table.len() - 1 - usize::from(edit.shorter) % table.len());
    }
    let refused = verify(&other, artifact.size);
    assert!(matches!(refused, Err(LeafTableError::WrongLength { .. })));

    // The CID of a single raw leaf says nothing of its size; nodes do.
    let size = artifact.size ^ u64::from(edit.size);
    if size != artifact.size && artifact.digests.len() > 1 {
        assert!(verify(table, size).is_err(), "{size} bytes instead of {}", artifact.size);
    }
}

/// Takes the input itself for a table.
fn assert_only_roots_are_accepted(data: &[u8], artifact: &Artifact) {
    let digests: Vec<Digest> = data.as_chunks::<32>().0.iter().copied().map(Digest).collect();
    let size = (digests.len() as u64 * LEAF_SIZE).saturating_sub(7);
    let whole = &data[..digests.len() * 32];
    assert!(LeafTable::verify(whole, size, &artifact.cid).is_err() || digests == artifact.digests);
    if !digests.is_empty() {
        let table = LeafTable::verify(whole, size, &root(&digests, size)).expect("its own root");
        assert_eq!(table.digests(), digests);
    }
}

/// Bytes of consecutive leaves as a source sends them.
#[derive(Debug, Arbitrary)]
struct Fetch {
    start: u16,
    count: u8,
    /// Bytes too many or too few.
    surplus: Option<i8>,
    /// Digests too many or too few.
    extra: Option<i8>,
    /// Bits: leaf `start + i` came with a wrong digest where bit `i` is set.
    wrong: u64,
    cut: (u8, u8),
    wanted: (i32, i32),
}

/// Bytes `.0` of an artifact: a handle that remembers where its bytes stood, and holds none.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Span(Range<u64>);

impl Bytes for Span {
    fn len(&self) -> u64 {
        self.0.end - self.0.start
    }

    fn slice(&self, range: Range<u64>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len(), "a slice out of bounds");
        Self(self.0.start + range.start..self.0.start + range.end)
    }
}

fn assert_leaves(table: &LeafTable, artifact: &Artifact, fetch: &Fetch) {
    let count = artifact.layout().leaves();
    let start = u64::from(fetch.start) % (count + 2);
    let leaves = start..start + u64::from(fetch.count);
    let wrong = |leaf: u64| fetch.wrong.checked_shr(u32::try_from(leaf - start).unwrap_or(64));
    let wrong = |leaf: u64| wrong(leaf).is_some_and(|bits| bits & 1 == 1);
    let mut digests: Vec<Digest> = leaves
        .clone()
        .map(|leaf| match artifact.digests.get(to_index(leaf)) {
            Some(digest) if !wrong(leaf) => *digest,
            _ => Digest::of(b"other bytes"),
        })
        .collect();
    if let Some(extra) = fetch.extra {
        let length = (leaves.end - leaves.start).saturating_add_signed(extra.into());
        digests.resize(to_index(length), Digest::of(b"other bytes"));
    }
    let at = artifact.layout().bytes_of_leaves(&leaves);
    let end = at.end.max(at.start).saturating_add_signed(fetch.surplus.unwrap_or(0).into());
    let span = Span(at.start..end.max(at.start));

    let fits = leaves.end <= count
        && span.len() == at.end.saturating_sub(at.start)
        && digests.len() as u64 == leaves.end - leaves.start;
    let verdict = table.verify_leaves(leaves.clone(), &Hashed::by_host(span, digests));
    let bad: Vec<u64> = leaves.clone().filter(|leaf| !fits || wrong(*leaf)).collect();
    assert_eq!(verdict.bad, bad);
    let mut good = Vec::new();
    for run in &verdict.good {
        assert_eq!(run.bytes().0, artifact.layout().bytes_of_leaves(run.leaves()));
        assert_eq!(run.offset(), run.bytes().0.start);
        good.extend(run.leaves().clone());
        assert_parts(run, fetch, artifact.layout());
    }
    let expected: Vec<u64> = leaves.filter(|leaf| !bad.contains(leaf)).collect();
    assert_eq!(good, expected);
    let apart = |runs: &[VerifiedLeaves<Span>]| runs[0].leaves().end < runs[1].leaves().start;
    assert!(verdict.good.windows(2).all(apart), "runs are as long as possible");
}

/// Parts of a run, which begin before, in or after it.
fn assert_parts(run: &VerifiedLeaves<Span>, fetch: &Fetch, layout: Layout) {
    let (before, length) = fetch.cut;
    let start = run.leaves().end.saturating_sub(before.into());
    let leaves = start..start + u64::from(length);
    let shared = start.max(run.leaves().start)..leaves.end.min(run.leaves().end);
    match run.cut(&leaves) {
        Some(part) => {
            assert_eq!(*part.leaves(), shared);
            assert_eq!(part.bytes().0, layout.bytes_of_leaves(&shared));
        }
        // The leaf of an empty artifact has no bytes to cut.
        None => assert!(shared.is_empty() || layout.size() == 0),
    }
    let Range { start, end } = run.bytes().0.clone();
    let wanted = start.saturating_add_signed(fetch.wanted.0.into())
        ..end.saturating_add_signed(fetch.wanted.1.into());
    let shared = wanted.start.max(start)..wanted.end.min(end);
    let part = run.intersect(&wanted).map(|part| part.0);
    assert_eq!(part, Some(shared).filter(|shared| !shared.is_empty()));
}

fn to_index(n: u64) -> usize {
    usize::try_from(n).expect("tables are in memory")
}
