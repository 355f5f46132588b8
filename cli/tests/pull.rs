//! `pull` as a person runs it, and what can go wrong with it, against a real fake-gcs-server.

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

/// The error that a command ends with: one line.
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

/// What lies in a folder and below, but for leaf tables.
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
fn what_was_published_is_pulled_and_pulled_again_it_was_there() {
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
    assert!(ok(published.run(&["pull", "tiny"])).contains("onnx/model.onnx: 5.00 MB, was there"));
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
fn a_file_that_was_altered_is_found_and_mended_leaf_by_leaf() {
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
    assert_eq!(model["received"], 262_144, "only the leaf");
    assert_eq!(fs::read(&file).unwrap(), published.bytes);
}

#[test]
fn a_source_with_wrong_bytes_gives_no_file_and_the_rest_is_kept_for_the_next_time() {
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
    assert!(ok(published.run(&["cache", "info"])).contains("not finished"));

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
    assert_eq!(received, published.bytes.len() as u64 - kept, "what was good is not fetched again");
    assert_eq!(fs::read(published.cached("onnx/model.onnx")).unwrap(), published.bytes);
}

#[test]
fn killed_at_random_it_goes_on_and_fetches_a_segment_a_lane_again_at_the_most() {
    const SIZE: usize = 96 << 20;
    const LANES: u64 = 4;
    let published = Published::new(SIZE);
    // All of it takes 4 s.
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
    assert!(kills >= 10, "only {kills} of 20 were killed under way; seed {seed}");
    // Manifests, tables and heads of answers are some kilobytes a time.
    let most = SIZE as u64 + kills * (LANES * SEGMENT + 64 * 1024) + 64 * 1024;
    let fetched = wire.down.load(Ordering::SeqCst);
    assert!(fetched <= most, "{fetched} bytes came, {most} may; seed {seed}");
}

#[test]
fn two_at_once_fetch_it_once() {
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
fn interrupted_it_says_so_and_leaves_nothing_half_written() {
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
            .contains("error: interrupted; what is done stays done")
    );
    assert!(
        !published.cached("onnx/model.onnx").exists()
            && !published.cached("manifest.json").exists()
    );
    ok(published.run(&["pull", "tiny"]));
}

#[test]
fn without_a_network_it_fails_unless_the_model_is_here() {
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
            "error: nobody could be asked for tiny: http://127.0.0.1:9/edge-net-models: no answer"
        ),
        "{said}"
    );
    ok(published.run(&["pull", "tiny"]));
    let (success, stdout, stderr) = offline(&["pull", "tiny"]);
    assert!(
        success
            && stdout.contains("was there")
            && stderr.contains("nobody could be asked for a newer version"),
        "{stderr}"
    );
    assert!(ok(offline(&["info", "tiny"])).contains("1.0.0 is here"));
}

#[test]
fn who_is_not_trusted_is_refused() {
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
    assert!(String::from_utf8_lossy(&output.stderr).contains("no publisher's key is pinned"));
    assert!(files(&published.path("home")).is_empty());
}

#[test]
fn nobody_goes_back_behind_what_was_accepted() {
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
    // Who names it means it.
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
            "no room for 1.00 MB more: 1.00 MB of 1.50 MB are used, and cache.autoCleanup is off"
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

/// Runs a command of the shell that begins the tool as a part of it, as somebody who is not root.
fn somebody(published: &Published, script: &str) -> (bool, String, String) {
    // The tool may lie where only its builder looks.
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
fn a_folder_that_may_not_be_written_to_is_named() {
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
fn a_full_disk_is_named_and_what_fits_is_kept() {
    let published = Published::new(9 << 20);
    fs::create_dir(published.path("small")).unwrap();
    // A file system of 6 MiB of our own; where the system does not let us have one, a limit on the size of files.
    let own = "mount -t tmpfs -o size=6m tmpfs small";
    let script = format!(
        "if unshare --map-root-user --mount sh -c '{own}' 2>/dev/null; then
           exec unshare --map-root-user --mount sh -c '{own} && \"$TOOL\" pull tiny --output small; status=$?; ls -A small/tiny/onnx; exit $status'
         fi
         trap '' XFSZ; ulimit -f 6144; \"$TOOL\" pull tiny --output small; status=$?; ls -A small/tiny/onnx; exit $status"
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
