//! Links to private models.

use std::time::Duration;

use edge_net_core::http::link::{LinkError, LinkKeys, LinkKeysError, Reach};
use edge_net_core::time::UnixTime;
use proptest::prelude::*;

const NEW: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const OLD: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
const NOW: UnixTime = UnixTime::from_secs(1_763_942_400);
const UNTIL: UnixTime = UnixTime::from_secs(1_763_942_460);
const PATH: &str = "/models/private/v1.0.0/model.onnx";

fn keys(current: &str) -> LinkKeys {
    LinkKeys::parse(&format!(
        r#"{{"current": "{current}", "keys": {{"new": "{NEW}", "old": "{OLD}"}}}}"#
    ))
    .unwrap()
}

#[test]
fn a_link_opens_what_it_is_for_until_it_expires() {
    let keys = keys("new");
    let query = keys.query(Reach::Path(PATH), UNTIL);
    assert_eq!(keys.check(PATH, &query, NOW), Ok(()));
    assert_eq!(keys.check(PATH, &query, NOW + Duration::from_millis(59_999)), Ok(()));
    assert_eq!(
        keys.check(PATH, &query, NOW + Duration::from_secs(63)),
        Err(LinkError::Expired(Duration::from_secs(3)))
    );
    assert_eq!(
        keys.check("/models/private/v1.0.0/other.onnx", &query, NOW),
        Err(LinkError::Signature)
    );
    // Other parameters do no harm.
    assert_eq!(keys.check(PATH, &format!("{query}&download=true"), NOW), Ok(()));
}

#[test]
fn a_folder_is_no_prefix_of_another_name() {
    let keys = keys("new");
    let query = keys.query(Reach::Below("/models/private/"), UNTIL);
    assert_eq!(keys.check(PATH, &query, NOW), Ok(()));
    for path in
        ["/models/private", "/models/private-too/model.onnx", "/models/other/model.onnx", "/"]
    {
        assert_eq!(
            keys.check(path, &query, NOW),
            Err(LinkError::Elsewhere("/models/private/".into()))
        );
    }
    // Not even for a signed prefix without its slash.
    let query = keys.query(Reach::Below("/models/private"), UNTIL);
    assert!(matches!(
        keys.check("/models/private-too/x", &query, NOW),
        Err(LinkError::Elsewhere(_))
    ));
}

#[test]
fn keys_rotate() {
    let query = keys("old").query(Reach::Path(PATH), UNTIL);
    assert_eq!(
        keys("new").check(PATH, &query, NOW),
        Ok(()),
        "what was signed before is still good"
    );
    let only_new =
        LinkKeys::parse(&format!(r#"{{"current": "new", "keys": {{"new": "{NEW}"}}}}"#)).unwrap();
    assert_eq!(only_new.check(PATH, &query, NOW), Err(LinkError::UnknownKey));
    // A signature is not valid under the id of another key.
    assert_eq!(
        keys("new").check(PATH, &query.replace("key=old", "key=new"), NOW),
        Err(LinkError::Signature)
    );
}

#[test]
fn keys_that_cannot_be_used_are_named() {
    let refusal = |text: &str| LinkKeys::parse(text).err().unwrap();
    assert_eq!(refusal("{}"), LinkKeysError::NotJson);
    assert_eq!(refusal(r#"{"current": "a", "keys": {}}"#), LinkKeysError::NoCurrent("a".into()));
    assert_eq!(
        refusal(r#"{"current": "a", "keys": {"a": "c2hvcnQ="}}"#),
        LinkKeysError::BadKey("a".into())
    );
    assert_eq!(
        refusal(&format!(r#"{{"current": "a&b", "keys": {{"a&b": "{NEW}"}}}}"#)),
        LinkKeysError::BadKey("a&b".into())
    );
}

#[test]
fn a_link_needs_each_part_once() {
    let keys = keys("new");
    let query = keys.query(Reach::Below("/models/private/"), UNTIL);
    for part in ["key", "expires", "signature"] {
        let without: Vec<&str> = query.split('&').filter(|of| !of.starts_with(part)).collect();
        assert_eq!(keys.check(PATH, &without.join("&"), NOW), Err(LinkError::Missing(part)));
        assert_eq!(
            keys.check(PATH, &format!("{query}&{part}=1"), NOW),
            Err(LinkError::Missing(part))
        );
    }
    assert_eq!(
        keys.check(PATH, &format!("{query}&prefix=/"), NOW),
        Err(LinkError::Missing("prefix"))
    );
}

proptest! {
    #[test]
    fn an_altered_link_is_refused(
        at in any::<prop::sample::Index>(),
        by in 1..128_u8,
        below in any::<bool>(),
    ) {
        let keys = keys("new");
        let reach = if below { Reach::Below("/models/private/") } else { Reach::Path(PATH) };
        let query = keys.query(reach, UNTIL);
        let mut altered = query.clone().into_bytes();
        let at = at.index(altered.len());
        altered[at] = (altered[at] ^ by) & 0x7f;
        let altered = String::from_utf8(altered).unwrap();
        prop_assume!(altered != query);
        prop_assert!(keys.check(PATH, &altered, NOW).is_err(), "{}", altered);
    }

    #[test]
    fn nothing_panics(text in ".*", path in ".*", now in any::<u64>()) {
        let _ = LinkKeys::parse(&text);
        let _ = keys("new").check(&path, &text, UnixTime::from_millis(now));
    }
}
