//! What can go wrong, with the facts a person needs to mend it.

use std::path::{Path, PathBuf};

use edge_net_core::manifest::ManifestError;
use edge_net_core::signature::{PinnedKeysError, Refusal};

/// A failure of a command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder could not be used.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// A key file that exists is not written over.
    #[error("{0} exists; give another --out, or --force to lose the key that is in it")]
    KeyExists(PathBuf),
    /// Not a private key.
    #[error("{path} holds no Ed25519 private key in PKCS#8 PEM: {problem}")]
    BadKey {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The system has no randomness to give.
    #[error("no randomness for a key: {0}")]
    Randomness(String),
    /// The folder has nothing to publish.
    #[error("{0} has no files to publish")]
    NoFiles(PathBuf),
    /// A file whose name cannot be served.
    #[error("{0} cannot be published under this name; use letters, digits, '.', '_', '-', not hidden, not ending in .leaves")]
    BadFilename(PathBuf),
    /// The manifest would not be accepted.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The manifest is refused.
    #[error("{path}: {refusal}")]
    Refused {
        /// Where it is.
        path: String,
        /// Why.
        refusal: Refusal,
    },
    /// The keys to verify against cannot be read.
    #[error("--keys: {0}")]
    Keys(#[from] PinnedKeysError),
    /// A server could not be reached.
    #[error("{url}: {error}")]
    Unreachable {
        /// What was asked.
        url: String,
        /// What went wrong.
        error: Box<ureq::Error>,
    },
    /// A server refused.
    #[error("{url}: status {status}: {said}")]
    Status {
        /// What was asked.
        url: String,
        /// What it answered.
        status: u16,
        /// The beginning of its answer.
        said: String,
    },
    /// A bucket stored other bytes than were hashed.
    #[error(
        "{0}: the bucket has other bytes than were hashed; nothing refers to them yet. Publish again, and leave the file alone meanwhile"
    )]
    StoredOtherwise(String),
    /// A node made another DAG than we did.
    #[error(
        "{url} says the CID of {file} is {theirs}, but it is {ours}; it must chunk by 262144 bytes into raw leaves, 174 links a node"
    )]
    OtherCid {
        /// The node.
        url: String,
        /// The file.
        file: String,
        /// Its CID there.
        theirs: String,
        /// Its CID here.
        ours: String,
    },
    /// The version exists with other content.
    #[error("{id} {version} is already published with other content; published versions never change: give a higher --version")]
    Published {
        /// The model.
        id: String,
        /// The version.
        version: String,
    },
    /// What is to be withdrawn is not there.
    #[error("{url}: there is no such version")]
    NotPublished {
        /// Where it would be.
        url: String,
    },
    /// Files are not what the manifest says; each was told on its own line.
    #[error("{0} of {1} files are not what the manifest says")]
    NotVerified(usize, usize),
}

/// Adds the path to an I/O error.
pub fn of_file(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Error {
    move |error| Error::File { path: path.as_ref().to_owned(), error }
}
