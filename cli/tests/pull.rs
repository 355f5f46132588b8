//! `pull`, run as a program against a real fake-gcs-server, and its failures.

mod machine;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use machine::{Published, TOOL, Wire, succeeds, text};
use serde_json::Value;

const SEGMENT: u64 = 4 << 20;

/// Returns the error message of a command: one line.
fn error(run: (bool, String, String)) -> String {
    let (success, _, stderr) = run;
    assert!(!success, "it must fail");
    let last = stderr.trim_end().lines().last().unwrap_or_default().to_owned();
    assert!(last.starts_with("error: ") && !stderr.contains("panicked"), "{stderr}");
    last
}

fn ok(run: (bool, String, String)) -> String {
    let (success, stdout, stderr) = run;
    assert!(success, "{stderr}");
    stdout
}

/// Lists the files below a folder, except leaf tables.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            found.extend(files(&entry.path()).into_iter().map(|file| format!("{name}/{file}")));
        } else if !name.ends_with(".leaves") {
            found.push(name);
        }
    }
    found.sort();
    found
}

#[test]
fn a_published_model_is_pulled_once() {
    let published = Published::new(5_000_000);
    let said = ok(published.run(&["pull", "tiny"]));
    assert!(
        said.starts_with("tiny 1.0.0, signed by team\n")
            && said.contains("onnx/model.onnx: 5.00 MB, from gcs"),
        "{said}"
    );
    assert_eq!(fs::read(published.cached("onnx/model.onnx")).unwrap(), published.bytes);
    assert_eq!(
        files(&published.cached("")),
        ["config.json", "empty.txt", "manifest.json", "onnx/model.onnx"]
    );
    assert!(
        ok(published.run(&["pull", "tiny"])).contains("onnx/model.onnx: 5.00 MB, already present")
    );
    assert!(
        ok(published.run(&["verify", "tiny", "--check-signature"]))
            .contains("tiny 1.0.0, signed by team")
    );

    let output = published.path("out");
    ok(published.run(&["pull", "tiny", "--version", "1.0.0", "--output", text(&output), "--json"]));
    assert_eq!(fs::read(output.join("tiny/onnx/model.onnx")).unwrap(), published.bytes);
    assert!(
        ok(published.run(&["verify", text(&output.join("tiny"))])).contains("onnx/model.onnx: ok")
    );
}

#[test]
fn an_altered_file_is_found_and_repaired_leaf_by_leaf() {
    let published = Published::new(9_000_000);
    ok(published.run(&["pull", "tiny"]));
    let file = published.cached("onnx/model.onnx");
    let mut altered = published.bytes.clone();
    altered[5_000_000] ^= 1;
    fs::write(&file, &altered).unwrap();
    let (success, stdout, _) = published.run(&["verify", "tiny"]);
    assert!(!success && stdout.contains("onnx/model.onnx: wrong bytes in leaf 19"), "{stdout}");
    let said: Value =
        serde_json::from_str(&ok(published.run(&["pull", "tiny", "--json"]))).unwrap();
    let model = said["files"]
        .as_array()
        .unwrap()
        .iter()
        .find(|file| file["file"] == "onnx/model.onnx")
        .unwrap();
    assert_eq!(model["received"], 262_144, "only one leaf is fetched");
    assert_eq!(fs::read(&file).unwrap(), published.bytes);
}

#[test]
fn wrong_bytes_give_no_file_and_good_bytes_are_kept() {
    let published = Published::new(9_000_000);
    let mut altered = published.bytes.clone();
    altered[5_000_000] ^= 1;
    published.gcs.put("tiny/v1.0.0/onnx/model.onnx", &altered);
    let said = error(published.run(&["pull", "tiny"]));
    assert!(
        said.contains("no source has a good copy")
            && said.contains("gcs: it sent wrong bytes in leaf 19"),
        "{said}"
    );
    assert!(
        !published.cached("onnx/model.onnx").exists()
            && !published.cached("manifest.json").exists()
    );
    assert!(ok(published.run(&["cache", "info"])).contains("incomplete"));

    let part = fs::read(published.cached("onnx/.model.onnx.part")).unwrap();
    let kept = part
        .chunks(262_144)
        .zip(published.bytes.chunks(262_144))
        .filter(|(kept, good)| kept == good);
    let kept: u64 = kept.map(|(leaf, _)| leaf.len() as u64).sum();
    assert!(kept > 0);
    published.gcs.put("tiny/v1.0.0/onnx/model.onnx", &published.bytes);
    let said: Value =
        serde_json::from_str(&ok(published.run(&["pull", "tiny", "--json"]))).unwrap();
    let received: u64 =
        said["files"].as_array().unwrap().iter().filter_map(|file| file["received"].as_u64()).sum();
    assert_eq!(received, published.bytes.len() as u64 - kept, "good bytes are not fetched again");
    assert_eq!(fs::read(published.cached("onnx/model.onnx")).unwrap(), published.bytes);
}

#[test]
fn after_a_kill_at_most_one_segment_per_lane_is_fetched_again() {
    const SIZE: usize = 96 << 20;
    const LANES: u64 = 4;
    let published = Published::new(SIZE);
    // The whole file takes 4 s.
    let wire = Wire::to(&published.gcs, 24 << 20);
    let seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().subsec_nanos();
    let mut random = u64::from(seed) | 1;
    let mut kills = 0;
    for _ in 0..20 {
        let mut child = published
            .tool(&wire.endpoint, &["pull", "tiny"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        sleep(Duration::from_millis(50 + random % 250));
        child.kill().unwrap();
        kills += u64::from(!child.wait().unwrap().success());
    }
    ok({
        let output = published.tool(&wire.endpoint, &["pull", "tiny"]).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.success(), text(output.stdout), text(output.stderr))
    });
    assert!(
        fs::read(published.cached("onnx/model.onnx")).unwrap() == published.bytes,
        "seed {seed}"
    );
    assert!(kills >= 10, "only {kills} of 20 runs were killed before their end; seed {seed}");
    // Manifests, leaf tables and response heads are some kilobytes for each run.
    let most = SIZE as u64 + kills * (LANES * SEGMENT + 64 * 1024) + 64 * 1024;
    let fetched = wire.down.load(Ordering::SeqCst);
    assert!(
        fetched <= most,
        "{fetched} bytes were fetched, at most {most} are allowed; seed {seed}"
    );
}

#[test]
fn two_processes_fetch_a_model_once() {
    let published = Published::new(16 << 20);
    let wire = Wire::to(&published.gcs, 32 << 20);
    let pull = || {
        published
            .tool(&wire.endpoint, &["pull", "tiny"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let outputs = [pull(), pull()].map(|child| child.wait_with_output().unwrap());
    assert!(outputs.iter().all(|output| output.status.success()));
    let waited = |output: &std::process::Output| {
        String::from_utf8_lossy(&output.stderr).contains("waiting for another process")
    };
    assert!(outputs.iter().any(waited));
    let fetched = wire.down.load(Ordering::SeqCst);
    assert!(fetched < (16 << 20) + 256 * 1024, "{fetched}");
    assert_eq!(fs::read(published.cached("onnx/model.onnx")).unwrap(), published.bytes);
    assert!(!published.cached(".lock").exists());
}

#[test]
fn an_interrupt_is_reported_and_leaves_no_incomplete_file() {
    let published = Published::new(32 << 20);
    let wire = Wire::to(&published.gcs, 8 << 20);
    let child = published
        .tool(&wire.endpoint, &["pull", "tiny"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    sleep(Duration::from_secs(1));
    assert!(
        Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success()
    );
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(
        String::from_utf8_lossy(&output.stderr)
            .contains("error: interrupted; run the same command again to resume")
    );
    assert!(
        !published.cached("onnx/model.onnx").exists()
            && !published.cached("manifest.json").exists()
    );
    ok(published.run(&["pull", "tiny"]));
}

#[test]
fn without_a_network_only_cached_models_work() {
    let published = Published::new(1000);
    let offline = |arguments: &[&str]| {
        let output = published
            .tool("http://127.0.0.1:9", arguments)
            .args(["--set", "cdn.retries=0"])
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.success(), text(output.stdout), text(output.stderr))
    };
    let said = error(offline(&["pull", "tiny"]));
    assert!(
        said.starts_with(
            "error: all sources failed for tiny: http://127.0.0.1:9/edge-net-models: no answer"
        ),
        "{said}"
    );
    ok(published.run(&["pull", "tiny"]));
    let (success, stdout, stderr) = offline(&["pull", "tiny"]);
    assert!(
        success
            && stdout.contains("already present")
            && stderr.contains("cannot look for a newer version"),
        "{stderr}"
    );
    assert!(ok(offline(&["info", "tiny"])).contains("1.0.0 cached in"));
}

#[test]
fn an_unpinned_key_is_refused() {
    let published = Published::new(1000);
    let stranger = succeeds(&[
        "keygen",
        "--key-id",
        "stranger",
        "--out",
        text(&published.path("stranger.pem")),
    ]);
    let said = error(published.run(&["pull", "tiny", "--keys", &stranger]));
    assert!(
        said.contains("is signed by key \"team\", which is not pinned here (pinned: stranger)"),
        "{said}"
    );
    let other = stranger.replace("stranger", "team");
    assert!(
        error(published.run(&["pull", "tiny", "--keys", &other]))
            .contains("carries a public key for \"team\" that is not the pinned one")
    );
    let output = published
        .tool(&published.gcs.endpoint, &["pull", "tiny"])
        .env_remove("EDGE_NET_KEYS")
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("no publisher key is pinned"));
    assert!(files(&published.path("home")).is_empty());
}

#[test]
fn a_rollback_is_refused() {
    let published = Published::new(1000);
    let old = published.gcs.get("tiny/manifest.json").unwrap();
    sleep(Duration::from_millis(5));
    published.publish("1.1.0");
    assert!(ok(published.run(&["pull", "tiny"])).starts_with("tiny 1.1.0"));
    ok(published.run(&["cache", "clear"]));
    published.gcs.put("tiny/manifest.json", &old);
    let said = error(published.run(&["pull", "tiny"]));
    assert!(
        said.contains("version 1.0.0 signed") && said.contains("is older than version 1.1.0"),
        "{said}"
    );
    // A version that is asked for by name may be old.
    assert!(ok(published.run(&["pull", "tiny", "--version", "1.0.0"])).starts_with("tiny 1.0.0"));
}

#[test]
fn the_cache_stays_within_its_size() {
    let published = Published::new(1_000_000);
    ok(published.run(&["pull", "tiny"]));
    published.publish("1.1.0");
    let said = error(published.run(&[
        "pull",
        "tiny",
        "--set",
        "cache.maxSize=1500kB",
        "--set",
        "cache.autoCleanup=false",
    ]));
    assert!(
        said.contains(
            "the cache has no room for 1.00 MB: 1.00 MB of 1.50 MB are used, \
             and cache.autoCleanup is off"
        ),
        "{said}"
    );
    let (success, _, stderr) = published.run(&["pull", "tiny", "--set", "cache.maxSize=1500kB"]);
    assert!(success && stderr.contains("removed tiny 1.0.0 to make room"), "{stderr}");
    assert!(!published.cached("").exists());
    assert!(
        error(published.run(&["pull", "tiny", "--version", "1.0.0", "--set", "cache.maxSize=1kB"]))
            .contains("no room")
    );

    ok(published.run(&["pull", "tiny", "--version", "1.0.0"]));
    assert!(ok(published.run(&["cache", "prune"])).starts_with("removed tiny 1.0.0"));
    assert!(ok(published.run(&["cache", "clear", "--older-than", "30d"])).starts_with("0 B freed"));
    assert!(ok(published.run(&["cache", "clear"])).starts_with("removed tiny 1.1.0"));
    assert!(files(&published.path("home/.edge-net/models")).is_empty());
}

/// Runs a shell script that calls the tool, as a user other than root.
fn somebody(published: &Published, script: &str) -> (bool, String, String) {
    // The build folder may be unreadable for other users.
    fs::copy(TOOL, published.path("tool")).unwrap();
    let everybody = fs::Permissions::from_mode(0o777);
    for folder in ["", "home"] {
        fs::set_permissions(published.path(folder), everybody.clone()).unwrap();
    }
    let mut tool = published.tool(&published.gcs.endpoint, &[]);
    let mut shell = Command::new("sh");
    shell
        .args(["-c", script])
        .env("TOOL", published.path("tool"))
        .current_dir(published.folder.path());
    for (name, value) in tool.env("UNUSED", "").get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    if fs::metadata("/proc/self").map(|own| std::os::unix::fs::MetadataExt::uid(&own)).unwrap() == 0
    {
        shell.uid(65_534).gid(65_534);
    }
    let output = shell.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_error_names_a_read_only_folder() {
    let published = Published::new(1000);
    fs::create_dir(published.path("read-only")).unwrap();
    fs::set_permissions(published.path("read-only"), fs::Permissions::from_mode(0o555)).unwrap();
    let said = error(somebody(&published, "\"$TOOL\" pull tiny --output read-only"));
    assert_eq!(said, "error: read-only/tiny: Permission denied (os error 13)");
    let said = error(somebody(
        &published,
        "\"$TOOL\" config set defaultSource ipfs --config read-only/models.yaml",
    ));
    assert!(said.starts_with("error: read-only: Permission denied"), "{said}");
}

#[test]
fn the_error_names_a_full_disk_and_good_bytes_are_kept() {
    let published = Published::new(9 << 20);
    fs::create_dir(published.path("small")).unwrap();
    // A file system of 6 MiB; where the system does not allow a mount, a limit on the file size.
    let own = "mount -t tmpfs -o size=6m tmpfs small";
    let pull = "\"$TOOL\" pull tiny --output small; status=$?; \
                ls -A small/tiny/onnx; exit $status";
    let script = format!(
        "if unshare --map-root-user --mount sh -c '{own}' 2>/dev/null; then
           exec unshare --map-root-user --mount sh -c '{own} && {pull}'
         fi
         trap '' XFSZ; ulimit -f 6144; {pull}"
    );
    let (success, stdout, stderr) = somebody(&published, &script);
    assert!(!success);
    let named =
        ["No space left on device", "File too large"].iter().any(|why| stderr.contains(why));
    assert!(stderr.contains("small/tiny/onnx/.model.onnx.part: ") && named, "{stderr}");
    assert!(
        stdout.contains(".model.onnx.part\n") && !stdout.contains("\nmodel.onnx\n"),
        "{stdout}"
    );
}
