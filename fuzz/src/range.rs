//! `Range` and `Content-Range` fields.

use std::ops::Range;

use edge_net_core::http::range::RangeRequest::{self, Bytes, Unsatisfiable, Whole};
use edge_net_core::http::range::{parse, parse_content_range};
use edge_net_core::transfer::source::{check_head, range_field};

/// Input: the size of the representation in decimal, a line feed, and the value of a field.
///
/// - A range that is read lies within the representation and is not empty.
/// - A `Range` field of one range in its plain form is read as RFC 9110, section 14.1.2, says.
/// - The field that asks for a range is read as that range.
/// - A `Content-Range` is read only where it is valid (RFC 9110, section 14.4).
/// - A response is accepted only where its `Content-Range` names the bytes that were asked for.
///
/// # Panics
/// When a property does not hold.
pub fn range(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Some((size, field)) = text.split_once('\n') else { return };
    let Ok(size) = size.parse::<u64>() else { return };
    let request = parse(field, size);
    if let Some(expected) = plain(field).map(|(first, last)| resolve(first, last, size)) {
        assert_eq!(request, expected);
    }
    if let Bytes(bytes) = &request {
        assert!(bytes.start < bytes.end && bytes.end <= size);
        assert_round_trip(bytes, size);
    }
    assert_content_range(field, size);
}

fn assert_round_trip(bytes: &Range<u64>, size: u64) {
    if let Some(field) = range_field(bytes, size) {
        assert_eq!(parse(&field, size), Bytes(bytes.clone()));
    } else {
        assert_eq!(*bytes, 0..size);
    }
    let response = format!("bytes {}-{}/{size}", bytes.start, bytes.end - 1);
    assert_eq!(parse_content_range(&response), Some((bytes.clone(), Some(size))));
    assert_eq!(check_head(206, Some(&response), bytes, size), Ok(()));
}

fn assert_content_range(field: &str, size: u64) {
    let Some((bytes, total)) = parse_content_range(field) else {
        // The leaves decide.
        assert_eq!(check_head(206, Some(field), &(0..size), size), Ok(()));
        return;
    };
    assert!(bytes.start < bytes.end, "an empty Content-Range");
    assert!(total.is_none_or(|total| bytes.end <= total), "a Content-Range past its own end");
    let total_text = total.map_or_else(|| "*".to_owned(), |total| total.to_string());
    let again = format!("bytes {}-{}/{total_text}", bytes.start, bytes.end - 1);
    assert_eq!(parse_content_range(&again), Some((bytes.clone(), total)));
    let accepted = check_head(206, Some(field), &bytes, size).is_ok();
    assert_eq!(accepted, total.is_none_or(|total| total == size));
    if bytes != (0..size) && size > 0 {
        assert!(check_head(206, Some(field), &(0..size), size).is_err());
    }
}

/// The two numbers of `bytes=first-last`, where the field has just that form; either may be absent.
fn plain(field: &str) -> Option<(Option<u64>, Option<u64>)> {
    let (first, last) = field.strip_prefix("bytes=")?.split_once('-')?;
    let number = |digits: &str| {
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        let value = (!digits.is_empty()).then(|| digits.parse().unwrap_or(u64::MAX));
        plain.then_some(value)
    };
    Some((number(first)?, number(last)?))
}

fn resolve(first: Option<u64>, last: Option<u64>, size: u64) -> RangeRequest {
    match (first, last) {
        (None, None) => Whole,
        (Some(first), Some(last)) if last < first => Whole,
        (Some(first), _) if first >= size => Unsatisfiable,
        (Some(first), last) => {
            Bytes(first..last.map_or(size, |last| size.min(last.saturating_add(1))))
        }
        (None, Some(0)) => Unsatisfiable,
        (None, Some(_)) if size == 0 => Whole,
        (None, Some(length)) => Bytes(size - length.min(size)..size),
    }
}
