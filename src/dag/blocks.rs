//! The blocks of an artifact's DAG, as IPFS clients request them. Leaves are byte ranges of the
//! artifact; inner nodes are computed from the leaf table, so they need no storage.

use std::ops::Range;
use std::sync::Arc;

use cid::Cid;

use crate::dag::cid::{DAG_PB, RAW};
use crate::dag::digest::Digest;
use crate::dag::layout::Layout;
use crate::dag::unixfs::{self, MAX_LINKS, Subtree};
use crate::dag::verify::LeafTable;

/// Children of every node except the last of a level.
const FAN_OUT: u64 = MAX_LINKS as u64;

/// The DAG of one artifact.
#[derive(Debug)]
pub struct Blocks {
    table: Arc<LeafTable>,
    /// Inner nodes: the lowest level first, the root alone in the last. A single leaf has none.
    levels: Vec<Vec<Subtree>>,
}

/// The place of a block in the [`Blocks`] that returned it. Exhaustive: UnixFS files have no other
/// blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// The leaf with this number.
    Leaf(u64),
    /// An inner node.
    Inner(Inner),
}

/// The place of an inner node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inner {
    /// Number of levels between it and the leaves.
    level: usize,
    /// Number within its level.
    index: u64,
}

impl Blocks {
    /// The blocks of the artifact with this leaf table.
    #[must_use]
    pub fn over(table: Arc<LeafTable>) -> Self {
        let levels = unixfs::inner_levels(table.digests(), table.layout());
        Self { table, levels }
    }

    /// Whether an artifact of this layout can have the block `cid` below its root.
    #[must_use]
    pub fn may_be_below(layout: Layout, cid: &Cid) -> bool {
        let least = match cid.codec() {
            RAW => 1,
            DAG_PB => FAN_OUT,
            _ => return false,
        };
        layout.leaves() > least && Digest::of_cid(cid).is_some()
    }

    /// The artifact's layout.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.table.layout()
    }

    /// The root block.
    #[must_use]
    pub const fn root(&self) -> Position {
        match self.levels.len().checked_sub(1) {
            Some(level) => Position::Inner(Inner { level, index: 0 }),
            None => Position::Leaf(0),
        }
    }

    /// The first place of the block `cid`; `None` when the artifact does not have it.
    #[must_use]
    pub fn find(&self, cid: &Cid) -> Option<Position> {
        let digest = Digest::of_cid(cid)?;
        if digest.to_cid(RAW) == *cid {
            return (0..)
                .zip(self.table.digests())
                .find(|(_, leaf)| **leaf == digest)
                .map(|(leaf, _)| Position::Leaf(leaf));
        }
        self.levels.iter().enumerate().find_map(|(level, nodes)| {
            let (index, _) = (0..).zip(nodes).find(|(_, node)| node.cid == *cid)?;
            Some(Position::Inner(Inner { level, index }))
        })
    }

    /// The CID of a block.
    #[must_use]
    pub fn cid(&self, at: Position) -> Cid {
        match at {
            Position::Leaf(leaf) => self.table.digests()[to_index(leaf)].to_cid(RAW),
            Position::Inner(inner) => self.node(inner).cid,
        }
    }

    /// Size of a block in bytes.
    #[must_use]
    pub fn size(&self, at: Position) -> u64 {
        match at {
            Position::Leaf(leaf) => length(&self.leaf(leaf)),
            Position::Inner(inner) => {
                let children = self.children(inner);
                let below: u64 = match inner.level.checked_sub(1) {
                    None => length(&self.content(Position::Inner(inner))),
                    Some(level) => self.levels[level][to_indices(&children)]
                        .iter()
                        .map(|child| child.cumulative_size)
                        .sum(),
                };
                self.node(inner).cumulative_size - below
            }
        }
    }

    /// The byte range of a leaf in the artifact.
    #[must_use]
    pub fn leaf(&self, leaf: u64) -> Range<u64> {
        self.table.layout().bytes_of_leaves(&(leaf..leaf + 1))
    }

    /// The dag-pb bytes of an inner node.
    #[must_use]
    pub fn inner(&self, inner: Inner) -> Vec<u8> {
        let children = self.children(inner);
        match inner.level.checked_sub(1) {
            None => {
                let digests = &self.table.digests()[to_indices(&children)];
                unixfs::node(&unixfs::over_leaves(digests, children.start, self.table.layout()))
            }
            Some(level) => unixfs::node(&self.levels[level][to_indices(&children)]),
        }
    }

    /// The byte range of the artifact in and below a block: the file of which it is the root.
    #[must_use]
    pub fn content(&self, at: Position) -> Range<u64> {
        self.table.layout().bytes_of_leaves(&self.leaves(at))
    }

    /// The leaves in and below a block.
    pub(crate) fn leaves(&self, at: Position) -> Range<u64> {
        match at {
            Position::Leaf(leaf) => leaf..leaf + 1,
            Position::Inner(Inner { level, index }) => {
                let width = span(level);
                index * width..((index + 1) * width).min(self.table.layout().leaves())
            }
        }
    }

    /// The blocks that an inner node links to and that contain some of `leaves`.
    pub(crate) fn below(
        &self,
        inner: Inner,
        leaves: &Range<u64>,
    ) -> impl DoubleEndedIterator<Item = Position> + use<> {
        let Range { start, end } = self.children(inner);
        // Leaves below each child.
        let width = inner.level.checked_sub(1).map_or(1, span);
        let wanted = start.max(leaves.start / width)..end.min(leaves.end.div_ceil(width));
        wanted.map(move |index| match inner.level.checked_sub(1) {
            None => Position::Leaf(index),
            Some(level) => Position::Inner(Inner { level, index }),
        })
    }

    /// The blocks of `leaves`, and above them, that a walk meets again, by level from the leaves
    /// up.
    pub(crate) fn repeated(&self, leaves: &Range<u64>) -> Vec<Vec<u64>> {
        let of_leaves = again(leaves.clone(), |leaf| self.table.digests()[to_index(leaf)]);
        let of_level = |(level, nodes): (usize, &Vec<Subtree>)| {
            let width = span(level);
            let walked = leaves.start / width..leaves.end.div_ceil(width);
            again(walked, |index| Digest::of_cid(&nodes[to_index(index)].cid))
        };
        std::iter::once(of_leaves).chain(self.levels.iter().enumerate().map(of_level)).collect()
    }

    /// Numbers of a node's children within the level below.
    fn children(&self, inner: Inner) -> Range<u64> {
        let below = match inner.level.checked_sub(1) {
            None => self.table.layout().leaves(),
            Some(level) => self.levels[level].len() as u64,
        };
        let first = inner.index * FAN_OUT;
        first..(first + FAN_OUT).min(below)
    }

    fn node(&self, Inner { level, index }: Inner) -> &Subtree {
        &self.levels[level][to_index(index)]
    }
}

impl Position {
    /// The index in the levels of [`Blocks::repeated`], and the number within that level.
    pub(crate) fn place(self) -> (usize, u64) {
        match self {
            Self::Leaf(leaf) => (0, leaf),
            Self::Inner(Inner { level, index }) => (level + 1, index),
        }
    }
}

/// Leaves below every node of a level of inner nodes except the last.
fn span(level: usize) -> u64 {
    (0..=level).fold(1, |width, _| width.saturating_mul(FAN_OUT))
}

/// The numbers in `all` whose key a lower number has too, in order.
fn again<K: Ord>(all: Range<u64>, key: impl Fn(u64) -> K) -> Vec<u64> {
    let mut sorted: Vec<u64> = all.collect();
    // Stable: among numbers with the same key the lowest stays first.
    sorted.sort_by_key(|i| key(*i));
    let mut again: Vec<u64> =
        sorted.windows(2).filter(|pair| key(pair[0]) == key(pair[1])).map(|pair| pair[1]).collect();
    again.sort_unstable();
    again
}

fn length(bytes: &Range<u64>) -> u64 {
    bytes.end - bytes.start
}

/// An index into a table in memory: it fits.
fn to_index(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

fn to_indices(all: &Range<u64>) -> Range<usize> {
    to_index(all.start)..to_index(all.end)
}
