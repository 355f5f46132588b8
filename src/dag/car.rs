//! Content-addressable archives: a DAG's blocks in one file, depth first, [CARv1](https://ipld.io/specs/transport/car/carv1/).
//!
//! What an archive is made of is planned before a byte of the artifact is there, so its length is known beforehand, and it is
//! sent a segment of the artifact at a time however large that is.

use std::ops::Range;
use std::sync::Arc;

use cid::Cid;
use quick_protobuf::Writer;
use quick_protobuf::sizeofs::sizeof_varint;

use crate::dag::blocks::{Blocks, Position};
use crate::dag::layout::{Layout, SEGMENT_SIZE};

/// Bytes that a [`Stretch`] brings along at the most, but for its last block: nodes over leaves that all came before.
const BROUGHT: u64 = 1 << 20;

/// What of the DAG below a block an archive has.
///
/// Exhaustive, as the specification's `dag-scope` is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extent {
    /// The block alone.
    Block,
    /// All blocks that these bytes of the artifact need to be verified.
    Bytes(Range<u64>),
    /// Everything.
    All,
}

/// What becomes of a block that the DAG has more than once.
///
/// Exhaustive, as the specification's `dups` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duplicates {
    /// It is sent once: `dups=n`.
    Once,
    /// It is sent each time: `dups=y`.
    Each,
}

/// An archive, planned.
#[derive(Debug)]
pub struct Car {
    blocks: Arc<Blocks>,
    root: Position,
    /// The leaves that are walked to; none where the root is all there is.
    leaves: Range<u64>,
    /// By level, the numbers of the blocks that are left out: they came before.
    left_out: Vec<Vec<u64>>,
}

/// The bytes of an archive before its first block: version 1, and the one root.
///
/// It is the DAG-CBOR of `{"roots": [root], "version": 1}`, preceded by its length.
#[must_use]
pub fn header(root: &Cid) -> Vec<u8> {
    let cid = root.to_bytes();
    let mut map = b"\xa2\x65roots\x81\xd8\x2a".to_vec();
    // A byte string of the CID after a zero, the "identity multibase" prefix that DAG-CBOR's links have.
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

/// What precedes a block of `size` bytes: the length of all that follows in its section, and its CID.
fn section(cid: &Cid, size: u64) -> Vec<u8> {
    let cid = cid.to_bytes();
    let mut section = varint(cid.len() as u64 + size);
    section.extend(cid);
    section
}

/// The unsigned varint of the multiformats, which is that of Protocol Buffers.
fn varint(n: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(sizeof_varint(n));
    let written = Writer::new(&mut bytes).write_varint(n);
    debug_assert!(written.is_ok(), "writing to memory does not fail");
    bytes
}

impl Car {
    /// The archive of what `extent` says of the DAG below `root`.
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

    /// The bytes of the artifact that the leaves in it come from: from the first of them to the last.
    #[must_use]
    pub fn content(&self) -> Range<u64> {
        self.blocks.layout().bytes_of_leaves(&self.leaves)
    }

    /// Bytes in the archive.
    #[must_use]
    pub fn length(self: &Arc<Self>) -> u64 {
        let section = |at| {
            let (cid, size) = (self.blocks.cid(at).encoded_len() as u64, self.blocks.size(at));
            sizeof_varint(cid + size) as u64 + cid + size
        };
        let header = header(&self.blocks.cid(self.root)).len() as u64;
        header + self.positions().map(section).sum::<u64>()
    }

    /// The blocks, in the order in which they are sent: depth first, parents before children, from the start of the file.
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

    /// The archive in the order in which it is sent, cut so that no piece needs more of the artifact than a part of one segment.
    pub fn stretches(self: &Arc<Self>) -> impl Iterator<Item = Stretch> + use<> {
        let blocks = Arc::clone(&self.blocks);
        let mut positions = self.positions().peekable();
        let mut opening = Some(header(&blocks.cid(self.root)));
        std::iter::from_fn(move || {
            let mut stretch = Stretch::default();
            if let Some(header) = opening.take() {
                stretch.bring(&header);
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

/// A run of an archive's bytes, for which a part of one segment of the artifact has to be at hand.
#[derive(Debug, Default)]
pub struct Stretch {
    pieces: Vec<Piece>,
    needs: Option<(u64, Range<u64>)>,
    brought: u64,
}

/// Bytes of an archive. Exhaustive: whoever sends an archive has to send every kind.
#[derive(Debug)]
pub enum Piece {
    /// These.
    Here(Vec<u8>),
    /// These of the artifact: a leaf.
    Leaf(Range<u64>),
}

impl Stretch {
    /// What it is made of, in order.
    #[must_use]
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The segment that it needs, and which bytes of the artifact from there: from the first leaf to the last.
    #[must_use]
    pub const fn needs(&self) -> Option<&(u64, Range<u64>)> {
        self.needs.as_ref()
    }

    /// Bytes of the archive in it.
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
        fits && self.brought < BROUGHT
    }

    fn add(&mut self, blocks: &Blocks, at: Position) {
        self.bring(&section(&blocks.cid(at), blocks.size(at)));
        match at {
            Position::Inner(inner) => self.bring(&blocks.inner(inner)),
            Position::Leaf(leaf) => {
                let bytes = blocks.leaf(leaf);
                // The one leaf of an empty artifact needs nothing.
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

    fn bring(&mut self, bytes: &[u8]) {
        self.brought += bytes.len() as u64;
        match self.pieces.last_mut() {
            Some(Piece::Here(before)) => before.extend(bytes),
            _ => self.pieces.push(Piece::Here(bytes.to_vec())),
        }
    }
}

impl Piece {
    /// Bytes in it.
    #[must_use]
    pub fn length(&self) -> u64 {
        match self {
            Self::Here(bytes) => bytes.len() as u64,
            Self::Leaf(bytes) => bytes.end - bytes.start,
        }
    }
}
