//! `publish` and `sign`: facts read from files, uploads, and repetition.

mod machine;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::thread::{self, sleep};
use std::time::Duration;

use base64ct::{Base64, Base64UrlUnpadded, Encoding as _};
use machine::{Gcs, Published, Wire, fails, filenames, openssl, run, succeeds, text, tool};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The folder of a real model, which `make setup` installs.
fn minilm() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.tools/models/minilm-l6-v2-q8"))
}

/// Creates a folder with a key, and returns it with the path of the key.
fn key() -> (TempDir, String) {
    let folder = TempDir::new().unwrap();
    let pem = text(&folder.path().join("team.pem")).to_owned();
    succeeds(&["keygen", "--key-id", "team", "--out", &pem]);
    (folder, pem)
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn facts_in_an_onnx_file_are_in_the_manifest() {
    let (_folder, pem) = key();
    let file = minilm().join("model.onnx");
    let manifest = json_of(&succeeds(&[
        "publish",
        text(&file),
        "--name",
        "My MiniLM",
        "--key",
        &pem,
        "--key-id",
        "team",
        "--dry-run",
    ]));
    assert_eq!(
        (&manifest["id"], &manifest["name"], &manifest["version"]),
        (&json!("my-minilm"), &json!("My MiniLM"), &json!("1.0.0"))
    );
    assert_eq!(manifest["type"], "embedding", "the graph has the output last_hidden_state");
    assert_eq!(manifest["architecture"], json!({ "opset": 17 }));
    assert_eq!(manifest["optimization"], json!({ "quantization": "INT8" }));
    // A constant of the specification.
    assert_eq!(
        manifest["artifacts"]["model"]["cid"],
        "bafybeidbwwzlkzd2rpf7trpsx35bxd7sgjr54oox26fufvra5gqdvhiblu"
    );
}

#[test]
fn a_folder_of_the_hub_is_published_unchanged() {
    let (folder, pem) = key();
    let model = folder.path().join("all-MiniLM-L6-v2");
    fs::create_dir_all(model.join("onnx")).unwrap();
    fs::copy(minilm().join("model.onnx"), model.join("onnx/model_quantized.onnx")).unwrap();
    for file in ["config.json", "tokenizer.json"] {
        fs::copy(minilm().join(file), model.join(file)).unwrap();
    }
    fs::write(
        model.join("README.md"),
        "---\nlanguage: en\nlicense: apache-2.0\npipeline_tag: sentence-similarity\n---\n# Card\n",
    )
    .unwrap();
    fs::write(model.join(".gitattributes"), "*.onnx filter=lfs\n").unwrap();
    let described = folder.path().join("more.json");
    fs::write(
        &described,
        r#"{
            "family": "minilm",
            "requirements": {"minMemory": 100000000},
            "architecture": {"type": "sentence-bert"}
        }"#,
    )
    .unwrap();
    let publish = [
        "publish",
        text(&model),
        "--key",
        &pem,
        "--key-id",
        "team",
        "--dry-run",
        "--describe",
        text(&described),
    ];
    let manifest = json_of(&succeeds(&publish));
    assert_eq!(
        (&manifest["id"], &manifest["license"], &manifest["type"]),
        (&json!("all-minilm-l6-v2"), &json!("Apache-2.0"), &json!("embedding"))
    );
    assert_eq!(manifest["architecture"]["layers"], 6);
    assert_eq!(manifest["architecture"]["type"], "sentence-bert", "--describe takes precedence");
    assert_eq!(
        (&manifest["family"], &manifest["requirements"]["minMemory"]),
        (&json!("minilm"), &json!(100_000_000))
    );
    assert_eq!(
        filenames(&manifest),
        ["README.md", "config.json", "onnx/model_quantized.onnx", "tokenizer.json"]
    );

    fs::write(&described, r#"{"artifacts": {}}"#).unwrap();
    assert!(fails(&publish).contains("more.json: artifacts is not allowed here"));
    fs::write(model.join("README.md"), "no head").unwrap();
    fs::remove_file(model.join("onnx/model_quantized.onnx")).unwrap();
    fs::write(model.join("weights.bin"), "w").unwrap();
    fs::write(&described, "{}").unwrap();
    assert!(fails(&publish).contains("all-MiniLM-L6-v2 do not tell the model's type; give --type"));
}

#[test]
fn a_version_is_signed_again_with_a_later_expiry() {
    let published = Published::new(1000);
    let (model, pem) = (published.path("model"), published.path("team.pem"));
    let publish = |more: &[&str]| {
        let always = [
            "publish",
            text(&model),
            "--id",
            "tiny",
            "--version",
            "1.0.0",
            "--type",
            "embedding",
            "--key",
            text(&pem),
        ];
        let to = ["--key-id", "team", "--gcs-endpoint", &published.gcs.endpoint];
        json_of(&succeeds(&[&always[..], &to[..], more].concat()))
    };
    let first = publish(&[]);
    let longer = publish(&["--expires", "2100-01-01T00:00:00Z"]);
    assert_eq!(longer["expires"], "2100-01-01T00:00:00Z");
    assert!(
        longer["timestamp"].as_str() > first["timestamp"].as_str(),
        "clients refuse an older timestamp"
    );
    for object in ["tiny/manifest.json", "tiny/v1.0.0/manifest.json"] {
        assert_eq!(
            json_of(&String::from_utf8(published.gcs.get(object).unwrap()).unwrap()),
            longer,
            "{object}"
        );
    }
    assert_eq!(
        publish(&["--expires", "2100-01-01T00:00:00Z"]),
        longer,
        "repetition changes nothing"
    );
    assert_eq!(publish(&[]), longer, "without the option, the expiry stays");
}

#[test]
fn an_upload_resumes_after_a_lost_connection() {
    let published = Published::new(40_000_000);
    let wire = Wire::to(&published.gcs, u64::MAX);
    wire.cut.store(20_000_000, Ordering::SeqCst);
    let (model, pem) = (published.path("model"), published.path("team.pem"));
    let always = [
        "publish",
        text(&model),
        "--id",
        "again",
        "--type",
        "embedding",
        "--key",
        text(&pem),
        "--key-id",
        "team",
    ];
    succeeds(&[&always[..], &["--gcs-endpoint", &wire.endpoint]].concat());
    assert!(wire.cut.load(Ordering::SeqCst) > 20_000_000, "the connection was cut once");
    assert!(published.gcs.get("again/v1.0.0/onnx/model.onnx").unwrap() == published.bytes);
}

#[test]
fn publishing_is_repeated_after_a_kill() {
    let published = Published::new(30_000_000);
    let (model, pem) = (published.path("model"), published.path("team.pem"));
    let arguments = [
        "publish",
        text(&model),
        "--id",
        "killed",
        "--type",
        "embedding",
        "--key",
        text(&pem),
        "--key-id",
        "team",
    ];
    let mut child = published.tool(&published.gcs.endpoint, &arguments);
    let child =
        child.args(["--gcs-endpoint", &published.gcs.endpoint]).stdout(Stdio::null()).spawn();
    let mut child = child.unwrap();
    sleep(Duration::from_millis(300));
    child.kill().unwrap();
    child.wait().unwrap();
    succeeds(&[&arguments[..], &["--gcs-endpoint", &published.gcs.endpoint]].concat());
    assert!(published.gcs.get("killed/v1.0.0/onnx/model.onnx").unwrap() == published.bytes);
    assert!(published.gcs.get("killed/manifest.json").is_some());
}

/// Starts a server that answers each request with `answer` of its head and body. Returns its URL.
fn answering(answer: impl Fn(&str, &str) -> String + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut request) = (stream.unwrap(), Vec::new());
            let (head, body) = loop {
                let mut buffer = [0; 4096];
                let read = stream.read(&mut buffer).unwrap();
                request.extend(&buffer[..read]);
                let so_far = String::from_utf8_lossy(&request).into_owned();
                let Some((head, body)) = so_far.split_once("\r\n\r\n") else { continue };
                let length = head
                    .to_lowercase()
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
                if body.len() >= length.unwrap_or(0) {
                    break (head.to_owned(), body.to_owned());
                }
            };
            let body = answer(&head, &body);
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
                 Content-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            stream.write_all((head + &body).as_bytes()).unwrap();
        }
    });
    url
}

/// The arguments that publish `file` to the bucket at `endpoint`.
fn publish_to<'a>(endpoint: &'a str, file: &'a str, key: &'a str) -> [&'a str; 10] {
    let kind = "embedding";
    ["publish", file, "--type", kind, "--key", key, "--key-id", "team", "--gcs-endpoint", endpoint]
}

/// Writes a new RSA key pair, `rsa.pem` and `public.pem`.
fn rsa_key(folder: &Path) {
    let at = |name: &str| folder.join(name);
    let key = openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
    fs::write(at("rsa.pem"), key).unwrap();
    let public = openssl(&["pkey", "-in", text(&at("rsa.pem")), "-pubout"]);
    fs::write(at("public.pem"), public).unwrap();
}

#[test]
fn openssl_verifies_the_token_request_of_a_service_account() {
    let (folder, pem) = key();
    let gcs = Gcs::start();
    let at = |name: &str| folder.path().join(name);
    rsa_key(folder.path());
    // A stand-in for Google's token service: it stores the request of RFC 7523.
    let asked = at("asked");
    let tokens = answering({
        let asked = asked.clone();
        move |_, body| {
            fs::write(&asked, body).unwrap();
            json!({ "access_token": "the-token", "expires_in": 3600, "token_type": "Bearer" })
                .to_string()
        }
    });
    let account = json!({
        "type": "service_account",
        "client_email": "publisher@example.iam.gserviceaccount.com",
        "private_key_id": "k1",
        "private_key": fs::read_to_string(at("rsa.pem")).unwrap(),
        "token_uri": format!("{tokens}/token"),
    });
    fs::write(at("account.json"), account.to_string()).unwrap();
    let config = minilm().join("config.json");
    let arguments = publish_to(&gcs.endpoint, text(&config), &pem);
    let output = tool(folder.path())
        .args(arguments)
        .env("GOOGLE_APPLICATION_CREDENTIALS", at("account.json"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let asked = fs::read_to_string(asked).unwrap();
    let jwt = asked
        .strip_prefix("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=")
        .unwrap();
    let (signed, signature) = jwt.rsplit_once('.').unwrap();
    let parts: Vec<Value> = signed
        .split('.')
        .map(|part| serde_json::from_slice(&Base64UrlUnpadded::decode_vec(part).unwrap()).unwrap())
        .collect();
    assert_eq!(parts[0], json!({ "alg": "RS256", "typ": "JWT", "kid": "k1" }));
    assert_eq!(parts[1]["iss"], "publisher@example.iam.gserviceaccount.com");
    assert_eq!(parts[1]["aud"], format!("{tokens}/token"));
    assert_eq!(parts[1]["exp"].as_u64().unwrap() - parts[1]["iat"].as_u64().unwrap(), 3600);
    fs::write(at("signed"), signed).unwrap();
    fs::write(at("signature"), Base64UrlUnpadded::decode_vec(signature).unwrap()).unwrap();
    openssl(&[
        "dgst",
        "-sha256",
        "-verify",
        text(&at("public.pem")),
        "-signature",
        text(&at("signature")),
        text(&at("signed")),
    ]);

    fs::write(at("account.json"), r#"{"type": "external_account"}"#).unwrap();
    let output = tool(folder.path())
        .args(arguments)
        .env("GOOGLE_APPLICATION_CREDENTIALS", at("account.json"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains(
            "account.json, which GOOGLE_APPLICATION_CREDENTIALS names: its type is external_account"
        ),
        "{said}"
    );
}

#[test]
fn a_pinning_service_pins_and_is_polled() {
    let (folder, pem) = key();
    let gcs = Gcs::start();
    let log = folder.path().join("log");
    // A stand-in for a pinning service, by the specification of the API.
    let service = answering({
        let log = log.clone();
        move |head, body| {
            assert!(head.to_lowercase().contains("authorization: bearer secret"), "{head}");
            let first = head.lines().next().unwrap();
            let before = fs::read_to_string(&log).unwrap_or_default();
            fs::write(&log, format!("{before}{first} {body}\n")).unwrap();
            let status = |status: &str| {
                json!({ "requestid": "r 1", "status": status, "pin": {}, "delegates": [] })
                    .to_string()
            };
            match first.split(' ').take(2).collect::<Vec<_>>()[..] {
                ["POST", "/pins"] => status("queued"),
                ["GET", "/pins/r%201"] => status("pinned"),
                _ => json!({ "count": 0, "results": [] }).to_string(),
            }
        }
    });
    let config = minilm().join("config.json");
    let arguments = publish_to(&gcs.endpoint, text(&config), &pem);
    let mut publish = tool(folder.path());
    let output = publish
        .args(arguments)
        .args(["--pinning-service", &service])
        .env("EDGE_NET_PINNING_TOKEN", "secret")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("config.json: pinned at "), "{said}");
    let cid = json_of(&String::from_utf8(output.stdout).unwrap())["artifacts"]["config"]["cid"]
        .as_str()
        .unwrap()
        .to_owned();
    let asked = fs::read_to_string(log).unwrap();
    let lines: Vec<&str> = asked.lines().collect();
    assert_eq!(lines[0], format!("GET /pins?cid={cid}&status=queued,pinning,pinned HTTP/1.1 "));
    assert_eq!(
        lines[1],
        format!("POST /pins HTTP/1.1 {}", json!({ "cid": cid, "name": "config.json" }))
    );
    assert_eq!(lines[2], "GET /pins/r%201 HTTP/1.1 ");
}

#[test]
fn a_manifest_that_cannot_be_read_is_not_signed_as_a_file() {
    let (folder, pem) = key();
    let path = folder.path().join("odd.json");
    for text in ["{\"artifacts\": {}, \"size\": 1e400}", "\n{\"artifacts\": {},"] {
        fs::write(&path, text).unwrap();
        let said = fails(&["sign", path.to_str().unwrap(), "--key", &pem, "--key-id", "team"]);
        assert!(said.contains("manifest"), "{said}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        assert!(!folder.path().join("odd.json.manifest.json").exists());
    }
}

#[test]
fn openssl_verifies_the_signature_of_a_single_file() {
    let (folder, pem) = key();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("My model.bin"), "weights").unwrap();
    assert!(
        fails(&["sign", text(&at("My model.bin")), "--key", &pem, "--key-id", "team"])
            .contains("cannot be published under this name")
    );
    fs::rename(at("My model.bin"), at("my-model-q4.onnx")).unwrap();
    // A key that openssl made.
    fs::write(at("openssl.pem"), openssl(&["genpkey", "-algorithm", "ed25519"])).unwrap();
    let (file, pem) = (at("my-model-q4.onnx"), at("openssl.pem"));
    succeeds(&["sign", text(&file), "--key", text(&pem), "--key-id", "team"]);
    let keys = succeeds(&["public-key", "--key", text(&pem), "--key-id", "team"]);
    assert_eq!(
        succeeds(&["verify", text(&file), "--keys", &keys]),
        "my-model-q4 1.0.0, signed by team\nmy-model-q4.onnx: ok\n"
    );

    let mut manifest = json_of(&fs::read_to_string(at("my-model-q4.onnx.manifest.json")).unwrap());
    let signature = manifest.as_object_mut().unwrap().remove("signature").unwrap();
    // The members are sorted and the numbers are integers: this is the RFC 8785 form.
    fs::write(at("signed"), manifest.to_string()).unwrap();
    fs::write(
        at("signature"),
        Base64::decode_vec(signature["signature"].as_str().unwrap()).unwrap(),
    )
    .unwrap();
    let (signed, signature) = (at("signed"), at("signature"));
    openssl(&[
        "pkeyutl",
        "-verify",
        "-inkey",
        text(&pem),
        "-rawin",
        "-in",
        text(&signed),
        "-sigfile",
        text(&signature),
    ]);

    fs::write(&file, "other weights").unwrap();
    let (success, stdout, _) = run(&["verify", text(&file), "--keys", &keys]);
    assert!(!success && stdout.contains("it has 13 bytes instead of 7"), "{stdout}");
}

#[test]
fn a_manifest_is_signed_again_in_place() {
    let (folder, pem) = key();
    let (model, out) = (folder.path().join("model"), folder.path().join("model"));
    fs::create_dir(&model).unwrap();
    fs::write(model.join("config.json"), "{}").unwrap();
    let publish = [
        "publish",
        text(&model),
        "--type",
        "embedding",
        "--key",
        &pem,
        "--key-id",
        "team",
        "--dry-run",
        "--out",
        text(&out),
    ];
    succeeds(&publish);
    let manifest = fs::read_to_string(out.join("manifest.json")).unwrap();
    fs::write(out.join("manifest.json"), manifest.replace("\"embedding\"", "\"vision\"")).unwrap();
    let keys = succeeds(&["public-key", "--key", &pem, "--key-id", "team"]);
    assert!(fails(&["verify", text(&out), "--keys", &keys]).contains("does not fit its fields"));
    assert!(
        fails(&["sign", text(&out), "--key", &pem, "--key-id", "team", "--type", "x"])
            .contains("is a manifest; --id, --version and --type are for other files")
    );
    succeeds(&["sign", text(&out), "--key", &pem, "--key-id", "team"]);
    assert!(succeeds(&["verify", text(&out), "--keys", &keys]).contains("config.json: ok"));
}
