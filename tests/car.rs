//! Blocks, CAR archives, and requests to a trustless gateway.

use std::collections::HashMap;
use std::sync::Arc;

use cid::Cid;
use edge_net_core::dag::blocks::{Blocks, Position};
use edge_net_core::dag::car::{Car, Duplicates, Extent, Piece, header};
use edge_net_core::dag::cid::{DAG_PB, RAW, cid_text, parse_cid};
use edge_net_core::dag::digest::Digest;
use edge_net_core::dag::layout::{LEAF_SIZE, Layout, SEGMENT_SIZE};
use edge_net_core::dag::unixfs::root;
use edge_net_core::dag::verify::LeafTable;
use edge_net_core::http::gateway::{Asked, Format, Refused, Scope};
use http::header::{CONTENT_LOCATION, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, StatusCode};
use ipld_dagpb::PbNode;
use proptest::prelude::*;

/// The DAG above leaves with made-up digests: the plan of an archive does not need the leaves'
/// bytes.
fn blocks_over(digests: Vec<Digest>, size: u64) -> Arc<Blocks> {
    let cid = root(&digests, size);
    Arc::new(Blocks::over(Arc::new(LeafTable::from_digests(digests, size, &cid).unwrap())))
}

/// `patterns` different leaves, repeated.
fn digests(leaves: u64, patterns: u64) -> Vec<Digest> {
    (0..leaves).map(|i| Digest::of(&(i % patterns).to_le_bytes())).collect()
}

fn blocks(leaves: u64) -> Arc<Blocks> {
    blocks_over(digests(leaves, leaves), leaves * LEAF_SIZE - 5)
}

fn car(blocks: &Arc<Blocks>, at: Position, extent: &Extent, duplicates: Duplicates) -> Arc<Car> {
    Arc::new(Car::new(Arc::clone(blocks), at, extent, duplicates))
}

fn whole(blocks: &Arc<Blocks>, duplicates: Duplicates) -> Arc<Car> {
    car(blocks, blocks.root(), &Extent::All, duplicates)
}

/// The links of an inner node, as the reference library reads them.
fn links(blocks: &Blocks, at: Position) -> Vec<Cid> {
    match at {
        Position::Leaf(_) => Vec::new(),
        Position::Inner(inner) => PbNode::from_bytes(blocks.inner(inner).into())
            .unwrap()
            .links
            .iter()
            .map(|link| link.cid)
            .collect(),
    }
}

/// The blocks that an independent client meets on its way down from `at`, depth first.
fn walk(blocks: &Blocks, at: Position, duplicates: Duplicates) -> Vec<Cid> {
    let mut seen = std::collections::HashSet::new();
    let mut met = Vec::new();
    let mut stack = vec![blocks.cid(at)];
    while let Some(cid) = stack.pop() {
        if seen.insert(cid) || duplicates == Duplicates::Each {
            met.push(cid);
        }
        if cid.codec() == DAG_PB {
            stack.extend(links(blocks, blocks.find(&cid).unwrap()).into_iter().rev());
        }
    }
    met
}

fn cids(blocks: &Blocks, car: &Arc<Car>) -> Vec<Cid> {
    car.positions().map(|at| blocks.cid(at)).collect()
}

fn read_varint(bytes: &mut &[u8]) -> u64 {
    let mut n = 0;
    for shift in (0..).step_by(7) {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        n |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    n
}

/// The sections of an archive, parsed as the specification says. Sections of leaves have no bytes.
fn sections(car: &Arc<Car>) -> Vec<(Cid, u64, Option<Vec<u8>>)> {
    let mut sections = Vec::new();
    let mut left: Option<(Cid, u64)> = None;
    let mut opening = true;
    for stretch in car.stretches() {
        for piece in stretch.pieces() {
            let bytes = match (piece, left.take()) {
                (Piece::Leaf(range), Some((cid, size))) => {
                    assert_eq!(range.end - range.start, size);
                    sections.push((cid, size, None));
                    continue;
                }
                (Piece::Here(bytes), None) => bytes,
                _ => panic!("a leaf without its section, or the other way round"),
            };
            let mut bytes = &bytes[..];
            if std::mem::take(&mut opening) {
                let length = usize::try_from(read_varint(&mut bytes)).unwrap();
                bytes = &bytes[length..];
            }
            while !bytes.is_empty() {
                let length = read_varint(&mut bytes);
                let cid = Cid::read_bytes(&mut bytes).unwrap();
                let size = length - cid.encoded_len() as u64;
                if cid.codec() == RAW {
                    assert!(bytes.is_empty());
                    left = Some((cid, size));
                } else {
                    let (block, rest) = bytes.split_at(usize::try_from(size).unwrap());
                    sections.push((cid, size, Some(block.to_vec())));
                    bytes = rest;
                }
            }
        }
    }
    assert_eq!(left, None);
    sections
}

#[test]
fn an_archive_is_all_blocks_depth_first() {
    for leaves in [1, 2, 174, 175, 348, 349, 174 * 174, 174 * 174 + 1] {
        let blocks = blocks(leaves);
        let car = whole(&blocks, Duplicates::Once);
        let sections = sections(&car);
        let expected = walk(&blocks, blocks.root(), Duplicates::Once);
        assert_eq!(
            sections.iter().map(|(cid, ..)| *cid).collect::<Vec<_>>(),
            expected,
            "{leaves} leaves"
        );
        assert_eq!(sections.iter().filter(|(.., block)| block.is_none()).count() as u64, leaves);
        for (cid, size, block) in sections {
            let at = blocks.find(&cid).unwrap();
            assert_eq!(blocks.size(at), size);
            if let Some(block) = block {
                assert_eq!(Digest::of(&block).to_cid(DAG_PB), cid);
            }
        }
    }
}

#[test]
fn the_length_is_known_beforehand() {
    for (leaves, patterns) in [(1, 1), (2, 1), (300, 300), (300, 7), (40_000, 40_000), (31_000, 2)]
    {
        let blocks = blocks_over(digests(leaves, patterns), leaves * LEAF_SIZE);
        for duplicates in [Duplicates::Once, Duplicates::Each] {
            let car = whole(&blocks, duplicates);
            assert_eq!(
                car.length(),
                car.stretches().map(|stretch| stretch.length()).sum::<u64>(),
                "{leaves}, {patterns}"
            );
        }
    }
}

#[test]
fn a_stretch_needs_part_of_one_segment_and_is_small() {
    let blocks = blocks(40_000);
    let car = whole(&blocks, Duplicates::Once);
    let mut segments = Vec::new();
    for stretch in car.stretches() {
        let leaves: Vec<_> = stretch
            .pieces()
            .iter()
            .filter_map(|piece| if let Piece::Leaf(bytes) = piece { Some(bytes) } else { None })
            .collect();
        assert!(stretch.length() < SEGMENT_SIZE + (2 << 20));
        let (segment, needs) = stretch.needs().unwrap();
        assert_eq!((needs.start, needs.end), (leaves[0].start, leaves.last().unwrap().end));
        assert_eq!(
            (needs.start / SEGMENT_SIZE, (needs.end - 1) / SEGMENT_SIZE),
            (*segment, *segment)
        );
        segments.push(*segment);
    }
    assert_eq!(segments, (0..40_000_u64.div_ceil(16)).collect::<Vec<_>>());
}

#[test]
fn nodes_over_leaves_that_came_before_are_cut_too() {
    // Two leaves in ever different orders: the nodes differ but have no new leaf; all nodes are 3
    // MB.
    let pattern = [Digest::of(b"0"), Digest::of(b"1")];
    let order = |i: u64| {
        usize::from(Digest::of(&(i / 64).to_le_bytes()).0[usize::try_from(i % 32).unwrap()] & 1)
    };
    let leaves: Vec<Digest> = (0..174 * 174 * 2).map(|i| pattern[order(i)]).collect();
    let blocks = blocks_over(leaves, 174 * 174 * 2 * LEAF_SIZE);
    let car = whole(&blocks, Duplicates::Once);
    assert!(car.stretches().all(|stretch| stretch.length() < 3 << 20));
    assert!(car.stretches().filter(|stretch| stretch.needs().is_none()).count() >= 2);
    assert_eq!(car.length(), car.stretches().map(|stretch| stretch.length()).sum::<u64>());
}

#[test]
fn an_empty_artifact_is_a_block_of_no_bytes() {
    let blocks = blocks_over(vec![Digest::of(&[])], 0);
    let car = whole(&blocks, Duplicates::Once);
    let all: Vec<_> = car.stretches().collect();
    assert_eq!(all.len(), 1);
    assert!(all[0].needs().is_none());
    assert_eq!(sections(&car), [(blocks.cid(blocks.root()), 0, None)]);
}

#[test]
fn the_header_is_that_of_the_reference() {
    // @ipld/car 5.4.7 writes these headers.
    for (cid, hex) in [
        ("bafkqaaa", "19a265726f6f747381d82a4500015500006776657273696f6e01"),
        (
            CID,
            "3aa265726f6f747381d82a5825000170122061b5b2b5647a8bcbf9c5f2befa1b8ff23263de39d7d78b42d620\
             e9a03a9d015d6776657273696f6e01",
        ),
    ] {
        assert_eq!(base16ct::lower::encode_string(&header(&parse_cid(cid).unwrap())), hex);
    }
}

#[test]
fn what_may_be_below_is_what_is_below() {
    for leaves in [1, 2, 174, 175] {
        let (blocks, layout) = (blocks(leaves), Layout::new(leaves * LEAF_SIZE - 5));
        let below = |codec| {
            cids(&blocks, &whole(&blocks, Duplicates::Once))
                .into_iter()
                .skip(1)
                .any(|cid| cid.codec() == codec)
        };
        for codec in [RAW, DAG_PB, 0x71] {
            assert_eq!(
                Blocks::may_be_below(layout, &Digest::of(b"x").to_cid(codec)),
                below(codec),
                "{leaves}, {codec}"
            );
        }
        assert!(!Blocks::may_be_below(layout, &parse_cid("bafkqaaa").unwrap()));
    }
}

fn ask(path: &str, query: &[(&str, &str)], accept: Option<&str>) -> Result<Asked, Refused> {
    Asked::read(path, query.iter().copied(), accept)
}

const CID: &str = "bafybeidbwwzlkzd2rpf7trpsx35bxd7sgjr54oox26fufvra5gqdvhiblu";
const CAR_ONCE: Format = Format::Car(Scope::All, Duplicates::Once);
const CAR_EACH: Format = Format::Car(Scope::All, Duplicates::Each);

#[test]
fn formats_are_asked_for_by_query_or_accept() {
    let format = |query: &[(&str, &str)], accept| ask(CID, query, accept).map(|asked| asked.format);
    let refused =
        |query: &[(&str, &str)], accept| format(query, accept).unwrap_err().status().as_u16();
    let (raw, car) = ("application/vnd.ipld.raw", "application/vnd.ipld.car");
    for (query, accept, expected) in [
        ("raw", None, Format::Raw),
        ("car", None, CAR_ONCE),
        ("raw", Some(car), Format::Raw),
        ("car", Some(raw), CAR_ONCE),
        ("car", Some("*/*"), CAR_ONCE),
        ("car", Some("application/vnd.ipld.car; dups=y"), CAR_EACH),
        ("", Some(raw), Format::Raw),
        ("", Some(car), CAR_ONCE),
        ("", Some("Application/Vnd.IPLD.Car;version=1;order=dfs;dups=y"), CAR_EACH),
        ("", Some("application/vnd.ipld.car; order=unk; dups=\"n\""), CAR_ONCE),
        (
            "",
            Some("text/html, application/vnd.ipld.raw;q=0.5, application/vnd.ipld.car;q=0.7"),
            CAR_ONCE,
        ),
        (
            "",
            Some(
                "application/vnd.ipld.car;order=foo, \
                 application/vnd.ipld.car;order=dfs;dups=y;q=0.5",
            ),
            CAR_EACH,
        ),
        (
            "",
            Some("application/vnd.ipld.car;version=2, application/vnd.ipld.raw;q=0.001"),
            Format::Raw,
        ),
        ("", Some("application/vnd.ipld.car, application/vnd.ipld.raw"), CAR_ONCE),
    ] {
        let query = [("format", query)];
        let query = if query[0].1.is_empty() { &[][..] } else { &query[..] };
        assert_eq!(format(query, accept), Ok(expected), "{query:?} {accept:?}");
    }
    assert_eq!(format(&[("car-dups", "y")], Some("application/vnd.ipld.car;dups=n")), Ok(CAR_EACH));
    assert_eq!(
        format(&[("car-version", "1")], Some("application/vnd.ipld.car;version=2")),
        Ok(CAR_ONCE)
    );
    assert_eq!(format(&[], None), Err(Refused::NoFormat));
    for accept in [
        "*/*",
        "",
        "text/html",
        "application/*",
        "application/vnd.ipld.car;version=2",
        "application/vnd.ipld.raw;q=0",
        "application/vnd.ipld.raw;q=2",
        "application/vnd.ipld.raw;q=0.1234",
        "application/vnd.ipfs.ipns-record",
    ] {
        assert_eq!(refused(&[], Some(accept)), 406, "{accept}");
    }
    assert_eq!(refused(&[("format", "car")], Some("application/vnd.ipld.car;order=foo")), 406);
    for (name, value) in [
        ("format", "tar"),
        ("format", ""),
        ("car-version", "2"),
        ("car-order", "bfs"),
        ("car-dups", "x"),
        ("dag-scope", "none"),
    ] {
        assert_eq!(refused(&[(name, value), ("format", "car")], None), 400, "{name}={value}");
    }
}

#[test]
fn paths_are_cids_and_nothing_more() {
    let refused = |path: &str, format| ask(path, &[("format", format)], None).unwrap_err();
    let mixed = format!("b{}", &cid_text(&Digest::of(b"a").to_cid(RAW))[1..].to_uppercase());
    let trailing = "bafkqaaaaaaa";
    for path in [
        "",
        "/",
        "x",
        "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG",
        &mixed,
        trailing,
        &CID.to_uppercase(),
        &format!(" {CID}"),
        "%62afkqaaa",
    ] {
        assert!(matches!(refused(path, "raw"), Refused::NotACid(_)), "{path}");
        assert_eq!(refused(path, "raw").status().as_u16(), 400);
    }
    assert!(ask(&format!("{CID}/"), &[("format", "car")], None).is_ok());
    assert_eq!(refused(&format!("{CID}/a"), "raw").status().as_u16(), 400);
    assert_eq!(refused(&format!("{CID}/a"), "car").status().as_u16(), 404);
    assert!(ask("bafkqaaa", &[("format", "raw")], None).unwrap().is_probe());
    assert!(!ask(CID, &[("format", "raw")], None).unwrap().is_probe());
}

#[test]
fn scopes_are_of_the_file() {
    let extent = |query: &[(&str, &str)], size: u64| match Asked::read(
        CID,
        query.iter().copied().chain([("format", "car")]),
        None,
    )?
    .format
    {
        Format::Car(scope, _) => scope.extent(&(1000..1000 + size)),
        Format::Raw => panic!("asked for an archive"),
    };
    let bytes = |value| extent(&[("entity-bytes", value)], 100);
    assert_eq!(extent(&[("dag-scope", "block")], 100), Ok(Extent::Block));
    assert_eq!(extent(&[("dag-scope", "entity")], 100), Ok(Extent::All));
    assert_eq!(extent(&[("dag-scope", "all")], 100), Ok(Extent::All));
    assert_eq!(
        extent(&[("dag-scope", "entity"), ("entity-bytes", "0:9")], 100),
        Ok(Extent::Bytes(1000..1010))
    );
    for (value, range) in [
        ("0:*", 1000..1100),
        ("0:0", 1000..1001),
        ("5:1000000", 1005..1100),
        ("-10:*", 1090..1100),
        ("-1000:*", 1000..1100),
        ("9:-50", 1009..1051),
        ("-10:-1", 1090..1100),
        ("0:9223372036854775807", 1000..1100),
        // No bytes: the same as the block alone.
        ("5:4", 1005..1005),
        ("0:-101", 1000..1000),
        ("-9223372036854775808:-9223372036854775808", 1000..1000),
    ] {
        assert_eq!(bytes(value), Ok(Extent::Bytes(range)), "{value}");
    }
    assert_eq!(extent(&[("entity-bytes", "0:*")], 0), Ok(Extent::Bytes(1000..1000)));
    assert!(matches!(bytes("100:*"), Err(Refused::OutOfRange { size: 100, .. })));
    for wrong in [
        "",
        ":",
        "0",
        "0:",
        ":5",
        "*:5",
        "a:b",
        "+1:5",
        "0:+5",
        "1:2:3",
        "0:99999999999999999999",
        " 0:1",
    ] {
        assert!(
            matches!(bytes(wrong), Err(Refused::Parameter { name: "entity-bytes", .. })),
            "{wrong}"
        );
    }
    for scope in ["block", "all"] {
        assert!(extent(&[("dag-scope", scope), ("entity-bytes", "0:*")], 100).is_err());
    }
}

#[test]
fn answers_say_what_they_are() {
    let asked = ask(CID, &[("format", "raw")], None).unwrap();
    let fields = asked.fields_with_body(100);
    let text = |name: &str| fields.get(name).map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(text("content-type").unwrap(), "application/vnd.ipld.raw");
    assert_eq!(text("etag").unwrap(), format!("\"{CID}.raw\""));
    assert_eq!(text("content-disposition").unwrap(), format!("attachment; filename=\"{CID}.bin\""));
    assert_eq!(text("cache-control").unwrap(), "public, max-age=29030400, immutable");
    assert_eq!(text("vary").unwrap(), "Accept");
    assert_eq!(text("x-ipfs-path").unwrap(), format!("/ipfs/{CID}"));
    assert_eq!(text("x-ipfs-roots").unwrap(), CID);
    assert_eq!(text("content-length").unwrap(), "100");
    assert_eq!(text("content-location"), None);

    let tag = |query: &[(&str, &str)]| {
        let asked =
            Asked::read(CID, query.iter().copied().chain([("format", "car")]), None).unwrap();
        asked.fields()[ETAG].to_str().unwrap().to_owned()
    };
    let tags = [
        tag(&[]),
        tag(&[("car-dups", "y")]),
        tag(&[("dag-scope", "block")]),
        tag(&[("dag-scope", "entity")]),
        tag(&[("entity-bytes", "0:*")]),
    ];
    assert_eq!(tags[0], format!("W/\"{CID}.car\""));
    assert_eq!(tags.iter().collect::<std::collections::HashSet<_>>().len(), tags.len());

    let asked =
        ask(CID, &[("entity-bytes", "0:9")], Some("application/vnd.ipld.car;dups=y")).unwrap();
    let fields = asked.fields_with_body(1);
    assert_eq!(fields[CONTENT_TYPE], "application/vnd.ipld.car; version=1; order=dfs; dups=y");
    assert_eq!(
        fields[CONTENT_LOCATION],
        format!("/ipfs/{CID}?format=car&car-dups=y&entity-bytes=0:9")
    );
}

#[test]
fn a_client_that_has_it_is_told_so() {
    let refusal = |format: &str, name, listed: &str| {
        let mut fields = HeaderMap::new();
        fields.insert(name, HeaderValue::from_str(listed).unwrap());
        ask(CID, &[("format", format)], None).unwrap().refusal(&fields)
    };
    let unchanged = |format: &str, listed: &str| {
        refusal(format, IF_NONE_MATCH, listed) == Some(StatusCode::NOT_MODIFIED)
    };
    let (raw, car) = (format!("\"{CID}.raw\""), format!("W/\"{CID}.car\""));
    assert!(
        unchanged("raw", &raw)
            && unchanged("raw", &format!("\"x\", W/{raw}"))
            && unchanged("car", &car)
            && unchanged("car", "*")
    );
    assert!(unchanged("car", &car[2..]), "compared weakly");
    assert!(!unchanged("raw", &car) && !unchanged("car", &raw) && !unchanged("raw", "\"x\""));
    let failed = Some(StatusCode::PRECONDITION_FAILED);
    for (format, listed, refused) in
        [("raw", &*raw, None), ("raw", "\"x\"", failed), ("car", &*car, failed), ("car", "*", None)]
    {
        assert_eq!(refusal(format, IF_MATCH, listed), refused, "{format} {listed}");
    }
}

/// Names of parameters of a query.
const NAMES: &str = "format|dag-scope|entity-bytes|car-(version|order|dups)|x";
/// Values of parameters of a query.
const VALUES: &str = "raw|car|block|entity|-?[0-9]{0,20}:(\\*|-?[0-9]{0,20})|.*";
/// Parts of an `Accept` field.
const ACCEPT: &str = concat!(
    "application/vnd\\.ipld\\.(raw|car)|;|,| |q=|version=|order=|dups=|",
    "[01]\\.?[0-9]{0,4}|dfs|unk|y|n|\"|é|.",
);

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn an_archive_is_what_a_client_walks(
        leaves in 1u64..1200,
        patterns in 1u64..1200,
        short in 0u64..LEAF_SIZE,
        each: bool,
    ) {
        let blocks = blocks_over(digests(leaves, patterns), leaves * LEAF_SIZE - short);
        let duplicates = if each { Duplicates::Each } else { Duplicates::Once };
        let car = whole(&blocks, duplicates);
        prop_assert_eq!(cids(&blocks, &car), walk(&blocks, blocks.root(), duplicates));
        prop_assert_eq!(car.length(), car.stretches().map(|stretch| stretch.length()).sum::<u64>());
        prop_assert_eq!(
            blocks.cid(blocks.root()),
            root(&digests(leaves, patterns), leaves * LEAF_SIZE - short)
        );
    }

    /// Also with repeated leaves: a block that is left out must be earlier in the archive.
    #[test]
    fn an_archive_of_bytes_is_just_what_they_need(
        leaves in 1u64..1200,
        patterns in 1u64..600,
        from in 0u64..1000,
        length in 1u64..200_000_000,
        node in 0usize..9,
    ) {
        let size = leaves * LEAF_SIZE - 5;
        let blocks = blocks_over(digests(leaves, patterns), size);
        // The root, or one of the inner nodes below it.
        let inner: Vec<Position> = whole(&blocks, Duplicates::Once)
            .positions()
            .filter(|at| matches!(at, Position::Inner(_)))
            .collect();
        let at = inner.get(node % inner.len().max(1)).copied().unwrap_or_else(|| blocks.root());
        let file = blocks.content(at);
        let start = file.start + (file.end - file.start - 1) * from / 1000;
        let wanted = start..(start + length).min(file.end);
        let car = car(&blocks, at, &Extent::Bytes(wanted.clone()), Duplicates::Once);
        let given: Vec<Cid> = cids(&blocks, &car);
        let unique: std::collections::HashSet<Cid> = given.iter().copied().collect();
        prop_assert_eq!(unique.len(), given.len());

        // A client descends to those bytes by the sizes of children in the nodes.
        let mut needed = std::collections::HashSet::new();
        let mut stack = vec![(blocks.cid(at), file.start)];
        let mut sizes: HashMap<Cid, u64> = HashMap::new();
        while let Some((cid, offset)) = stack.pop() {
            needed.insert(cid);
            let mut offset = offset;
            for link in links(&blocks, blocks.find(&cid).unwrap()) {
                let below = blocks.content(blocks.find(&link).unwrap());
                let size = *sizes.entry(link).or_insert(below.end - below.start);
                if offset < wanted.end && offset + size > wanted.start {
                    stack.push((link, offset));
                }
                offset += size;
            }
        }
        prop_assert_eq!(unique, needed);
        prop_assert_eq!(car.length(), car.stretches().map(|stretch| stretch.length()).sum::<u64>());
    }

    #[test]
    fn every_block_is_found(leaves in 1u64..2000) {
        let blocks = blocks(leaves);
        for at in whole(&blocks, Duplicates::Each).positions() {
            prop_assert_eq!(blocks.find(&blocks.cid(at)), Some(at));
        }
        prop_assert_eq!(blocks.find(&Digest::of(b"another").to_cid(RAW)), None);
        prop_assert_eq!(blocks.find(&Digest::of(b"another").to_cid(DAG_PB)), None);
    }

    #[test]
    fn no_request_panics(
        path: String,
        names in prop::collection::vec(NAMES, 0..5),
        values in prop::collection::vec(VALUES, 5),
        accept: Option<String>,
        size: u64,
    ) {
        for path in [path.as_str(), CID] {
            if let Ok(asked) = Asked::read(path, names.iter().zip(&values), accept.as_deref()) {
                let fields = asked.fields_with_body(size);
                prop_assert!(fields.contains_key(ETAG));
                if let Format::Car(scope, _) = asked.format {
                    let _ = scope.extent(&(0..size));
                }
            }
        }
    }

    /// An `Accept` field of parts that are meaningful on their own.
    #[test]
    fn no_accept_panics(
        parts in prop::collection::vec(ACCEPT, 0..12),
    ) {
        let accept = parts.concat();
        if let Err(refused) = ask(CID, &[], Some(&accept)) {
            prop_assert_eq!(refused, Refused::NotAcceptable(accept));
        }
    }
}
