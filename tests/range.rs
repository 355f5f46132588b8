//! `Range` and `Content-Range` (RFC 9110, section 14).

use edge_net_core::http::range::RangeRequest::{self, Bytes, Unsatisfiable, Whole};
use edge_net_core::http::range::{parse, parse_content_range};
use edge_net_core::transfer::source::{Failure, check_head, range_field};
use proptest::prelude::*;

#[test]
fn all_forms() {
    let max = u64::MAX;
    let table: &[(&str, u64, RangeRequest)] = &[
        // first-last
        ("bytes=0-0", 11, Bytes(0..1)),
        ("bytes=0-10", 11, Bytes(0..11)),
        ("bytes=3-7", 11, Bytes(3..8)),
        ("bytes=10-10", 11, Bytes(10..11)),
        // An end past the last byte is clamped.
        ("bytes=0-900", 11, Bytes(0..11)),
        ("bytes=10-11", 11, Bytes(10..11)),
        ("bytes=10-18446744073709551615", 11, Bytes(10..11)),
        ("bytes=10-99999999999999999999999", 11, Bytes(10..11)),
        // first-
        ("bytes=0-", 11, Bytes(0..11)),
        ("bytes=10-", 11, Bytes(10..11)),
        ("bytes=000-", 11, Bytes(0..11)),
        // -suffix
        ("bytes=-1", 11, Bytes(10..11)),
        ("bytes=-11", 11, Bytes(0..11)),
        ("bytes=-900", 11, Bytes(0..11)),
        ("bytes=-99999999999999999999999", 11, Bytes(0..11)),
        ("bytes=-0", 11, Unsatisfiable),
        ("bytes=-000", 11, Unsatisfiable),
        // Past the end.
        ("bytes=11-", 11, Unsatisfiable),
        ("bytes=11-11", 11, Unsatisfiable),
        ("bytes=99999999999999999999999-", 11, Unsatisfiable),
        ("bytes=18446744073709551615-18446744073709551615", max, Unsatisfiable),
        ("bytes=18446744073709551614-", max, Bytes(max - 1..max)),
        // An empty representation.
        ("bytes=0-", 0, Unsatisfiable),
        ("bytes=0-0", 0, Unsatisfiable),
        ("bytes=-0", 0, Unsatisfiable),
        ("bytes=-5", 0, Whole),
        // Case and white space that the list syntax allows.
        ("Bytes=1-2", 11, Bytes(1..3)),
        ("BYTES=1-2", 11, Bytes(1..3)),
        ("bytes= 1-2 ", 11, Bytes(1..3)),
        ("bytes=\t1-2\t", 11, Bytes(1..3)),
        ("bytes=,1-2", 11, Bytes(1..3)),
        ("bytes=1-2 , ,", 11, Bytes(1..3)),
        // Several ranges mean the whole representation.
        ("bytes=0-1,3-4", 11, Whole),
        ("bytes=0-1, -1", 11, Whole),
        ("bytes=20-, 30-", 11, Whole),
        // A malformed range, or one of another unit, is ignored.
        ("", 11, Whole),
        ("bytes", 11, Whole),
        ("bytes=", 11, Whole),
        ("bytes=,", 11, Whole),
        ("bytes=-", 11, Whole),
        ("bytes=--1", 11, Whole),
        ("bytes=5", 11, Whole),
        ("bytes=2-1", 11, Whole),
        ("bytes=1-2-3", 11, Whole),
        ("bytes=+1-2", 11, Whole),
        ("bytes=1-+2", 11, Whole),
        ("bytes=1 - 2", 11, Whole),
        ("bytes=a-b", 11, Whole),
        ("bytes=0x1-0x2", 11, Whole),
        ("bytes=1.0-2", 11, Whole),
        ("bytes=١-٢", 11, Whole),
        ("bytes: 1-2", 11, Whole),
        ("byte=1-2", 11, Whole),
        ("items=1-2", 11, Whole),
        ("=1-2", 11, Whole),
    ];
    for (field, size, outcome) in table {
        assert_eq!(parse(field, *size), *outcome, "{field:?} of {size} bytes");
    }
}

#[test]
fn content_ranges() {
    for (field, parsed) in [
        ("bytes 0-9/10", Some((0..10, Some(10)))),
        ("bytes 5-5/*", Some((5..6, None))),
        (" bytes 0-9/10 ", Some((0..10, Some(10)))),
        ("bytes */10", None),
        ("bytes 9-0/10", None),
        ("bytes 0-9", None),
        ("bytes -9/10", None),
        ("bytes 0-/10", None),
        ("bytes +0-9/10", None),
        ("bytes 0-9/+10", None),
        ("bytes=0-9/10", None),
        ("items 0-9/10", None),
        ("bytes 0-9/99999999999999999999", None),
        ("bytes 0-9/9", None),
        ("bytes 18446744073709551615-18446744073709551615/*", None),
        ("bytes 18446744073709551614-18446744073709551614/*", Some((u64::MAX - 1..u64::MAX, None))),
        ("", None),
    ] {
        assert_eq!(parse_content_range(field), parsed, "{field:?}");
    }
}

#[test]
fn heads_are_believed_only_where_they_fit() {
    let (whole, part) = (0..100, 10..20);
    assert_eq!(range_field(&whole, 100), None);
    assert_eq!(range_field(&part, 100).unwrap(), "bytes=10-19");
    assert_eq!(range_field(&(0..1), 100).unwrap(), "bytes=0-0");
    for (status, field, bytes, checked) in [
        (200, None, &whole, Ok(())),
        (206, Some("bytes 0-99/100"), &whole, Ok(())),
        (206, Some("bytes 10-19/100"), &part, Ok(())),
        (206, Some("bytes 10-19/*"), &part, Ok(())),
        (206, None, &part, Ok(())),
        (200, None, &part, Err(Failure::RangeIgnored)),
        (200, Some("bytes 10-19/100"), &part, Err(Failure::RangeIgnored)),
        (206, Some("bytes 0-9/100"), &part, Err(Failure::WrongRange)),
        (206, Some("bytes 10-20/100"), &part, Err(Failure::WrongRange)),
        (206, Some("bytes 10-19/101"), &part, Err(Failure::WrongRange)),
        // Malformed fields, as old servers write them: the leaves decide.
        (206, Some("bytes=10-19/100"), &part, Ok(())),
        (206, Some("nonsense"), &part, Ok(())),
        (204, None, &part, Err(Failure::Status(204))),
        (304, None, &part, Err(Failure::Status(304))),
        (404, None, &part, Err(Failure::Status(404))),
        (416, Some("bytes */100"), &part, Err(Failure::Status(416))),
        (503, None, &whole, Err(Failure::Status(503))),
        (0, None, &whole, Err(Failure::Status(0))),
    ] {
        assert_eq!(check_head(status, field, bytes, 100), checked, "{status} {field:?} {bytes:?}");
    }
}

/// RFC 9110, section 14.1.2, as a list of positions.
fn positions(first: Option<u64>, last: Option<u64>, size: u64) -> Vec<u64> {
    (0..size)
        .filter(|at| match (first, last) {
            (Some(first), last) => *at >= first && last.is_none_or(|last| *at <= last),
            (None, Some(length)) => *at + length >= size,
            (None, None) => false,
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 5000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn ranges_are_slices(
        (first, last) in prop_oneof![
            (0u64..70).prop_map(|first| (Some(first), None)),
            (0u64..70).prop_map(|length| (None, Some(length))),
            (0u64..70, 0u64..70).prop_map(|(first, last)| (Some(first), Some(last))),
        ],
        size in 0u64..64,
    ) {
        let text = |n: Option<u64>| n.map_or_else(String::new, |n| n.to_string());
        let expected = positions(first, last, size);
        match parse(&format!("bytes={}-{}", text(first), text(last)), size) {
            Bytes(bytes) => prop_assert_eq!(bytes.collect::<Vec<_>>(), expected),
            Unsatisfiable => prop_assert!(expected.is_empty()),
            Whole => prop_assert!(
                size == 0 && first.is_none()
                    || first.zip(last).is_some_and(|(first, last)| last < first)
            ),
        }
    }

    #[test]
    fn what_is_answered_lies_within(field in "(bytes=)?[0-9, -]{0,45}|\\PC{0,20}", size: u64) {
        if let Bytes(bytes) = parse(&field, size) {
            prop_assert!(!bytes.is_empty() && bytes.end <= size);
        }
        let _ = parse_content_range(&field);
    }

    #[test]
    fn what_we_ask_is_what_we_read(
        (start, end, size) in any::<[u64; 3]>().prop_map(|mut ends| {
            ends.sort_unstable();
            ends.into()
        }),
    ) {
        prop_assume!(start < end);
        let bytes = start..end;
        let asked = range_field(&bytes, size);
        prop_assert_eq!(asked.is_none(), bytes == (0..size));
        prop_assert!(asked.is_none_or(|field| parse(&field, size) == Bytes(bytes.clone())));
        let answered = format!("bytes {}-{}/{size}", bytes.start, bytes.end - 1);
        prop_assert_eq!(parse_content_range(&answered), Some((bytes.clone(), Some(size))));
        prop_assert_eq!(check_head(206, Some(&answered), &bytes, size), Ok(()));
    }
}
