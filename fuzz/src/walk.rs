//! Walks down DAGs whose blocks come from anybody.

use std::collections::HashMap;

use arbitrary::{Arbitrary, Unstructured};
use cid::Cid;
use cid::multihash::Multihash;
use edge_net_core::dag::cid::{DAG_PB, RAW};
use edge_net_core::dag::digest::Digest;
use edge_net_core::dag::layout::{LEAF_SIZE, Layout};
use edge_net_core::dag::unixfs::root;
use edge_net_core::dag::verify::LeafTable;
use edge_net_core::dag::walk::{Walk, WalkError};
use edge_net_core::trust::manifest::MAX_SIZE;
use ipld_dagpb::{PbLink, PbNode};

/// Input: a case as [`arbitrary`] decodes it: blocks that link to earlier ones, and a size.
///
/// - A walk wants no more blocks on a level than the artifact has leaves, and ends with as many
///   digests as it has.
/// - A block that its CID does not name is refused, and a refusal leaves the walk as it was.
/// - Leaves are given only when no block is wanted any more.
/// - A leaf table of these leaves is accepted only where its root is the root of the walk.
///
/// # Panics
/// When a property does not hold.
pub fn walk(data: &[u8]) {
    let Ok(case) = Case::arbitrary(&mut Unstructured::new(data)) else { return };
    let dag = Dag::of(&case.nodes);
    let layout = Layout::new(match case.size {
        Size::Bytes(size) => size % (MAX_SIZE + 1),
        Size::Leaves(leaves) => u64::from(leaves) * LEAF_SIZE,
    });
    let mut walk = Walk::new(dag.root, layout);
    let mut levels = 0;
    while !walk.wanted().is_empty() {
        let wanted = walk.wanted().to_vec();
        assert_eq!(walk.leaves(), None);
        assert!(wanted.len() as u64 <= layout.leaves(), "more blocks than leaves are wanted");
        if wanted.len() > MOST {
            return;
        }
        let blocks: Vec<Vec<u8>> = wanted.iter().map(|cid| dag.block(cid)).collect();
        assert_tampering_is_refused(&mut walk, &blocks, &case.tampering);
        assert_eq!(walk.wanted(), wanted);
        let complete = wanted.iter().all(|cid| dag.blocks.contains_key(cid));
        match walk.descend(&blocks) {
            Ok(()) => assert!(complete, "a block came that nobody has"),
            Err(_) => return assert_eq!(walk.wanted(), wanted),
        }
        levels += 1;
        assert!(levels <= 8, "no artifact has so many levels");
    }
    let Some(leaves) = walk.leaves() else { return };
    assert_eq!(leaves.len() as u64, layout.leaves());
    if let Ok(table) = LeafTable::from_digests(leaves.clone(), layout.size(), &dag.root) {
        assert_eq!(root(&leaves, layout.size()), dag.root);
        assert_eq!(table.digests(), leaves);
    }
}

/// Blocks of one level that are served at the most.
const MOST: usize = 4096;

#[derive(Debug, Arbitrary)]
struct Case {
    size: Size,
    tampering: Tampering,
    nodes: Vec<Node>,
}

/// The size that the manifest says.
#[derive(Debug, Arbitrary)]
enum Size {
    Bytes(u64),
    Leaves(u16),
}

#[derive(Debug, Arbitrary)]
struct Tampering {
    block: u16,
    byte: u16,
    bit: u8,
}

#[derive(Debug, Arbitrary)]
enum Node {
    /// A dag-pb node over earlier blocks.
    Links { links: Vec<Link>, data: Option<Vec<u8>> },
    /// A node over one block, many times.
    Wide { link: Link, times: u8 },
    /// Bytes.
    Block(Vec<u8>),
}

#[derive(Debug, Arbitrary)]
struct Link {
    target: Target,
    name: Option<String>,
    size: Option<u64>,
}

#[derive(Debug, Arbitrary)]
enum Target {
    /// The block so many before this one, if there is one.
    Earlier(u8),
    /// A leaf.
    Leaf(u8),
    /// A CID whose hash is not SHA-256.
    Identity([u8; 4]),
}

struct Dag {
    blocks: HashMap<Cid, Vec<u8>>,
    root: Cid,
}

impl Dag {
    /// The DAG whose root is the last of `nodes`.
    fn of(nodes: &[Node]) -> Self {
        let mut cids: Vec<Cid> = Vec::new();
        let mut blocks = HashMap::new();
        for node in nodes {
            let block = node.encoded(&cids);
            let cid = Digest::of(&block).to_cid(DAG_PB);
            cids.push(cid);
            blocks.insert(cid, block);
        }
        let root = cids.last().copied().unwrap_or_else(|| Digest::of(b"no block").to_cid(RAW));
        Self { blocks, root }
    }

    /// The block that is sent for `cid`: no bytes where there is none.
    fn block(&self, cid: &Cid) -> Vec<u8> {
        self.blocks.get(cid).cloned().unwrap_or_default()
    }
}

impl Node {
    fn encoded(&self, earlier: &[Cid]) -> Vec<u8> {
        match self {
            Self::Block(bytes) => bytes.clone(),
            Self::Links { links, data } => PbNode {
                links: links.iter().map(|link| link.encoded(earlier)).collect(),
                data: data.clone().map(Into::into),
            }
            .into_bytes(),
            Self::Wide { link, times } => {
                let links = vec![link.encoded(earlier); usize::from(*times)];
                PbNode { links, data: None }.into_bytes()
            }
        }
    }
}

impl Link {
    fn encoded(&self, earlier: &[Cid]) -> PbLink {
        let cid = match self.target {
            Target::Earlier(back) => {
                let at = earlier.len().checked_sub(1 + usize::from(back));
                at.map_or_else(|| Digest::of(&[back]).to_cid(RAW), |at| earlier[at])
            }
            Target::Leaf(leaf) => Digest::of(&[leaf]).to_cid(RAW),
            Target::Identity(bytes) => {
                Cid::new_v1(RAW, Multihash::wrap(0, &bytes).expect("four bytes fit"))
            }
        };
        PbLink { cid, name: self.name.clone(), size: self.size }
    }
}

fn assert_tampering_is_refused(walk: &mut Walk, blocks: &[Vec<u8>], tampering: &Tampering) {
    let mut tampered = blocks.to_vec();
    let block = &mut tampered[usize::from(tampering.block) % blocks.len()];
    if block.is_empty() {
        block.push(tampering.bit);
    } else {
        let at = usize::from(tampering.byte) % block.len();
        block[at] ^= 1 << (tampering.bit % 8);
    }
    assert!(walk.descend(&tampered).is_err(), "a changed block was accepted");
    let fewer = walk.descend(&blocks[1..]);
    assert!(matches!(fewer, Err(WalkError::WrongShape)));
    tampered.push(Vec::new());
    let more = walk.descend(&tampered);
    assert!(matches!(more, Err(WalkError::WrongShape)));
}
