//! Artifacts whose leaves have made-up digests: no bytes of a leaf are needed to plan or to verify.

use std::sync::Arc;

use arbitrary::{Arbitrary, Result, Unstructured};
use cid::Cid;
use edge_net_core::dag::blocks::Blocks;
use edge_net_core::dag::digest::Digest;
use edge_net_core::dag::layout::{LEAF_SIZE, Layout};
use edge_net_core::dag::unixfs::{MAX_LINKS, root};
use edge_net_core::dag::verify::LeafTable;

/// An artifact, known by its leaf table.
#[derive(Debug, Clone)]
pub(crate) struct Artifact {
    pub(crate) size: u64,
    pub(crate) digests: Vec<Digest>,
    pub(crate) cid: Cid,
}

impl Arbitrary<'_> for Artifact {
    fn arbitrary(input: &mut Unstructured<'_>) -> Result<Self> {
        let width = MAX_LINKS as u64;
        // Three levels of nodes take 30,000 leaves, and too long for a fuzzer: the tests of `core`
        // have them.
        let leaves = if input.arbitrary()? {
            // About as many leaves as fill one node, or two.
            input.int_in_range(width - 2..=2 * width + 2)?
        } else {
            input.int_in_range(1..=40)?
        };
        // Only the one leaf of an empty artifact is empty.
        let missing = input.int_in_range(0..=LEAF_SIZE - u64::from(leaves > 1))?;
        let size = leaves * LEAF_SIZE - missing;
        // Leaves repeat, as they do in files with runs of zeros.
        let patterns = input.int_in_range(1..=leaves)?;
        let seed: u8 = input.arbitrary()?;
        let layout = Layout::new(size);
        let digest = |leaf: u64| {
            // Leaves of different lengths never have the same digest.
            let bytes = layout.bytes_of_leaves(&(leaf..leaf + 1));
            let content = [leaf % patterns, bytes.end - bytes.start, seed.into()];
            Digest::of(&content.map(u64::to_le_bytes).concat())
        };
        let digests: Vec<Digest> = (0..leaves).map(digest).collect();
        let cid = root(&digests, size);
        Ok(Self { size, digests, cid })
    }
}

impl Artifact {
    pub(crate) fn layout(&self) -> Layout {
        Layout::new(self.size)
    }

    pub(crate) fn table(&self) -> LeafTable {
        LeafTable::from_digests(self.digests.clone(), self.size, &self.cid)
            .expect("the CID is the root of the digests")
    }

    pub(crate) fn blocks(&self) -> Arc<Blocks> {
        Arc::new(Blocks::over(Arc::new(self.table())))
    }
}
