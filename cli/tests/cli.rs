//! Keys, `publish` and `verify`, run as a program against a real fake-gcs-server.

mod machine;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use machine::{Gcs, fails, openssl, run, succeeds, text};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder with a model of two files, and the key `team.pem`.
struct Model {
    folder: TempDir,
    keys: String,
}

impl Model {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("model")).unwrap();
        let bytes: Vec<u8> = (0..600_000_u32).flat_map(|n| n.to_le_bytes()[..1].to_vec()).collect();
        fs::write(folder.path().join("model/model.onnx"), bytes).unwrap();
        fs::write(
            folder.path().join("model/config.json"),
            r#"{"model_type":"bert","hidden_size":384}"#,
        )
        .unwrap();
        let pem = folder.path().join("team.pem");
        let keys = succeeds(&["keygen", "--key-id", "team", "--out", text(&pem)]);
        Self { folder, keys }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn publish(&self, more: &[&str]) -> Vec<String> {
        let (model, key) = (self.path("model"), self.path("team.pem"));
        let always = [
            "publish",
            text(&model),
            "--id",
            "tiny",
            "--type",
            "embedding",
            "--key",
            text(&key),
            "--key-id",
            "team",
        ];
        always.iter().chain(more).map(|argument| (*argument).to_owned()).collect()
    }
}

fn as_strs(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

#[test]
fn openssl_reads_a_generated_key() {
    let model = Model::new();
    let pem = model.path("team.pem");
    let der = openssl(&["pkey", "-in", text(&pem), "-pubout", "-outform", "DER"]);
    let keys: Value = serde_json::from_str(&model.keys).unwrap();
    let public =
        <base64ct::Base64 as base64ct::Encoding>::decode_vec(keys["team"].as_str().unwrap())
            .unwrap();
    assert_eq!(&der[der.len() - 32..], public);
}

#[test]
fn a_key_of_openssl_works_and_openssl_verifies_the_signature() {
    let model = Model::new();
    let pem = model.path("openssl.pem");
    let key = String::from_utf8(openssl(&["genpkey", "-algorithm", "ed25519"])).unwrap();
    fs::write(&pem, format!("# a comment\n{key}")).unwrap();
    succeeds(&["public-key", "--key", text(&pem), "--key-id", "team"]);
    fs::rename(&pem, model.path("team.pem")).unwrap();
    let manifest = succeeds(&as_strs(&model.publish(&["--version", "1.0.0", "--dry-run"])));
    let mut manifest: Value = serde_json::from_str(&manifest).unwrap();
    let signature = manifest.as_object_mut().unwrap().remove("signature").unwrap();
    let signature = <base64ct::Base64 as base64ct::Encoding>::decode_vec(
        signature["signature"].as_str().unwrap(),
    )
    .unwrap();
    // The members are sorted and the numbers are integers: this is the RFC 8785 form.
    fs::write(model.path("signed"), serde_json::to_string(&manifest).unwrap()).unwrap();
    fs::write(model.path("signature"), signature).unwrap();
    let (pem, signed, signature) =
        (model.path("team.pem"), model.path("signed"), model.path("signature"));
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
}

#[test]
fn an_existing_key_is_not_overwritten() {
    let model = Model::new();
    let pem = model.path("team.pem");
    let before = fs::read(&pem).unwrap();
    assert!(
        fails(&["keygen", "--key-id", "team", "--out", text(&pem)])
            .contains("exists; give another --out, or --force")
    );
    assert_eq!(fs::read(&pem).unwrap(), before);
    succeeds(&["keygen", "--key-id", "team", "--out", text(&pem), "--force"]);
    assert_ne!(fs::read(&pem).unwrap(), before);
}

#[test]
fn the_error_names_a_file_that_is_not_a_key() {
    let model = Model::new();
    let config = model.path("model/config.json");
    let said = fails(&["public-key", "--key", text(&config), "--key-id", "team"]);
    assert!(said.contains("config.json holds no Ed25519 private key in PKCS#8 PEM"), "{said}");
}

#[test]
fn the_cid_of_an_empty_file() {
    let model = Model::new();
    let empty = model.path("empty");
    fs::write(&empty, "").unwrap();
    let found: Value = serde_json::from_str(&succeeds(&["cid", "--json", text(&empty)])).unwrap();
    // The CID that kubo computes for an empty file with raw leaves.
    assert_eq!(found["cid"], "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku");
    assert!(fails(&["cid", text(&model.path("none"))]).contains("none: No such file"));
}

#[test]
fn a_manifest_matches_the_schema_and_verifies() {
    let model = Model::new();
    let folder = model.path("model");
    let manifest = succeeds(&as_strs(&model.publish(&[
        "--version",
        "1.0.0",
        "--license",
        "MIT",
        "--dry-run",
        "--out",
        text(&folder),
    ])));
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    let schema: Value =
        serde_json::from_str(include_str!("../../manifests/model-manifest-v1.schema.json"))
            .unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> =
        validator.iter_errors(&manifest).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}");
    assert!(!validator.is_valid(&json!({ "id": "Tiny" })));
    assert_eq!(manifest["architecture"], json!({ "type": "bert", "hiddenSize": 384 }));
    assert!(succeeds(&["verify", text(&folder), "--keys", &model.keys]).contains("model.onnx: ok"));

    // The bundled manifest matches the schema too.
    let bundled: Value =
        serde_json::from_str(include_str!("../../manifests/minilm-l6-v2-q8.json")).unwrap();
    assert!(validator.is_valid(&bundled));
}

#[test]
fn a_config_in_a_subfolder_is_not_that_of_the_model() {
    let model = Model::new();
    fs::create_dir(model.path("model/1_Pooling")).unwrap();
    fs::write(model.path("model/1_Pooling/config.json"), "{}").unwrap();
    let manifest = succeeds(&as_strs(&model.publish(&["--version", "1.0.0", "--dry-run"])));
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest["artifacts"]["config"]["filename"], "config.json");
    assert_eq!(manifest["artifacts"]["1_Pooling-config-json"]["filename"], "1_Pooling/config.json");
    assert_eq!(manifest["architecture"]["hiddenSize"], 384);
}

#[test]
fn an_endorsement_replaces_a_key() {
    let model = Model::new();
    let (old, new) = (model.path("team.pem"), model.path("new.pem"));
    succeeds(&["keygen", "--key-id", "new", "--out", text(&new)]);
    let endorsement = succeeds(&[
        "endorse",
        "--key",
        text(&old),
        "--key-id",
        "team",
        "--new-key",
        text(&new),
        "--new-key-id",
        "new",
    ]);
    let (folder, out) = (model.path("model"), model.path("out"));
    let publish = |more: &[&str]| {
        let always = [
            "publish",
            text(&folder),
            "--id",
            "tiny",
            "--type",
            "embedding",
            "--version",
            "1.0.0",
            "--dry-run",
        ];
        let signed = [
            "--key",
            text(&new),
            "--key-id",
            "new",
            "--out",
            text(&out),
            "--expires",
            "2100-01-01T00:00:00Z",
        ];
        [&always[..], &signed[..], more]
            .concat()
            .iter()
            .map(|argument| (*argument).to_owned())
            .collect::<Vec<_>>()
    };
    let verify = ["verify", text(&out), "--keys", &model.keys];
    let files = || {
        for file in ["model.onnx", "config.json"] {
            fs::copy(folder.join(file), out.join(file)).unwrap();
        }
    };
    succeeds(&as_strs(&publish(&[])));
    files();
    assert!(
        fails(&verify).contains("signed by key \"new\", which is not pinned here (pinned: team)")
    );
    let manifest: Value =
        serde_json::from_str(&succeeds(&as_strs(&publish(&["--endorsement", &endorsement]))))
            .unwrap();
    let schema = include_str!("../../manifests/model-manifest-v1.schema.json");
    let validator = jsonschema::validator_for(&serde_json::from_str(schema).unwrap()).unwrap();
    assert!(validator.is_valid(&manifest), "{manifest}");
    assert!(succeeds(&verify).contains("signed by new"));
}

#[test]
fn verify_reports_differences() {
    let model = Model::new();
    let (folder, file) = (model.path("model"), model.path("model/model.onnx"));
    succeeds(&as_strs(&model.publish(&[
        "--version",
        "1.0.0",
        "--dry-run",
        "--out",
        text(&folder),
    ])));
    let good = fs::read(&file).unwrap();

    let mut bad = good.clone();
    bad[300_000] ^= 1;
    fs::write(&file, &bad).unwrap();
    let (success, stdout, stderr) = run(&["verify", text(&folder), "--keys", &model.keys]);
    assert!(!success && stdout.contains("model.onnx: wrong bytes in leaf 1"), "{stdout}");
    assert!(stderr.contains("1 of 2 files differ from the manifest"));

    fs::write(&file, &good[1..]).unwrap();
    assert!(run(&["verify", text(&folder)]).1.contains("it has 599999 bytes instead of 600000"));
    fs::remove_file(&file).unwrap();
    assert!(run(&["verify", text(&folder)]).1.contains("No such file"));
    fs::write(&file, &good).unwrap();

    let stranger = model.path("stranger.pem");
    let keys = succeeds(&["keygen", "--key-id", "stranger", "--out", text(&stranger)]);
    assert!(
        fails(&["verify", text(&folder), "--keys", &keys])
            .contains("signed by key \"team\", which is not pinned here")
    );
    let manifest = fs::read_to_string(folder.join("manifest.json")).unwrap();
    fs::write(folder.join("manifest.json"), manifest.replace("\"tiny\"", "\"other\"")).unwrap();
    assert!(
        fails(&["verify", text(&folder), "--keys", &model.keys])
            .contains("does not fit its fields")
    );
    assert!(fails(&["verify", text(&folder), "--keys", "{\"a\":1}"]).contains("pinned key \"a\""));
}

#[test]
fn publishing_twice_changes_nothing_and_other_content_is_refused() {
    let (model, gcs) = (Model::new(), Gcs::start());
    let to = |version: &'static str| {
        model.publish(&["--version", version, "--gcs-endpoint", &gcs.endpoint])
    };
    let first = succeeds(&as_strs(&to("1.1.0")));
    assert_eq!(
        gcs.get("tiny/v1.1.0/model.onnx").unwrap(),
        fs::read(model.path("model/model.onnx")).unwrap()
    );
    assert_eq!(gcs.get("tiny/v1.1.0/model.onnx.leaves").unwrap().len(), 3 * 32);
    assert_eq!(gcs.get("tiny/manifest.json").unwrap(), first.trim_end().as_bytes());
    // A second later, so that a new time of signing would be visible.
    sleep(Duration::from_millis(1100));
    assert_eq!(succeeds(&as_strs(&to("1.1.0"))), first);

    // An older version is stored, but does not become the newest.
    succeeds(&as_strs(&to("1.0.0")));
    assert!(gcs.get("tiny/v1.0.0/manifest.json").is_some());
    assert_eq!(gcs.get("tiny/manifest.json").unwrap(), first.trim_end().as_bytes());

    fs::write(model.path("model/config.json"), "{}").unwrap();
    let said = fails(&as_strs(&to("1.1.0")));
    assert!(said.contains("tiny 1.1.0 is already published with other content"), "{said}");
    assert_eq!(gcs.get("tiny/v1.1.0/manifest.json").unwrap(), first.trim_end().as_bytes());
}

#[test]
fn an_artifact_may_contain_a_multipart_boundary() {
    let (model, gcs) = (Model::new(), Gcs::start());
    // The fixed boundary of an earlier release, which stored only six bytes of this file.
    let nasty = b"hello\n\r\n--edge-net-models-2f9b0c5e7d1a4863b7e0--\r\nmore".to_vec();
    fs::write(model.path("model/model.onnx"), &nasty).unwrap();
    succeeds(&as_strs(&model.publish(&["--version", "1.0.0", "--gcs-endpoint", &gcs.endpoint])));
    assert_eq!(gcs.get("tiny/v1.0.0/model.onnx").unwrap(), nasty);
}

#[test]
fn publishing_again_repairs_an_altered_object() {
    let (model, gcs) = (Model::new(), Gcs::start());
    let publish = model.publish(&["--version", "1.0.0", "--gcs-endpoint", &gcs.endpoint]);
    succeeds(&as_strs(&publish));
    let mut altered = gcs.get("tiny/v1.0.0/model.onnx").unwrap();
    altered[1000] ^= 1;
    let name = "tiny%2Fv1.0.0%2Fmodel.onnx";
    let url = format!(
        "{}/upload/storage/v1/b/edge-net-models/o?uploadType=media&name={name}",
        gcs.endpoint
    );
    ureq::post(url).send(&altered).unwrap();
    assert_eq!(gcs.get("tiny/v1.0.0/model.onnx").unwrap(), altered);
    succeeds(&as_strs(&publish));
    assert_eq!(
        gcs.get("tiny/v1.0.0/model.onnx").unwrap(),
        fs::read(model.path("model/model.onnx")).unwrap()
    );
}

#[test]
fn a_file_that_changes_during_the_upload_is_not_published() {
    let (model, gcs) = (Model::new(), Gcs::start());
    let artifact = model.path("model/model.onnx");
    fs::write(&artifact, vec![7; 64 << 20]).unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let changing = std::thread::spawn({
        let done = Arc::clone(&done);
        move || {
            let file = fs::OpenOptions::new().write(true).open(&artifact).unwrap();
            for n in 0_u64.. {
                std::os::unix::fs::FileExt::write_at(&file, &n.to_le_bytes(), (64 << 20) - 8)
                    .unwrap();
                if done.load(Ordering::Relaxed) {
                    break;
                }
            }
        }
    });
    let said =
        fails(&as_strs(&model.publish(&["--version", "1.0.0", "--gcs-endpoint", &gcs.endpoint])));
    assert!(
        said.contains(
            "tiny/v1.0.0/model.onnx: the stored object differs from the file that was hashed"
        ),
        "{said}"
    );
    done.store(true, Ordering::Relaxed);
    changing.join().unwrap();
    assert_eq!(gcs.get("tiny/v1.0.0/manifest.json"), None, "no manifest refers to it");
}

#[test]
fn the_error_names_a_file_that_cannot_be_published() {
    let model = Model::new();
    let dry = |more: &[&str]| model.publish(&[&["--version", "1.0.0", "--dry-run"], more].concat());
    let hidden = model.path("model/.hidden");
    fs::write(&hidden, "").unwrap();
    assert!(fails(&as_strs(&dry(&[]))).contains(".hidden cannot be published under this name"));
    fs::remove_file(&hidden).unwrap();
    // A backslash is no separator: this is not the file `a/b`.
    for (name, why) in [("a\\b", "use letters"), ("con.txt", "devices of Windows such as con")] {
        let odd = model.path("model").join(name);
        fs::write(&odd, "").unwrap();
        let said = fails(&as_strs(&dry(&[])));
        assert!(said.contains(name) && said.contains(why), "{said}");
        fs::remove_file(&odd).unwrap();
    }
    assert!(
        fails(&as_strs(&dry(&["--timestamp", "yesterday"])))
            .contains("manifest field `timestamp` is \"yesterday\"")
    );
    assert!(
        fails(&as_strs(&model.publish(&[
            "--version",
            "1.0.0",
            "--gcs-endpoint",
            "http://127.0.0.1:9"
        ])))
        .contains("http://127.0.0.1:9/")
    );

    let gcs = Gcs::start();
    let elsewhere =
        model.publish(&["--version", "1.0.0", "--gcs-endpoint", &gcs.endpoint, "--bucket", "none"]);
    assert!(fails(&as_strs(&elsewhere)).contains("status 404"));

    let empty = TempDir::new().unwrap();
    let key = model.path("team.pem");
    let said = fails(&[
        "publish",
        text(empty.path()),
        "--id",
        "tiny",
        "--version",
        "1.0.0",
        "--type",
        "embedding",
        "--key",
        text(&key),
        "--key-id",
        "team",
    ]);
    assert!(said.contains("has no files to publish"), "{said}");
}
