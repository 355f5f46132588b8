//! The UnixFS DAG that kubo builds with
//! `ipfs add --cid-version=1 --raw-leaves --chunker=size-262144`: balanced dag-pb nodes of at most
//! 174 links over raw leaves.
//!
//! Sources: the [UnixFS](https://specs.ipfs.tech/unixfs/) and
//! [dag-pb](https://ipld.io/specs/codecs/dag-pb/spec/) specifications.

use cid::Cid;
use ipld_dagpb::{PbLink, PbNode};
use quick_protobuf::Writer;

use crate::dag::cid::{DAG_PB, RAW};
use crate::dag::digest::Digest;
use crate::dag::layout::Layout;

/// Most links in a node (kubo's `DefaultLinksPerBlock`).
pub const MAX_LINKS: usize = 174;
/// The name of this DAG format in manifests.
pub const PROFILE: &str = "unixfs-v1-2015";

/// A subtree, as its parent node describes it.
#[derive(Debug)]
pub(crate) struct Subtree {
    pub(crate) cid: Cid,
    /// Bytes of the file in the subtree.
    file_size: u64,
    /// Bytes of all blocks of the subtree, its root included: the link's `Tsize`.
    pub(crate) cumulative_size: u64,
}

/// The root CID of an artifact of `size` bytes; `leaves` are the digests of its leaves, in order.
///
/// The caller checks that there is a digest for each leaf of the layout.
#[must_use]
pub fn root(leaves: &[Digest], size: u64) -> Cid {
    let top = climb(over_leaves(leaves, 0, Layout::new(size)), drop);
    top.map_or_else(|| Digest::of(&[]).to_cid(RAW), |root| root.cid)
}

/// The levels of inner nodes above `leaves`: the lowest first, the root alone in the last. A single
/// leaf has none.
pub(crate) fn inner_levels(leaves: &[Digest], layout: Layout) -> Vec<Vec<Subtree>> {
    let mut levels = Vec::new();
    let top = climb(over_leaves(leaves, 0, layout), |level| levels.push(level));
    levels.extend(top.map(|root| vec![root]));
    // The first level is the leaves themselves.
    levels.into_iter().skip(1).collect()
}

/// Builds the levels above `level` and returns the root; passes each level below the root to
/// `below`.
fn climb(mut level: Vec<Subtree>, mut below: impl FnMut(Vec<Subtree>)) -> Option<Subtree> {
    while level.len() > 1 {
        let above = level.chunks(MAX_LINKS).map(parent).collect();
        below(std::mem::replace(&mut level, above));
    }
    level.pop()
}

/// Leaves as subtrees; the first of `leaves` is the digest of the artifact's leaf `first`.
pub(crate) fn over_leaves(leaves: &[Digest], first: u64, layout: Layout) -> Vec<Subtree> {
    let leaf = |(i, digest): (u64, &Digest)| {
        let bytes = layout.bytes_of_leaves(&(i..i + 1));
        let length = bytes.end.saturating_sub(bytes.start);
        Subtree { cid: digest.to_cid(RAW), file_size: length, cumulative_size: length }
    };
    (first..).zip(leaves).map(leaf).collect()
}

/// The subtree whose root links to `children`.
fn parent(children: &[Subtree]) -> Subtree {
    let file_size = children.iter().map(|child| child.file_size).sum();
    let block = node(children);
    Subtree {
        cid: Digest::of(&block).to_cid(DAG_PB),
        file_size,
        cumulative_size: block.len() as u64
            + children.iter().map(|child| child.cumulative_size).sum::<u64>(),
    }
}

/// The block of the node that links to `children`.
pub(crate) fn node(children: &[Subtree]) -> Vec<u8> {
    let node = PbNode {
        links: children
            .iter()
            .map(|child| PbLink {
                cid: child.cid,
                name: Some(String::new()),
                size: Some(child.cumulative_size),
            })
            .collect(),
        data: Some(unixfs_file(children).into()),
    };
    node.into_bytes()
}

/// UnixFS `Data`: `Type = 1` (File is 2), `filesize = 3`, `blocksizes = 4` (repeated, not packed).
fn unixfs_file(children: &[Subtree]) -> Vec<u8> {
    let file_size = children.iter().map(|child| child.file_size).sum();
    let mut data = Vec::with_capacity(16 + 4 * children.len());
    let mut writer = Writer::new(&mut data);
    let written = writer
        .write_with_tag(1 << 3, |w| w.write_enum(2))
        .and_then(|()| writer.write_with_tag(3 << 3, |w| w.write_uint64(file_size)))
        .and_then(|()| {
            children.iter().try_for_each(|child| {
                writer.write_with_tag(4 << 3, |w| w.write_uint64(child.file_size))
            })
        });
    debug_assert!(written.is_ok(), "writing to memory does not fail");
    data
}
