//! Preconditions of RFC 9110, section 13. What is served here has strong entity tags and no dates,
//! so conditions with dates never match.

use http::header::{IF_MATCH, IF_NONE_MATCH, IF_RANGE};
use http::{HeaderMap, HeaderName, StatusCode};

/// The status of the response to a GET or HEAD whose preconditions do not hold for the
/// representation with this entity tag, in the order of RFC 9110, section 13.2.2: 412 or 304.
#[must_use]
pub fn refusal(fields: &HeaderMap, tag: &str) -> Option<StatusCode> {
    // A weak tag is never strongly equal to another.
    let strongly = |listed: &str| listed == tag && !tag.starts_with("W/");
    if fields.contains_key(IF_MATCH) && !lists(fields, &IF_MATCH, strongly) {
        return Some(StatusCode::PRECONDITION_FAILED);
    }
    let weakly = |listed: &str| opaque(listed) == opaque(tag);
    lists(fields, &IF_NONE_MATCH, weakly).then_some(StatusCode::NOT_MODIFIED)
}

/// Whether a range may be answered: `If-Range` is missing, or is this entity tag.
#[must_use]
pub fn allows_range(fields: &HeaderMap, tag: &str) -> bool {
    let ours = |validator: &[u8]| validator == tag.as_bytes() && !tag.starts_with("W/");
    fields.get(IF_RANGE).is_none_or(|validator| ours(validator.as_bytes().trim_ascii()))
}

/// A tag without the mark of a weak one.
fn opaque(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

/// Whether a field is `*` or lists an entity tag that `matches`.
fn lists(fields: &HeaderMap, name: &HeaderName, matches: impl Fn(&str) -> bool) -> bool {
    fields.get_all(name).iter().any(|value| {
        // A tag may have bytes that are no text; those of others do not hide ours.
        let value = String::from_utf8_lossy(value.as_bytes());
        value.trim() == "*" || tags(&value).any(&matches)
    })
}

/// The entity tags of a list (RFC 9110, section 8.8.3).
fn tags(list: &str) -> impl Iterator<Item = &str> {
    let mut rest = list;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let inside = opaque(rest).strip_prefix('"');
        // Between its quotes, a tag may have commas.
        let end = match inside.and_then(|inside| Some((inside, inside.find('"')?))) {
            Some((inside, length)) => rest.len() - inside.len() + length + 1,
            None => rest.find(',').unwrap_or(rest.len()),
        };
        let (tag, after) = rest.split_at(end);
        rest = after;
        (!tag.is_empty()).then(|| tag.trim_end())
    })
}
