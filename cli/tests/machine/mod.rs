//! The processes of the tests: the tool, a real fake-gcs-server, and a slow or interrupted
//! connection between them.

#![allow(dead_code)] // Each test program uses a part of it.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Path of the tool.
pub const TOOL: &str = env!("CARGO_BIN_EXE_edge-net-models");

/// A home folder for this test program.
static HOME: LazyLock<TempDir> = LazyLock::new(|| TempDir::new().unwrap());

/// Returns a command that runs the tool without the settings of this machine.
pub fn tool(home: &Path) -> Command {
    let mut command = Command::new(TOOL);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let is_proxy = text.to_ascii_lowercase().ends_with("_proxy");
        if is_proxy
            || ["EDGE_NET_", "XDG_", "GOOGLE_", "STORAGE_", "SSL_CERT_"]
                .iter()
                .any(|ours| text.starts_with(ours))
        {
            command.env_remove(&name);
        }
    }
    command.env("HOME", home).env("EDGE_NET_IPFS_GATEWAYS", " ");
    command
}

fn texts(output: &Output) -> (bool, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

/// Runs the tool. Returns whether it succeeded, its standard output and its standard error.
pub fn run(arguments: &[&str]) -> (bool, String, String) {
    texts(&tool(HOME.path()).args(arguments).output().unwrap())
}

pub fn succeeds(arguments: &[&str]) -> String {
    let (success, stdout, stderr) = run(arguments);
    assert!(success, "{arguments:?}: {stderr}");
    stdout
}

/// Runs a command that must fail, and returns the message: one line, no panic.
pub fn fails(arguments: &[&str]) -> String {
    let (success, _, stderr) = run(arguments);
    assert!(!success, "{arguments:?} must fail");
    assert!(stderr.starts_with("error: ") && stderr.trim_end().lines().count() == 1, "{stderr}");
    stderr
}

/// The output of a command that succeeded.
pub fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The messages of a command that failed.
pub fn error_of(output: &Output) -> String {
    assert!(!output.status.success(), "it must fail");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The names of the files in a manifest.
pub fn filenames(manifest: &Value) -> Vec<&str> {
    let artifacts = manifest["artifacts"].as_object().unwrap();
    artifacts.values().map(|file| file["filename"].as_str().unwrap()).collect()
}

pub fn openssl(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("openssl").args(arguments).output().expect("openssl is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Makes a certificate authority and a certificate for `localhost` that it signed.
pub fn authority(folder: &Path) {
    let at = |name: &str| text(&folder.join(name)).to_owned();
    let new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let name = |name: &'static str| ["-subj", name];
    let (ca, ca_key) = (at("ca.pem"), at("ca.key"));
    let own = ["-x509", "-days", "2", "-keyout", &ca_key, "-out", &ca];
    openssl(&[&new[..], &name("/CN=Test Authority"), &own].concat());
    let (request, key, certificate) = (at("request"), at("server.key"), at("server.pem"));
    openssl(&[&new[..], &name("/CN=localhost"), &["-keyout", &key, "-out", &request]].concat());
    fs::write(at("extensions"), "subjectAltName=DNS:localhost\n").unwrap();
    let extensions = at("extensions");
    let signed = ["x509", "-req", "-in", &request, "-CA", &ca, "-CAkey", &ca_key];
    let out = ["-CAcreateserial", "-days", "2", "-extfile", &extensions, "-out", &certificate];
    openssl(&[&signed[..], &out].concat());
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A fake-gcs-server with the bucket `edge-net-models`, killed when dropped.
pub struct Gcs {
    server: Child,
    pub endpoint: String,
    folder: TempDir,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Starts a server for the buckets in a folder. It answers requests for the host `public_host`.
fn serve(folder: &Path, port: u16, public_host: &str) -> Child {
    serve_by("http", folder, port, public_host, &[])
}

fn serve_by(scheme: &str, folder: &Path, port: u16, public_host: &str, more: &[&str]) -> Child {
    let binary = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/bin/fake-gcs-server");
    assert!(binary.exists(), "{} is missing; run `make setup`", binary.display());
    let server = Command::new(binary)
        .args([
            "-scheme",
            scheme,
            "-host",
            "127.0.0.1",
            "-port",
            &port.to_string(),
            "-backend",
            "filesystem",
        ])
        .args([
            "-filesystem-root",
            text(folder),
            "-public-host",
            public_host,
            "-external-url",
            &format!("{scheme}://{public_host}"),
        ])
        .args(more)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(started.elapsed() < Duration::from_secs(20), "fake-gcs-server does not answer");
        sleep(Duration::from_millis(20));
    }
    server
}

impl Gcs {
    pub fn start() -> Self {
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("edge-net-models")).unwrap();
        let port = free_port();
        let server = serve(folder.path(), port, &format!("127.0.0.1:{port}"));
        Self { server, endpoint: format!("http://127.0.0.1:{port}"), folder }
    }

    /// Starts a second server for the same bucket, by TLS with this certificate and key. Returns it
    /// with its endpoint; end it with [`Child::kill`].
    pub fn with_tls(&self, certificate: &Path, key: &Path) -> (Child, String) {
        let port = free_port();
        let tls = ["-cert-location", text(certificate), "-private-key-location", text(key)];
        let host = format!("localhost:{port}");
        let server = serve_by("https", self.folder.path(), port, &host, &tls);
        (server, format!("https://{host}"))
    }

    pub fn get(&self, object: &str) -> Option<Vec<u8>> {
        let agent: ureq::Agent =
            ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut response =
            agent.get(format!("{}/edge-net-models/{object}", self.endpoint)).call().unwrap();
        (response.status() == 200)
            .then(|| response.body_mut().with_config().limit(u64::MAX).read_to_vec().unwrap())
    }
}

impl Drop for Gcs {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Gcs {
    /// Writes an object.
    pub fn put(&self, object: &str, bytes: &[u8]) {
        let name = object.replace('/', "%2F");
        let url = format!(
            "{}/upload/storage/v1/b/edge-net-models/o?uploadType=media&name={name}",
            self.endpoint
        );
        assert!(ureq::post(url).send(bytes).unwrap().status().is_success());
    }
}

/// A proxy to a bucket that limits the rate and can cut a connection.
pub struct Wire {
    /// A second server: the emulator answers requests for one host only, here that of the proxy.
    server: Child,
    pub endpoint: String,
    /// Bytes received from the server.
    pub down: Arc<AtomicU64>,
    /// Bytes sent to the server.
    pub up: Arc<AtomicU64>,
    /// The most bytes per second that are sent to the server.
    pub up_rate: Arc<AtomicU64>,
    /// Bytes sent to the server until a connection is cut, once.
    pub cut: Arc<AtomicU64>,
}

impl Wire {
    /// Starts a proxy to the bucket of `gcs`. `rate` is in bytes per second, for the responses of
    /// all connections together.
    pub fn to(gcs: &Gcs, rate: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let target = free_port();
        let server = serve(gcs.folder.path(), target, &host);
        let (down, cut) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(u64::MAX)));
        let (up, up_rate) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(u64::MAX)));
        let started = Instant::now();
        let wire = Self {
            server,
            endpoint: format!("http://{host}"),
            down: Arc::clone(&down),
            up: Arc::clone(&up),
            up_rate: Arc::clone(&up_rate),
            cut: Arc::clone(&cut),
        };
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) =
                    (client.unwrap(), TcpStream::connect(("127.0.0.1", target)).unwrap());
                let (to, from) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                let (down, cut) = (Arc::clone(&down), Arc::clone(&cut));
                let (up, up_rate) = (Arc::clone(&up), Arc::clone(&up_rate));
                thread::spawn(move || {
                    pass(from, to, |bytes| {
                        up.fetch_add(bytes, Ordering::SeqCst);
                        let rate = up_rate.load(Ordering::SeqCst);
                        sleep(Duration::from_micros(bytes * 1_000_000 / rate));
                        let left = cut
                            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                                Some(left.saturating_sub(bytes))
                            })
                            .unwrap();
                        let last = left <= bytes;
                        if last {
                            cut.store(u64::MAX, Ordering::SeqCst);
                        }
                        !last
                    });
                });
                thread::spawn(move || {
                    pass(server, client, |bytes| {
                        let all = down.fetch_add(bytes, Ordering::SeqCst) + bytes;
                        let due = Duration::from_millis(all * 1000 / rate);
                        sleep(
                            due.saturating_sub(started.elapsed()).min(Duration::from_millis(200)),
                        );
                        true
                    });
                });
            }
        });
        wire
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Copies bytes until one end is closed or `on` returns false.
fn pass(mut from: TcpStream, mut to: TcpStream, on: impl Fn(u64) -> bool) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read) = from.read(&mut buffer) {
        if read == 0 || !on(read as u64) || to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

/// A model in a bucket, and a home folder to pull it into.
pub struct Published {
    pub gcs: Gcs,
    pub folder: TempDir,
    pub bytes: Vec<u8>,
}

impl Published {
    /// Publishes `tiny` 1.0.0: a `model.onnx` of `size` bytes and two small files.
    pub fn new(size: usize) -> Self {
        let (gcs, folder) = (Gcs::start(), TempDir::new().unwrap());
        fs::create_dir_all(folder.path().join("model/onnx")).unwrap();
        fs::create_dir(folder.path().join("home")).unwrap();
        // All leaves differ.
        let bytes: Vec<u8> = (0..size.div_ceil(8) as u64)
            .flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
            .take(size)
            .collect();
        fs::write(folder.path().join("model/onnx/model.onnx"), &bytes).unwrap();
        fs::write(folder.path().join("model/config.json"), r#"{"model_type":"bert"}"#).unwrap();
        fs::write(folder.path().join("model/empty.txt"), "").unwrap();
        let published = Self { gcs, folder, bytes };
        succeeds(&["keygen", "--key-id", "team", "--out", text(&published.path("team.pem"))]);
        let keys = succeeds(&[
            "public-key",
            "--key",
            text(&published.path("team.pem")),
            "--key-id",
            "team",
        ]);
        fs::write(published.path("keys.json"), keys).unwrap();
        published.publish("1.0.0");
        published
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn publish(&self, version: &str) {
        let (model, key) = (self.path("model"), self.path("team.pem"));
        let signed =
            ["--key", text(&key), "--key-id", "team", "--gcs-endpoint", &self.gcs.endpoint];
        let what =
            ["publish", text(&model), "--id", "tiny", "--version", version, "--type", "embedding"];
        succeeds(&[&what[..], &signed[..]].concat());
    }

    /// Returns a command that runs the tool with the key of the publisher pinned.
    pub fn tool(&self, endpoint: &str, arguments: &[&str]) -> Command {
        let mut command = tool(&self.path("home"));
        command.env("EDGE_NET_CDN_ENDPOINT", format!("{endpoint}/edge-net-models")).args(arguments);
        command.env("EDGE_NET_KEYS", fs::read_to_string(self.path("keys.json")).unwrap());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> (bool, String, String) {
        texts(&self.tool(&self.gcs.endpoint, arguments).output().unwrap())
    }

    /// Returns the path of a file in the cache.
    pub fn cached(&self, name: &str) -> PathBuf {
        self.path("home/.edge-net/models/tiny/v1.0.0").join(name)
    }
}
