//! Verification of leaves: the only place where bytes become trusted.
//!
//! [`LeafTable::verify_leaves`] has the comparison that decides whether a leaf is good.

use std::ops::Range;

use cid::Cid;

use crate::dag::cid::cid_text;
use crate::dag::digest::Digest;
use crate::dag::layout::{LEAF_SIZE, Layout};
use crate::dag::unixfs;

/// A handle to bytes, such as a `Uint8Array` in a worker. The core cuts handles and never looks at
/// the bytes, so handles that are cut without copying are best.
pub trait Bytes: Clone {
    /// Number of bytes.
    fn len(&self) -> u64;

    /// Whether there are no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes in `range`, which is relative to this handle.
    #[must_use]
    fn slice(&self, range: Range<u64>) -> Self;
}

impl Bytes for &[u8] {
    fn len(&self) -> u64 {
        (**self).len() as u64
    }

    fn slice(&self, range: Range<u64>) -> Self {
        let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        &self[at(range.start)..at(range.end)]
    }
}

impl Bytes for std::sync::Arc<[u8]> {
    fn len(&self) -> u64 {
        (**self).len() as u64
    }

    fn slice(&self, range: Range<u64>) -> Self {
        Self::from((&**self).slice(range))
    }
}

/// Unverified bytes of consecutive whole leaves, with the SHA-256 digest of each leaf.
#[derive(Debug, Clone)]
pub struct Hashed<B> {
    bytes: B,
    digests: Vec<Digest>,
}

impl<B: Bytes> Hashed<B> {
    /// Pairs `bytes` with the digests of their leaves. The caller guarantees that the digests are
    /// those of these bytes, cut every [`LEAF_SIZE`] bytes.
    pub const fn by_host(bytes: B, digests: Vec<Digest>) -> Self {
        Self { bytes, digests }
    }
}

impl Hashed<std::sync::Arc<[u8]>> {
    /// Hashes the leaves of `bytes`.
    #[must_use]
    pub fn here(bytes: std::sync::Arc<[u8]>) -> Self {
        let digests = Digest::of_leaves(&bytes);
        Self { bytes, digests }
    }
}

/// Bytes that belong to the signed CID. Only [`LeafTable::verify_leaves`] creates them.
#[derive(Debug, Clone)]
pub struct VerifiedLeaves<B> {
    leaves: Range<u64>,
    bytes: B,
}

impl<B: Bytes> VerifiedLeaves<B> {
    /// The leaves' numbers in the artifact.
    #[must_use]
    pub const fn leaves(&self) -> &Range<u64> {
        &self.leaves
    }

    /// Position of the first byte in the artifact.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.leaves.start * LEAF_SIZE
    }

    /// The verified bytes.
    #[must_use]
    pub const fn bytes(&self) -> &B {
        &self.bytes
    }

    /// The part in `leaves`, a range of the artifact's leaves; `None` when they do not overlap.
    #[must_use]
    pub fn cut(&self, leaves: &Range<u64>) -> Option<Self> {
        let leaves = self.leaves.start.max(leaves.start)..self.leaves.end.min(leaves.end);
        if leaves == self.leaves {
            return Some(self.clone());
        }
        let bytes = self.intersect(&(leaves.start * LEAF_SIZE..leaves.end * LEAF_SIZE))?;
        Some(Self { leaves, bytes })
    }

    /// The part in `wanted`, a byte range of the artifact; `None` when they do not overlap.
    #[must_use]
    pub fn intersect(&self, wanted: &Range<u64>) -> Option<B> {
        let start = wanted.start.max(self.offset());
        let end = wanted.end.min(self.offset() + self.bytes.len());
        if start >= end {
            return None;
        }
        if end - start == self.bytes.len() {
            return Some(self.bytes.clone());
        }
        Some(self.bytes.slice(start - self.offset()..end - self.offset()))
    }
}

/// The result of [`LeafTable::verify_leaves`].
#[derive(Debug)]
pub struct Verdict<B> {
    /// Runs of good leaves, in order.
    pub good: Vec<VerifiedLeaves<B>>,
    /// Numbers of the leaves that do not match the table, in order.
    pub bad: Vec<u64>,
}

/// The digests of an artifact's leaves, verified against its signed CID.
#[derive(Debug, Clone)]
pub struct LeafTable {
    layout: Layout,
    digests: Vec<Digest>,
}

/// Why a leaf table is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeafTableError {
    /// The table does not have 32 bytes for each leaf.
    #[error("the leaf table has {got} bytes, but an artifact of {size} bytes has {want}")]
    WrongLength {
        /// Bytes in the table.
        got: u64,
        /// Bytes that it must have.
        want: u64,
        /// Size of the artifact in bytes.
        size: u64,
    },
    /// The digests do not belong to the CID.
    #[error("the leaf table's root is {got}, but the manifest says {want}")]
    WrongRoot {
        /// Root of the table.
        got: String,
        /// The signed CID.
        want: String,
    },
}

impl LeafTable {
    /// Accepts `table` (32-byte digests, concatenated) if its root is the signed `cid` of an
    /// artifact of `size` bytes.
    ///
    /// # Errors
    /// [`LeafTableError`] says what is wrong with it.
    pub fn verify(table: &[u8], size: u64, cid: &Cid) -> Result<Self, LeafTableError> {
        let want = Layout::new(size).leaves().saturating_mul(32);
        if table.len() as u64 != want {
            return Err(LeafTableError::WrongLength { got: table.len() as u64, want, size });
        }
        let digests = table.as_chunks::<32>().0.iter().map(|digest| Digest(*digest)).collect();
        Self::from_digests(digests, size, cid)
    }

    /// Accepts `digests` if their root is the signed `cid` of an artifact of `size` bytes.
    ///
    /// # Errors
    /// [`LeafTableError`] says what is wrong with them.
    pub fn from_digests(
        digests: Vec<Digest>,
        size: u64,
        cid: &Cid,
    ) -> Result<Self, LeafTableError> {
        let layout = Layout::new(size);
        if digests.len() as u64 != layout.leaves() {
            let (got, want) = (digests.len() as u64 * 32, layout.leaves().saturating_mul(32));
            return Err(LeafTableError::WrongLength { got, want, size });
        }
        let root = unixfs::root(&digests, size);
        if root != *cid {
            return Err(LeafTableError::WrongRoot { got: cid_text(&root), want: cid_text(cid) });
        }
        Ok(Self { layout, digests })
    }

    /// The table of an artifact of a single leaf, whose digest is in its CID; `None` for larger
    /// artifacts.
    #[must_use]
    pub fn of_single_leaf(size: u64, cid: &Cid) -> Option<Self> {
        let digest = Digest::of_cid(cid)?;
        Self::from_digests(vec![digest], size, cid).ok()
    }

    /// The artifact's layout.
    #[must_use]
    pub const fn layout(&self) -> Layout {
        self.layout
    }

    /// The digest of each leaf, in order.
    #[must_use]
    pub fn digests(&self) -> &[Digest] {
        &self.digests
    }

    /// The table as `{file}.leaves` has it: 32-byte digests, concatenated.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.digests.iter().flat_map(|digest| digest.0).collect()
    }

    /// Sorts the leaves in `hashed`, which claims to be `leaves` of the artifact, into good and bad
    /// ones. Bytes of a wrong length make every leaf bad.
    pub fn verify_leaves<B: Bytes>(&self, leaves: Range<u64>, hashed: &Hashed<B>) -> Verdict<B> {
        let bytes = self.layout.bytes_of_leaves(&leaves);
        let fits = leaves.end <= self.layout.leaves()
            && hashed.bytes.len() == bytes.end.saturating_sub(bytes.start)
            && hashed.digests.len() as u64 == leaves.end.saturating_sub(leaves.start);
        let mut verdict = Verdict { good: Vec::new(), bad: Vec::new() };
        if !fits {
            verdict.bad.extend(leaves);
            return verdict;
        }
        let mut runs: Vec<Range<u64>> = Vec::new();
        for (leaf, digest) in leaves.clone().zip(&hashed.digests) {
            // The comparison that decides whether a leaf is good.
            let good = usize::try_from(leaf).is_ok_and(|i| self.digests[i] == *digest);
            match (good, runs.last_mut()) {
                (false, _) => verdict.bad.push(leaf),
                (true, Some(run)) if run.end == leaf => run.end += 1,
                (true, _) => runs.push(leaf..leaf + 1),
            }
        }
        verdict.good.extend(runs.into_iter().map(|run| {
            let at = self.layout.bytes_of_leaves(&run);
            let bytes = if run == leaves {
                hashed.bytes.clone()
            } else {
                hashed.bytes.slice(at.start - bytes.start..at.end - bytes.start)
            };
            VerifiedLeaves { leaves: run, bytes }
        }));
        verdict
    }
}
