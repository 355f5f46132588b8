//! Digests of a file that is read once, from its start.

use cid::Cid;
use sha2::{Digest as _, Sha256};

use crate::dag::digest::{Digest, by_turns};
use crate::dag::layout::LEAF_SIZE;
use crate::dag::unixfs::root;

/// Hashes a file that arrives in pieces: one pass gives its SHA-256, leaf digests and CID.
#[derive(Debug, Default)]
pub struct FileHasher {
    whole: Sha256,
    leaf: Sha256,
    in_leaf: u64,
    size: u64,
    leaves: Vec<Digest>,
}

/// The digests that a [`FileHasher`] computed.
#[derive(Debug, Clone)]
pub struct FileDigests {
    /// Size of the file in bytes.
    pub size: u64,
    /// SHA-256 of the whole file.
    pub sha256: Digest,
    /// Root of the UnixFS DAG.
    pub cid: Cid,
    /// Digest of each leaf.
    pub leaves: Vec<Digest>,
}

impl FileHasher {
    /// Hashes the next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        self.size += bytes.len() as u64;
        while !bytes.is_empty() {
            let room = usize::try_from(LEAF_SIZE - self.in_leaf).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            by_turns((&mut self.whole, now), (&mut self.leaf, now));
            self.in_leaf += now.len() as u64;
            bytes = later;
            if self.in_leaf == LEAF_SIZE {
                self.end_leaf();
            }
        }
    }

    /// The digests of all bytes so far.
    #[must_use]
    pub fn finish(mut self) -> FileDigests {
        if self.in_leaf > 0 || self.leaves.is_empty() {
            self.end_leaf();
        }
        FileDigests {
            size: self.size,
            sha256: Digest(self.whole.finalize().into()),
            cid: root(&self.leaves, self.size),
            leaves: self.leaves,
        }
    }

    fn end_leaf(&mut self) {
        self.leaves.push(Digest(self.leaf.finalize_reset().into()));
        self.in_leaf = 0;
    }
}
