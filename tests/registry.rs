//! The registry's rules: publication, rejection and its status, and lists.

use base64ct::{Base64, Encoding as _};
use ed25519_dalek::SigningKey;
use edge_net_core::dag::cid::{DAG_PB, RAW, cid_text};
use edge_net_core::dag::digest::Digest;
use edge_net_core::dag::layout::LEAF_SIZE;
use edge_net_core::http::registry::{
    BadFilter, Filter, Known, Limit, Offer, Publication, Rejection, Summary,
};
use edge_net_core::time::UnixTime;
use edge_net_core::trust::signature::{PinnedKeys, Refusal, VerifiedManifest, endorse, sign};
use http::StatusCode;
use proptest::prelude::*;
use semver::Version;
use serde_json::{Map, Value, json};

/// 2026-11-24T00:00:00Z.
const NOW: UnixTime = UnixTime::from_secs(1_795_478_400);

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn public(key: &SigningKey) -> String {
    Base64::encode_string(key.verifying_key().as_bytes())
}

/// The keys `a` and `b`, with the seeds 1 and 2.
fn keys() -> PinnedKeys {
    PinnedKeys::default()
        .pin("a".into(), &public(&key(1)))
        .unwrap()
        .pin("b".into(), &public(&key(2)))
        .unwrap()
}

fn document(version: &str, minute: u32, more: Value) -> Map<String, Value> {
    let document = json!({
        "id": "model", "name": "Model", "version": version, "type": "embedding",
        "timestamp": format!("2026-11-23T00:{minute:02}:00Z"),
        "artifacts": artifacts(&[("model", "model.onnx", 10)]),
        "optimization": { "quantization": "INT8" }, "license": "MIT",
    });
    let (Value::Object(mut document), Value::Object(more)) = (document, more) else {
        unreachable!("objects")
    };
    document.extend(more);
    document
}

fn signed(version: &str, minute: u32, more: Value, by: &str, seed: u8) -> String {
    Value::Object(sign(document(version, minute, more), by, &key(seed)).unwrap()).to_string()
}

fn by_a(version: &str, minute: u32, more: Value) -> String {
    signed(version, minute, more, "a", 1)
}

/// A registry in memory.
#[derive(Default)]
struct Registry {
    known: Option<Known>,
    manifests: Vec<(Version, String)>,
    newest: Option<Version>,
}

impl Registry {
    fn offer(&mut self, text: &str) -> Result<Publication, Rejection> {
        self.offer_with(text, &keys())
    }

    fn offer_with(&mut self, text: &str, keys: &PinnedKeys) -> Result<Publication, Rejection> {
        let offer = Offer::read(text.to_owned(), keys, NOW)?;
        let version = offer.manifest().version.clone();
        let current = self
            .manifests
            .iter()
            .find(|(known, _)| *known == version)
            .map(|(_, text)| text.clone());
        let known = self.known.clone().map(|known| Known { current, ..known });
        let publication = offer.decide(known.as_ref(), keys)?;
        self.manifests.retain(|(known, _)| *known != version);
        self.manifests.push((version.clone(), text.to_owned()));
        let mut versions = known.map_or_else(Vec::new, |known| known.versions);
        versions.retain(|(known, _)| *known != version);
        versions.push((version, publication.yanked));
        let Publication { owner, replaced, signed, .. } = publication.clone();
        self.known = Some(Known { owner, replaced, signed, versions, current: None });
        self.newest.clone_from(&publication.newest);
        Ok(publication)
    }
}

fn status(rejection: Result<Publication, Rejection>) -> StatusCode {
    rejection.expect_err("must be refused").status()
}

#[test]
fn signing_times_go_up_and_versions_never_come_twice() {
    let mut registry = Registry::default();
    let first = by_a("1.0.0", 0, json!({}));
    let publication = registry.offer(&first).unwrap();
    assert!(publication.new && !publication.yanked);
    assert_eq!(
        (publication.newest, publication.owner.as_str()),
        (Some(Version::new(1, 0, 0)), "a")
    );
    assert!(matches!(registry.offer(&first), Err(Rejection::Replay { .. })));
    registry.offer(&by_a("1.1.0", 1, json!({}))).unwrap();
    assert_eq!(status(registry.offer(&first)), StatusCode::CONFLICT);
    assert!(
        matches!(registry.offer(&by_a("1.2.0", 0, json!({}))), Err(Rejection::Older { .. })),
        "an earlier time"
    );
    assert!(matches!(
        registry.offer(&by_a("1.1.0", 3, json!({ "name": "Other" }))),
        Err(Rejection::Changed { .. })
    ));
    assert_eq!(registry.newest, Some(Version::new(1, 1, 0)));
}

#[test]
fn a_version_is_yanked_by_signing_it_again_and_offered_again_so_too() {
    let mut registry = Registry::default();
    let yank = json!({ "yanked": true });
    assert!(matches!(
        registry.offer(&by_a("1.0.0", 0, yank.clone())),
        Err(Rejection::NothingToYank { .. })
    ));
    registry.offer(&by_a("1.0.0", 0, json!({}))).unwrap();
    registry.offer(&by_a("2.0.0", 1, json!({}))).unwrap();
    assert!(matches!(
        registry.offer(&by_a("3.0.0", 2, yank.clone())),
        Err(Rejection::NothingToYank { .. })
    ));
    let yanked = registry.offer(&by_a("2.0.0", 2, yank.clone())).unwrap();
    assert!(yanked.yanked && !yanked.new);
    assert_eq!(registry.newest, Some(Version::new(1, 0, 0)));
    assert_eq!(registry.offer(&by_a("1.0.0", 3, yank.clone())).unwrap().newest, None);
    assert!(
        matches!(registry.offer(&by_a("2.0.0", 2, yank)), Err(Rejection::Replay { .. })),
        "no later"
    );
    assert!(
        matches!(registry.offer(&by_a("2.0.0", 1, json!({}))), Err(Rejection::Replay { .. })),
        "the first one undoes nothing"
    );
    assert_eq!(
        registry.offer(&by_a("2.0.0", 4, json!({}))).unwrap().newest,
        Some(Version::new(2, 0, 0))
    );
}

#[test]
fn a_hotfix_of_an_older_line_does_not_become_the_newest() {
    let mut registry = Registry::default();
    for (minute, (version, newest)) in [
        ("1.0.0", "1.0.0"),
        ("1.1.0", "1.1.0"),
        ("1.0.1", "1.1.0"),
        ("2.0.0", "2.0.0"),
        ("1.1.1", "2.0.0"),
        ("1.5.0", "2.0.0"),
    ]
    .into_iter()
    .enumerate()
    {
        let minute = u32::try_from(minute).unwrap();
        let publication = registry.offer(&by_a(version, minute, json!({}))).unwrap();
        assert!(publication.new, "{version}");
        assert_eq!(registry.newest, Some(newest.parse().unwrap()), "{version}");
    }
    let early = registry.offer(&by_a("1.0.2", 0, json!({}))).unwrap_err();
    assert!(matches!(early, Rejection::Older { .. }), "signed before others: {early}");
}

#[test]
fn a_prerelease_is_the_newest_only_while_there_is_no_release() {
    let mut registry = Registry::default();
    let mut minute = 0;
    let mut offer = |version: &str, more: Value| {
        minute += 1;
        registry.offer(&by_a(version, minute, more)).unwrap();
        registry.newest.clone().map(|newest| newest.to_string())
    };
    let newest = |version: &str| Some(version.to_owned());
    assert_eq!(offer("1.0.0-rc.1", json!({})), newest("1.0.0-rc.1"));
    assert_eq!(offer("1.0.0-rc.2", json!({})), newest("1.0.0-rc.2"));
    assert_eq!(offer("0.9.0", json!({})), newest("0.9.0"));
    assert_eq!(offer("2.0.0-rc.1", json!({})), newest("0.9.0"));
    assert_eq!(offer("0.9.0", json!({ "yanked": true })), newest("2.0.0-rc.1"));
    assert_eq!(offer("0.9.0", json!({})), newest("0.9.0"));
}

/// A publisher yanks by one command, and signs again with another expiry by another.
#[test]
fn yanking_and_another_expiry_do_not_undo_each_other() {
    let mut registry = Registry::default();
    registry.offer(&by_a("1.0.0", 0, json!({}))).unwrap();
    registry.offer(&by_a("1.1.0", 1, json!({}))).unwrap();
    let expiry = |year: u32| json!({ "expires": format!("{year}-01-01T00:00:00Z") });
    let yank = json!({ "yanked": true });
    assert!(registry.offer(&by_a("1.1.0", 2, yank.clone())).unwrap().yanked);
    let renewed = registry.offer(&by_a("1.1.0", 3, expiry(2100))).unwrap();
    assert!(renewed.yanked, "another expiry alone does not offer it again");
    assert_eq!(registry.newest, Some(Version::new(1, 0, 0)));
    let renewed = registry.offer(&by_a("1.1.0", 4, expiry(2200))).unwrap();
    assert!(renewed.yanked);
    // What undoes it: to say so, or nothing else.
    let mut offered = expiry(2300);
    offered["yanked"] = false.into();
    assert!(!registry.offer(&by_a("1.1.0", 5, offered)).unwrap().yanked);
    let mut yanked = expiry(2300);
    yanked["yanked"] = true.into();
    assert!(registry.offer(&by_a("1.1.0", 6, yanked)).unwrap().yanked);
    assert!(!registry.offer(&by_a("1.1.0", 7, expiry(2300))).unwrap().yanked);
    assert_eq!(registry.newest, Some(Version::new(1, 1, 0)));
}

#[test]
fn a_model_belongs_to_the_key_that_published_it() {
    let mut registry = Registry::default();
    registry.offer(&by_a("1.0.0", 0, json!({}))).unwrap();
    let by_b = signed("2.0.0", 1, json!({}), "b", 2);
    assert!(
        matches!(registry.offer(&by_b), Err(Rejection::NotOwner { .. })),
        "pinned, and not the owner"
    );
    assert_eq!(
        status(registry.offer(&signed("2.0.0", 1, json!({}), "c", 3))),
        StatusCode::FORBIDDEN
    );
    assert_eq!(
        status(registry.offer(&signed("2.0.0", 1, json!({}), "a", 3))),
        StatusCode::FORBIDDEN
    );
    // With an endorsement by a, the model belongs to b.
    let endorsements = json!({ "endorsements": [endorse("b", &public(&key(2)), "a", &key(1))] });
    let publication = registry.offer(&signed("2.0.0", 1, endorsements, "b", 2)).unwrap();
    assert_eq!(publication.owner, "b");
    assert!(matches!(
        registry.offer(&by_a("3.0.0", 2, json!({}))),
        Err(Rejection::NotOwner { .. })
    ));
    registry.offer(&signed("3.0.0", 2, json!({}), "b", 2)).unwrap();
}

#[test]
fn a_replaced_key_publishes_no_more() {
    let only_a = keys().only("a");
    let mut registry = Registry::default();
    registry.offer_with(&by_a("1.0.0", 0, json!({})), &only_a).unwrap();
    let endorsements = json!({ "endorsements": [endorse("b", &public(&key(2)), "a", &key(1))] });
    let publication =
        registry.offer_with(&signed("2.0.0", 1, endorsements, "b", 2), &only_a).unwrap();
    assert_eq!(publication.replaced, ["a"]);
    let again = registry.offer_with(&by_a("3.0.0", 2, json!({})), &only_a);
    assert!(matches!(again, Err(Rejection::Refused(Refusal::ReplacedKey(_)))));
}

#[test]
fn a_model_whose_key_is_pinned_no_more_goes_to_who_is() {
    let mut registry = Registry::default();
    registry.offer(&by_a("1.0.0", 0, json!({}))).unwrap();
    let only_b = keys().only("b");
    assert_eq!(
        registry.offer_with(&signed("2.0.0", 1, json!({}), "b", 2), &only_b).unwrap().owner,
        "b"
    );
}

#[test]
fn what_is_no_good_manifest_says_why() {
    let mut registry = Registry::default();
    let refused = |registry: &mut Registry, text: &str| {
        let rejection = registry.offer(text).expect_err("must be refused");
        (rejection.status().as_u16(), rejection.to_string())
    };
    assert_eq!(refused(&mut registry, "{").0, 400);
    assert_eq!(refused(&mut registry, "[]").0, 400);
    assert_eq!(refused(&mut registry, "{}"), (422, "manifest field `id` is missing".into()));
    let unsigned = Value::Object(document("1.0.0", 0, json!({}))).to_string();
    assert_eq!(
        refused(&mut registry, &unsigned),
        (403, "the manifest is not signed: `signature` is missing or not a string".into())
    );
    assert_eq!(refused(&mut registry, &by_a("1.0.0", 0, json!({ "yanked": "yes" }))).0, 422);
    assert_eq!(
        refused(&mut registry, &by_a("1.0.0", 0, json!({ "expires": "2026-11-23T12:00:00Z" }))).0,
        422
    );
    let (status, said) =
        refused(&mut registry, &by_a("1.0.0", 0, json!({ "timestamp": "2026-11-24T02:00:00Z" })));
    assert_eq!((status, said.contains("120 minutes from now")), (422, true), "{said}");
    assert!(registry.manifests.is_empty());
}

fn summary(id: &str) -> Summary {
    let text = by_a("1.0.0", 0, json!({ "id": id, "name": format!("The {id}") }));
    Summary::of(&VerifiedManifest::verify(&text, &keys()).unwrap())
}

fn artifacts(files: &[(&str, &str, u64)]) -> Value {
    let file = |(role, filename, size): &(&str, &str, u64)| {
        let cid = cid_text(&Digest::of(b"").to_cid(if *size > LEAF_SIZE { DAG_PB } else { RAW }));
        (
            (*role).to_owned(),
            json!({
                "filename": filename, "size": size, "sha256": Digest::of(b"").to_hex(), "cid": cid,
            }),
        )
    };
    Value::Object(files.iter().map(file).collect())
}

#[test]
fn a_summary_marks_what_embeds() {
    let (model, tokenizer) =
        (("model", "onnx/model.onnx", 10), ("tokenizer", "tokenizer.json", 10));
    let embeds = |kind: &str, files: &[(&str, &str, u64)]| {
        let text = by_a("1.0.0", 0, json!({ "type": kind, "artifacts": artifacts(files) }));
        Summary::of(&VerifiedManifest::verify(&text, &keys()).unwrap()).embeddings
    };
    assert!(embeds("embedding", &[model, tokenizer]));
    assert!(
        embeds("embedding", &[model, ("other", "model.onnx", 10), tokenizer]),
        "the one with the role is meant"
    );
    assert!(!embeds("vision", &[model, tokenizer]));
    assert!(!embeds("embedding", &[model]));
    assert!(!embeds("embedding", &[tokenizer]));
    assert!(!embeds("embedding", &[("a", "a.onnx", 10), ("b", "b.onnx", 10), tokenizer]));
    assert!(!embeds("embedding", &[("model", "model.onnx", 65 << 20), tokenizer]));
    assert!(!embeds("embedding", &[model, ("tokenizer", "tokenizer.json", 5 << 20)]));
    // The database stores a number, JSON has a boolean.
    let summary = |embeddings: Value| {
        serde_json::from_value::<Summary>(json!({
            "id": "x", "name": "x", "type": "x", "size": 1, "version": "1.0.0",
            "embeddings": embeddings,
        }))
    };
    for (value, expected) in [
        (json!(1), true),
        (json!(1.0), true),
        (json!(0), false),
        (json!(true), true),
        (json!(false), false),
    ] {
        assert_eq!(summary(value).unwrap().embeddings, expected);
    }
}

#[test]
fn a_summary_says_what_the_manifest_says() {
    let expected = json!({
        "id": "x", "name": "The x", "type": "embedding", "quantization": "INT8", "license": "MIT",
        "size": 10, "version": "1.0.0",
    });
    assert_eq!(serde_json::to_value(summary("x")).unwrap(), expected);
}

fn filter(query: &[(&str, &str)]) -> Result<Filter, BadFilter> {
    Filter::parse(query.iter().copied())
}

#[test]
fn filters_choose() {
    let model = summary("minilm");
    for (query, admitted) in [
        (&[][..], true),
        (&[("type", "embedding")], true),
        (&[("type", "Embedding")], false),
        (&[("quantization", "int8")], true),
        (&[("quantization", "INT4")], false),
        (&[("license", "mit")], true),
        (&[("q", "MINI")], true),
        (&[("q", "the mini")], true),
        (&[("q", "maxi")], false),
        (&[("cursor", "minilm")], false),
        (&[("cursor", "mini")], true),
        (&[("type", "embedding"), ("license", "Apache-2.0")], false),
    ] {
        assert_eq!(filter(query).unwrap().admits(&model), admitted, "{query:?}");
    }
}

#[test]
fn a_query_that_cannot_be_read_names_the_parameter() {
    for (query, expected) in [
        (&[("size", "1")][..], BadFilter::Unknown("size".into())),
        (&[("q", "a"), ("q", "b")], BadFilter::Twice("q")),
        (&[("q", "")], BadFilter::Text("q")),
        (&[("type", "a\nb")], BadFilter::Text("type")),
        (&[("limit", "0")], BadFilter::Limit),
        (&[("limit", "101")], BadFilter::Limit),
        (&[("limit", "+1")], BadFilter::Limit),
        (&[("limit", "1e1")], BadFilter::Limit),
        (&[("cursor", "A B")], BadFilter::Cursor),
    ] {
        assert_eq!(filter(query), Err(expected), "{query:?}");
    }
    assert_eq!(filter(&[("limit", "7")]).unwrap().limit.get(), 7);
    assert_eq!(filter(&[]).unwrap().limit, Limit::default());
}

proptest! {
    /// All pages together are the whole list.
    #[test]
    fn pages_leave_nothing_out(count in 0..40_usize, limit in 1..15_u16) {
        let all: Vec<Summary> =
            (0..count).map(|n| Summary { id: format!("m{n:03}"), ..summary("x") }).collect();
        let mut seen = Vec::new();
        let mut cursor = None::<String>;
        loop {
            let limit = limit.to_string();
            let query = [("limit", limit.as_str())]
                .into_iter()
                .chain(cursor.as_deref().map(|cursor| ("cursor", cursor)));
            let filter = Filter::parse(query).unwrap();
            let wanted = all
                .iter()
                .filter(|summary| filter.admits(summary))
                .take(usize::from(filter.limit.get()) + 1);
            let (page, next) = filter.page(wanted.cloned().collect());
            prop_assert!(page.len() <= usize::from(filter.limit.get()));
            seen.extend(page);
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        prop_assert_eq!(seen, all);
    }

    /// Any text is accepted or rejected without a panic.
    #[test]
    fn no_offer_panics(text in ".{0,200}") {
        let read = Offer::read(text, &keys(), NOW);
        prop_assert!(read.is_err_and(|rejection| rejection.status().is_client_error()));
    }

    #[test]
    fn no_query_panics(name in "(type|q|limit|cursor|.{0,5})", value in ".{0,200}") {
        let _ = Filter::parse([(name, value)]);
    }
}
