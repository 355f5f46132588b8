//! Leaf digests of an artifact from the blocks of its DAG.

use cid::Cid;
use ipld_dagpb::PbNode;

use crate::dag::cid::cid_text;
use crate::dag::digest::Digest;
use crate::dag::layout::Layout;
use crate::dag::unixfs::MAX_LINKS;

/// Collects the leaf digests of an artifact from the blocks of its DAG, root first, so that any
/// IPFS gateway can replace a leaf table.
///
/// The digests are untrusted until [`crate::dag::verify::LeafTable::from_digests`] accepts them.
#[derive(Debug)]
pub struct Walk {
    level: Vec<Cid>,
    levels_left: u32,
    leaves: u64,
}

/// Why a block was refused by [`Walk::descend`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalkError {
    /// A block does not match its CID.
    #[error("the block sent for {0} does not have its digest")]
    WrongBlock(String),
    /// A block is not a dag-pb node.
    #[error("the block {0} is not dag-pb: {1}")]
    NotDagPb(String, String),
    /// The number of blocks differs from [`Walk::wanted`], or the number of links differs from that
    /// of an artifact of this size.
    #[error("the DAG does not have the shape that its size requires")]
    WrongShape,
}

impl Walk {
    /// Starts at the root CID of an artifact.
    #[must_use]
    pub fn new(root: Cid, layout: Layout) -> Self {
        let leaves = layout.leaves();
        let mut levels_left = 0;
        while width(leaves, levels_left) > 1 {
            levels_left += 1;
        }
        Self { level: vec![root], levels_left, leaves }
    }

    /// The blocks to fetch now, in order; empty when the walk has reached the leaves.
    #[must_use]
    pub fn wanted(&self) -> &[Cid] {
        if self.levels_left == 0 { &[] } else { &self.level }
    }

    /// Takes the wanted blocks, in order, and descends one level.
    ///
    /// # Errors
    /// [`WalkError`] says what is wrong with a block. The walk stays at its level.
    pub fn descend(&mut self, blocks: &[Vec<u8>]) -> Result<(), WalkError> {
        if self.levels_left == 0 || blocks.len() != self.level.len() {
            return Err(WalkError::WrongShape);
        }
        let mut below = Vec::new();
        for (cid, block) in self.level.iter().zip(blocks) {
            if Digest::of_cid(cid) != Some(Digest::of(block)) {
                return Err(WalkError::WrongBlock(cid_text(cid)));
            }
            let node = PbNode::from_bytes(block.clone().into())
                .map_err(|error| WalkError::NotDagPb(cid_text(cid), error.to_string()))?;
            if node.links.len() > MAX_LINKS {
                return Err(WalkError::WrongShape);
            }
            below.extend(node.links.into_iter().map(|link| link.cid));
        }
        // Without this check, 174 links to one node of 174 links, and so on, would ask for
        // millions of blocks.
        if below.len() as u64 != width(self.leaves, self.levels_left - 1) {
            return Err(WalkError::WrongShape);
        }
        self.level = below;
        self.levels_left -= 1;
        Ok(())
    }

    /// The digests of the leaves when the walk has reached them; `None` before, and for other
    /// hashes than SHA-256.
    #[must_use]
    pub fn leaves(&self) -> Option<Vec<Digest>> {
        if self.levels_left > 0 {
            return None;
        }
        self.level.iter().map(Digest::of_cid).collect()
    }
}

/// Nodes on the level that is `levels` above `leaves` leaves.
fn width(leaves: u64, levels: u32) -> u64 {
    (0..levels).fold(leaves, |width, _| width.div_ceil(MAX_LINKS as u64))
}
