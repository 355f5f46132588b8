//! SHA-256 digests of artifacts and their leaves.

use sha2::{Digest as _, Sha256};

use crate::dag::layout::LEAF_SIZE;

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The SHA-256 digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digests of the leaves of `bytes`, which start at a leaf. Without bytes there is one
    /// empty leaf.
    #[must_use]
    pub fn of_leaves(bytes: &[u8]) -> Vec<Self> {
        let leaf = usize::try_from(LEAF_SIZE).unwrap_or(usize::MAX);
        let (mut digests, mut later) = (Vec::new(), bytes);
        while !later.is_empty() || digests.is_empty() {
            let (first, rest) = later.split_at(leaf.min(later.len()));
            let (second, rest) = rest.split_at(leaf.min(rest.len()));
            let (mut one, mut other) = (Sha256::new(), Sha256::new());
            by_turns((&mut one, first), (&mut other, second));
            digests.push(Self(one.finalize().into()));
            if !second.is_empty() {
                digests.push(Self(other.finalize().into()));
            }
            later = rest;
        }
        digests
    }

    /// Lower-case hexadecimal, 64 characters.
    #[must_use]
    pub fn to_hex(&self) -> String {
        base16ct::lower::encode_string(&self.0)
    }

    /// From 64 lower-case hexadecimal characters.
    #[must_use]
    pub fn from_hex(hex: &str) -> Option<Self> {
        let bytes = base16ct::lower::decode_vec(hex).ok()?;
        Some(Self(bytes.try_into().ok()?))
    }
}

/// Hashes two inputs in turns, one block of each at a time. Each block of SHA-256 depends on the
/// one before it, so a processor with SHA-256 instructions is idle half of the time; in turns, two
/// inputs take less than three quarters of the time.
pub(crate) fn by_turns(
    (one, of_one): (&mut Sha256, &[u8]),
    (other, of_other): (&mut Sha256, &[u8]),
) {
    let block = 64; // FIPS 180-4, figure 1
    let both = of_one.len().min(of_other.len());
    for (a, b) in of_one[..both].chunks(block).zip(of_other[..both].chunks(block)) {
        one.update(a);
        other.update(b);
    }
    one.update(&of_one[both..]);
    other.update(&of_other[both..]);
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to_hex())
    }
}
