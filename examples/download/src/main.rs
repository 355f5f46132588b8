//! Downloads one file of a model from an edge and verifies every byte of it.

use std::error::Error;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::ops::Range;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use edge_net_core::dag::verify::{Hashed, LeafTable};
use edge_net_core::time::Instant;
use edge_net_core::transfer::download::{
    Action, Config, Download, Event, FetchId, ReaderId, Report,
};
use edge_net_core::transfer::source::{Failure, Source, SourceKind, check_head, range_field};
use edge_net_core::trust::manifest::{Artifact, MAX_MANIFEST_BYTES};
use edge_net_core::trust::signature::{PinnedKeys, VerifiedManifest};
use ureq::Agent;
use ureq::http::Response;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How long the edge may send nothing.
const PATIENCE: Duration = Duration::from_secs(20);
/// The only reader of the download.
const READER: ReaderId = ReaderId(0);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [edge, model, file, key, output] = arguments.as_slice() else {
        eprintln!("usage: download <edge> <model> <file> <key-id>=<base64 key> <output>");
        return ExitCode::from(2);
    };
    match run(edge, model, file, key, Path::new(output)) {
        Ok(bytes) => {
            println!("{output}: {bytes} bytes, verified");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Downloads `file` of `model` to `output` and returns its size in bytes.
fn run(edge: &str, model: &str, file: &str, key: &str, output: &Path) -> Result<u64> {
    let (id, key) = key.split_once('=').ok_or("the key must be given as <key-id>=<base64 key>")?;
    let keys = PinnedKeys::default().pin(id.to_owned(), key)?;
    let edge = Source::new(SourceKind::Edge, &format!("{}/models", edge.trim_end_matches('/')));
    let agent = Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(PATIENCE))
        .timeout_recv_response(Some(PATIENCE))
        .timeout_per_read(Some(PATIENCE))
        .build()
        .new_agent();

    // 1. The manifest: trusted because the pinned key signed it.
    let url = edge.manifest_url(model, None).ok_or("the edge has no manifests")?;
    let text = String::from_utf8(get(&agent, &url, MAX_MANIFEST_BYTES)?)?;
    let manifest = VerifiedManifest::verify(&text, &keys)?
        .about(model, None)?
        .not_expired(SystemTime::now().into())?;
    let artifact = manifest
        .artifact(file)
        .ok_or_else(|| format!("{model} {} has no file {file}", manifest.version))?;

    // 2. The leaf table: trusted because its root is the CID in the manifest.
    let table = if let Some(table) = LeafTable::of_single_leaf(artifact.size, &artifact.cid) {
        table
    } else {
        let url = edge.leaf_table_url(&manifest, artifact).ok_or("the edge has no leaf tables")?;
        let bytes = get(&agent, &url, artifact.layout().leaves() * 32)?;
        LeafTable::verify(&bytes, artifact.size, &artifact.cid)?
    };

    // 3. The bytes: trusted because the digest of each leaf is in the table.
    let mut part = output.as_os_str().to_owned();
    part.push(".part");
    let part = Path::new(&part);
    let downloaded = File::create(part).map_err(Into::into).and_then(|mut file| {
        let url = edge.artifact_url(&manifest, artifact);
        download(&agent, &url, artifact, table, &mut file)?;
        file.sync_all()?;
        Ok(fs::rename(part, output)?)
    });
    if downloaded.is_err() {
        // Best effort: the error of the download is the one to report.
        let _ = fs::remove_file(part);
    }
    downloaded.map(|()| artifact.size)
}

/// Obeys the download machine until `file` has every byte of the artifact.
fn download(
    agent: &Agent,
    url: &str,
    artifact: &Artifact,
    table: LeafTable,
    file: &mut File,
) -> Result<()> {
    let start = std::time::Instant::now();
    let now = || Instant::since_epoch(start.elapsed());
    // One request at a time, made in this thread. A driver with threads has more lanes.
    let config = Config { lanes: 1, store: false, stall: PATIENCE, ..Config::default() };
    let mut machine = Download::<Arc<[u8]>>::new(table, vec!["edge".to_owned()], config)?;
    machine.handle(now(), Event::Opened { reader: READER, bytes: 0..artifact.size });
    machine.handle(now(), Event::Pulled(READER));
    loop {
        while let Some(action) = machine.poll() {
            match action {
                Action::Fetch { fetch, bytes, .. } => {
                    machine.handle(now(), fetched(agent, url, fetch, &bytes, artifact.size));
                }
                Action::Emit { bytes, .. } => {
                    file.write_all(&bytes)?;
                    machine.handle(now(), Event::Pulled(READER));
                }
                Action::Close(_) => return Ok(()),
                Action::Fail { error, .. } => return Err(error.into()),
                Action::Report(Report::Refused { segment, failure, .. }) => {
                    eprintln!("segment {segment}: the edge {failure}");
                }
                // A request ends before the machine can want it aborted.
                Action::Abort(_) | Action::Report(_) => {}
                Action::Load(_) | Action::Forget(_) | Action::Store { .. } => {
                    unreachable!("there is no store")
                }
            }
        }
        // The source failed and rests; the machine says for how long.
        let at = machine.next_timeout().ok_or("the download waits for nothing")?;
        thread::sleep(at.duration_since(now()));
        machine.handle(now(), Event::Tick);
    }
}

/// Fetches `bytes` of the artifact and says what came of it.
fn fetched(
    agent: &Agent,
    url: &str,
    fetch: FetchId,
    bytes: &Range<u64>,
    size: u64,
) -> Event<Arc<[u8]>> {
    let mut rest = None;
    match request(agent, url, bytes, size, &mut rest) {
        Ok(body) => {
            Event::Fetched { fetch, hashed: Hashed::here(body.into()), origin: "edge".to_owned() }
        }
        Err(failure) => Event::Failed { fetch, failure, rest },
    }
}

/// Requests a range; `rest` becomes the time for which the edge asks to be left alone.
fn request(
    agent: &Agent,
    url: &str,
    bytes: &Range<u64>,
    size: u64,
    rest: &mut Option<Duration>,
) -> std::result::Result<Vec<u8>, Failure> {
    let mut request = agent.get(url);
    if let Some(range) = range_field(bytes, size) {
        request = request.header("Range", range);
    }
    let response = request.call().map_err(|error| Failure::Unreachable(error.to_string()))?;
    *rest =
        field(&response, "Retry-After").and_then(|wait| wait.parse().ok()).map(Duration::from_secs);
    check_head(response.status().as_u16(), field(&response, "Content-Range"), bytes, size)?;
    let want = bytes.end - bytes.start;
    let mut body = Vec::new();
    let mut reader = response.into_body().into_reader().take(want + 1);
    reader.read_to_end(&mut body).map_err(|error| Failure::Unreachable(error.to_string()))?;
    match body.len() as u64 {
        got if got == want => Ok(body),
        got => Err(Failure::WrongLength { got, want }),
    }
}

fn field<'a, B>(response: &'a Response<B>, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

/// The body at `url`, of at most `limit` bytes.
fn get(agent: &Agent, url: &str, limit: u64) -> Result<Vec<u8>> {
    let response = agent.get(url).call().map_err(|error| format!("{url}: {error}"))?;
    if response.status() != 200 {
        return Err(format!("{url}: status {}", response.status().as_u16()).into());
    }
    let body = response.into_body().into_with_config().limit(limit).read_to_vec();
    Ok(body.map_err(|error| format!("{url}: {error}"))?)
}
