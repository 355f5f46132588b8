//! The `Range` and `Content-Range` fields of RFC 9110, section 14.

use std::ops::Range;

/// The meaning of a `Range` field for a representation of known size. Exhaustive, as RFC 9110 is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RangeRequest {
    /// The whole representation: the range is malformed or of another unit, which a server ignores
    /// (RFC 9110, section 14.2), or there are several ranges, which a server may ignore (section
    /// 15.3.7).
    Whole,
    /// A byte range: not empty, within the representation.
    Bytes(Range<u64>),
    /// No byte that exists: status 416.
    Unsatisfiable,
}

/// Parses the value of a `Range` field for a representation of `size` bytes.
///
/// An end past the last byte is clamped (RFC 9110, section 14.1.2).
///
/// ```
/// use edge_net_core::http::range::{RangeRequest, parse};
///
/// assert_eq!(parse("bytes=0-99", 1000), RangeRequest::Bytes(0..100));
/// assert_eq!(parse("bytes=-100", 1000), RangeRequest::Bytes(900..1000));
/// assert_eq!(parse("bytes=1000-", 1000), RangeRequest::Unsatisfiable);
/// assert_eq!(parse("lines=1-2", 1000), RangeRequest::Whole);
/// ```
#[must_use]
pub fn parse(field: &str, size: u64) -> RangeRequest {
    let Some((unit, set)) = field.split_once('=') else {
        return RangeRequest::Whole;
    };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return RangeRequest::Whole;
    }
    // Recipients ignore empty list elements (RFC 9110, section 5.6.1.2).
    let mut specs =
        set.split(',').map(|spec| spec.trim_matches([' ', '\t'])).filter(|spec| !spec.is_empty());
    let (Some(spec), None) = (specs.next(), specs.next()) else {
        return RangeRequest::Whole;
    };
    let Some((first, last)) = spec.split_once('-') else {
        return RangeRequest::Whole;
    };
    match (position(first), position(last)) {
        (Some(Position::At(first)), Some(Position::Open)) => from(first, u64::MAX, size),
        (Some(Position::At(first)), Some(Position::At(last))) if last >= first => {
            from(first, last, size)
        }
        (Some(Position::Open), Some(Position::At(0))) => RangeRequest::Unsatisfiable,
        // An empty representation has an empty suffix, which Content-Range cannot express.
        (Some(Position::Open), Some(Position::At(_))) if size == 0 => RangeRequest::Whole,
        (Some(Position::Open), Some(Position::At(length))) => {
            RangeRequest::Bytes(size.saturating_sub(length)..size)
        }
        _ => RangeRequest::Whole,
    }
}

fn from(first: u64, last: u64, size: u64) -> RangeRequest {
    if first >= size {
        return RangeRequest::Unsatisfiable;
    }
    RangeRequest::Bytes(first..last.min(size - 1) + 1)
}

enum Position {
    Open,
    At(u64),
}

/// Parses `*DIGIT`; a number too large for 64 bits counts as the largest one.
fn position(digits: &str) -> Option<Position> {
    if digits.is_empty() {
        return Some(Position::Open);
    }
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(Position::At(digits.parse().unwrap_or(u64::MAX)))
}

/// Parses `bytes first-last/size` of a `Content-Range` field: the range, and the size unless it is
/// `*`.
#[must_use]
pub fn parse_content_range(field: &str) -> Option<(Range<u64>, Option<u64>)> {
    let (range, size) = field.trim().strip_prefix("bytes ")?.trim().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    // `parse` alone would accept a plus sign.
    let number = |digits: &str| digits.parse::<u64>().ok().filter(|_| !digits.starts_with('+'));
    let (first, last) = (number(first)?, number(last)?);
    let size = if size == "*" { None } else { Some(number(size)?) };
    let end = last.checked_add(1)?;
    // Past its own end it is invalid (RFC 9110, section 14.4).
    (first <= last && size.is_none_or(|size| end <= size)).then_some((first..end, size))
}
