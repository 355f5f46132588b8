//! Publication on IPFS: through the RPC of a kubo node
//! (<https://docs.ipfs.tech/reference/kubo/rpc/#api-v0-add>), through pinning services, and as CAR
//! files for services that import those.

use std::fs::{self, File};
use std::io::{Read, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use edge_net_core::dag::blocks::Blocks;
use edge_net_core::dag::car::{Car, Duplicates, Extent, Piece};
use edge_net_core::dag::hasher::FileDigests;
use edge_net_core::dag::verify::LeafTable;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use ureq::Agent;

use crate::files::{FileError, of_file};
use crate::http::{self, Framed, HttpError, of_url};

/// A file cannot be published on IPFS.
#[derive(Debug, thiserror::Error)]
pub enum IpfsError {
    /// A request failed.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A local file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The node built another DAG.
    #[error(
        "{url} computes the CID {theirs} for {file}, expected {ours}; the node must use chunks of \
         262144 bytes, raw leaves and 174 links per node"
    )]
    OtherCid {
        /// URL of the request to the node.
        url: String,
        /// Name of the file.
        file: String,
        /// The CID that the node computed.
        theirs: String,
        /// The CID in the manifest.
        ours: String,
    },
    /// The pinning service failed to pin.
    #[error("{url} failed to pin {cid}: {problem}")]
    NotPinned {
        /// URL of the service.
        url: String,
        /// The CID to pin.
        cid: String,
        /// The explanation of the service.
        problem: String,
    },
    /// The file's leaf digests are not those of its CID.
    #[error("{path}: {problem}")]
    BadDigests {
        /// The file.
        path: PathBuf,
        /// The fault.
        problem: String,
    },
}

/// All parameters that the CID depends on. A node may have other defaults: an import profile in its
/// configuration (IPIP-499) changes them.
const PROFILE: &str = "cid-version=1&hash=sha2-256&chunker=size-262144&raw-leaves=true\
                       &max-file-links=174&trickle=false&inline=false&wrap-with-directory=false\
                       &preserve-mode=false&preserve-mtime=false&only-hash=false&nocopy=false";

/// Adds and pins a file of `size` bytes on a node, and compares the CID.
///
/// # Errors
/// [`IpfsError::OtherCid`] when the node computed another CID than `cid`; [`IpfsError::Http`].
pub fn add(
    agent: &Agent,
    api: &str,
    file: &str,
    content: impl Read,
    size: u64,
    cid: &str,
) -> Result<(), IpfsError> {
    let url = format!("{}/api/v0/add?{PROFILE}&pin=true&progress=false", api.trim_end_matches('/'));
    let name = file.replace('/', "-");
    let head = |boundary: &str| {
        format!(
            "--{boundary}\r\n\
             Content-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        )
    };
    let response = http::post(agent, &url, None, "form-data", Framed::new(head, content, size)?)?;
    let lines = http::text(&url, response, 1 << 20)?;
    // One JSON object per line; the last one describes the root of the file.
    let added = lines.lines().rev().find_map(|line| serde_json::from_str::<Value>(line).ok());
    let theirs = added.as_ref().and_then(|added| added["Hash"].as_str()).unwrap_or("missing");
    if theirs == cid {
        return Ok(());
    }
    Err(IpfsError::OtherCid { url, file: file.into(), theirs: theirs.into(), ours: cid.into() })
}

/// The number of times that the status of a pin is asked for.
const POLLS: u32 = 20;

/// Asks a pinning service (<https://ipfs.github.io/pinning-services-api-spec/>) to pin a CID.
/// Returns the last status: `pinned`, or `queued` or `pinning` if the service still fetches the
/// blocks after about a minute.
///
/// # Errors
/// [`IpfsError::NotPinned`] when the service reports a failure; [`IpfsError::Http`].
pub fn pin(
    agent: &Agent,
    service: &str,
    token: Option<&str>,
    name: &str,
    cid: &str,
) -> Result<String, IpfsError> {
    let base = format!("{}/pins", service.trim_end_matches('/'));
    let authorization = token.map(|token| format!("Bearer {token}"));
    let read = |url: &str,
                response: Result<ureq::http::Response<ureq::Body>, ureq::Error>|
     -> Result<Value, HttpError> {
        let response = http::accepted(url, response.map_err(of_url(url))?)?;
        let text = http::text(url, response, 1 << 20)?;
        serde_json::from_str(&text).map_err(|error| HttpError::BadResponse {
            url: url.to_owned(),
            problem: format!("not JSON: {error}"),
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
    for _ in 0..POLLS {
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
                    format!("unexpected status: {pin}")
                };
                return Err(IpfsError::NotPinned { url: base, cid: cid.to_owned(), problem });
            }
        }
    }
    Ok(pin["status"].as_str().unwrap_or("queued").to_owned())
}

/// Writes the DAG of a file as a CARv1 with each block once.
///
/// # Errors
/// [`IpfsError::File`], and [`IpfsError::BadDigests`] when the digests do not match their CID.
pub fn write_car(file: &Path, digests: &FileDigests, to: &Path) -> Result<(), IpfsError> {
    let parent = to.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(of_file(parent))?;
    let source = File::open(file).map_err(of_file(file))?;
    let table = LeafTable::from_digests(digests.leaves.clone(), digests.size, &digests.cid);
    let table = table.map_err(|error| IpfsError::BadDigests {
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
