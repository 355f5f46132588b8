//! Reads files once for all their digests.

use std::fs::File;
use std::io::{Read, stdin};
use std::path::{Path, PathBuf};

use clap::Args;
use edge_net_core::dag::unixfs::{FileDigests, FileHasher, cid_text};
use serde_json::json;

use crate::Context;
use crate::error::{Error, of_file};

/// `cid`
#[derive(Args)]
pub struct Cid {
    /// The file; - is standard input
    file: PathBuf,
}

impl Cid {
    /// Prints the digests.
    pub fn run(self, context: &Context) -> Result<(), Error> {
        let found = if self.file == Path::new("-") {
            read(stdin().lock(), |_| {}).map_err(of_file(&self.file))?
        } else {
            file(&self.file, |_| {})?
        };
        let (sha256, cid) = (found.sha256.to_hex(), cid_text(&found.cid));
        if context.json {
            out!("{}", json!({ "size": found.size, "sha256": sha256, "cid": cid }));
        } else {
            out!("size    {}\nsha256  {sha256}\ncid     {cid}", found.size);
        }
        Ok(())
    }
}

/// By what a bucket's answer tells what it stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    /// Bytes.
    pub size: u64,
    /// CRC32C of them (RFC 3720, appendix B.4).
    pub crc32c: u32,
}

impl Fingerprint {
    /// Of bytes at hand.
    pub fn of(bytes: &[u8]) -> Self {
        Self { size: bytes.len() as u64, crc32c: crc32c::crc32c(bytes) }
    }
}

/// The digests of a file; `progress` is told how many bytes were read.
pub fn file(path: &Path, progress: impl FnMut(u64)) -> Result<FileDigests, Error> {
    file_and_fingerprint(path, progress).map(|(digests, _)| digests)
}

/// The digests of a file and its fingerprint, of the same bytes.
pub fn file_and_fingerprint(
    path: &Path,
    mut progress: impl FnMut(u64),
) -> Result<(FileDigests, Fingerprint), Error> {
    let mut crc32c = 0;
    let digests = File::open(path).and_then(|file| {
        read(file, |bytes| {
            crc32c = crc32c::crc32c_append(crc32c, bytes);
            progress(bytes.len() as u64);
        })
    });
    let digests = digests.map_err(of_file(path))?;
    let size = digests.size;
    Ok((digests, Fingerprint { size, crc32c }))
}

fn read(mut source: impl Read, mut each: impl FnMut(&[u8])) -> std::io::Result<FileDigests> {
    let mut hasher = FileHasher::default();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(read) => {
                hasher.update(&buffer[..read]);
                each(&buffer[..read]);
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
