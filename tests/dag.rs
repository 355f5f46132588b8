//! CIDs, leaf digests and the walk down a DAG.

use edge_net_core::dag::cid::{DAG_PB, RAW, cid_text, parse_cid};
use edge_net_core::dag::digest::Digest;
use edge_net_core::dag::hasher::{FileDigests, FileHasher};
use edge_net_core::dag::layout::{LEAF_SIZE, Layout};
use edge_net_core::dag::unixfs::{MAX_LINKS, root};
use edge_net_core::dag::verify::LeafTable;
use edge_net_core::dag::walk::{Walk, WalkError};
use ipld_dagpb::{PbLink, PbNode};
use proptest::prelude::*;

/// Root CIDs of ipfs-unixfs-importer 17.1.1 for [`content`] (options as in
/// conformance.test.mjs).
const REFERENCE: [(u64, &str); 11] = [
    (0, "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"),
    (1, "bafkreig2xu5p65u7a7vsszkad2yctf2oxorua6x5akzg3w2wj2s7r35ooi"),
    (262_143, "bafkreia24vpfrnljh65wtf56vp5kbjolvjshtt4e2hwzowr44qmhnb3ksu"),
    (262_144, "bafkreibujmr3y4bibozehzkai7lxzlxtxk2q7fi4cbuf6lxtbp7pt35wjm"),
    (262_145, "bafybeidrehshfsogbvpbucfddot3x7zubv4e3p6ui5pulfvmjr6432bpze"),
    (22_928_619, "bafybeif67hf7i2mq555dzg4th6nkoyy6hf47umg2iyoxis25frfpfnlwcm"),
    (174 * LEAF_SIZE, "bafybeiautsrloawvnkxztrpa2ru4xv6ghxzwaisp7hmcco2ouchbdbfw2a"),
    (174 * LEAF_SIZE + 1, "bafybeihop2a4u6mlprpeq4gptruegsh7s6fizmgj6wecqxh3xttoqmupzy"),
    (175 * LEAF_SIZE, "bafybeibnzi3o7xuqz5yzgb4a5bhxequysda7sc4ul6b3d5esvifoznwrye"),
    (174 * 174 * LEAF_SIZE, "bafybeickds5ukmymubtts3pmet6lngnnty2wa7647ae4j354mbklbuz6qy"),
    (174 * 174 * LEAF_SIZE + 1, "bafybeigewvi3pxs6npi4txgqxjduwjusmqopb6x267pqzcw3uf7rnr5y3q"),
];
/// The largest file that the tests hash as a whole; of larger ones they hash the different leaves.
const MAX_HASHED: u64 = 50_000_000;

/// The leaves 0, 1 and 2 of [`content`]: the high bytes of a linear congruence seeded by the leaf's
/// number.
fn patterns() -> [Vec<u8>; 3] {
    [0u32, 1, 2].map(|seed| {
        let mut state = seed;
        let next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        };
        std::iter::repeat_with(next).take(to_usize(LEAF_SIZE)).collect()
    })
}

/// The pieces of a file of `size` bytes whose leaves repeat the three patterns.
fn content(patterns: &[Vec<u8>; 3], size: u64) -> impl Iterator<Item = &[u8]> {
    let layout = Layout::new(size);
    (0..layout.leaves()).zip(patterns.iter().cycle()).map(move |(leaf, pattern)| {
        let bytes = layout.bytes_of_leaves(&(leaf..leaf + 1));
        &pattern[..to_usize(bytes.end - bytes.start)]
    })
}

fn to_usize(n: u64) -> usize {
    usize::try_from(n).unwrap()
}

fn digests_of(bytes: &[u8]) -> FileDigests {
    let mut hasher = FileHasher::default();
    hasher.update(bytes);
    hasher.finish()
}

#[test]
fn roots_are_those_of_the_reference_importer() {
    let patterns = patterns();
    for (size, cid) in REFERENCE.into_iter().filter(|(size, _)| *size <= MAX_HASHED) {
        let mut hasher = FileHasher::default();
        content(&patterns, size).for_each(|piece| hasher.update(piece));
        let found = hasher.finish();
        assert_eq!((found.size, cid_text(&found.cid).as_str()), (size, cid));
        assert_eq!(found.leaves.len() as u64, Layout::new(size).leaves());
    }
}

#[test]
fn roots_of_three_levels_are_those_of_the_reference_importer() {
    let patterns = patterns();
    let whole = patterns.each_ref().map(|pattern| Digest::of(pattern));
    for (size, cid) in REFERENCE {
        let mut leaves: Vec<Digest> =
            whole.iter().copied().cycle().take(to_usize(Layout::new(size).leaves())).collect();
        *leaves.last_mut().unwrap() = Digest::of(content(&patterns, size).last().unwrap());
        assert_eq!(cid_text(&root(&leaves, size)), cid, "{size} bytes");
    }
}

#[test]
fn cids_survive_their_text() {
    for codec in [RAW, DAG_PB] {
        let cid = Digest::of(b"a").to_cid(codec);
        assert_eq!(cid_text(&cid), cid.to_string(), "as the cid crate writes it");
        assert_eq!(parse_cid(&cid_text(&cid)), Some(cid));
    }
    let text = cid_text(&Digest::of(b"a").to_cid(RAW));
    let upper = text.to_uppercase();
    for wrong in [
        "",
        "b",
        "z",
        "é",
        &text[1..],
        &upper,
        &text[..text.len() - 1],
        &format!("{text}a"),
        &format!("{text}="),
        "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG",
    ] {
        assert_eq!(parse_cid(wrong), None, "{wrong}");
    }
}

#[test]
fn digests_survive_their_text() {
    let digest = Digest::of(b"abc");
    assert_eq!(digest.to_hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_eq!(Digest::from_hex(&digest.to_hex()), Some(digest));
    for wrong in [
        "",
        "ba",
        &digest.to_hex().to_uppercase(),
        &format!("{}00", digest.to_hex()),
        &"g".repeat(64),
        &"é".repeat(32),
    ] {
        assert_eq!(Digest::from_hex(wrong), None, "{wrong}");
    }
}

/// The DAG of a gateway, built from the specification rather than by the crate.
struct Dag {
    root: cid::Cid,
    blocks: std::collections::HashMap<cid::Cid, Vec<u8>>,
}

fn dag(leaves: &[Digest], size: u64) -> Dag {
    let layout = Layout::new(size);
    let mut blocks = std::collections::HashMap::new();
    let mut level: Vec<(cid::Cid, u64, u64)> = (0..)
        .zip(leaves)
        .map(|(i, leaf)| {
            let bytes = layout.bytes_of_leaves(&(i..i + 1));
            (leaf.to_cid(RAW), bytes.end - bytes.start, bytes.end - bytes.start)
        })
        .collect();
    while level.len() > 1 {
        let parent = |children: &[(cid::Cid, u64, u64)]| {
            let file_size: u64 = children.iter().map(|child| child.1).sum();
            let mut data = vec![0x08, 0x02, 0x18];
            varint(&mut data, file_size);
            for child in children {
                data.push(0x20);
                varint(&mut data, child.1);
            }
            let links = children.iter().map(|child| PbLink {
                cid: child.0,
                name: Some(String::new()),
                size: Some(child.2),
            });
            let block = PbNode { links: links.collect(), data: Some(data.into()) }.into_bytes();
            let cid = Digest::of(&block).to_cid(DAG_PB);
            let total = block.len() as u64 + children.iter().map(|child| child.2).sum::<u64>();
            blocks.insert(cid, block);
            (cid, file_size, total)
        };
        level = level.chunks(MAX_LINKS).map(parent).collect();
    }
    Dag { root: level[0].0, blocks }
}

fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n.to_le_bytes()[0] | 0x80);
        n >>= 7;
    }
    out.push(n.to_le_bytes()[0]);
}

/// Made-up leaves: a walk needs digests only.
fn made_up_leaves(count: u64) -> Vec<Digest> {
    (0..count).map(|i| Digest::of(&i.to_le_bytes())).collect()
}

#[test]
fn a_walk_over_blocks_gives_the_leaf_table() {
    for (leaves, levels) in
        [(1, 0), (2, 1), (88, 1), (174, 1), (175, 2), (174 * 174, 2), (174 * 174 + 1, 3)]
    {
        let size = leaves * LEAF_SIZE - 5;
        let digests = made_up_leaves(leaves);
        let dag = dag(&digests, size);
        let mut walk = Walk::new(dag.root, Layout::new(size));
        let mut went_down = 0;
        while !walk.wanted().is_empty() {
            assert_eq!(walk.leaves(), None, "no leaves before their level is reached");
            let blocks: Vec<_> = walk.wanted().iter().map(|cid| dag.blocks[cid].clone()).collect();
            walk.descend(&blocks).unwrap();
            went_down += 1;
        }
        assert_eq!(went_down, levels, "{leaves} leaves");
        let found = walk.leaves().unwrap();
        assert_eq!(found, digests);
        LeafTable::from_digests(found, size, &dag.root).unwrap();
    }
}

#[test]
fn a_walk_refuses_what_was_not_asked_for() {
    let size = 400 * LEAF_SIZE;
    let dag = dag(&made_up_leaves(400), size);
    let root_block = dag.blocks[&dag.root].clone();
    let start = || Walk::new(dag.root, Layout::new(size));

    let mut flipped = root_block.clone();
    flipped[40] ^= 1;
    let Err(WalkError::WrongBlock(wrong)) = start().descend(&[flipped]) else {
        panic!("a changed block is refused")
    };
    assert_eq!(wrong, cid_text(&dag.root));
    assert!(matches!(start().descend(&[]), Err(WalkError::WrongShape)));
    assert!(matches!(
        start().descend(&[root_block.clone(), root_block.clone()]),
        Err(WalkError::WrongShape)
    ));

    let mut walk = start();
    walk.descend(&[root_block]).unwrap();
    let mut swapped: Vec<_> = walk.wanted().iter().map(|cid| dag.blocks[cid].clone()).collect();
    swapped.swap(0, 1);
    assert!(matches!(walk.descend(&swapped), Err(WalkError::WrongBlock(_))));
    swapped.swap(0, 1);
    walk.descend(&swapped).expect("a refused block does not spoil the walk");
    assert!(
        matches!(walk.descend(&[]), Err(WalkError::WrongShape)),
        "below the leaves there is nothing"
    );
    assert_eq!(walk.leaves().map(|leaves| leaves.len()), Some(400));

    let text = b"no dag-pb".to_vec();
    let mut walk = Walk::new(Digest::of(&text).to_cid(DAG_PB), Layout::new(size));
    assert!(matches!(walk.descend(&[text]), Err(WalkError::NotDagPb(..))));
}

#[test]
fn a_walk_refuses_a_node_with_too_many_links() {
    let link = PbLink {
        cid: Digest::of(b"leaf").to_cid(RAW),
        name: Some(String::new()),
        size: Some(LEAF_SIZE),
    };
    let block = PbNode { links: vec![link; MAX_LINKS + 1], data: None }.into_bytes();
    let mut walk = Walk::new(Digest::of(&block).to_cid(DAG_PB), Layout::new(174 * LEAF_SIZE));
    assert!(matches!(walk.descend(&[block]), Err(WalkError::WrongShape)));
}

#[test]
fn a_walk_refuses_a_level_of_another_width() {
    // 175 leaves have two nodes above them; here the root links to one of them 174 times.
    let layout = Layout::new(175 * LEAF_SIZE);
    for links in [1, 3, MAX_LINKS] {
        let link = PbLink {
            cid: Digest::of(b"node").to_cid(DAG_PB),
            name: Some(String::new()),
            size: Some(LEAF_SIZE),
        };
        let block = PbNode { links: vec![link; links], data: None }.into_bytes();
        let mut walk = Walk::new(Digest::of(&block).to_cid(DAG_PB), layout);
        assert!(matches!(walk.descend(&[block]), Err(WalkError::WrongShape)), "{links} links");
        assert_eq!(walk.wanted().len(), 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn pieces_hash_as_the_whole(
        size in 0usize..900_000,
        cuts in prop::collection::vec(0usize..900_000, 0..20),
        seed: u8,
    ) {
        let bytes: Vec<u8> = (0u32..)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8 ^ seed)
            .take(size)
            .collect();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(size)).collect();
        cuts.sort_unstable();
        cuts.push(size);
        let mut hasher = FileHasher::default();
        let mut at = 0;
        for cut in cuts {
            hasher.update(&bytes[at..cut]);
            at = cut;
        }
        let (pieces, whole) = (hasher.finish(), digests_of(&bytes));
        prop_assert_eq!(pieces.size, size as u64);
        prop_assert_eq!(pieces.sha256, Digest::of(&bytes));
        prop_assert_eq!(pieces.cid, whole.cid);
        prop_assert_eq!(&pieces.leaves, &whole.leaves);
        let leaves: Vec<Digest> = bytes.chunks(to_usize(LEAF_SIZE)).map(Digest::of).collect();
        prop_assert_eq!(pieces.leaves, if size == 0 { vec![Digest::of(&[])] } else { leaves });
    }

    #[test]
    fn no_block_panics_a_walk(
        block in prop::collection::vec(any::<u8>(), 0..200),
        leaves in 1u64..100_000,
    ) {
        let mut walk =
            Walk::new(Digest::of(&block).to_cid(DAG_PB), Layout::new(leaves * LEAF_SIZE));
        let _ = walk.descend(&[block]);
        let _ = walk.leaves();
    }

    #[test]
    fn no_change_of_a_node_panics_a_walk(at in 0usize..400, byte: u8, cut in 0usize..400) {
        let dag = dag(&made_up_leaves(8), 8 * LEAF_SIZE);
        let mut block = dag.blocks[&dag.root].clone();
        let at = at % block.len();
        block[at] = byte;
        block.truncate(block.len() - cut % 3 * (cut % block.len()));
        let mut walk = Walk::new(Digest::of(&block).to_cid(DAG_PB), Layout::new(8 * LEAF_SIZE));
        let _ = walk.descend(&[block]);
        let _ = walk.leaves();
    }

    #[test]
    fn no_text_panics_parse_cid(text: String) {
        prop_assert_eq!(parse_cid(&text).map(|cid| cid_text(&cid)), parse_cid(&text).map(|_| text));
    }
}
