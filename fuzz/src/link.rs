//! Time-limited links to private models.

use edge_net_core::http::link::{LinkKeys, Reach};
use edge_net_core::time::UnixTime;

const KEYS: &str = r#"{"current": "new", "keys": {
    "new": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "old": "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="}}"#;

/// Input: a path, a query and a time in seconds, a line each, and the JSON of keys, or none, in the
/// rest.
///
/// - A link that is accepted carries the signature that its keys give for what it says, is still
///   valid, and is for the path.
/// - A link that was just made is accepted until it expires, and not after.
/// - A link is good for no other path, and a folder's link for no path outside the folder.
///
/// # Panics
/// When a property does not hold.
pub fn link(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.splitn(4, '\n');
    let (Some(path), Some(query)) = (lines.next(), lines.next()) else { return };
    let now = lines.next().and_then(|seconds| seconds.parse::<u64>().ok()).unwrap_or(1000);
    let now = now.min(u64::MAX / 2000);
    let keys = match lines.next() {
        Some(json) => LinkKeys::parse(json),
        None => LinkKeys::parse(KEYS),
    };
    let Ok(keys) = keys else { return };
    if keys.check(path, query, UnixTime::from_secs(now)).is_ok() {
        assert_genuine(&keys, path, query, now);
    }
    if path.bytes().all(|byte| byte.is_ascii_graphic() && !b"&?#".contains(&byte)) {
        assert_made_links(&keys, path, now);
    }
}

/// The signature of an accepted link is over what the link says.
fn assert_genuine(keys: &LinkKeys, path: &str, query: &str, now: u64) {
    let value = |query: &str, name: &str| {
        let mut parts = query.split('&').filter_map(|part| part.split_once('='));
        parts.find(|(of, _)| *of == name).map(|(_, value)| value.to_owned())
    };
    let expires = value(query, "expires").and_then(|expires| expires.parse().ok());
    let expires: u64 = expires.expect("an accepted link expires");
    assert!(now < expires, "an expired link was accepted");
    let folder = value(query, "prefix");
    let reach = match &folder {
        Some(folder) => {
            assert!(folder.ends_with('/') && path.starts_with(&**folder));
            Reach::Below(folder)
        }
        None => Reach::Path(path),
    };
    let again = keys.query(reach, UnixTime::from_secs(expires));
    if value(&again, "key") == value(query, "key") {
        assert_eq!(value(&again, "signature"), value(query, "signature"), "a forged link");
    }
}

fn assert_made_links(keys: &LinkKeys, path: &str, now: u64) {
    let (expires, last) = (now + 1, UnixTime::from_millis(now * 1000 + 999));
    let (now, expires) = (UnixTime::from_secs(now), UnixTime::from_secs(expires));
    let query = keys.query(Reach::Path(path), expires);
    assert_eq!(keys.check(path, &query, last), Ok(()));
    assert!(keys.check(path, &query, expires).is_err());
    assert!(keys.check(&format!("{path}x"), &query, now).is_err());

    let folder = format!("{path}/");
    let query = keys.query(Reach::Below(&folder), expires);
    assert_eq!(keys.check(&format!("{folder}x"), &query, now), Ok(()));
    assert!(keys.check(&format!("{folder}x"), &query, expires).is_err());
    assert!(keys.check(path, &query, now).is_err());
    let unslashed = keys.query(Reach::Below("/models"), expires);
    assert!(keys.check("/models/x", &unslashed, now).is_err());
}
