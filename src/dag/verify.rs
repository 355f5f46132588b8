//! Where bytes become trusted, and the only place where they do.
//!
//! [`LeafTable::verify_leaves`] holds the comparison that decides whether a leaf is good.

use std::ops::Range;

use cid::Cid;

use crate::dag::cid::cid_text;
use crate::dag::digest::Digest;
use crate::dag::layout::{LEAF_SIZE, Layout};
use crate::dag::unixfs;

/// A handle to bytes that can be cut without copying: a `Uint8Array` in the workers, `Arc`ed bytes
/// natively. The core never looks inside.
pub trait Bytes: Clone {
    /// How many bytes there are.
    fn len(&self) -> u64;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes in `range`, relative to this handle.
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

/// Untrusted bytes of consecutive whole leaves, with the SHA-256 digest of each leaf.
#[derive(Debug, Clone)]
pub struct Hashed<B> {
    bytes: B,
    digests: Vec<Digest>,
}

impl<B: Bytes> Hashed<B> {
    /// Pairs `bytes` with the digests of their leaves. The host that hashed them (WebCrypto, or
    /// [`Digest::of`]) vouches that it hashed these very bytes, cut every 262,144.
    pub const fn by_host(bytes: B, digests: Vec<Digest>) -> Self {
        Self { bytes, digests }
    }
}

impl Hashed<std::sync::Arc<[u8]>> {
    /// Hashes bytes in this process.
    #[must_use]
    pub fn here(bytes: std::sync::Arc<[u8]>) -> Self {
        let digests = Digest::of_leaves(&bytes);
        Self { bytes, digests }
    }
}

/// Bytes that are what the signed CID says. Only [`LeafTable::verify_leaves`] makes them.
#[derive(Debug, Clone)]
pub struct VerifiedLeaves<B> {
    leaves: Range<u64>,
    bytes: B,
}

impl<B: Bytes> VerifiedLeaves<B> {
    /// Which leaves of the artifact these are.
    #[must_use]
    pub const fn leaves(&self) -> &Range<u64> {
        &self.leaves
    }

    /// Where the first byte stands in the artifact.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.leaves.start * LEAF_SIZE
    }

    /// The verified bytes.
    #[must_use]
    pub const fn bytes(&self) -> &B {
        &self.bytes
    }

    /// The leaves of these that lie in `leaves`; `None` where there are none.
    #[must_use]
    pub fn cut(&self, leaves: &Range<u64>) -> Option<Self> {
        let leaves = self.leaves.start.max(leaves.start)..self.leaves.end.min(leaves.end);
        if leaves == self.leaves {
            return Some(self.clone());
        }
        let bytes = self.intersect(&(leaves.start * LEAF_SIZE..leaves.end * LEAF_SIZE))?;
        Some(Self { leaves, bytes })
    }

    /// The part that lies in `wanted`, a byte range of the artifact; `None` where they do not meet.
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

/// What [`LeafTable::verify_leaves`] found.
#[derive(Debug)]
pub struct Verdict<B> {
    /// Runs of good leaves, in order.
    pub good: Vec<VerifiedLeaves<B>>,
    /// Indices of the leaves that are not what the table says.
    pub bad: Vec<u64>,
}

/// The digests of an artifact's leaves, known to belong to its signed CID.
#[derive(Debug, Clone)]
pub struct LeafTable {
    layout: Layout,
    digests: Vec<Digest>,
}

/// Why a leaf table was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeafTableError {
    /// Not 32 bytes for each leaf of an artifact of this size.
    #[error("the leaf table has {got} bytes, but an artifact of {size} bytes has {want}")]
    WrongLength {
        /// Bytes that came.
        got: u64,
        /// Bytes there should be.
        want: u64,
        /// Size of the artifact.
        size: u64,
    },
    /// The digests are not those of the artifact.
    #[error("the leaf table's root is {got}, but the manifest says {want}")]
    WrongRoot {
        /// Root of the table that came.
        got: String,
        /// The signed CID.
        want: String,
    },
}

impl LeafTable {
    /// Accepts `table` (32-byte digests, concatenated) when its root is the signed `cid` of an
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

    /// The same from digests.
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

    /// The table of an artifact of one leaf, which its CID already tells.
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

    /// The digests, in order: one for each leaf of the layout.
    #[must_use]
    pub fn digests(&self) -> &[Digest] {
        &self.digests
    }

    /// The table as it travels: 32-byte digests, concatenated.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.digests.iter().flat_map(|digest| digest.0).collect()
    }

    /// Sorts the leaves in `hashed`, said to be the leaves `leaves`, into good and bad. Bytes of a
    /// wrong length make every leaf bad.
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
            // This comparison is what the whole crate is for: is this leaf good?
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
