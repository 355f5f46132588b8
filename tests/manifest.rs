//! Manifests and their signatures: acceptance, refusal, and messages.

use base64ct::{Base64, Encoding as _};
use ed25519_dalek::{Signature, SigningKey};
use edge_net_core::dag::cid::{DAG_PB, RAW, cid_text};
use edge_net_core::dag::digest::Digest;
use edge_net_core::time::UnixTime;
use edge_net_core::trust::manifest::{
    MAX_ARTIFACTS, MAX_SIZE, Manifest, ManifestError, is_filename, is_id, signable,
};
use edge_net_core::trust::signature::{
    Floor, PinnedKeys, PinnedKeysError, Refusal, VerifiedManifest, endorse, sign,
};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn pinned() -> PinnedKeys {
    PinnedKeys::default()
        .pin("release".into(), &Base64::encode_string(key().verifying_key().as_bytes()))
        .unwrap()
}

fn cid(codec: u64) -> String {
    cid_text(&Digest::of(b"some bytes").to_cid(codec))
}

fn artifact(filename: &str, size: u64) -> Value {
    let codec = if size <= 262_144 { RAW } else { DAG_PB };
    let sha256 = Digest::of(b"some bytes").to_hex();
    json!({ "filename": filename, "size": size, "sha256": sha256, "cid": cid(codec) })
}

/// A manifest with all fields that a client reads, and some unknown ones.
fn document() -> Value {
    let mut document = json!({
        "id": "minilm-l6",
        "name": "MiniLM",
        "version": "1.2.3",
        "type": "embedding",
        "timestamp": "2026-01-03T00:00:00Z",
        "artifacts": {
            "model": artifact("model.onnx", 22_928_619),
            "tokenizer": artifact("tok/tokenizer.json", 100),
        },
        "architecture": {
            "layers": 6, "scale": 0.125, "tags": ["q8", null, true, { "deep": [] }], "größe": "€ 😀",
        },
    });
    document["artifacts"]["model"]["profile"] = json!("unixfs-v1-2015");
    document["artifacts"]["model"]["quantization"] = json!({ "bits": 8 });
    document
}

fn object(value: Value) -> Map<String, Value> {
    let Value::Object(object) = value else { panic!("an object") };
    object
}

fn signed(document: Value) -> Value {
    Value::Object(sign(object(document), "release", &key()).unwrap())
}

fn verify(document: &Value) -> Result<VerifiedManifest, Refusal> {
    VerifiedManifest::verify(&document.to_string(), &pinned())
}

#[test]
fn what_was_signed_is_accepted() {
    let manifest = verify(&signed(document())).unwrap();
    assert_eq!(
        (manifest.id.as_str(), manifest.name.as_str(), manifest.kind.as_str()),
        ("minilm-l6", "MiniLM", "embedding")
    );
    assert_eq!(
        (manifest.version.to_string().as_str(), manifest.timestamp),
        ("1.2.3", UnixTime::from_secs(1_767_398_400))
    );
    assert_eq!(manifest.key_id(), "release");
    let model = manifest.artifact("model.onnx").unwrap();
    assert_eq!(
        (model.role.as_str(), model.size, model.sha256),
        ("model", 22_928_619, Digest::of(b"some bytes"))
    );
    assert_eq!((cid_text(&model.cid), model.layout().leaves()), (cid(DAG_PB), 88));
    assert!(manifest.artifact("tokenizer.json").is_none(), "paths are whole");
    assert_eq!(
        manifest.document()["architecture"],
        document()["architecture"],
        "unknown fields are kept"
    );
}

#[test]
fn signing_again_replaces_the_signature() {
    let once = signed(document());
    assert_eq!(
        signed(once.clone()),
        once,
        "Ed25519 is deterministic, and the old signature is not covered"
    );
}

#[test]
fn nothing_is_signed_that_would_not_be_accepted() {
    let mut bad = document();
    bad["version"] = json!("1.2");
    let error = sign(object(bad), "release", &key()).unwrap_err();
    assert!(error.to_string().starts_with("manifest field `version` is \"1.2\""), "{error}");
}

#[test]
fn layout_of_the_text_does_not_matter() {
    let signed = signed(document());
    VerifiedManifest::verify(&serde_json::to_string_pretty(&signed).unwrap(), &pinned()).unwrap();
    let escaped =
        signed.to_string().replace("model.onnx", "\\u006dodel.onnx").replace("0.125", "1.25e-1");
    VerifiedManifest::verify(&escaped, &pinned()).unwrap();
}

/// A signature covers the bytes of RFC 8785, sections 3.2.2 and 3.2.3.
#[test]
fn signatures_cover_rfc_8785_bytes() {
    let text = r#"{
      "id": "m", "name": "n", "version": "1.0.0", "type": "t", "timestamp": "2026-01-03T00:00:00Z",
      "artifacts": { "model": { "filename": "f", "size": 1, "sha256": "SHA", "cid": "CID" } },
      "numbers": [333333333.3333333, 4.50, 2e-3, 0.000000000000000000000000001, 0, 0.0,
                  1e2, 9007199254740991, -9007199254740991, 5e-324],
      "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
      "literals": [null, true, false],
      "sorted": { "\u20ac": "Euro Sign", "\r": "Carriage Return",
                  "\ufb33": "Hebrew Letter Dalet With Dagesh", "1": "One",
                  "\ud83d\ude00": "Emoji: Grinning Face", "\u0080": "Control",
                  "\u00f6": "Latin Small Letter O With Diaeresis" }
    }"#;
    let canonical = concat!(
        r#"{"artifacts":{"model":{"cid":"CID","filename":"f","sha256":"SHA","size":1}},"id":"m","#,
        r#""literals":[null,true,false],"name":"n","numbers":[333333333.3333333,4.5,0.002,"#,
        r"1e-27,0,0,100,9007199254740991,-9007199254740991,5e-324],",
        "\"sorted\":{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\u{80}\":\"Control\",",
        "\"\u{f6}\":\"Latin Small Letter O With Diaeresis\",\"\u{20ac}\":\"Euro Sign\",",
        "\"\u{1f600}\":\"Emoji: Grinning Face\",\"\u{fb33}\":\"Hebrew Letter Dalet With Dagesh\"},",
        "\"string\":\"\u{20ac}$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\",",
        r#""timestamp":"2026-01-03T00:00:00Z","type":"t","version":"1.0.0"}"#,
    );
    let fill = |text: &str| {
        text.replace("SHA", &Digest::of(b"some bytes").to_hex()).replace("CID", &cid(RAW))
    };
    let signed =
        sign(object(serde_json::from_str(&fill(text)).unwrap()), "release", &key()).unwrap();
    let signature = Base64::decode_vec(signed["signature"]["signature"].as_str().unwrap()).unwrap();
    let signature = Signature::from_slice(&signature).unwrap();
    key()
        .verifying_key()
        .verify_strict(fill(canonical).as_bytes(), &signature)
        .expect("the canonical bytes are what is signed");
}

/// One signature must fit one number (RFC 7493, section 2.2): what RFC 8785 would change is not
/// signed and not read.
#[test]
fn numbers_that_rfc_8785_would_change_are_refused() {
    let text = |number: &str| signed(document()).to_string().replace("0.125", number);
    for number in [
        "9007199254740992",
        "9007199254740993",
        "9007199254740992.0",
        "9007199254740991.5",
        "-9007199254740992",
        "18446744073709551615",
        "18446744073709551616",
        "9.007199254740993e15",
        "1e21",
        "1E30",
        "1e300",
        "333333333.33333329",
        "0.1000000000000000055511151231257827",
        "1e-400",
        "2e-324",
        "0.125000000000000000000000000000001",
        "-0",
        "-0.0",
        "-0e5",
    ] {
        let error = VerifiedManifest::verify(&text(number), &pinned()).unwrap_err();
        let Refusal::Malformed(error) = error else { panic!("{number}: {error}") };
        assert!(error.to_string().contains("RFC 8785 would change"), "{number}: {error}");
    }
    // The same number in other words.
    for number in ["0.125", "1.25e-1", "125e-3", "0.1250", "12.5E-2", "00125e-3"] {
        let read = VerifiedManifest::verify(&text(number), &pinned());
        assert_eq!(read.is_ok(), number != "00125e-3", "{number}: {read:?}");
    }
    for value in [json!(1_u64 << 53), json!(-(1_i64 << 53)), json!(-0.0), json!(1e300)] {
        let mut bad = document();
        bad["architecture"]["tags"] = json!([1, { "deep": value }]);
        let error = sign(object(bad), "release", &key()).unwrap_err().to_string();
        assert!(
            error.starts_with("manifest field `architecture.tags[1].deep` is a number that"),
            "{error}"
        );
    }
    // Not in strings, which may look like numbers.
    let mut good = document();
    good["architecture"]["big"] = json!("1e300 \\\" 9007199254740993");
    verify(&signed(good)).unwrap();
}

#[test]
fn a_description_has_no_number_that_would_be_signed_as_another() {
    assert!(signable("{\"a\":[1,2.5]}").is_ok());
    for text in ["{\"a\":9007199254740993}", "{\"a\":0.1000000000000000055}", "{\"a\":1,\"a\":1}"] {
        assert!(signable(text).is_err(), "{text}");
    }
}

/// Replaces a field of a good manifest, or removes it, and checks that the error names the field.
fn assert_named(table: &[(&str, Option<Value>, &str)]) {
    for (pointer, value, message) in table {
        let mut document = document();
        if let Some(value) = value {
            *document.pointer_mut(pointer).unwrap() = value.clone();
        } else {
            let (parent, member) = pointer.rsplit_once('/').unwrap();
            document.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(member);
        }
        let error =
            Manifest::parse(&document.to_string()).expect_err(&format!("{pointer} = {value:?}"));
        assert!(
            error.to_string().starts_with(&format!("manifest field {message}")),
            "{pointer} = {value:?}: {error}"
        );
    }
}

#[test]
fn each_field_is_named_when_it_is_wrong() {
    let long = "a".repeat(129);
    assert_named(&[
        ("/id", None, "`id` is missing"),
        ("/id", Some(json!(7)), "`id` must be a string"),
        ("/id", Some(json!("")), "`id` must not be empty"),
        ("/id", Some(json!("../up")), "`id` is \"../up\"; it must be"),
        ("/id", Some(json!("Upper")), "`id` is"),
        ("/id", Some(json!(".hidden")), "`id` is"),
        ("/id", Some(json!(long)), "`id` is"),
        ("/name", None, "`name` is missing"),
        ("/name", Some(json!("")), "`name` must not be empty"),
        ("/type", None, "`type` is missing"),
        ("/type", Some(json!(null)), "`type` must be a string"),
        ("/version", None, "`version` is missing"),
        (
            "/version",
            Some(json!("v1.0.0")),
            "`version` is \"v1.0.0\", which is not a semantic version",
        ),
        ("/version", Some(json!("1.0")), "`version` is"),
        ("/version", Some(json!(1.0)), "`version` must be a string"),
        ("/timestamp", None, "`timestamp` is missing"),
        (
            "/timestamp",
            Some(json!("2026-01-03")),
            "`timestamp` is \"2026-01-03\"; it must be an RFC 3339 time in UTC",
        ),
        ("/timestamp", Some(json!("2026-01-03T00:00:00+01:00")), "`timestamp` is"),
        ("/timestamp", Some(json!("2026-02-30T00:00:00Z")), "`timestamp` is"),
        ("/timestamp", Some(json!("1969-12-31T23:59:59Z")), "`timestamp` is"),
        ("/timestamp", Some(json!(1_767_398_400)), "`timestamp` must be a string"),
        ("/artifacts", None, "`artifacts` is missing"),
        ("/artifacts", Some(json!([])), "`artifacts` must be an object"),
        ("/artifacts", Some(json!({})), "`artifacts` has 0 entries"),
    ]);
}

#[test]
fn each_field_of_an_artifact_is_named_when_it_is_wrong() {
    let sha = "0".repeat(63);
    assert_named(&[
        ("/artifacts/model", Some(json!("model.onnx")), "`artifacts.model` must be an object"),
        ("/artifacts/model/filename", None, "`artifacts.model.filename` is missing"),
        (
            "/artifacts/model/filename",
            Some(json!("../model.onnx")),
            "`artifacts.model.filename` is \"../model.onnx\"; it must be",
        ),
        (
            "/artifacts/tokenizer/filename",
            Some(json!("model.onnx")),
            "`artifacts.tokenizer.filename` is \"model.onnx\", \
             the same as artifacts.model.filename",
        ),
        ("/artifacts/model/size", None, "`artifacts.model.size` is missing"),
        ("/artifacts/model/sha256", None, "`artifacts.model.sha256` is missing"),
        (
            "/artifacts/model/sha256",
            Some(json!(sha)),
            "`artifacts.model.sha256` must be 64 lower-case hexadecimal digits",
        ),
        (
            "/artifacts/model/sha256",
            Some(json!(Digest::of(b"a").to_hex().to_uppercase())),
            "`artifacts.model.sha256` must be",
        ),
        ("/artifacts/model/cid", None, "`artifacts.model.cid` is missing"),
        (
            "/artifacts/model/cid",
            Some(json!("QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG")),
            "`artifacts.model.cid` is",
        ),
        (
            "/artifacts/model/cid",
            Some(json!(cid(RAW))),
            "`artifacts.model.cid` must be a CIDv1 with sha2-256 and, at this size, codec dag-pb",
        ),
        (
            "/artifacts/tokenizer/cid",
            Some(json!(cid(DAG_PB))),
            "`artifacts.tokenizer.cid` must be a CIDv1 with sha2-256 and, at this size, codec raw",
        ),
        (
            "/artifacts/model/profile",
            Some(json!("unixfs-v1-2025")),
            "`artifacts.model.profile` is \"unixfs-v1-2025\"; this client reads \"unixfs-v1-2015\"",
        ),
        (
            "/artifacts/model/profile",
            Some(json!(null)),
            "`artifacts.model.profile` must be a string",
        ),
    ]);
}

#[test]
fn sizes_are_whole_numbers_below_2_to_the_53() {
    let text = |size: &str| {
        let large = size.parse::<f64>().is_ok_and(|size| size > 262_144.0);
        let mut document = document();
        document["artifacts"] =
            json!({ "model": artifact("model.onnx", if large { 1 << 40 } else { 1 }) });
        let any_size = document["artifacts"]["model"]["size"].to_string();
        document.to_string().replace(&format!("\"size\":{any_size}"), &format!("\"size\":{size}"))
    };
    for size in [0, 1, 262_144, 262_145, MAX_SIZE - 1, MAX_SIZE] {
        assert_eq!(Manifest::parse(&text(&size.to_string())).unwrap().artifacts[0].size, size);
    }
    for size in [
        "9007199254740992",
        "18446744073709551615",
        "18446744073709551616",
        "1e2",
        "1e300",
        "100.0",
        "1.5",
        "-0",
        "-1",
        "\"1\"",
        "null",
        "[1]",
    ] {
        let error = Manifest::parse(&text(size)).unwrap_err().to_string();
        assert_eq!(
            error,
            "manifest field `artifacts.model.size` must be a whole number of bytes \
             from 0 to 9007199254740991",
            "{size}"
        );
    }
}

#[test]
fn artifacts_are_counted() {
    let mut document = document();
    let many = |count: usize| {
        (0..count).map(|i| (format!("a{i}"), artifact(&format!("f{i}"), 1))).collect::<Map<_, _>>()
    };
    document["artifacts"] = Value::Object(many(MAX_ARTIFACTS));
    assert_eq!(Manifest::parse(&document.to_string()).unwrap().artifacts.len(), MAX_ARTIFACTS);
    document["artifacts"] = Value::Object(many(MAX_ARTIFACTS + 1));
    assert!(
        Manifest::parse(&document.to_string())
            .unwrap_err()
            .to_string()
            .contains("has 4097 entries")
    );
}

#[test]
fn what_is_no_json_object_is_refused() {
    for text in [
        "",
        "<!doctype html>",
        "[]",
        "null",
        "{",
        "{\"id\":1e400}",
        "{} {}",
        "{\"a\":\"\\ud800\"}",
        "\u{feff}{}",
        "{'id':1}",
        "{\"id\":01}",
    ] {
        assert!(matches!(Manifest::parse(text), Err(ManifestError::NotJson(_))), "{text}");
    }
    let deep = "[".repeat(100_000);
    assert!(matches!(Manifest::parse(&format!("{{\"a\":{deep}")), Err(ManifestError::NotJson(_))));
}

#[test]
fn members_that_come_twice_are_refused() {
    let text = signed(document()).to_string();
    for (once, twice, named) in [
        ("{\"architecture\"", "{\"version\":\"9.9.9\",\"architecture\"", "version"),
        ("\"layers\":6", "\"layers\":6,\"layers\":6", "layers"),
        ("\"layers\":6", "\"l\\u0061yers\":1,\"layers\":6", "layers"),
        ("\"deep\":[]", "\"deep\":1,\"deep\":[]", "deep"),
        ("\"keyId\"", "\"keyId\":\"other\",\"keyId\"", "keyId"),
    ] {
        assert_eq!(text.matches(once).count(), 1, "{once}");
        let error = VerifiedManifest::verify(&text.replace(once, twice), &pinned()).unwrap_err();
        assert!(
            error.to_string().contains(&format!("the member {named:?} appears twice")),
            "{error}"
        );
    }
    let key = Base64::encode_string(key().verifying_key().as_bytes());
    let error = PinnedKeys::parse(&format!(r#"{{"a":"{key}","a":"{key}"}}"#)).unwrap_err();
    assert!(error.to_string().contains("the member \"a\" appears twice"), "{error}");
}

#[test]
fn ids_and_filenames() {
    for id in ["a", "0", "minilm-l6-v2-q8", "a..b", "org.model_1"] {
        assert!(is_id(id), "{id}");
    }
    for id in
        ["", ".", "..", "-a", "_a", "A", "a/b", "a b", "é", "a%2fb", "a\0", "a.", "con", "nul.x"]
    {
        assert!(!is_id(id), "{id}");
    }
    for filename in [
        "a",
        "model.onnx",
        "onnx/model_quantized.onnx",
        "v1.0.0",
        "vision/v1.0.0",
        "v1/a",
        "a/manifest.json",
        "A-b_c.d",
        "console",
        "com",
        "com10",
        "a.nul",
        "leaves/a",
        "manifest.json.d/a",
        &"a".repeat(200),
    ] {
        assert!(is_filename(filename), "{filename}");
    }
    let long = "a".repeat(513);
    let bad = [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "../a",
        "a/../b",
        "a/./b",
        ".git/a",
        "a/.b",
        "a\\b",
        "a b",
        "a%2e",
        "é",
        "a\0",
        "a?b",
        "a#b",
        "a:b",
        "manifest.json",
        "a.leaves",
        "x/a.leaves",
        ".leaves",
        "v1.0.0/a",
        "v1.0.0-rc.1/a",
        &long,
        &"a".repeat(201),
        &format!("x/{}/y", "a".repeat(201)),
        // Where our own files are.
        "manifest.json/a",
        "Manifest.json",
        "a/manifest.json/b",
        "a.leaves/b",
        "x/a.leaves/b",
        "a.LEAVES",
        // What Windows opens as a device, or shortens.
        "con",
        "NUL.txt",
        "aux/a",
        "a/COM1",
        "lpt9.tar.gz",
        "a.",
        "a./b",
        // Unicode has several spellings of one name.
        "\u{e9}",
        "e\u{301}",
        "\u{212a}",
        "a\u{200d}b",
    ];
    for filename in bad {
        assert!(!is_filename(filename), "{filename}");
    }
}

#[test]
fn file_names_that_one_folder_cannot_hold_are_refused_together() {
    let read = |names: &[&str]| {
        let mut document = document();
        document["artifacts"] = names
            .iter()
            .enumerate()
            .map(|(i, name)| (format!("a{i}"), artifact(name, 1)))
            .collect::<Map<_, _>>()
            .into();
        let read = Manifest::parse(&document.to_string()).map(drop);
        let made = sign(object(document), "release", &key()).map(drop);
        assert_eq!(read, made, "refused when it is made and when it is read");
        read.map_err(|error| error.to_string())
    };
    for (names, problem) in [
        (&["a", "a/b"][..], "\"a\" cannot be a file and a folder"),
        (&["a/b", "a"], "cannot be a file and a folder"),
        (&["A", "a/b"], "\"A\" cannot be a file and a folder"),
        (&["x/a/b/c", "x/a"], "cannot be a file and a folder"),
        (&["a", "A"], "differs from \"a\" in case only"),
        (&["x/a.onnx", "x/A.ONNX"], "differs from \"x/a.onnx\" in case only"),
        (&["onnx/a", "Onnx/b"], "in case only"),
        (&["x/y/a", "x/Y/b"], "in case only"),
        (&["a", "a"], "the same as artifacts.a0.filename"),
    ] {
        let error = read(names).expect_err("they clash");
        assert!(error.contains(problem), "{names:?}: {error}");
    }
    for names in [&["a", "ab", "a-b/c", "a.b"][..], &["x/a", "x/b", "y/a"], &["x/a/b", "x/a/c"]] {
        read(names).unwrap();
    }
}

#[test]
fn a_version_fits_into_a_folder_name() {
    let version = |length: usize| {
        let mut document = document();
        document["version"] = format!("1.0.0-{}", "a".repeat(length - 6)).into();
        Manifest::parse(&document.to_string())
    };
    version(128).unwrap();
    assert!(version(129).unwrap_err().to_string().contains("`version` is longer than 128 bytes"));
}

#[test]
fn a_manifest_without_its_signature_is_refused() {
    let mut none = signed(document());
    none.as_object_mut().unwrap().remove("signature");
    assert_eq!(verify(&none).unwrap_err(), Refusal::Unsigned("signature"));
    for wrong in [json!(null), json!("x"), json!([])] {
        none["signature"] = wrong;
        assert_eq!(verify(&none).unwrap_err(), Refusal::Unsigned("signature"));
    }
    for member in ["keyId", "publicKey", "signature"] {
        let mut part = signed(document());
        part["signature"].as_object_mut().unwrap().remove(member);
        assert_eq!(verify(&part).unwrap_err(), Refusal::Unsigned(member));
        part["signature"][member] = json!(1);
        let message = verify(&part).unwrap_err().to_string();
        assert_eq!(
            message,
            format!("the manifest is not signed: `{member}` is missing or not a string")
        );
    }
}

#[test]
fn the_signature_block_holds_nothing_else() {
    let mut more = signed(document());
    more["signature"]["timestamp"] = json!("2030-01-01T00:00:00Z");
    assert_eq!(verify(&more).unwrap_err(), Refusal::Uncovered("timestamp".into()));
}

#[test]
fn keys_that_are_not_pinned_are_refused() {
    let attacker = SigningKey::from_bytes(&[8; 32]);
    let theirs = |key_id: &str| Value::Object(sign(object(document()), key_id, &attacker).unwrap());

    let error = verify(&theirs("attacker")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the manifest is signed by key \"attacker\", which is not pinned here (pinned: release)"
    );
    let error = VerifiedManifest::verify(&signed(document()).to_string(), &PinnedKeys::default())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the manifest is signed by key \"release\", which is not pinned here (pinned: none)"
    );

    // Another key under the pinned key's id, openly and hidden.
    let mut under_our_name = theirs("release");
    assert_eq!(verify(&under_our_name).unwrap_err(), Refusal::WrongPublicKey("release".into()));
    under_our_name["signature"]["publicKey"] = signed(document())["signature"]["publicKey"].clone();
    assert_eq!(verify(&under_our_name).unwrap_err(), Refusal::BadSignature("release".into()));
}

#[test]
fn every_pinned_key_may_sign() {
    let second = SigningKey::from_bytes(&[9; 32]);
    let keys = PinnedKeys::parse(
        &json!({
            "release": Base64::encode_string(key().verifying_key().as_bytes()),
            "next": Base64::encode_string(second.verifying_key().as_bytes()),
        })
        .to_string(),
    )
    .unwrap();
    for (key_id, key) in [("release", key()), ("next", second.clone())] {
        let signed = Value::Object(sign(object(document()), key_id, &key).unwrap());
        assert_eq!(VerifiedManifest::verify(&signed.to_string(), &keys).unwrap().key_id(), key_id);
    }
    let crossed = Value::Object(sign(object(document()), "release", &second).unwrap());
    assert_eq!(
        VerifiedManifest::verify(&crossed.to_string(), &keys).unwrap_err(),
        Refusal::WrongPublicKey("release".into())
    );
}

#[test]
fn a_signature_has_one_form() {
    let good = signed(document());
    let text = good["signature"]["signature"].as_str().unwrap().to_owned();
    let raw: [u8; 64] = Base64::decode_vec(&text).unwrap().try_into().unwrap();

    // S + L satisfies the same equation with other bytes.
    let mut carry = 0;
    let mut malleated = raw;
    let order = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10u8,
    ];
    for (byte, of_order) in malleated[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(of_order) + carry;
        [*byte, _] = sum.to_le_bytes();
        carry = sum >> 8;
    }
    let mut is_order = raw;
    is_order[32..].copy_from_slice(&order);
    // The last sextet before the padding has four unused bits.
    let trailing = format!("{}{}==", &text[..85], if &text[85..86] == "A" { "B" } else { "R" });
    let wrong = [
        Base64::encode_string(&malleated),
        Base64::encode_string(&is_order),
        trailing,
        format!(" {text}"),
        format!("{text}\n"),
        format!("{}\n{}", &text[..64], &text[64..]),
        text.trim_end_matches('=').to_owned(),
        format!("{text}="),
        text.replace(['+', '/'], "-"),
        Base64::encode_string(&raw[..63]),
        Base64::encode_string(&[&raw[..], &[0]].concat()),
        String::new(),
        "é".into(),
    ];
    for wrong in wrong {
        if wrong == text {
            continue; // This signature has none of the characters that would be replaced.
        }
        let mut document = good.clone();
        document["signature"]["signature"] = json!(wrong);
        let error = verify(&document).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the manifest's signature by \"release\" is not a canonical Ed25519 signature",
            "{wrong:?}"
        );
    }
}

#[test]
fn a_public_key_has_one_form() {
    let text = Base64::encode_string(key().verifying_key().as_bytes());
    for wrong in [
        format!("{text}="),
        format!(" {text}"),
        text.trim_end_matches('=').to_owned(),
        format!("{}=", &text[..42]),
    ] {
        let mut document = signed(document());
        document["signature"]["publicKey"] = json!(wrong);
        assert_eq!(
            verify(&document).unwrap_err(),
            Refusal::WrongPublicKey("release".into()),
            "{wrong:?}"
        );
        assert_eq!(
            PinnedKeys::default().pin("k".into(), &wrong).unwrap_err(),
            PinnedKeysError::BadKey("k".into()),
            "{wrong:?}"
        );
    }
}

/// The points of small order (RFC 7748, section 6.1, on the Edwards curve), also in forms that are
/// not reduced. Under such a key one signature fits many messages.
#[test]
fn keys_of_small_order_cannot_be_pinned() {
    let points = [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "0100000000000000000000000000000000000000000000000000000000000080",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    ];
    for point in points {
        let point = Base64::encode_string(&Digest::from_hex(point).unwrap().0);
        assert_eq!(
            PinnedKeys::default().pin("weak".into(), &point).unwrap_err(),
            PinnedKeysError::BadKey("weak".into()),
            "{point}"
        );
    }
}

/// R = 0 and S = k·a satisfy the equation of a verifier that is not strict.
#[test]
fn a_signature_with_a_point_of_small_order_is_refused() {
    use ed25519_dalek::Verifier as _;
    fn same_type<S: From<u64>>(_: &S, n: u64) -> S {
        S::from(n)
    }
    let key = key();
    let mut document = signed(document());
    let mut unsigned = document.clone();
    unsigned.as_object_mut().unwrap().remove("signature");
    let message = serde_json_canonicalizer::to_vec(&unsigned).unwrap();

    let mut identity = [0; 32];
    identity[0] = 1;
    let hashed = [&identity[..], key.verifying_key().as_bytes(), &message].concat();
    let hash: [u8; 64] = <sha2::Sha512 as sha2::Digest>::digest(hashed).into();
    let secret = key.to_scalar();
    let (zero, base) = (same_type(&secret, 0), same_type(&secret, 256));
    let k = hash.iter().rev().fold(zero, |k, byte| k * base + same_type(&secret, u64::from(*byte)));
    let forged = Signature::from_components(identity, (k * secret).to_bytes());
    key.verifying_key().verify(&message, &forged).expect("a verifier that is not strict takes it");

    document["signature"]["signature"] = json!(Base64::encode_string(&forged.to_bytes()));
    assert_eq!(verify(&document).unwrap_err(), Refusal::BadSignature("release".into()));
}

#[test]
fn pinned_keys_are_read_or_the_one_at_fault_is_named() {
    assert!(PinnedKeys::parse("{}").is_ok());
    for text in ["", "[]", "\"x\"", "{\"a\""] {
        assert!(matches!(PinnedKeys::parse(text), Err(PinnedKeysError::NotJson(_))), "{text}");
    }
    for key in [json!(7), json!(null), json!(""), json!("AAAA"), json!("not base64")] {
        let error = PinnedKeys::parse(&json!({ "mine": key }).to_string()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the pinned key \"mine\" is not the base64 of a 32-byte Ed25519 public key"
        );
    }
}

#[test]
fn a_manifest_is_of_the_model_that_was_asked_for() {
    let manifest = || verify(&signed(document())).unwrap();
    let version = |text: &str| text.parse::<semver::Version>().unwrap();
    assert!(manifest().about("minilm-l6", None).is_ok());
    assert!(manifest().about("minilm-l6", Some(&version("1.2.3"))).is_ok());
    let error = manifest().about("other", None).unwrap_err();
    assert_eq!(error.to_string(), "requested other, but the manifest is of minilm-l6 1.2.3");
    let error = manifest().about("minilm-l6", Some(&version("1.2.4"))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "requested minilm-l6 1.2.4, but the manifest is of minilm-l6 1.2.3"
    );
}

#[test]
fn nothing_goes_back() {
    let manifest = |version: &str, timestamp: &str| {
        let mut document = document();
        document["version"] = json!(version);
        document["timestamp"] = json!(timestamp);
        verify(&signed(document)).unwrap()
    };
    let floor = manifest("1.2.3", "2026-01-03T00:00:00Z").floor();
    for (version, timestamp) in [
        ("1.2.3", "2026-01-03T00:00:00Z"),
        ("1.2.3", "2026-01-03T00:00:00.001Z"),
        ("1.2.4", "2026-01-03T00:00:00Z"),
        ("1.10.0", "2026-01-04T00:00:00Z"),
        ("2.0.0-rc.1", "2026-01-04T00:00:00Z"),
    ] {
        let newer = manifest(version, timestamp).not_before(Some(&floor)).unwrap().floor();
        assert!(newer.version >= floor.version && newer.timestamp >= floor.timestamp);
    }
    for (version, timestamp) in [
        ("1.2.2", "2026-01-04T00:00:00Z"),
        ("1.2.3-rc.1", "2026-01-04T00:00:00Z"),
        ("1.2.3", "2026-01-02T23:59:59.999Z"),
        ("9.0.0", "2026-01-02T00:00:00Z"),
    ] {
        let error = manifest(version, timestamp).not_before(Some(&floor)).unwrap_err().to_string();
        assert!(error.contains(&format!("version {version} signed 2026-01-0")), "{error}");
        assert!(
            error.ends_with(
                "is older than version 1.2.3 signed 2026-01-03T00:00:00Z, which was accepted before"
            ),
            "{error}"
        );
    }
    assert!(manifest("0.0.1", "1970-01-01T00:00:00Z").not_before(None).is_ok());
    let far = Floor {
        version: floor.version,
        timestamp: UnixTime::from_millis(u64::MAX),
        replaced: Vec::new(),
    };
    assert!(matches!(
        manifest("1.2.3", "2026-01-03T00:00:00Z").not_before(Some(&far)),
        Err(Refusal::Rollback { .. })
    ));
}

/// [`document`] with these endorsements, signed by the key with this seed.
fn signed_by(seed: u8, key_id: &str, endorsements: &[Value]) -> String {
    let mut document = document();
    document["endorsements"] = endorsements.into();
    Value::Object(sign(object(document), key_id, &SigningKey::from_bytes(&[seed; 32])).unwrap())
        .to_string()
}

/// The endorsement by which the key with the seed `new` replaces the one with the seed `old`. Keys
/// are named after their seeds, except the pinned one.
fn replaces(new: u8, old: u8) -> Value {
    let name = |seed: u8| if seed == 7 { "release".to_owned() } else { format!("key-{seed}") };
    let public =
        Base64::encode_string(SigningKey::from_bytes(&[new; 32]).verifying_key().as_bytes());
    endorse(&name(new), &public, &name(old), &SigningKey::from_bytes(&[old; 32]))
}

#[test]
fn a_key_that_a_pinned_one_endorses_may_sign_and_replaces_it() {
    let by_new =
        VerifiedManifest::verify(&signed_by(8, "key-8", &[replaces(8, 7)]), &pinned()).unwrap();
    assert_eq!(by_new.key_id(), "key-8");
    // After that the old key is refused for this model, however new its manifests are.
    let by_old = verify(&signed(document())).unwrap();
    assert_eq!(
        by_old.not_before(Some(&by_new.floor())).unwrap_err(),
        Refusal::ReplacedKey("release".into())
    );
    assert!(by_new.clone().not_before(Some(&by_new.floor())).is_ok());
    // A replacement may be replaced.
    let chain = [replaces(8, 7), replaces(9, 8)];
    let by_third = VerifiedManifest::verify(&signed_by(9, "key-9", &chain), &pinned()).unwrap();
    assert_eq!(by_third.floor().replaced, ["release", "key-8"]);
}

/// During a rotation both keys are pinned.
#[test]
fn a_replaced_key_is_replaced_also_where_both_keys_are_pinned() {
    let name = |seed: u8| if seed == 7 { "release".to_owned() } else { format!("key-{seed}") };
    let both = [7, 8, 9].into_iter().fold(PinnedKeys::default(), |keys, seed| {
        let public = SigningKey::from_bytes(&[seed; 32]).verifying_key();
        keys.pin(name(seed), &Base64::encode_string(public.as_bytes())).unwrap()
    });
    let replaced = |seed: u8, endorsements: &[Value]| {
        let text = signed_by(seed, &name(seed), endorsements);
        VerifiedManifest::verify(&text, &both).unwrap().floor().replaced
    };
    assert_eq!(replaced(8, &[replaces(8, 7)]), ["release"]);
    assert_eq!(replaced(9, &[replaces(8, 7), replaces(9, 8)]), ["release", "key-8"]);
    assert_eq!(replaced(9, &[replaces(9, 8), replaces(8, 7)]), ["key-8", "release"]);
    let by_old = VerifiedManifest::verify(&signed_by(7, "release", &[]), &both).unwrap();
    let by_new =
        VerifiedManifest::verify(&signed_by(8, "key-8", &[replaces(8, 7)]), &both).unwrap();
    assert_eq!(
        by_old.not_before(Some(&by_new.floor())).unwrap_err(),
        Refusal::ReplacedKey("release".into())
    );
    // Endorsements of other keys say nothing about the signer's line, and a circle replaces nobody
    // who signs.
    assert!(replaced(7, &[replaces(8, 7)]).is_empty());
    assert!(replaced(8, &[replaces(9, 7)]).is_empty());
    assert_eq!(replaced(7, &[replaces(8, 7), replaces(7, 8)]), ["key-8"]);
    // An endorsement of another key under the id of a pinned one.
    let mut usurper = replaces(8, 7);
    usurper["publicKey"] = replaces(9, 7)["publicKey"].clone();
    assert!(replaced(8, &[usurper]).is_empty());
}

#[test]
fn endorsements_that_prove_nothing_are_worth_nothing() {
    let refused = |text: &str| {
        let refusal = VerifiedManifest::verify(text, &pinned()).unwrap_err();
        assert!(matches!(refusal, Refusal::UnknownKey { .. }), "{refusal}");
    };
    // Endorsed by a stranger; in the wrong order; by itself; for another key; altered; with an
    // uncovered member.
    refused(&signed_by(8, "key-8", &[replaces(8, 9)]));
    refused(&signed_by(9, "key-9", &[replaces(9, 8), replaces(8, 7)]));
    refused(&signed_by(8, "key-8", &[replaces(8, 8)]));
    refused(&signed_by(9, "key-9", &[replaces(8, 7)]));
    for (member, value) in [("by", "key-9"), ("keyId", "key-8 "), ("more", "")] {
        let mut endorsement = replaces(8, 7);
        endorsement[member] = value.into();
        refused(&signed_by(8, "key-8", &[endorsement]));
    }
    let mut other = replaces(8, 7);
    other["publicKey"] = replaces(9, 7)["publicKey"].clone();
    refused(&signed_by(9, "key-8", &[other]));
    // An endorsement cannot replace the key of a pinned id.
    let public = Base64::encode_string(SigningKey::from_bytes(&[9; 32]).verifying_key().as_bytes());
    let usurper = endorse("release", &public, "release", &key());
    let refusal =
        VerifiedManifest::verify(&signed_by(9, "release", &[usurper]), &pinned()).unwrap_err();
    assert_eq!(refusal, Refusal::WrongPublicKey("release".into()));
}

#[test]
fn what_expired_is_refused() {
    let mut document = document();
    document["expires"] = "2026-02-01T00:00:00Z".into();
    let manifest = verify(&signed(document.clone())).unwrap();
    let expires = manifest.expires.unwrap();
    assert!(manifest.clone().not_expired(UnixTime::from_millis(expires.as_millis() - 1)).is_ok());
    assert_eq!(
        manifest.not_expired(expires).unwrap_err(),
        Refusal::Expired(UnixTime::parse_rfc3339("2026-02-01T00:00:00Z").unwrap())
    );
    document["expires"] = "soon".into();
    assert!(
        sign(object(document), "release", &key())
            .unwrap_err()
            .to_string()
            .contains("`expires` is \"soon\"")
    );
}

/// Any JSON value; numbers are doubles below 2^53, and integers that doubles can represent.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (1 - (1i64 << 53)..1 << 53).prop_map(Value::from),
        any::<f64>().prop_map(|number| match number {
            number if number.abs() < 9e15 && number != 0.0 => number.into(),
            _ => 0.5.into(),
        }),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((any::<String>(), inner), 0..4)
                .prop_map(|members| members.into_iter().collect()),
        ]
    })
}

/// Pointers to every value in `value`, itself included.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(members) => members
            .iter()
            .for_each(|(name, member)| pointers(member, &format!("{at}/{name}"), found)),
        Value::Array(elements) => {
            elements
                .iter()
                .enumerate()
                .for_each(|(i, element)| pointers(element, &format!("{at}/{i}"), found));
        }
        _ => {}
    }
}

#[derive(Debug, Clone)]
enum Mutation {
    Replace(Value),
    Remove,
    Add(String, Value),
    Rename(String),
    /// Changes one character of a string, or adds one to a number.
    Nudge(prop::sample::Index, char),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        any_json().prop_map(Mutation::Replace),
        Just(Mutation::Remove),
        (any::<String>(), any_json()).prop_map(|(name, value)| Mutation::Add(name, value)),
        any::<String>().prop_map(Mutation::Rename),
        (any::<prop::sample::Index>(), any::<char>())
            .prop_map(|(at, with)| Mutation::Nudge(at, with)),
    ]
}

fn mutate(document: &mut Value, pointer: &str, mutation: Mutation) {
    let target = document.pointer_mut(pointer).unwrap();
    match mutation {
        Mutation::Replace(value) => *target = value,
        Mutation::Add(name, value) => match target {
            Value::Object(members) => drop(members.insert(name, value)),
            Value::Array(elements) => elements.push(value),
            other => *other = value,
        },
        Mutation::Nudge(at, with) => match target {
            Value::String(text) => {
                let mut characters: Vec<char> = text.chars().collect();
                let at = at.index(characters.len() + 1);
                if at == characters.len() {
                    characters.push(with);
                } else {
                    characters[at] = with;
                }
                *text = characters.into_iter().collect();
            }
            Value::Number(number) => *target = json!(number.as_f64().unwrap() / 2.0 + 1.0),
            other => *other = json!(with.to_string()),
        },
        Mutation::Remove | Mutation::Rename(_) => {
            let Some((parent, name)) = pointer.rsplit_once('/') else { return };
            match document.pointer_mut(parent).unwrap() {
                Value::Object(members) => {
                    let value = members.remove(name).unwrap();
                    if let Mutation::Rename(name) = mutation {
                        members.insert(name, value);
                    }
                }
                Value::Array(elements) => drop(elements.remove(name.parse().unwrap())),
                _ => unreachable!(),
            }
        }
    }
}

fn canonical(document: &Value) -> Vec<u8> {
    serde_json_canonicalizer::to_vec(document).unwrap()
}

/// Any text, and texts that look like a time.
const TIMES: &str = concat!(
    "\\PC{0,40}|",
    "[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{0,12})?[Zz+é]?",
);

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 4000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_change_of_a_signed_manifest_is_refused(
        at: prop::sample::Index,
        mutation in mutation(),
    ) {
        let good = signed(document());
        let mut found = Vec::new();
        pointers(&good, "", &mut found);
        let pointer = at.get(&found);
        let mut changed = good.clone();
        mutate(&mut changed, pointer, mutation);
        prop_assume!(canonical(&changed) != canonical(&good));
        let refusal = verify(&changed).expect_err(pointer);
        // Outside the signature block, a field is malformed or the signature does not match.
        if pointer.starts_with("/artifacts") || pointer.starts_with("/architecture") {
            prop_assert!(
                matches!(refusal, Refusal::Malformed(_) | Refusal::BadSignature(_)),
                "{}: {}",
                pointer,
                refusal
            );
        }
    }

    #[test]
    fn every_change_of_the_text_is_refused_or_means_the_same(
        at: prop::sample::Index,
        with in "\\PC|[0-9eE.,:\"{} \\n-]",
        insert: bool,
    ) {
        let good = signed(document());
        let text = good.to_string();
        let (at, old) = *at.get(&text.char_indices().collect::<Vec<_>>());
        let end = if insert { at } else { at + old.len_utf8() };
        let changed = [&text[..at], &with, &text[end..]].concat();
        if let Ok(accepted) = VerifiedManifest::verify(&changed, &pinned()) {
            prop_assert_eq!(
                canonical(&Value::Object(accepted.document().clone())),
                canonical(&good),
                "{}",
                changed
            );
        }
    }

    #[test]
    fn unknown_fields_are_kept_and_signed(name in "x-.*", value in any_json()) {
        let mut document = document();
        document[&name] = value.clone();
        let manifest = verify(&signed(document)).unwrap();
        prop_assert_eq!(canonical(&manifest.document()[&name]), canonical(&value));
    }

    #[test]
    fn no_text_panics(text: String) {
        let _ = VerifiedManifest::verify(&text, &pinned());
        let _ = PinnedKeys::parse(&text);
        let _ = Manifest::parse(&format!("{{{text}}}"));
    }

    #[test]
    fn no_value_panics(value in any_json(), at: prop::sample::Index) {
        let mut document = signed(document());
        let mut found = Vec::new();
        pointers(&document, "", &mut found);
        *document.pointer_mut(at.get::<String>(&found)).unwrap() = value;
        let _ = verify(&document);
        if let Value::Object(document) = document {
            let _ = sign(document, "release", &key());
        }
    }

    #[test]
    fn no_timestamp_panics(
        text in TIMES,
    ) {
        let mut document = document();
        document["timestamp"] = json!(text);
        let _ = Manifest::parse(&document.to_string());
    }
}
