//! `cid`: prints the digests of a file.

use std::io::stdin;
use std::path::{Path, PathBuf};

use clap::Args;
use edge_net_core::dag::cid::cid_text;
use serde_json::json;

use crate::context::Context;
use crate::digest;
use crate::error::Error;
use crate::files::of_file;

/// `cid`
#[derive(Args)]
pub struct Cid {
    /// The file; - for standard input
    file: PathBuf,
}

impl Cid {
    /// Runs the command.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn run(self, context: &Context) -> Result<(), Error> {
        let found = if self.file == Path::new("-") {
            digest::stream(stdin().lock(), |_| {}).map_err(of_file(&self.file))?
        } else {
            digest::file(&self.file, |_| {})?
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
