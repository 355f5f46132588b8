//! `pull`, run as a program against a real fake-gcs-server, and its failures.

mod machine;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
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
    // A copy that this process wrote would be busy while another test starts a process.
    let copied = Command::new("cp").args([TOOL, text(&published.path("tool"))]).status().unwrap();
    assert!(copied.success());
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

/// A model whose two versions differ in all files but one, and the folder that it is pulled into.
struct Replaced {
    published: Published,
    folder: PathBuf,
    /// The files of each version.
    versions: [BTreeMap<String, Vec<u8>>; 2],
}

const VERSIONS: [&str; 2] = ["1.0.0", "1.1.0"];

impl Replaced {
    /// Publishes both versions. `onnx/model.onnx` has `size` bytes.
    fn new(size: usize) -> Self {
        let published = Published::new(size);
        let model = published.path("model");
        let first = contents(&model);
        let mut other = published.bytes.clone();
        // The first leaf stays.
        other.iter_mut().skip(262_144).for_each(|byte| *byte ^= 0xff);
        fs::write(model.join("onnx/model.onnx"), other).unwrap();
        fs::write(model.join("config.json"), r#"{"model_type":"roberta"}"#).unwrap();
        fs::write(model.join("more.json"), "{}").unwrap();
        published.publish("1.1.0");
        let versions = [first, contents(&model)];
        Self { folder: published.path("out/tiny"), published, versions }
    }

    fn pull(&self, endpoint: &str, version: usize) -> Command {
        let output = self.published.path("out");
        let what = ["pull", "tiny", "--version", VERSIONS[version], "--output", text(&output)];
        self.published.tool(endpoint, &what)
    }

    fn pulled(&self, version: usize) {
        let output = self.pull(&self.published.gcs.endpoint, version).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(self.whole(), Some(version));
    }

    /// Returns the version that the folder holds whole.
    fn whole(&self) -> Option<usize> {
        let manifest: Value =
            serde_json::from_slice(&fs::read(self.folder.join("manifest.json")).ok()?).unwrap();
        let found = contents(&self.folder);
        let is_it = |at: &usize| {
            manifest["version"] == VERSIONS[*at]
                && self.versions[*at].iter().all(|(file, bytes)| found.get(file) == Some(bytes))
        };
        (0..2).find(is_it)
    }
}

/// Reads all files below a folder.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    files(folder)
        .into_iter()
        .map(|file| (file.clone(), fs::read(folder.join(&file)).unwrap_or_default()))
        .collect()
}

#[test]
fn at_each_of_200_kills_the_folder_holds_a_whole_version() {
    let model = Replaced::new(700_000);
    model.pulled(0);
    // An open file is what a mapping reads.
    let old = File::open(model.folder.join("onnx/model.onnx")).unwrap();
    let elsewhere = model.published.path("somebody-else's");
    fs::write(&elsewhere, "theirs").unwrap();
    fs::remove_file(model.folder.join("config.json")).unwrap();
    fs::write(&elsewhere, &model.versions[0]["config.json"]).unwrap();
    symlink(&elsewhere, model.folder.join("config.json")).unwrap();
    fs::write(model.folder.join("notes.txt"), "mine").unwrap();
    fs::set_permissions(&model.folder, fs::Permissions::from_mode(0o750)).unwrap();

    // A file takes a fifth of a second: about as long as the rest.
    let wire = Wire::to(&model.published.gcs, 3_500_000);
    let seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().subsec_nanos();
    let mut random = u64::from(seed) | 1;
    let (mut live, mut killed, mut switched) = (0, 0, 0);
    for round in 0..200 {
        let mut child = model.pull(&wire.endpoint, 1 - live).stdout(Stdio::null()).spawn().unwrap();
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        sleep(Duration::from_millis((random >> 33) % 150));
        child.kill().unwrap();
        killed += u32::from(!child.wait().unwrap().success());
        let whole = model.whole();
        assert!(whole.is_some(), "round {round}, seed {seed}: {:?}", files(&model.folder));
        switched += u32::from(whole != Some(live));
        live = whole.unwrap();
    }
    assert!(killed > 100, "only {killed} runs were killed before their end, {switched} switched");
    model.pulled(1 - live);
    model.pulled(live);
    let mut bytes = Vec::new();
    (&old).read_to_end(&mut bytes).unwrap();
    assert!(bytes == model.published.bytes, "the old file changed under its reader");
    assert_eq!(fs::read(&elsewhere).unwrap(), model.versions[0]["config.json"]);
    assert_eq!(fs::read_to_string(model.folder.join("notes.txt")).unwrap(), "mine");
    assert_eq!(fs::metadata(&model.folder).unwrap().permissions().mode() & 0o777, 0o750);
    assert_eq!(files(&model.published.path("out")), files_of("tiny", &files(&model.folder)));
}

/// Puts the name of a folder before names.
fn files_of(folder: &str, names: &[String]) -> Vec<String> {
    names.iter().map(|name| format!("{folder}/{name}")).collect()
}

#[test]
fn a_version_that_cannot_be_had_leaves_the_old_one() {
    let model = Replaced::new(9_000_000);
    model.pulled(0);
    let mut wrong = model.versions[1]["onnx/model.onnx"].clone();
    wrong[5_000_000] ^= 1;
    model.published.gcs.put("tiny/v1.1.0/onnx/model.onnx", &wrong);
    let output = model.pull(&model.published.gcs.endpoint, 1).output().unwrap();
    assert!(!output.status.success());
    assert_eq!(model.whole(), Some(0));
    // What came is kept, and the first leaf is copied from the old version.
    model.published.gcs.put("tiny/v1.1.0/onnx/model.onnx", &model.versions[1]["onnx/model.onnx"]);
    let output = model.pull(&model.published.gcs.endpoint, 1).arg("--json").output().unwrap();
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let files = said["files"].as_array().unwrap();
    let received = files.iter().find(|file| file["file"] == "onnx/model.onnx").unwrap();
    assert!(received["received"].as_u64().unwrap() <= 9_000_000 - 262_144, "{received}");
    assert_eq!(model.whole(), Some(1));
}

#[test]
fn links_in_the_folder_are_replaced_and_not_followed() {
    let model = Replaced::new(300_000);
    model.pulled(0);
    let (folder, theirs) = (&model.folder, model.published.path("theirs"));
    fs::rename(folder.join("onnx"), &theirs).unwrap();
    symlink(&theirs, folder.join("onnx")).unwrap();
    let before = contents(&theirs);
    model.pulled(1);
    assert!(contents(&theirs) == before);
    assert!(!fs::symlink_metadata(folder.join("onnx")).unwrap().is_symlink());

    // The model's folder itself.
    let theirs = model.published.path("their-tiny");
    fs::rename(folder, &theirs).unwrap();
    symlink(&theirs, folder).unwrap();
    let before = contents(&theirs);
    model.pulled(0);
    assert!(contents(&theirs) == before);

    // The unfinished file, and a damaged one.
    fs::write(model.published.path("theirs.part"), "theirs").unwrap();
    symlink(model.published.path("theirs.part"), folder.join("onnx/.model.onnx.part")).unwrap();
    fs::rename(folder.join("onnx/model.onnx"), model.published.path("damaged")).unwrap();
    fs::write(model.published.path("damaged"), "damaged").unwrap();
    symlink(model.published.path("damaged"), folder.join("onnx/model.onnx")).unwrap();
    model.pulled(0);
    assert_eq!(fs::read_to_string(model.published.path("theirs.part")).unwrap(), "theirs");
    assert_eq!(fs::read_to_string(model.published.path("damaged")).unwrap(), "damaged");
}

#[test]
fn a_folder_that_cannot_be_exchanged_gets_its_files_one_by_one() {
    let model = Replaced::new(300_000);
    model.pulled(0);
    fs::write(model.folder.join("stale.txt"), "mine").unwrap();
    let output = model.published.path("out");
    let owner = fs::Permissions::from_mode(0o777);
    let inner = |name: &str| model.folder.join(name);
    for folder in [inner(""), inner("onnx"), model.published.path("home")] {
        fs::set_permissions(folder, owner.clone()).unwrap();
    }
    for file in files(&model.folder) {
        fs::set_permissions(inner(&file), fs::Permissions::from_mode(0o666)).unwrap();
    }
    let pull = "chmod 555 out 2>/dev/null; \"$TOOL\" pull tiny --output out --version 1.1.0";
    fs::set_permissions(&output, fs::Permissions::from_mode(0o555)).unwrap();
    ok(somebody(&model.published, pull));
    assert_eq!(model.whole(), Some(1));
    let hidden = |name: &String| name.starts_with('.');
    assert!(!files(&model.folder).iter().any(hidden), "{:?}", files(&model.folder));
    assert_eq!(fs::read_to_string(inner("stale.txt")).unwrap(), "mine");
}

#[test]
fn a_complete_model_needs_no_writing() {
    let published = Published::new(1000);
    ok(published.run(&["pull", "tiny"]));
    let seal = |folder: &Path, mode: u32| {
        fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
    };
    // Another user's lock, left over.
    fs::write(published.cached(".lock"), "").unwrap();
    seal(&published.cached(".lock"), 0o644);
    for folder in ["onnx", ""] {
        seal(&published.cached(folder), 0o555);
    }
    seal(&published.path("home/.edge-net/accepted"), 0o555);
    let said = ok(somebody(&published, "\"$TOOL\" pull tiny && \"$TOOL\" verify tiny"));
    assert!(said.contains("onnx/model.onnx: 1.00 kB, already present"), "{said}");
    // No home folder at all.
    let said = ok(somebody(
        &published,
        "MODELS=$PWD/home/.edge-net/models; HOME=/nonexistent \
         \"$TOOL\" pull tiny --set cache.directory=\"$MODELS\"",
    ));
    assert!(said.contains("already present"), "{said}");

    // What has to be written is said, and the advice works.
    published.publish("1.1.0");
    let said = error(somebody(&published, "\"$TOOL\" pull tiny"));
    assert!(said.contains("set XDG_STATE_HOME to a folder that you can write"), "{said}");
    seal(&published.path("home/.edge-net/models/tiny"), 0o555);
    let said = error(somebody(&published, "XDG_STATE_HOME=$PWD/state \"$TOOL\" pull tiny"));
    assert!(
        said.contains("v1.1.0: Permission denied") && said.contains("--output FOLDER"),
        "{said}"
    );
    ok(somebody(&published, "XDG_STATE_HOME=$PWD/state \"$TOOL\" pull tiny --output mine"));
    ok(somebody(&published, "\"$TOOL\" pull tiny --output mine2 --version 1.0.0"));
}
