//! Content-addressable archives: a DAG's blocks in one file, depth first,
//! [CARv1](https://ipld.io/specs/transport/car/carv1/).
//!
//! An archive is planned before any byte of the artifact is present. Its length is therefore known
//! in advance, and it is sent one segment of the artifact at a time.

use std::ops::Range;
use std::sync::Arc;

use cid::Cid;
use quick_protobuf::Writer;
use quick_protobuf::sizeofs::sizeof_varint;

use crate::dag::blocks::{Blocks, Position};
use crate::dag::layout::{Layout, SEGMENT_SIZE};

/// Most bytes of inner nodes in a [`Stretch`], not counting its last block.
const MAX_OWN: u64 = 1 << 20;

/// Which blocks below a block an archive contains.
///
/// Exhaustive, as the specification's `dag-scope` is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extent {
    /// The block alone: `dag-scope=block`.
    Block,
    /// All blocks that are needed to verify these bytes of the artifact: `entity-bytes`.
    Bytes(Range<u64>),
    /// All blocks: `dag-scope=all`.
    All,
}

/// How often a block is sent that the DAG has more than once.
///
/// Exhaustive, as the specification's `dups` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duplicates {
    /// Once: `dups=n`.
    Once,
    /// Each time: `dups=y`.
    Each,
}

/// A planned archive.
#[derive(Debug)]
pub struct Car {
    blocks: Arc<Blocks>,
    root: Position,
    /// The leaves that the walk visits; none when the archive is the root alone.
    leaves: Range<u64>,
    /// By level, the numbers of repeated blocks, which are left out.
    left_out: Vec<Vec<u64>>,
}

/// The bytes of an archive before its first block: version 1 and the root.
///
/// They are the length and the DAG-CBOR of `{"roots": [root], "version": 1}`.
#[must_use]
pub fn header(root: &Cid) -> Vec<u8> {
    let cid = root.to_bytes();
    let mut map = b"\xa2\x65roots\x81\xd8\x2a".to_vec();
    // A link in DAG-CBOR: a byte string of a zero (the identity multibase prefix) and the CID.
    match u8::try_from(cid.len() + 1).unwrap_or(u8::MAX) {
        short @ ..24 => map.push(0x40 | short),
        long => map.extend([0x58, long]),
    }
    map.push(0);
    map.extend(cid);
    map.extend(b"\x67version\x01");
    let mut header = varint(map.len() as u64);
    header.extend(map);
    header
}

/// The bytes before a block of `size` bytes: the length of the rest of its section, and its CID.
fn section(cid: &Cid, size: u64) -> Vec<u8> {
    let cid = cid.to_bytes();
    let mut section = varint(cid.len() as u64 + size);
    section.extend(cid);
    section
}

/// An unsigned varint of multiformats, which Protocol Buffers have too.
fn varint(n: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(sizeof_varint(n));
    let written = Writer::new(&mut bytes).write_varint(n);
    debug_assert!(written.is_ok(), "writing to memory does not fail");
    bytes
}

impl Car {
    /// The archive of the blocks below `root` that `extent` selects.
    #[must_use]
    pub fn new(
        blocks: Arc<Blocks>,
        root: Position,
        extent: &Extent,
        duplicates: Duplicates,
    ) -> Self {
        let all = blocks.leaves(root);
        let leaves = match extent {
            Extent::Block => 0..0,
            Extent::Bytes(bytes) => {
                let asked = Layout::leaves_of_bytes(bytes);
                asked.start.max(all.start)..asked.end.min(all.end)
            }
            Extent::All => all,
        };
        let left_out = match duplicates {
            Duplicates::Once => blocks.repeated(&leaves),
            Duplicates::Each => Vec::new(),
        };
        Self { blocks, root, leaves, left_out }
    }

    /// The byte range of the artifact from its first leaf in the archive to the last.
    #[must_use]
    pub fn content(&self) -> Range<u64> {
        self.blocks.layout().bytes_of_leaves(&self.leaves)
    }

    /// Size of the archive in bytes.
    #[must_use]
    pub fn length(self: &Arc<Self>) -> u64 {
        let section = |at| {
            let (cid, size) = (self.blocks.cid(at).encoded_len() as u64, self.blocks.size(at));
            sizeof_varint(cid + size) as u64 + cid + size
        };
        let header = header(&self.blocks.cid(self.root)).len() as u64;
        header + self.positions().map(section).sum::<u64>()
    }

    /// The blocks in the order in which they are sent: depth first, parents before children, from
    /// the start of the file.
    pub fn positions(self: &Arc<Self>) -> impl Iterator<Item = Position> + use<> {
        let car = Arc::clone(self);
        let mut stack = vec![self.root];
        let walk = std::iter::from_fn(move || {
            let at = stack.pop()?;
            if let Position::Inner(inner) = at
                && !car.leaves.is_empty()
            {
                stack.extend(car.blocks.below(inner, &car.leaves).rev());
            }
            Some((at, car.is_left_out(at)))
        });
        walk.filter(|(_, left_out)| !left_out).map(|(at, _)| at)
    }

    /// The archive in stretches, in order. Each needs bytes of one segment of the artifact at most.
    pub fn stretches(self: &Arc<Self>) -> impl Iterator<Item = Stretch> + use<> {
        let blocks = Arc::clone(&self.blocks);
        let mut positions = self.positions().peekable();
        let mut opening = Some(header(&blocks.cid(self.root)));
        std::iter::from_fn(move || {
            let mut stretch = Stretch::default();
            if let Some(header) = opening.take() {
                stretch.add_own(&header);
            }
            while let Some(at) = positions.next_if(|at| stretch.has_room(&blocks, *at)) {
                stretch.add(&blocks, at);
            }
            (!stretch.pieces.is_empty()).then_some(stretch)
        })
    }

    fn is_left_out(&self, at: Position) -> bool {
        let (level, index) = at.place();
        self.left_out.get(level).is_some_and(|left_out| left_out.binary_search(&index).is_ok())
    }
}

/// A run of an archive's bytes that needs bytes of one segment of the artifact at most.
#[derive(Debug, Default)]
pub struct Stretch {
    pieces: Vec<Piece>,
    needs: Option<(u64, Range<u64>)>,
    /// Bytes of pieces that are not leaves.
    own: u64,
}

/// Bytes of an archive. Exhaustive: a sender has to send every kind.
#[derive(Debug)]
pub enum Piece {
    /// These bytes.
    Here(Vec<u8>),
    /// A leaf: this byte range of the artifact.
    Leaf(Range<u64>),
}

impl Stretch {
    /// Its pieces, in order.
    #[must_use]
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The segment that it needs, and the byte range of the artifact from its first leaf to its
    /// last.
    #[must_use]
    pub const fn needs(&self) -> Option<&(u64, Range<u64>)> {
        self.needs.as_ref()
    }

    /// Size in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.pieces.iter().map(Piece::length).sum()
    }

    fn has_room(&self, blocks: &Blocks, at: Position) -> bool {
        let fits = match (at, &self.needs) {
            (Position::Leaf(leaf), Some((segment, _))) => {
                blocks.leaf(leaf).start / SEGMENT_SIZE == *segment
            }
            _ => true,
        };
        fits && self.own < MAX_OWN
    }

    fn add(&mut self, blocks: &Blocks, at: Position) {
        self.add_own(&section(&blocks.cid(at), blocks.size(at)));
        match at {
            Position::Inner(inner) => self.add_own(&blocks.inner(inner)),
            Position::Leaf(leaf) => {
                let bytes = blocks.leaf(leaf);
                // The leaf of an empty artifact needs no bytes.
                if !bytes.is_empty() {
                    let (_, needs) = self
                        .needs
                        .get_or_insert_with(|| (bytes.start / SEGMENT_SIZE, bytes.clone()));
                    needs.end = bytes.end;
                }
                self.pieces.push(Piece::Leaf(bytes));
            }
        }
    }

    fn add_own(&mut self, bytes: &[u8]) {
        self.own += bytes.len() as u64;
        match self.pieces.last_mut() {
            Some(Piece::Here(before)) => before.extend(bytes),
            _ => self.pieces.push(Piece::Here(bytes.to_vec())),
        }
    }
}

impl Piece {
    /// Size in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        match self {
            Self::Here(bytes) => bytes.len() as u64,
            Self::Leaf(bytes) => bytes.end - bytes.start,
        }
    }
}
