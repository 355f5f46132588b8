//! Preconditions, responses and paths.

use edge_net_core::dag::cid::{RAW, cid_text};
use edge_net_core::dag::digest::Digest;
use edge_net_core::http::answer::{
    Freshness, ModelPath, Resource, answer, document, entity_tag, media_type, problem,
};
use edge_net_core::http::hub::{self, Form, Revision, commit};
use edge_net_core::http::path::decoded;
use edge_net_core::trust::manifest::Manifest;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use proptest::prelude::*;
use serde_json::{Value, json};

const SIZE: u64 = 1000;

fn manifest() -> Manifest {
    let artifact = |filename: &str, size: u64, digest: Digest| {
        let cid = cid_text(&digest.to_cid(RAW));
        json!({ "filename": filename, "size": size, "sha256": digest.to_hex(), "cid": cid })
    };
    let manifest = json!({
        "id": "m", "name": "M", "version": "1.2.3", "type": "embedding",
        "timestamp": "2026-01-03T00:00:00Z",
        "artifacts": {
            "model": artifact("model.onnx", SIZE, Digest::of(b"bytes")),
            "empty": artifact("empty.json", 0, Digest::of(b"")),
        },
    });
    Manifest::parse(&manifest.to_string()).unwrap()
}

fn tag() -> String {
    entity_tag(manifest().artifact("model.onnx").unwrap())
}

fn ask_for(
    file: &str,
    method: &Method,
    fields: &[(&str, &str)],
) -> Response<Option<std::ops::Range<u64>>> {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        let value = value.replace("TAG", &tag());
        map.append(
            name.parse::<HeaderName>().unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    let manifest = manifest();
    answer(method, &map, &manifest, manifest.artifact(file).unwrap(), Freshness::Immutable)
}

fn get(fields: &[(&str, &str)]) -> Response<Option<std::ops::Range<u64>>> {
    ask_for("model.onnx", &Method::GET, fields)
}

fn field<'a, T>(response: &'a Response<T>, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|value| value.to_str().unwrap())
}

#[test]
fn the_whole() {
    let response = get(&[]);
    assert_eq!((response.status(), response.body()), (StatusCode::OK, &Some(0..SIZE)));
    for (name, value) in [
        ("accept-ranges", "bytes"),
        ("cache-control", "public, max-age=31536000, immutable, no-transform"),
        ("content-length", "1000"),
        ("content-type", "application/octet-stream"),
        ("etag", &tag()),
        ("x-model-version", "1.2.3"),
        ("x-model-checksum", &Digest::of(b"bytes").to_hex()),
        ("repr-digest", "sha-256=:J3CJ2RwL308uaGK6fkoHYFEZQx9dE/cm3TUrBvGyBqk=:"),
        ("x-repo-commit", "312e322e33000000000000000000000000000000"),
    ] {
        assert_eq!(field(&response, name), Some(value), "{name}");
    }
    assert_eq!(field(&response, "content-range"), None);
    assert!(tag().starts_with("\"bafkrei") && tag().ends_with('"'));
}

#[test]
fn parts() {
    let response = get(&[("range", "bytes=990-2000")]);
    assert_eq!(
        (response.status(), response.body()),
        (StatusCode::PARTIAL_CONTENT, &Some(990..1000))
    );
    assert_eq!(field(&response, "content-range"), Some("bytes 990-999/1000"));
    assert_eq!(field(&response, "content-length"), Some("10"));
    assert_eq!(
        field(&response, "repr-digest"),
        field(&get(&[]), "repr-digest"),
        "of the whole (RFC 9530, section 3)"
    );

    let response = get(&[("range", "bytes=1000-")]);
    assert_eq!((response.status(), response.body()), (StatusCode::RANGE_NOT_SATISFIABLE, &None));
    assert_eq!(field(&response, "content-range"), Some("bytes */1000"));
    assert_eq!(field(&response, "content-length"), None);
}

#[test]
fn an_empty_artifact() {
    for (range, status, body) in [
        (None, StatusCode::OK, Some(0..0)),
        (Some("bytes=0-"), StatusCode::RANGE_NOT_SATISFIABLE, None),
        (Some("bytes=-1"), StatusCode::OK, Some(0..0)),
    ] {
        let fields: Vec<_> = range.map(|range| ("range", range)).into_iter().collect();
        let response = ask_for("empty.json", &Method::GET, &fields);
        assert_eq!((response.status(), response.body()), (status, &body), "{range:?}");
        assert_eq!(field(&response, "content-length"), body.map(|_| "0"));
    }
}

#[test]
fn heads_have_the_fields_of_the_whole_and_no_body() {
    for fields in [&[][..], &[("range", "bytes=1-2")], &[("range", "bytes=5000-")]] {
        let head = ask_for("model.onnx", &Method::HEAD, fields);
        assert_eq!((head.status(), head.body()), (StatusCode::OK, &None));
        assert_eq!(head.headers(), get(&[]).headers());
    }
    assert_eq!(
        ask_for("model.onnx", &Method::HEAD, &[("if-none-match", "TAG")]).status(),
        StatusCode::NOT_MODIFIED
    );
    assert_eq!(
        ask_for("model.onnx", &Method::HEAD, &[("if-match", "\"x\"")]).status(),
        StatusCode::PRECONDITION_FAILED
    );
}

/// RFC 9110, section 13.
#[test]
fn preconditions() {
    const NOT_MODIFIED: u16 = 304;
    const FAILED: u16 = 412;
    let table: &[(&[(&str, &str)], u16)] = &[
        // If-None-Match compares weakly.
        (&[("if-none-match", "TAG")], NOT_MODIFIED),
        (&[("if-none-match", "W/TAG")], NOT_MODIFIED),
        (&[("if-none-match", "*")], NOT_MODIFIED),
        (&[("if-none-match", " * ")], NOT_MODIFIED),
        (&[("if-none-match", "\"a\", W/\"b\",TAG")], NOT_MODIFIED),
        (&[("if-none-match", "\"a\""), ("if-none-match", "TAG")], NOT_MODIFIED),
        (&[("if-none-match", "\"a\"")], 200),
        (&[("if-none-match", "")], 200),
        (&[("if-none-match", "w/TAG")], 200),
        // A tag may have commas and stars; only a lone star matches any.
        (&[("if-none-match", "\"a,*,b\"")], 200),
        (&[("if-none-match", "\"*\"")], 200),
        (&[("if-none-match", "\"a,b\", TAG")], NOT_MODIFIED),
        (&[("if-none-match", "\"a, \",W/\",\" ,, TAG , \"b\"")], NOT_MODIFIED),
        (&[("if-none-match", "\"é\", TAG")], NOT_MODIFIED),
        (&[("if-none-match", "\"a,TAG\"")], 200),
        (&[("if-none-match", "unquoted, TAG")], NOT_MODIFIED),
        (&[("if-none-match", "\"open, TAG")], 200),
        // It has precedence over Range.
        (&[("if-none-match", "TAG"), ("range", "bytes=0-1")], NOT_MODIFIED),
        (&[("if-none-match", "TAG"), ("range", "bytes=5000-")], NOT_MODIFIED),
        (&[("if-none-match", "\"a\""), ("range", "bytes=0-1")], 206),
        // If-Match compares strongly and has precedence.
        (&[("if-match", "TAG")], 200),
        (&[("if-match", "*")], 200),
        (&[("if-match", "\"a\", TAG")], 200),
        (&[("if-match", "\"a\"")], FAILED),
        (&[("if-match", "W/TAG")], FAILED),
        (&[("if-match", "\"a,*,b\"")], FAILED),
        (&[("if-match", "\"a,b\", TAG")], 200),
        (&[("if-match", "\"é\", TAG")], 200),
        (&[("if-match", "")], FAILED),
        (&[("if-match", "\"a\""), ("if-none-match", "TAG")], FAILED),
        (&[("if-match", "\"a\""), ("range", "bytes=5000-")], FAILED),
        (&[("if-match", "TAG"), ("if-none-match", "TAG")], NOT_MODIFIED),
        (&[("if-match", "TAG"), ("range", "bytes=0-1")], 206),
        // If-Range compares strongly; without a match the response is the whole artifact.
        (&[("range", "bytes=0-1"), ("if-range", "TAG")], 206),
        (&[("range", "bytes=0-1"), ("if-range", "W/TAG")], 200),
        (&[("range", "bytes=0-1"), ("if-range", "\"a\"")], 200),
        (&[("range", "bytes=0-1"), ("if-range", "Sat, 03 Jan 2026 00:00:00 GMT")], 200),
        (&[("range", "bytes=5000-"), ("if-range", "TAG")], 416),
        (&[("range", "bytes=5000-"), ("if-range", "\"a\"")], 200),
        (&[("if-range", "\"a\"")], 200),
        // Artifacts have no dates.
        (&[("if-modified-since", "Sat, 03 Jan 2099 00:00:00 GMT")], 200),
        (&[("if-unmodified-since", "Sat, 03 Jan 1970 00:00:00 GMT")], 200),
        // Bytes that are not text.
        (&[("range", "bytes=0-1é")], 200),
        (&[("if-none-match", "\"é\"")], 200),
    ];
    for (fields, status) in table {
        let response = get(fields);
        assert_eq!(response.status(), *status, "{fields:?}");
        assert_eq!(response.body().is_some(), matches!(status, 200 | 206), "{fields:?}");
        assert_eq!(field(&response, "etag"), Some(&*tag()), "{fields:?}");
    }
}

#[test]
fn only_good_answers_may_be_kept() {
    let long = "public, max-age=31536000, immutable, no-transform";
    for (fields, cache_control) in [
        (&[][..], long),
        (&[("range", "bytes=0-1")], long),
        (&[("if-none-match", "TAG")], long),
        (&[("range", "bytes=5000-")], "no-store"),
        (&[("if-match", "\"a\"")], "no-store"),
    ] {
        assert_eq!(field(&get(fields), "cache-control"), Some(cache_control), "{fields:?}");
    }
    assert_eq!(
        Freshness::Latest.cache_control(),
        "public, max-age=60, must-revalidate, no-transform"
    );
}

#[test]
fn documents_follow_the_same_rules() {
    let body = b"{\"a\":1}";
    let tag = format!("\"{}\"", Digest::of(body).to_hex());
    let ask = |method: &Method, fields: &[(&str, &str)]| {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            let value = HeaderValue::from_str(&value.replace("TAG", &tag)).unwrap();
            map.append(name.parse::<HeaderName>().unwrap(), value);
        }
        document(method, &map, "application/json", Freshness::Latest, body)
    };
    let whole = ask(&Method::GET, &[]);
    assert_eq!((whole.status(), whole.body()), (StatusCode::OK, &Some(0..7)));
    for (name, value) in [
        ("accept-ranges", "bytes"),
        ("cache-control", "public, max-age=60, must-revalidate, no-transform"),
        ("content-length", "7"),
        ("content-type", "application/json"),
        ("etag", &*tag),
    ] {
        assert_eq!(field(&whole, name), Some(value), "{name}");
    }
    let head = ask(&Method::HEAD, &[]);
    assert_eq!(
        (head.status(), head.body(), head.headers()),
        (whole.status(), &None, whole.headers())
    );
    for (fields, status) in [
        (&[("if-none-match", "\"a,b\", W/TAG")][..], 304),
        (&[("if-none-match", "\"xTAGx\"")], 200),
        (&[("if-match", "\"a\"")], 412),
        (&[("range", "bytes=1-2")], 206),
        (&[("range", "bytes=1-2"), ("if-range", "\"a\"")], 200),
        (&[("range", "bytes=7-")], 416),
    ] {
        assert_eq!(ask(&Method::GET, fields).status(), status, "{fields:?}");
    }
}

#[test]
fn commits_name_versions() {
    for version in ["0.0.0", "1.1.0", "10.20.30-rc.1+b.2", "1.0.0-abcdefghijklmn"] {
        let version: semver::Version = version.parse().unwrap();
        let commit = commit(&version).unwrap();
        assert_eq!(commit.len(), 40);
        assert_eq!(Revision::parse(&commit), Some(Revision::Of(version)));
    }
    assert_eq!(commit(&"1.0.0-abcdefghijklmno".parse().unwrap()), None);
    let no_commit = |text: &str| assert_eq!(Revision::parse(text), None, "{text}");
    no_commit(&"0".repeat(40));
    no_commit("312e312e30");
    no_commit("312E312E30000000000000000000000000000000");
    no_commit("312e312e30000000000000000000000000000001");
    no_commit("dev");
}

#[test]
fn the_hub_describes_a_model() {
    let of = |path| hub::Resource::parse(path).map(|resource| (resource.id, resource.form));
    let info = Some(("m".to_owned(), Form::Info));
    for path in
        ["Org/M", "m", "org/m/revision/main", "m/revision/1.2.3", "org/m/revision/1.0.0%2Bb"]
    {
        assert_eq!(of(path), info, "{path}");
    }
    assert_eq!(of("org/m/tree/main"), Some(("m".to_owned(), Form::Tree)));
    for path in ["", "org/", "a/b/c", "org/m/revision/dev", "org/m/tree/main/onnx", "m/settings/x"]
    {
        assert_eq!(of(path), None, "{path}");
    }
    let answer = |path| hub::Resource::parse(path).unwrap().answer(&manifest());
    let info = answer("Org/M");
    assert_eq!(info["id"], "Org/M");
    assert_eq!(info["sha"], "312e322e33000000000000000000000000000000");
    assert_eq!(info["siblings"][1], json!({ "rfilename": "model.onnx", "size": SIZE }));
    let tree = answer("org/m/tree/main");
    assert_eq!(tree[1]["path"], "model.onnx");
    assert_eq!(tree[1]["lfs"]["oid"], Digest::of(b"bytes").to_hex());
}

#[test]
fn media_types() {
    for (file, media) in [
        ("config.json", "application/json"),
        ("a/README.md", "text/plain; charset=utf-8"),
        ("vocab.txt", "text/plain; charset=utf-8"),
        ("model.onnx", "application/octet-stream"),
        ("LICENSE", "application/octet-stream"),
        ("x.html", "application/octet-stream"),
        ("x.svg", "application/octet-stream"),
    ] {
        assert_eq!(media_type(file), media, "{file}");
    }
}

#[test]
fn problems_are_json() {
    let body: Value = serde_json::from_str(&problem(StatusCode::NOT_FOUND, "no \"x\"\n")).unwrap();
    assert_eq!(
        body,
        json!({
            "type": "about:blank", "title": "Not Found", "status": 404, "detail": "no \"x\"\n",
        })
    );
}

#[test]
fn paths() {
    let path = |id: &str, version: Option<&str>, resource| {
        Some(ModelPath {
            id: id.into(),
            version: version.map(|version| version.parse().unwrap()),
            resource,
        })
    };
    let artifact = |file: &str| Resource::Artifact(file.into());
    for (text, parsed) in [
        ("m/model.onnx", path("m", None, artifact("model.onnx"))),
        ("m/v1.2.3/model.onnx", path("m", Some("1.2.3"), artifact("model.onnx"))),
        ("m/v1.2.3-rc.1+b.2/a/b.bin", path("m", Some("1.2.3-rc.1+b.2"), artifact("a/b.bin"))),
        ("m/onnx/model.onnx", path("m", None, artifact("onnx/model.onnx"))),
        ("m/manifest.json", path("m", None, Resource::Manifest)),
        ("m/v1.2.3/manifest.json", path("m", Some("1.2.3"), Resource::Manifest)),
        ("m/model.onnx.leaves", path("m", None, Resource::LeafTable("model.onnx".into()))),
        ("m/v1.2.3/a/b.leaves", path("m", Some("1.2.3"), Resource::LeafTable("a/b".into()))),
        // Percent-encoded names mean the same.
        ("m/v1.0.0%2Bb.1/model.onnx", path("m", Some("1.0.0+b.1"), artifact("model.onnx"))),
        ("m/onnx%2Fmodel.onnx", path("m", None, artifact("onnx/model.onnx"))),
        ("m/onnx%2fmodel%2Eonnx", path("m", None, artifact("onnx/model.onnx"))),
        ("%6D/v1.2.3%2Fa%2eleaves", path("m", Some("1.2.3"), Resource::LeafTable("a".into()))),
        ("m/manifest%2Ejson", path("m", None, Resource::Manifest)),
        ("org/m/resolve/v1.0.0%2Bb.1/a%2Fb", path("m", Some("1.0.0+b.1"), artifact("a/b"))),
        (
            "org/m/resolve/312e322e33000000000000000000000000000000/a",
            path("m", Some("1.2.3"), artifact("a")),
        ),
        // These are not versions, so they are folders and files.
        ("m/v1/model.onnx", path("m", None, artifact("v1/model.onnx"))),
        ("m/v01.2.3/model.onnx", path("m", None, artifact("v01.2.3/model.onnx"))),
        ("m/vision/model.onnx", path("m", None, artifact("vision/model.onnx"))),
        ("m/v1.2.3", path("m", None, artifact("v1.2.3"))),
        ("m/a/manifest.json", path("m", None, artifact("a/manifest.json"))),
        // Paths of the hub.
        ("org/m/resolve/main/config.json", path("m", None, artifact("config.json"))),
        (
            "Xenova/All-M_6/resolve/main/onnx/model.onnx",
            path("all-m_6", None, artifact("onnx/model.onnx")),
        ),
        ("org/m/resolve/v1.2.3/a", path("m", Some("1.2.3"), artifact("a"))),
        ("org/m/resolve/1.2.3/manifest.json", path("m", Some("1.2.3"), Resource::Manifest)),
        // Not a path of the hub: another branch than main is a folder.
        ("m/a/resolve/dev/b", path("m", None, artifact("a/resolve/dev/b"))),
    ] {
        assert_eq!(ModelPath::parse(text), parsed, "{text}");
        let freshness = if parsed.unwrap().version.is_some() {
            Freshness::Immutable
        } else {
            Freshness::Latest
        };
        assert_eq!(ModelPath::parse(text).unwrap().freshness(), freshness);
    }
}

#[test]
fn paths_that_name_nothing() {
    for text in [
        "",
        "/",
        "m",
        "m/",
        "/m/a",
        "/a",
        "m//a",
        "m/a/",
        "m/v1.2.3/",
        "m/v1.2.3//a",
        "M/a",
        ".m/a",
        "m/.env",
        "m/a/.git/config",
        "m/..",
        "m/../a",
        "../m/a",
        "m/a/../../b",
        "m/./a",
        "m/v1.2.3/../a",
        "m/v1.2.3/v1.2.4/a",
        "../../etc/passwd",
        "m/%2e%2e/a",
        "m/..%2fa",
        "m%2fa",
        "m/a%00",
        "m/%252e%252e/a",
        "m/a%252Fb",
        "m/a%2F..%2Fb",
        "m/a%5Cb",
        "m/a%",
        "m/a%4",
        "m/a%zz",
        "m/a%ff",
        "m%2F/a",
        "org/m/resolve/main/..%2fa",
        "org%2fm/x/resolve/main/a",
        "m/a\0",
        "m/a\\..\\b",
        "m/a b",
        "m/a?x",
        "m/a#x",
        "m/é",
        "m/a\u{202e}b",
        "m/.leaves",
        "m/manifest.json.leaves",
        "m/a.leaves.leaves",
        "m/v1.2.3/manifest.json.leaves",
        "org/../resolve/main/a",
        "../m/resolve/main/a",
        "org/m/resolve/main/../a",
        "org/m/resolve/main/",
        "org/M/resolve//a",
    ] {
        assert_eq!(ModelPath::parse(text), None, "{text:?}");
    }
}

/// A byte that a field's value may have.
fn visible() -> impl Strategy<Value = u8> {
    any::<u8>().prop_filter("visible", |byte| *byte >= 32 && *byte != 127)
}

/// Paths, including parts that climb or hide.
const PATHS: &str = concat!(
    "[a-zA-Z0-9._/%\\\\ -]{0,40}|",
    "(m/|v1\\.2\\.3/|\\.\\./|\\.\\.|a|manifest\\.json|\\.leaves|%2e){0,6}|",
    "\\PC{0,20}",
);

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 5000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn parsed_paths_never_climb(
        text in PATHS,
    ) {
        if let Some(path) = ModelPath::parse(&text)
            && ModelPath::parse_hub(&text).is_none()
        {
            // The parts joined again are the decoded path: parsing drops nothing.
            let text = decoded(&text).unwrap();
            let file = match &path.resource {
                Resource::Manifest => "manifest.json".to_owned(),
                Resource::LeafTable(file) => format!("{file}.leaves"),
                Resource::Artifact(file) => file.clone(),
            };
            let version =
                path.version.as_ref().map_or_else(String::new, |version| format!("v{version}/"));
            prop_assert_eq!(format!("{}/{version}{file}", path.id), &*text);
            prop_assert!(
                text.split('/').all(|piece| !piece.is_empty() && !piece.starts_with('.')),
                "{}",
                text
            );
        }
    }

    #[test]
    fn no_fields_panic(
        name in prop::sample::select(vec!["range", "if-range", "if-match", "if-none-match"]),
        value in prop::collection::vec(visible(), 0..40),
        range in "bytes=[0-9]{0,5}-[0-9]{0,5}",
    ) {
        let mut fields = HeaderMap::new();
        fields.append("range", HeaderValue::from_str(&range).unwrap());
        fields
            .append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(&value).unwrap());
        let manifest = manifest();
        let response = answer(
            &Method::GET,
            &fields,
            &manifest,
            manifest.artifact("model.onnx").unwrap(),
            Freshness::Latest,
        );
        if let Some(bytes) = response.body() {
            prop_assert!(bytes.start < bytes.end && bytes.end <= SIZE);
            prop_assert_eq!(
                field(&response, "content-length"),
                Some(&*(bytes.end - bytes.start).to_string())
            );
        }
    }
}
