//! The UnixFS DAG that kubo builds with
//! `ipfs add --cid-version=1 --raw-leaves --chunker=size-262144`: balanced dag-pb nodes of at most
//! 174 links over raw leaves.
//!
//! Sources: the [UnixFS](https://specs.ipfs.tech/unixfs/) and
//! [dag-pb](https://ipld.io/specs/codecs/dag-pb/spec/) specifications.

use base32ct::{Base32Unpadded, Encoding as _};
use cid::Cid;
use cid::multihash::Multihash;
use ipld_dagpb::{PbLink, PbNode};
use quick_protobuf::Writer;
use sha2::{Digest as _, Sha256};

use crate::dag::layout::{LEAF_SIZE, Layout};

/// Links in a node at the most (kubo's `DefaultLinksPerBlock`).
pub const MAX_LINKS: usize = 174;
/// The name of this way of building the DAG, as manifests give it.
pub const PROFILE: &str = "unixfs-v1-2015";

/// Multicodec of raw bytes: a leaf.
pub const RAW: u64 = 0x55;
/// Multicodec of dag-pb: an inner node.
pub const DAG_PB: u64 = 0x70;
/// Multihash code of SHA-256.
pub const SHA2_256: u64 = 0x12;

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The SHA-256 digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digests of the leaves that `bytes` are cut into; no bytes are one leaf of no bytes.
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

    /// The digest inside a CID, where it is one of SHA-256.
    #[must_use]
    pub fn of_cid(cid: &Cid) -> Option<Self> {
        if cid.hash().code() != SHA2_256 {
            return None;
        }
        Some(Self(cid.hash().digest().try_into().ok()?))
    }

    /// The CIDv1 of a block with this digest.
    ///
    /// # Panics
    /// Never: 32 bytes fit a multihash of 64.
    #[must_use]
    pub fn to_cid(self, codec: u64) -> Cid {
        let hash = Multihash::wrap(SHA2_256, &self.0).expect("32 bytes fit");
        Cid::new_v1(codec, hash)
    }
}

/// Hashes two things a block of each at a time. A block waits for the one before it, so a processor with instructions for SHA-256 is idle
/// half of the time: what is hashed by turns takes less than three quarters of the time of one after the other.
fn by_turns((one, of_one): (&mut Sha256, &[u8]), (other, of_other): (&mut Sha256, &[u8])) {
    let block = 64; // FIPS 180-4, figure 1
    let both = of_one.len().min(of_other.len());
    for (a, b) in of_one[..both].chunks(block).zip(of_other[..both].chunks(block)) {
        one.update(a);
        other.update(b);
    }
    one.update(&of_one[both..]);
    other.update(&of_other[both..]);
}

/// A CIDv1 as text: `b` and its base32, as `Display` writes it, but without the tables of all the other
/// bases, which would be a tenth of the service worker.
#[must_use]
pub fn cid_text(cid: &Cid) -> String {
    format!("b{}", Base32Unpadded::encode_string(&cid.to_bytes()))
}

/// Reads a CIDv1 in base32.
#[must_use]
pub fn parse_cid(text: &str) -> Option<Cid> {
    Cid::try_from(Base32Unpadded::decode_vec(text.strip_prefix('b')?).ok()?).ok()
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to_hex())
    }
}

/// A subtree, as the node above it describes it.
#[derive(Debug)]
pub(crate) struct Subtree {
    pub(crate) cid: Cid,
    /// Bytes of the file below.
    file_size: u64,
    /// Bytes of all blocks below, this one included: the link's `Tsize`.
    pub(crate) cumulative_size: u64,
}

/// The root CID of the artifact of `size` bytes whose leaves have the digests `leaves`, in order.
///
/// The number of digests must be the layout's; the caller checks ([`crate::dag::verify::LeafTable`] does).
#[must_use]
pub fn root(leaves: &[Digest], size: u64) -> Cid {
    let top = climb(over_leaves(leaves, 0, Layout::new(size)), drop);
    top.map_or_else(|| Digest::of(&[]).to_cid(RAW), |root| root.cid)
}

/// The levels of inner nodes over `leaves`, the lowest first and the root alone in the last; none over a single leaf.
pub(crate) fn inner_levels(leaves: &[Digest], layout: Layout) -> Vec<Vec<Subtree>> {
    let mut levels = Vec::new();
    let top = climb(over_leaves(leaves, 0, layout), |level| levels.push(level));
    levels.extend(top.map(|root| vec![root]));
    // The lowest of all is the leaves themselves.
    levels.into_iter().skip(1).collect()
}

/// Builds the levels above `level` up to the root, and hands on each that has another above it.
fn climb(mut level: Vec<Subtree>, mut below: impl FnMut(Vec<Subtree>)) -> Option<Subtree> {
    while level.len() > 1 {
        let above = level.chunks(MAX_LINKS).map(parent).collect();
        below(std::mem::replace(&mut level, above));
    }
    level.pop()
}

/// The leaves with the digests `leaves`, the first of which is the artifact's leaf `first`.
pub(crate) fn over_leaves(leaves: &[Digest], first: u64, layout: Layout) -> Vec<Subtree> {
    let leaf = |(i, digest): (u64, &Digest)| {
        let bytes = layout.bytes_of_leaves(&(i..i + 1));
        let length = bytes.end.saturating_sub(bytes.start);
        Subtree { cid: digest.to_cid(RAW), file_size: length, cumulative_size: length }
    };
    (first..).zip(leaves).map(leaf).collect()
}

/// The node that links to `children`.
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

/// Digests and root of bytes that come in pieces: one pass gives SHA-256, leaf table and CID.
#[derive(Debug, Default)]
pub struct FileHasher {
    whole: Sha256,
    leaf: Sha256,
    in_leaf: u64,
    size: u64,
    leaves: Vec<Digest>,
}

/// What a [`FileHasher`] found.
#[derive(Debug, Clone)]
pub struct FileDigests {
    /// Bytes seen.
    pub size: u64,
    /// SHA-256 of the whole.
    pub sha256: Digest,
    /// Root of the DAG.
    pub cid: Cid,
    /// Digest of each leaf.
    pub leaves: Vec<Digest>,
}

impl FileHasher {
    /// Takes the next bytes.
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

    /// What was found.
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

/// Collects the leaf digests of an artifact from the blocks of its DAG, root first, so that any IPFS
/// gateway can stand in for a leaf table.
///
/// What comes out is as untrusted as any leaf table: [`crate::dag::verify::LeafTable::verify`] decides.
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
    /// A block came that its CID does not name.
    #[error("the block sent for {0} does not have its digest")]
    WrongBlock(String),
    /// The block is no dag-pb node.
    #[error("the block {0} is not dag-pb: {1}")]
    NotDagPb(String, String),
    /// Not the number of blocks that were asked for, or not the number of links that the level below
    /// has in an artifact of this size.
    #[error("the DAG below does not have the shape of its size")]
    WrongShape,
}

impl Walk {
    /// Starts at the CID of an artifact of the given layout.
    #[must_use]
    pub fn new(root: Cid, layout: Layout) -> Self {
        let leaves = layout.leaves();
        let mut levels_left = 0;
        while width(leaves, levels_left) > 1 {
            levels_left += 1;
        }
        Self { level: vec![root], levels_left, leaves }
    }

    /// The blocks to fetch now, in order; empty when the leaves are reached.
    #[must_use]
    pub fn wanted(&self) -> &[Cid] {
        if self.levels_left == 0 { &[] } else { &self.level }
    }

    /// Takes the blocks that were wanted, in order, and goes down a level.
    ///
    /// # Errors
    /// A block that is not what its CID says, or is no dag-pb node.
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
        // Else 174 links to one node of 174 links, and so on, would ask for millions of blocks.
        if below.len() as u64 != width(self.leaves, self.levels_left - 1) {
            return Err(WalkError::WrongShape);
        }
        self.level = below;
        self.levels_left -= 1;
        Ok(())
    }

    /// The digests of the leaves, once nothing more is wanted.
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
