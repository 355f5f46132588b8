//! Reads files once for all their digests.

use std::fs::File;
use std::io::{Read, stdin};
use std::path::{Path, PathBuf};

use clap::Args;
use edge_net_core::dag::{FileDigests, FileHasher, cid_text};
use serde_json::json;

use crate::error::{Error, of_file};

/// `cid`
#[derive(Args)]
pub struct Cid {
    /// The file; - is standard input
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Cid {
    /// Prints the digests.
    pub fn run(self) -> Result<(), Error> {
        let found = if self.file == Path::new("-") {
            read(stdin().lock(), |_| {}).map_err(of_file(&self.file))?
        } else {
            file(&self.file, |_| {})?
        };
        let (sha256, cid) = (found.sha256.to_hex(), cid_text(&found.cid));
        if self.json {
            println!("{}", json!({ "size": found.size, "sha256": sha256, "cid": cid }));
        } else {
            println!("size    {}\nsha256  {sha256}\ncid     {cid}", found.size);
        }
        Ok(())
    }
}

/// The digests of a file; `progress` is told how many bytes were read.
pub fn file(path: &Path, progress: impl FnMut(u64)) -> Result<FileDigests, Error> {
    File::open(path).and_then(|file| read(file, progress)).map_err(of_file(path))
}

fn read(mut source: impl Read, mut progress: impl FnMut(u64)) -> std::io::Result<FileDigests> {
    let mut hasher = FileHasher::default();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(read) => {
                hasher.update(&buffer[..read]);
                progress(read as u64);
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
