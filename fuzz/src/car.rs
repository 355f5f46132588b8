//! Archives of DAGs.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use arbitrary::{Arbitrary, Unstructured};
use cid::Cid;
use edge_net_core::dag::blocks::{Blocks, Position};
use edge_net_core::dag::car::{Car, Duplicates, Extent, Piece, header};
use edge_net_core::dag::cid::{DAG_PB, RAW};
use edge_net_core::dag::digest::Digest;
use edge_net_core::dag::layout::SEGMENT_SIZE;
use edge_net_core::dag::walk::Walk;
use ipld_dagpb::{PbLink, PbNode};

use crate::artifact::Artifact;

/// Input: a case as [`arbitrary`] decodes it: an artifact, the block that is asked for, and how.
///
/// - An archive has as many bytes as it announces, and starts with its header.
/// - Its sections, read back, are its blocks in their order, the root first: each inner node has
///   the digest of its CID, each leaf the bytes of the artifact that it stands for.
/// - Without duplicates no block comes twice.
/// - The blocks suffice for a client to walk from the root to the leaves that were asked for.
/// - Each stretch needs bytes of one segment, and its leaves lie in these.
///
/// # Panics
/// When a property does not hold.
pub fn car(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let Ok(artifact) = Artifact::arbitrary(&mut input) else { return };
    let Ok(request) = Request::arbitrary(&mut input) else { return };
    let blocks = artifact.blocks();
    let whole = Car::new(Arc::clone(&blocks), blocks.root(), &Extent::All, Duplicates::Each);
    let root = if request.block == 0 {
        blocks.root()
    } else {
        let mut positions = Arc::new(whole).positions();
        let skipped = usize::from(request.block) % artifact.digests.len();
        positions.nth(skipped).expect("there are at least as many blocks as leaves")
    };
    let extent = request.extent(&blocks.content(root));
    let duplicates = if request.once { Duplicates::Once } else { Duplicates::Each };
    let car = Arc::new(Car::new(Arc::clone(&blocks), root, &extent, duplicates));

    let sections = sections(&car, &header(&blocks.cid(root)));
    assert_stretches(&car);
    assert_sections(&blocks, &artifact, &car, &sections);
    if request.once {
        let cids: HashSet<Cid> = sections.iter().map(|section| section.cid).collect();
        assert_eq!(cids.len(), sections.len(), "a block comes twice");
    }
    assert_sufficient(&blocks, root, &extent, &sections);
    if root == blocks.root() && extent == Extent::All {
        assert_walkable(&artifact, &sections);
    }
}

#[derive(Debug, Arbitrary)]
struct Request {
    /// Which block is the root of the archive: 0 is the root of the artifact.
    block: u16,
    once: bool,
    scope: Scope,
}

#[derive(Debug, Arbitrary)]
enum Scope {
    Block,
    All,
    Bytes(u32, u32),
}

impl Request {
    fn extent(&self, file: &Range<u64>) -> Extent {
        match self.scope {
            Scope::Block => Extent::Block,
            Scope::All => Extent::All,
            Scope::Bytes(start, length) => {
                let start = file.start + u64::from(start) % (file.end - file.start).max(1);
                Extent::Bytes(start..(start + u64::from(length)).min(file.end))
            }
        }
    }
}

/// A block, as an archive has it.
struct Section {
    cid: Cid,
    size: u64,
    content: Content,
}

enum Content {
    Block(Vec<u8>),
    Leaf(Range<u64>),
}

/// Reads an archive from the CARv1 specification; leaves stay ranges of the artifact.
fn sections(car: &Arc<Car>, header: &[u8]) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let mut rest_of_header = header;
    let mut leaf: Option<(Cid, u64)> = None;
    for stretch in car.stretches() {
        for piece in stretch.pieces() {
            match piece {
                Piece::Leaf(range) => {
                    let (cid, size) = leaf.take().expect("a leaf follows the head of its section");
                    assert_eq!(range.end - range.start, size);
                    sections.push(Section { cid, size, content: Content::Leaf(range.clone()) });
                }
                Piece::Here(bytes) => {
                    assert!(leaf.is_none(), "the head of a leaf's section is followed by the leaf");
                    let mut bytes = &bytes[..];
                    let opening = rest_of_header.len().min(bytes.len());
                    assert_eq!(bytes[..opening], rest_of_header[..opening]);
                    rest_of_header = &rest_of_header[opening..];
                    bytes = &bytes[opening..];
                    leaf = read_sections(bytes, &mut sections);
                }
            }
        }
    }
    assert!(leaf.is_none() && rest_of_header.is_empty());
    sections
}

/// Reads sections of inner nodes, and the head of a leaf's section where `bytes` end with one.
fn read_sections(mut bytes: &[u8], sections: &mut Vec<Section>) -> Option<(Cid, u64)> {
    while !bytes.is_empty() {
        let length = read_varint(&mut bytes);
        let cid = Cid::read_bytes(&mut bytes).expect("a section starts with a CID");
        let size = length - cid.encoded_len() as u64;
        if cid.codec() == RAW {
            assert!(bytes.is_empty());
            return Some((cid, size));
        }
        let (block, rest) = bytes.split_at(usize::try_from(size).expect("a block is small"));
        sections.push(Section { cid, size, content: Content::Block(block.to_vec()) });
        bytes = rest;
    }
    None
}

fn read_varint(bytes: &mut &[u8]) -> u64 {
    let mut n = 0;
    for shift in (0..).step_by(7) {
        let (byte, rest) = bytes.split_first().expect("a varint ends");
        *bytes = rest;
        n |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            break;
        }
    }
    n
}

fn assert_stretches(car: &Arc<Car>) {
    let mut length = 0;
    for stretch in car.stretches() {
        length += stretch.length();
        assert!(!stretch.pieces().is_empty());
        for piece in stretch.pieces() {
            let Piece::Leaf(leaf) = piece else { continue };
            if leaf.is_empty() {
                continue;
            }
            let (segment, needed) = stretch.needs().expect("a stretch with a leaf needs a segment");
            assert!(needed.start <= leaf.start && leaf.end <= needed.end);
            assert!(needed.start >= segment * SEGMENT_SIZE);
            assert!(needed.end <= (segment + 1) * SEGMENT_SIZE);
        }
    }
    assert_eq!(length, car.length());
}

fn assert_sections(blocks: &Blocks, artifact: &Artifact, car: &Arc<Car>, sections: &[Section]) {
    let positions: Vec<Position> = car.positions().collect();
    assert_eq!(sections.len(), positions.len());
    for (section, at) in sections.iter().zip(positions) {
        assert_eq!((section.cid, section.size), (blocks.cid(at), blocks.size(at)));
        match (&section.content, at) {
            (Content::Block(block), Position::Inner(_)) => {
                assert_eq!(Digest::of(block).to_cid(DAG_PB), section.cid);
            }
            (Content::Leaf(bytes), Position::Leaf(leaf)) => {
                assert_eq!(*bytes, artifact.layout().bytes_of_leaves(&(leaf..leaf + 1)));
                let digest = artifact.digests[usize::try_from(leaf).expect("it is in memory")];
                assert_eq!(digest.to_cid(RAW), section.cid);
            }
            _ => panic!("a leaf in place of a node, or a node in place of a leaf"),
        }
    }
}

/// What was asked for is there, with all that it needs to be verified: a client that reads only the
/// blocks meets none that is missing.
fn assert_sufficient(blocks: &Blocks, root: Position, extent: &Extent, sections: &[Section]) {
    assert_eq!(sections[0].cid, blocks.cid(root));
    let file = blocks.content(root);
    let wanted = match extent {
        Extent::Block => 0..0,
        Extent::Bytes(bytes) => bytes.clone(),
        Extent::All => file.clone(),
    };
    if wanted.is_empty() {
        return assert_eq!(sections.len(), 1);
    }
    let there: HashMap<Cid, &Content> =
        sections.iter().map(|section| (section.cid, &section.content)).collect();
    let mut stack = vec![(blocks.cid(root), file)];
    while let Some((cid, bytes)) = stack.pop() {
        match there.get(&cid).expect("a block is missing") {
            Content::Leaf(leaf) => assert_eq!(leaf.end - leaf.start, bytes.end - bytes.start),
            Content::Block(block) => {
                let below = children(block, bytes.start);
                assert_eq!(below.last().map(|(_, child)| child.end), Some(bytes.end));
                let met = |child: &Range<u64>| child.start < wanted.end && wanted.start < child.end;
                stack.extend(below.into_iter().filter(|(_, child)| met(child)));
            }
        }
    }
}

/// The links of a node whose first byte is byte `start` of the artifact, with the bytes below each:
/// UnixFS says how many in `blocksizes`, field 4.
fn children(block: &[u8], start: u64) -> Vec<(Cid, Range<u64>)> {
    let node = PbNode::from_bytes(block.to_vec().into()).expect("an inner node is dag-pb");
    let data = node.data.expect("an inner node is UnixFS");
    let mut rest = &data[..];
    let mut sizes = Vec::new();
    while !rest.is_empty() {
        let (key, value) = (read_varint(&mut rest), read_varint(&mut rest));
        if key == 4 << 3 {
            sizes.push(value);
        }
    }
    assert_eq!(sizes.len(), node.links.len());
    let mut end = start;
    let child = |(link, size): (PbLink, u64)| {
        let start = end;
        end += size;
        (link.cid, start..end)
    };
    node.links.into_iter().zip(sizes).map(child).collect()
}

/// A client that knows only the root and the size reaches the leaves.
fn assert_walkable(artifact: &Artifact, sections: &[Section]) {
    let there: HashMap<Cid, &Content> =
        sections.iter().map(|section| (section.cid, &section.content)).collect();
    let mut walk = Walk::new(artifact.cid, artifact.layout());
    while !walk.wanted().is_empty() {
        let block = |cid: &Cid| match there.get(cid) {
            Some(Content::Block(block)) => block.clone(),
            _ => panic!("an inner node is missing"),
        };
        let blocks: Vec<Vec<u8>> = walk.wanted().iter().map(block).collect();
        walk.descend(&blocks).expect("the blocks are those of the artifact");
    }
    assert_eq!(walk.leaves().as_ref(), Some(&artifact.digests));
}
