//! The pages in `transcripts/` as tests: each command is run, and its output is compared with the
//! page.

mod machine;

use std::fs;
use std::path::Path;
use std::process::Command;

use machine::{Gcs, TOOL, authority, succeeds, text, tool};
use snapbox::{Assert, Data, Redactions};
use tempfile::TempDir;

/// Runs the commands of a page in a folder, and returns the page with their output. Placeholders
/// stand for URLs.
fn replay(page: &str, folder: &Path, urls: &[(&'static str, String)]) -> String {
    let mut replayed = String::new();
    let (mut in_console, mut is_output) = (false, false);
    for line in page.lines() {
        if line.starts_with("```") {
            in_console = line == "```console";
            is_output = false;
        }
        let command = line.strip_prefix("$ ").filter(|_| in_console);
        is_output = in_console && (is_output || command.is_some());
        if !is_output || command.is_some() {
            replayed += line;
            replayed.push('\n');
        }
        let Some(command) = command else { continue };
        let named = |command: String, (name, url): &(&str, String)| command.replace(name, url);
        let command = urls.iter().fold(command.to_owned(), named);
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{{ {command}\n}} 2>&1")]).current_dir(folder);
        for (name, value) in tool(folder).get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        let programs = Path::new(TOOL).parent().unwrap();
        shell
            .env("PATH", format!("{}:{}", text(programs), std::env::var("PATH").unwrap()))
            .env("LC_ALL", "C");
        let output = shell.output().unwrap();
        replayed += &String::from_utf8(output.stdout).unwrap();
        if let Some(code) = output.status.code().filter(|code| *code != 0) {
            replayed.extend(["? ", &code.to_string(), "\n"]);
        }
    }
    replayed
}

/// Creates a folder with `my-model`; it is the home folder too.
fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    let model = folder.path().join("my-model");
    fs::create_dir(&model).unwrap();
    fs::write(
        model.join("config.json"),
        r#"{"model_type": "bert", "num_hidden_layers": 6, "hidden_size": 384}"#,
    )
    .unwrap();
    let tokenizer: Vec<u8> =
        (0..100_000_u32).flat_map(|n| format!("{n:05}").into_bytes()).collect();
    fs::write(model.join("tokenizer.json"), tokenizer).unwrap();
    fs::write(
        model.join("README.md"),
        "---\nlicense: apache-2.0\npipeline_tag: feature-extraction\n---\n",
    )
    .unwrap();
    let more = r#"{
        "optimization": {"quantization": "INT8"},
        "benchmarks": {"tokensPerSecond": {"browser": 12}},
        "requirements": {"minMemory": 1073741824}
    }"#;
    fs::write(folder.path().join("more.json"), more).unwrap();
    folder
}

/// Compares a page with the output of its commands.
fn check(name: &str, folder: &Path, gcs: &Gcs) {
    check_with(name, folder, &[("[BUCKET]", gcs.endpoint.clone())]);
}

fn check_with(name: &str, folder: &Path, urls: &[(&'static str, String)]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("transcripts").join(name);
    let replayed = replay(&fs::read_to_string(&path).unwrap(), folder, urls);
    let mut redactions = Redactions::new();
    for (name, url) in urls {
        redactions.insert(name, url.clone()).unwrap();
    }
    redactions.insert("[HOME]", text(folder).to_owned()).unwrap();
    redactions.insert("[VERSION]", env!("CARGO_PKG_VERSION")).unwrap();
    Assert::new()
        .action_env("SNAPSHOTS")
        .normalize_paths(false)
        .redact_with(redactions)
        .eq(replayed, Data::read_from(&path, None));
}

#[test]
fn publish_and_pull() {
    let (folder, gcs) = (folder(), Gcs::start());
    check("publish-and-pull.md", folder.path(), &gcs);
}

#[test]
fn settings() {
    let (folder, gcs) = (folder(), Gcs::start());
    fs::create_dir(folder.path().join(".edge-net")).unwrap();
    let file = "\
version: 1

cache:
  # The disk is small.
  maxSize: 1GB

cdn:
  timeout: 10000   # milliseconds
";
    fs::write(folder.path().join(".edge-net/models.yaml"), file).unwrap();
    check("settings.md", folder.path(), &gcs);
}

#[test]
fn fresh_shells() {
    let (folder, gcs) = (folder(), Gcs::start());
    let at = |name: &str| text(&folder.path().join(name)).to_owned();
    let keys = succeeds(&["keygen", "--key-id", "my-team", "--out", &at("my-team.pem")]);
    let signed =
        ["--key", &at("my-team.pem"), "--key-id", "my-team", "--gcs-endpoint", &gcs.endpoint];
    succeeds(&[&["publish", &at("my-model")][..], &signed].concat());
    let key: serde_json::Value = serde_json::from_str(&keys).unwrap();
    let settings = format!(
        "keys:\n  my-team: {}\ncdn:\n  endpoint: {}/edge-net-models\nipfs:\n  gateways: []\n",
        key["my-team"], gcs.endpoint
    );
    fs::create_dir(at(".edge-net")).unwrap();
    fs::write(at(".edge-net/models.yaml"), settings).unwrap();
    assert!(tool(folder.path()).args(["pull", "my-model"]).output().unwrap().status.success());
    authority(folder.path());
    let (certificate, key) = (at("server.pem"), at("server.key"));
    let (mut server, endpoint) = gcs.with_tls(Path::new(&certificate), Path::new(&key));
    // Stands in for a file system without locks.
    let shim = "#include <errno.h>\nint flock(int f, int o) { errno = ENOLCK; return -1; }\n";
    fs::write(at("no-locks.c"), shim).unwrap();
    let (library, source) = (at("no-locks.so"), at("no-locks.c"));
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o", &library, &source]).status();
    assert!(built.unwrap().success());
    let urls = [("[BUCKET]", gcs.endpoint.clone()), ("[TLS]", endpoint)];
    check_with("fresh-shells.md", folder.path(), &urls);
    server.kill().unwrap();
    server.wait().unwrap();
}

#[test]
fn error_messages() {
    let (folder, gcs) = (folder(), Gcs::start());
    let at = |name: &str| text(&folder.path().join(name)).to_owned();
    let keys = succeeds(&["keygen", "--key-id", "my-team", "--out", &at("my-team.pem")]);
    fs::write(at("my-team.json"), keys).unwrap();
    let signed =
        ["--key", &at("my-team.pem"), "--key-id", "my-team", "--gcs-endpoint", &gcs.endpoint];
    succeeds(&[&["publish", &at("my-model")][..], &signed].concat());
    check("error-messages.md", folder.path(), &gcs);
}
