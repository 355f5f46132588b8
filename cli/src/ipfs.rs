//! What makes files available on IPFS: a node, through kubo's RPC (<https://docs.ipfs.tech/reference/kubo/rpc/#api-v0-add>), services
//! that pin, and archives for services that take those.

use std::fs::{self, File};
use std::io::{Read, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use edge_net_core::dag::blocks::Blocks;
use edge_net_core::dag::car::{Car, Duplicates, Extent, Piece};
use edge_net_core::dag::unixfs::FileDigests;
use edge_net_core::dag::verify::LeafTable;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use ureq::Agent;

use crate::error::{Error, of_file};
use crate::http::{self, Framed};

/// Adds and pins a file of `size` bytes, and checks that the node made the DAG of `cid`.
pub fn add(
    agent: &Agent,
    api: &str,
    file: &str,
    content: impl Read,
    size: u64,
    cid: &str,
) -> Result<(), Error> {
    let url = format!(
        "{}/api/v0/add?cid-version=1&raw-leaves=true&chunker=size-262144&pin=true&progress=false",
        api.trim_end_matches('/')
    );
    let name = file.replace('/', "-");
    let head = |boundary: &str| {
        format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\nContent-Type: application/octet-stream\r\n\r\n"
        )
    };
    let mut response =
        http::post(agent, &url, None, "form-data", Framed::new(head, content, size)?)?;
    let lines = response.body_mut().with_config().limit(1 << 20).read_to_string();
    let lines =
        lines.map_err(|error| Error::Unreachable { url: url.clone(), error: error.into() })?;
    // One JSON object a line; the last is the file's root.
    let added = lines.lines().rev().find_map(|line| serde_json::from_str::<Value>(line).ok());
    let theirs = added
        .as_ref()
        .and_then(|added| added["Hash"].as_str())
        .unwrap_or("missing from its answer");
    if theirs == cid {
        return Ok(());
    }
    Err(Error::OtherCid { url, file: file.into(), theirs: theirs.into(), ours: cid.into() })
}

/// How often a pinning service is asked how far it is, before it is left to itself.
const ASKED: u32 = 20;

/// Has a pinning service (<https://ipfs.github.io/pinning-services-api-spec/>) pin a CID. Returns its last word: `pinned`, or
/// `queued` or `pinning` where it has to fetch a lot yet.
pub fn pin(
    agent: &Agent,
    service: &str,
    token: Option<&str>,
    name: &str,
    cid: &str,
) -> Result<String, Error> {
    let base = format!("{}/pins", service.trim_end_matches('/'));
    let authorization = token.map(|token| format!("Bearer {token}"));
    let read = |url: &str,
                answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>|
     -> Result<Value, Error> {
        let answer = answer
            .map_err(|error| Error::Unreachable { url: url.to_owned(), error: error.into() })?;
        let text =
            http::accepted(url, answer)?.body_mut().with_config().limit(1 << 20).read_to_string();
        let text =
            text.map_err(|error| Error::Unreachable { url: url.to_owned(), error: error.into() })?;
        serde_json::from_str(&text).map_err(|error| Error::BadAnswer {
            url: url.to_owned(),
            problem: format!("no JSON: {error}"),
        })
    };
    let get = |url: &str| {
        let mut request = agent.get(url);
        if let Some(authorization) = &authorization {
            request = request.header("Authorization", authorization);
        }
        read(url, request.call())
    };
    let known = get(&format!("{base}?cid={cid}&status=queued,pinning,pinned"))?;
    let mut pin = known["results"][0].clone();
    if pin.is_null() {
        let mut request = agent.post(&base).content_type("application/json");
        if let Some(authorization) = &authorization {
            request = request.header("Authorization", authorization);
        }
        pin = read(&base, request.send(json!({ "cid": cid, "name": name }).to_string()))?;
    }
    let mut pause = Duration::from_millis(100);
    for _ in 0..ASKED {
        let status = pin["status"].as_str().unwrap_or_default().to_owned();
        match (&*status, pin["requestid"].as_str()) {
            ("pinned", _) => return Ok(status),
            ("queued" | "pinning", Some(id)) => {
                sleep(pause);
                pause = (pause * 2).min(Duration::from_secs(3));
                pin = get(&format!("{base}/{}", utf8_percent_encode(id, NON_ALPHANUMERIC)))?;
            }
            _ => {
                let problem = if status == "failed" {
                    pin["info"].to_string()
                } else {
                    format!("it answers {pin}")
                };
                return Err(Error::NotPinned { url: base, cid: cid.to_owned(), problem });
            }
        }
    }
    Ok(pin["status"].as_str().unwrap_or("queued").to_owned())
}

/// Writes the DAG of a file as a CARv1, for services that take those: all its blocks, each once.
pub fn write_car(file: &Path, digests: &FileDigests, to: &Path) -> Result<(), Error> {
    let parent = to.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(of_file(parent))?;
    let source = File::open(file).map_err(of_file(file))?;
    let table = LeafTable::from_digests(digests.leaves.clone(), digests.size, &digests.cid);
    let table = table.map_err(|error| Error::BadDescription {
        path: file.to_owned(),
        problem: error.to_string(),
    })?;
    let blocks = Arc::new(Blocks::over(Arc::new(table)));
    let car =
        Arc::new(Car::new(Arc::clone(&blocks), blocks.root(), &Extent::All, Duplicates::Once));
    let mut out = NamedTempFile::new_in(parent).map_err(of_file(parent))?;
    let mut buffer = Vec::new();
    for stretch in car.stretches() {
        for piece in stretch.pieces() {
            match piece {
                Piece::Here(bytes) => out.write_all(bytes),
                Piece::Leaf(bytes) => {
                    buffer
                        .resize(usize::try_from(bytes.end - bytes.start).unwrap_or(usize::MAX), 0);
                    source.read_exact_at(&mut buffer, bytes.start).map_err(of_file(file))?;
                    out.write_all(&buffer)
                }
            }
            .map_err(of_file(to))?;
        }
    }
    out.persist(to).map_err(|error| of_file(to)(error.error))?;
    Ok(())
}
