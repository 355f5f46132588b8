//! An IPFS node, through kubo's RPC (<https://docs.ipfs.tech/reference/kubo/rpc/#api-v0-add>).

use std::io::Read;

use serde_json::Value;
use ureq::Agent;

use crate::error::Error;
use crate::upload::{self, Framed};

/// Adds and pins a file of `size` bytes, and checks that the node made the DAG of `cid`.
pub fn add(agent: &Agent, api: &str, file: &str, content: impl Read, size: u64, cid: &str) -> Result<(), Error> {
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
    let mut response = upload::post(agent, &url, None, "form-data", Framed::new(head, content, size)?)?;
    let lines = response.body_mut().with_config().limit(1 << 20).read_to_string();
    let lines = lines.map_err(|error| Error::Unreachable { url: url.clone(), error: error.into() })?;
    // One JSON object a line; the last is the file's root.
    let added = lines.lines().rev().find_map(|line| serde_json::from_str::<Value>(line).ok());
    let theirs = added.as_ref().and_then(|added| added["Hash"].as_str()).unwrap_or("missing from its answer");
    if theirs == cid {
        return Ok(());
    }
    Err(Error::OtherCid { url, file: file.into(), theirs: theirs.into(), ours: cid.into() })
}
