//! Paths of URLs.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// A part of a path without percent-encoding, once decoded: names have no percent sign. `None` if
/// it is not UTF-8.
#[must_use]
pub fn decoded(part: &str) -> Option<Cow<'_, str>> {
    percent_decode_str(part).decode_utf8().ok()
}
