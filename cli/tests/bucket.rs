//! What several publishers, killed uploads and odd buckets do, and the commands about a bucket.

mod machine;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use base64ct::{Base64, Encoding as _};
use machine::{Published, Wire, error_of, filenames, succeeded, text, tool};
use serde_json::{Value, json};

/// Returns a command that publishes `model` as a version of `id`, as the user of a home folder.
fn publish(published: &Published, home: &str, model: &Path, id: &str, version: &str) -> Command {
    let home = published.path(home);
    fs::create_dir_all(&home).unwrap();
    let mut command = tool(&home);
    let key = published.path("team.pem");
    command
        .args(["publish", text(model), "--id", id, "--version", version, "--type", "embedding"])
        .args(["--key", text(&key), "--key-id", "team"])
        .env("STORAGE_EMULATOR_HOST", &published.gcs.endpoint);
    command
}

fn start(mut command: Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn folder_with(published: &Published, name: &str, files: &[(&str, &[u8])]) -> PathBuf {
    let folder = published.path(name);
    fs::create_dir_all(&folder).unwrap();
    for (file, bytes) in files {
        fs::write(folder.join(file), bytes).unwrap();
    }
    folder
}

#[test]
fn of_two_publishers_of_a_version_one_wins_and_nothing_is_mixed() {
    let published = Published::new(1000);
    let folder = |name: &str, byte: u8| {
        let large = vec![byte; 3_000_000];
        folder_with(&published, name, &[("a.bin", &large), ("b.bin", &[byte]), ("c.bin", &large)])
    };
    let models = [folder("model-x", b'x'), folder("model-y", b'y')];
    for round in 0..6 {
        let id = format!("both-{round}");
        let both = [0, 1].map(|at| {
            // Two users, or one user twice.
            let home = if round < 3 { format!("home-{at}") } else { "home".into() };
            start(publish(&published, &home, &models[at], &id, "1.0.0"))
        });
        let outputs = both.map(|child| child.wait_with_output().unwrap());
        let winners: Vec<usize> = (0..2).filter(|at| outputs[*at].status.success()).collect();
        assert!(winners.len() <= 1, "round {round}: both say that they published");
        for output in outputs.iter().filter(|output| !output.status.success()) {
            let said = error_of(output);
            let known =
                ["is already published with other content", "is being published with other"];
            assert!(known.iter().any(|why| said.contains(why)), "{said}");
        }
        // Who was refused because of a claim may be right; then the other one won.
        let winner = *winners.first().expect("one of them publishes");
        for file in ["a.bin", "b.bin", "c.bin"] {
            let stored = published.gcs.get(&format!("{id}/v1.0.0/{file}")).unwrap();
            assert!(
                stored == fs::read(models[winner].join(file)).unwrap(),
                "round {round}: {file}"
            );
        }
        assert!(published.gcs.get(&format!("{id}/v1.0.0/.publishing")).is_none());
    }
}

#[test]
fn the_newest_never_goes_back_when_versions_are_published_at_once() {
    let published = Published::new(1000);
    let model = folder_with(&published, "small", &[("a.bin", b"a")]);
    for round in 0..4 {
        let id = format!("many-{round}");
        let versions = ["1.0.0", "1.3.0", "1.1.0", "1.2.0"];
        let all = versions.map(|version| {
            start(publish(&published, &format!("home-{version}"), &model, &id, version))
        });
        for child in all {
            succeeded(&child.wait_with_output().unwrap());
        }
        let newest = published.gcs.get(&format!("{id}/manifest.json")).unwrap();
        let newest: Value = serde_json::from_slice(&newest).unwrap();
        assert_eq!(newest["version"], "1.3.0", "round {round}");
    }
}

#[test]
fn a_publication_that_was_given_up_is_taken_over() {
    let published = Published::new(1000);
    let model = folder_with(&published, "small", &[("a.bin", b"a")]);
    let claim = json!({ "by": "another", "content": "other", "since": "2026-01-01T00:00:00Z" });
    published.gcs.put("given-up/v1.0.0/.publishing", claim.to_string().as_bytes());
    let command = || publish(&published, "home", &model, "given-up", "1.0.0");
    let said = error_of(&command().output().unwrap());
    assert!(said.contains("since 2026-01-01T00:00:00Z") && said.contains("--take-over"), "{said}");
    succeeded(&command().arg("--take-over").output().unwrap());

    // One's own needs no option.
    let large = vec![1; 20_000_000];
    let first = folder_with(&published, "first", &[("a.bin", &large)]);
    let wire = Wire::to(&published.gcs, u64::MAX);
    wire.up_rate.store(20_000_000, Ordering::SeqCst);
    let mut child = publish(&published, "home", &first, "own", "1.0.0");
    let mut child = start_at(&mut child, &wire);
    let until = Instant::now() + Duration::from_mins(1);
    while published.gcs.get("own/v1.0.0/.publishing").is_none() {
        assert!(Instant::now() < until && child.try_wait().unwrap().is_none());
        sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    succeeded(&publish(&published, "home", &model, "own", "1.0.0").output().unwrap());
    assert_eq!(published.gcs.get("own/v1.0.0/a.bin").unwrap(), b"a");
}

/// Starts a publication through a wire.
fn start_at(command: &mut Command, wire: &Wire) -> Child {
    command.env("STORAGE_EMULATOR_HOST", &wire.endpoint);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn a_killed_upload_goes_on_inside_the_file() {
    const SIZE: usize = 48 << 20;
    let published = Published::new(SIZE);
    let wire = Wire::to(&published.gcs, u64::MAX);
    wire.up_rate.store(24 << 20, Ordering::SeqCst);
    let model = published.path("model");
    let command = || publish(&published, "home", &model, "killed", "1.0.0");
    let mut child = start_at(&mut command(), &wire);
    // Three of six parts.
    let uploads = published.path("home/.edge-net/uploads");
    let confirmed = || {
        let file = fs::read_dir(&uploads).ok()?.next()?.ok()?;
        let session: Value = serde_json::from_slice(&fs::read(file.path()).ok()?).ok()?;
        session["stored"].as_u64()
    };
    let until = Instant::now() + Duration::from_mins(1);
    while confirmed().unwrap_or_default() < 24 << 20 {
        assert!(Instant::now() < until && child.try_wait().unwrap().is_none());
        sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    wire.up_rate.store(u64::MAX, Ordering::SeqCst);
    sleep(Duration::from_millis(200));
    let before = wire.up.load(Ordering::SeqCst);
    let mut again = command();
    succeeded(&again.env("STORAGE_EMULATOR_HOST", &wire.endpoint).output().unwrap());
    let sent = wire.up.load(Ordering::SeqCst) - before;
    assert!(sent < (25 << 20), "{sent} bytes were sent again");
    assert!(published.gcs.get("killed/v1.0.0/onnx/model.onnx").unwrap() == published.bytes);
    assert!(confirmed().is_none(), "the session is forgotten");
}

/// A bucket that stores uploads in memory, and admits only to some bytes of the first parts.
#[derive(Default)]
struct Odd {
    /// The content of each object.
    objects: BTreeMap<String, Vec<u8>>,
    session: Option<(String, Vec<u8>)>,
    /// The bytes to admit to of each part in turn; `None` for no `Range` at all.
    admitted: Vec<Option<usize>>,
    parts: usize,
    /// The connections to lose: before a request is read, or after it is carried out.
    lost: Vec<Option<Lost>>,
}

/// When a connection is lost.
#[derive(Clone, Copy, PartialEq)]
enum Lost {
    Before,
    After,
}

impl Odd {
    fn answer(&mut self, line: &str, range: &str, body: &[u8]) -> (u16, String, Vec<u8>) {
        let (method, target) = line.split_once(' ').unwrap();
        let target = target.split(' ').next().unwrap().replace("%2F", "/");
        if method == "POST" {
            let at = target.contains("uploadType=resumable");
            let text = String::from_utf8_lossy(body);
            let json = text.split("\r\n").find(|line| line.starts_with('{')).unwrap();
            let name =
                serde_json::from_str::<Value>(json).unwrap()["name"].as_str().unwrap().to_owned();
            if at {
                self.session = Some((name, Vec::new()));
                return (200, "Location: http://HOST/session\r\n".into(), Vec::new());
            }
            let content = body.windows(4).enumerate().filter(|(_, it)| *it == b"\r\n\r\n").nth(1);
            let start = content.unwrap().0 + 4;
            let end = body.windows(4).rposition(|it| it == b"\r\n--").unwrap();
            if self.objects.contains_key(&name) && target.contains("ifGenerationMatch=0") {
                return (412, String::new(), Vec::new());
            }
            self.objects.insert(name.clone(), body[start..end].to_vec());
            return (200, String::new(), self.resource(&name));
        }
        if method == "PUT" {
            return self.part(range, body);
        }
        let object = target.split("/o/").nth(1).unwrap_or_default();
        let name = object.split('?').next().unwrap();
        match self.objects.get(name) {
            None => (404, String::new(), Vec::new()),
            Some(_) if method == "DELETE" => {
                self.objects.remove(name);
                (204, String::new(), Vec::new())
            }
            Some(bytes) if object.contains("alt=media") => {
                (200, "X-Goog-Generation: 1\r\n".into(), bytes.clone())
            }
            Some(_) => (200, String::new(), self.resource(name)),
        }
    }

    fn resource(&self, name: &str) -> Vec<u8> {
        let bytes = &self.objects[name];
        let crc = Base64::encode_string(&crc32c::crc32c(bytes).to_be_bytes());
        json!({ "size": bytes.len().to_string(), "crc32c": crc, "generation": "1" })
            .to_string()
            .into_bytes()
    }

    fn part(&mut self, range: &str, body: &[u8]) -> (u16, String, Vec<u8>) {
        let (name, stored) = self.session.as_mut().unwrap();
        let (bytes, size) = range.trim_start_matches("bytes ").split_once('/').unwrap();
        let start: usize = bytes.split('-').next().unwrap().parse().unwrap();
        assert!(start <= stored.len(), "a gap: {range} after {} bytes", stored.len());
        stored.truncate(start);
        stored.extend(body);
        if let Some(odd) = self.admitted.get(self.parts) {
            self.parts += 1;
            stored.truncate(odd.unwrap_or(0));
            let range = odd.map(|bytes| format!("Range: bytes=0-{}\r\n", bytes - 1));
            return (308, range.unwrap_or_default(), Vec::new());
        }
        if stored.len() == size.parse::<usize>().unwrap() {
            let name = name.clone();
            self.objects.insert(name.clone(), stored.clone());
            return (200, String::new(), self.resource(&name));
        }
        (308, format!("Range: bytes=0-{}\r\n", stored.len() - 1), Vec::new())
    }
}

/// Starts an odd bucket.
fn odd_bucket(admitted: Vec<Option<usize>>) -> (String, Arc<Mutex<Odd>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let bucket = Arc::new(Mutex::new(Odd { admitted, ..Odd::default() }));
    let (own, shared) = (host.clone(), Arc::clone(&bucket));
    thread::spawn(move || {
        for client in listener.incoming() {
            let _ = serve(client.unwrap(), &shared, &own);
        }
    });
    (format!("http://{host}"), bucket)
}

fn serve(mut client: TcpStream, bucket: &Mutex<Odd>, host: &str) -> std::io::Result<()> {
    let lost = bucket.lock().unwrap().lost.pop().flatten();
    if lost == Some(Lost::Before) {
        return Ok(());
    }
    let mut reader = BufReader::new(client.try_clone()?);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    let field = |name: &str| {
        let line = lines.iter().find(|line| line.to_lowercase().starts_with(name));
        line.map(|line| line[name.len()..].trim().to_owned()).unwrap_or_default()
    };
    let mut body = vec![0; field("content-length:").parse().unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let (status, fields, content) =
        bucket.lock().unwrap().answer(&lines[0], &field("content-range:"), &body);
    if lost == Some(Lost::After) {
        return Ok(());
    }
    let fields = fields.replace("HOST", host);
    let length = content.len();
    write!(
        client,
        "HTTP/1.1 {status} X\r\n{fields}Content-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    client.write_all(&content)
}

#[test]
fn parts_without_progress_are_sent_again_from_what_is_stored() {
    let published = Published::new(1000);
    let bytes: Vec<u8> = (0..20_000_000_u32).map(|n| (n >> 3).to_le_bytes()[0]).collect();
    let model = folder_with(&published, "large", &[("a.bin", &bytes)]);
    let run = |odd: Vec<Option<usize>>| {
        let (endpoint, bucket) = odd_bucket(odd);
        let mut command = publish(&published, "home", &model, "odd", "1.0.0");
        let output = command.env("STORAGE_EMULATOR_HOST", &endpoint).output().unwrap();
        let stored = bucket.lock().unwrap().objects.get("odd/v1.0.0/a.bin").cloned();
        (output, stored)
    };
    // No bytes of the first part; some; the same again; fewer.
    let (output, stored) = run(vec![None, Some(300_000), Some(300_000), Some(262_144)]);
    succeeded(&output);
    assert!(stored.unwrap() == bytes);
    // Never any progress.
    let (output, stored) = run(vec![None; 100]);
    let said = error_of(&output);
    assert!(said.contains("0 of 20000000 bytes stored, and no progress"), "{said}");
    assert!(stored.is_none());
}

#[test]
fn a_lost_connection_costs_another_request() {
    let published = Published::new(1000);
    let model = folder_with(&published, "small", &[("a.bin", b"a small file")]);
    for lost in [Lost::Before, Lost::After] {
        let (endpoint, bucket) = odd_bucket(Vec::new());
        // Every other connection: the first attempt of each request.
        bucket.lock().unwrap().lost = [None, Some(lost)].repeat(50);
        let mut command = publish(&published, "home", &model, "lost", "1.0.0");
        succeeded(&command.env("STORAGE_EMULATOR_HOST", &endpoint).output().unwrap());
        let bucket = bucket.lock().unwrap();
        assert!(bucket.lost.len() < 90, "connections were lost");
        assert_eq!(bucket.objects["lost/v1.0.0/a.bin"], b"a small file");
        let claims = bucket.objects.keys().filter(|name| name.ends_with(".publishing"));
        assert_eq!(claims.count(), 0, "the claim is removed");
    }
}

#[test]
fn a_node_is_told_all_parameters_of_the_import() {
    let published = Published::new(1000);
    let model = folder_with(&published, "small", &[("a.bin", b"a")]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let api = format!("http://{}", listener.local_addr().unwrap());
    let asked = thread::spawn(move || {
        let mut line = String::new();
        BufReader::new(listener.accept().unwrap().0).read_line(&mut line).unwrap();
        line
    });
    let _ =
        publish(&published, "home", &model, "node", "1.0.0").args(["--ipfs-api", &api]).output();
    let asked = asked.join().unwrap();
    for parameter in [
        "cid-version=1",
        "hash=sha2-256",
        "chunker=size-262144",
        "raw-leaves=true",
        "trickle=false",
        "max-file-links=174",
        "inline=false",
        "wrap-with-directory=false",
        "preserve-mode=false",
        "preserve-mtime=false",
    ] {
        assert!(asked.contains(parameter), "{parameter} is missing in {asked}");
    }
}

#[test]
fn what_is_no_part_of_a_model_is_left_out_and_said_once() {
    let published = Published::new(1000);
    let model = folder_with(&published, "messy", &[("a.bin", b"a"), ("manifest.json", b"{}")]);
    for folder in [".huggingface", ".ipynb_checkpoints", ".git", "sub", "__pycache__"] {
        fs::create_dir(model.join(folder)).unwrap();
        fs::write(model.join(folder).join("b.bin"), "b").unwrap();
    }
    fs::write(model.join("sub/.gitkeep"), "").unwrap();
    let dry =
        || publish(&published, "home", &model, "messy", "1.0.0").arg("--dry-run").output().unwrap();
    let output = dry();
    let manifest: Value = serde_json::from_str(&succeeded(&output)).unwrap();
    assert_eq!(filenames(&manifest), ["a.bin", "sub/b.bin"]);
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "left out: .git, .huggingface, .ipynb_checkpoints, __pycache__, \
         manifest.json (publish writes its own), sub/.gitkeep\n"
    );

    let pipe = model.join("sub/pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let said = error_of(&dry());
    assert!(said.contains("sub/pipe is a pipe, a socket or a device"), "{said}");
    let alone = publish(&published, "home", &pipe, "pipe", "1.0.0").output().unwrap();
    assert!(error_of(&alone).contains("sub/pipe is a pipe, a socket or a device"));
}

#[test]
fn a_configuration_is_read_as_python_reads_it() {
    let published = Published::new(1000);
    let facts = |config: &[u8]| {
        let model = folder_with(&published, "configured", &[("config.json", config)]);
        let output =
            publish(&published, "home", &model, "c", "1.0.0").arg("--dry-run").output().unwrap();
        let manifest: Value = serde_json::from_str(&succeeded(&output)).unwrap();
        (manifest["architecture"].clone(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (read, said) = facts(b"\xef\xbb\xbf{\"model_type\": \"bert\"}");
    assert_eq!((read, said), (json!({ "type": "bert" }), String::new()));
    let (read, said) = facts(
        br#"{"model_type": "a \"NaN\" b", "num_hidden_layers": 6, "x": [NaN, -Infinity],
             "max_position_embeddings": Infinity}"#,
    );
    assert_eq!((read, said), (json!({ "type": "a \"NaN\" b", "layers": 6 }), String::new()));
    let (read, said) = facts(b"{\"model_type\": ");
    assert_eq!(read, Value::Null);
    assert!(said.starts_with("warning: config.json is not read: "), "{said}");
}

#[test]
fn a_bucket_is_configured_for_browsers_and_caches() {
    let published = Published::new(1000);
    published.gcs.put("README", b"hello");
    published.gcs.put("tiny/v1.0.0/extra.bin", b"extra");
    let configure = || {
        let mut command = published.tool(&published.gcs.endpoint, &["bucket", "configure"]);
        command.args(["--gcs-endpoint", &published.gcs.endpoint]).output().unwrap()
    };
    let said = succeeded(&configure());
    assert!(said.contains("README: public, max-age=86400\n"), "{said}");
    assert!(said.contains("tiny/v1.0.0/extra.bin: public, max-age=31536000, immutable"), "{said}");
    assert!(said.contains("pages of * may read; 2 objects changed"), "{said}");
    assert!(succeeded(&configure()).contains("; 0 objects changed"));
}

#[test]
fn the_rule_for_pages_is_added_to_those_of_the_bucket() {
    // The emulator keeps no rules.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let theirs = json!({ "origin": ["https://theirs.example"], "method": ["PUT"] });
    let rules = Arc::new(Mutex::new(json!([theirs])));
    let (shared, patches) = (Arc::clone(&rules), Arc::new(Mutex::new(0)));
    let counted = Arc::clone(&patches);
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let (line, body) = request(&mut client);
            if line.starts_with("PATCH ") {
                *counted.lock().unwrap() += 1;
                *shared.lock().unwrap() =
                    serde_json::from_str::<Value>(&body).unwrap()["cors"].clone();
            }
            let answer = if line.contains("/o?") {
                json!({ "items": [] })
            } else {
                json!({ "cors": *shared.lock().unwrap() })
            };
            let answer = answer.to_string();
            let length = answer.len();
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            client.write_all((head + &answer).as_bytes()).unwrap();
        }
    });
    let home = tempfile::TempDir::new().unwrap();
    let configure = || {
        let mut command = tool(home.path());
        command.args(["bucket", "configure", "--json", "--origin", "https://app.example"]);
        succeeded(&command.args(["--gcs-endpoint", &endpoint]).output().unwrap())
    };
    configure();
    let said: Value = serde_json::from_str(&configure()).unwrap();
    assert_eq!(*patches.lock().unwrap(), 1, "the second time, nothing is changed");
    let rules = said["cors"].as_array().unwrap();
    assert_eq!(rules[0], theirs);
    assert_eq!(rules[1]["origin"], json!(["https://app.example"]));
    assert_eq!(rules[1]["method"], json!(["GET", "HEAD", "OPTIONS"]));
    let fields = rules[1]["responseHeader"].as_array().unwrap();
    for field in ["Content-Range", "Content-Length", "ETag", "Range", "X-Model-Checksum"] {
        assert!(fields.contains(&json!(field)), "{field}");
    }
}

/// Reads a request: its first line and its body.
fn request(client: &mut TcpStream) -> (String, String) {
    let mut reader = BufReader::new(client);
    let (mut first, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if first.is_empty() {
            first = line;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (first, String::from_utf8(body).unwrap())
}

#[test]
fn the_doctor_says_what_a_browser_would_meet() {
    let published = Published::new(300_000);
    let doctor = |more: &[&str]| {
        let mut command = published.tool(&published.gcs.endpoint, &["doctor", "tiny"]);
        command.args(more).args(["--set", "cdn.retries=0"]).output().unwrap()
    };
    // The emulator exposes no fields of ranges.
    let output = doctor(&[]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success());
    assert!(said.contains("ok       settings: pinned keys\n"), "{said}");
    assert!(said.contains(": manifest and signature\n") && said.contains(": a range\n"), "{said}");
    assert!(
        said.contains("exposed fields: no Content-Range in Access-Control-Expose-Headers; ")
            && said.contains("edge-net-models bucket configure"),
        "{said}"
    );
    let output = doctor(&["--json", "--set", "cdn.endpoint=http://127.0.0.1:9/none"]);
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = said["findings"].as_array().unwrap();
    let lost =
        findings.iter().find(|finding| finding["asked"] == "manifest and signature").unwrap();
    assert!(lost["fault"].as_str().unwrap().contains("127.0.0.1:9"), "{lost}");
}

#[test]
fn a_linked_settings_file_stays_a_link() {
    let published = Published::new(1000);
    fs::write(published.path("mine.yaml"), "version: 1\r\n\r\ncache:\r\n  # maxSize: 1GB\r\n")
        .unwrap();
    let linked = published.path("linked.yaml");
    std::os::unix::fs::symlink("mine.yaml", &linked).unwrap();
    let set = |key: &str, value: &str| {
        let mut command = published.tool(&published.gcs.endpoint, &["config", "set", key, value]);
        succeeded(&command.args(["--config", text(&linked)]).output().unwrap());
    };
    set("cache.maxSize", "2GB");
    assert_eq!(fs::read_link(&linked).unwrap(), Path::new("mine.yaml"));
    assert_eq!(
        fs::read_to_string(published.path("mine.yaml")).unwrap(),
        "version: 1\r\n\r\ncache:\r\n  maxSize: 2GB\r\n  # maxSize: 1GB\r\n"
    );
}
