//! What can go wrong, with the facts a person needs to mend it.

use std::path::{Path, PathBuf};

use edge_net_core::transfer::download::DownloadError;
use edge_net_core::transfer::source::SourceKind;
use edge_net_core::trust::manifest::ManifestError;
use edge_net_core::trust::signature::{PinnedKeysError, Refusal};
use indicatif::DecimalBytes;

use crate::config::Origin;
use crate::places::Reasons;

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
    #[error(
        "{0} cannot be published under this name; use letters, digits, '.', '_', '-', not hidden, not ending in .leaves"
    )]
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
    #[error("{0}")]
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
    #[error(
        "{id} {version} is already published with other content; published versions never change: give a higher --version"
    )]
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
    /// A setting is not what it must be.
    #[error("{origin}: {problem}")]
    Setting {
        /// Where it is set.
        origin: Origin,
        /// Which, and what is wrong with it.
        problem: String,
    },
    /// There is no folder to put anything into.
    #[error(
        "HOME is not set, so there is no place for files; set it, or --config and --set cache.directory=…"
    )]
    NoHome,
    /// The file is written in a way that one setting alone cannot be changed in.
    #[error("{path}: {key} cannot be set without touching what else is there; edit the file")]
    NotEditable {
        /// The file.
        path: PathBuf,
        /// The setting.
        key: String,
    },
    /// Nobody is trusted.
    #[error(
        "no publisher's key is pinned, so nothing can be trusted; pin one as keygen or public-key prints it: edge-net-models config set keys.<name> <key>"
    )]
    NoKeys,
    /// No source is of this kind.
    #[error("no source of the kind {} is configured; set {}", .0.name(), match .0 {
        SourceKind::Edge => "edge.url",
        SourceKind::Gcs => "cdn.endpoint",
        SourceKind::Ipfs => "ipfs.gateways",
        other => other.name(),
    })]
    NoSuchSource(SourceKind),
    /// No place has the manifest.
    #[error("{} {wanted}: {reasons}", if .reasons.is_not_found() {
        "nobody has"
    } else if .reasons.is_unreachable() {
        "nobody could be asked for"
    } else {
        "there is no good manifest of"
    })]
    NoManifest {
        /// Of what.
        wanted: String,
        /// What each place did.
        reasons: Reasons,
    },
    /// No place has the leaf table.
    #[error("no source has the leaf table of {file}: {reasons}")]
    NoLeafTable {
        /// Of what.
        file: String,
        /// What each place did.
        reasons: Reasons,
    },
    /// No source has the file.
    #[error("{file}: {error}. What was good is kept: the same command goes on from there")]
    NoGoodCopy {
        /// Where it would have been.
        file: PathBuf,
        /// What each source did.
        error: DownloadError,
    },
    /// The manifest says that a file has no bytes, but its CID is one of some.
    #[error("{0}: its manifest says that it is empty, and has the CID of something")]
    NotEmpty(String),
    /// What was accepted before cannot be read.
    #[error("{0} does not say what was accepted of the model before; if you know why, remove it")]
    BadFloor(PathBuf),
    /// The cache is full.
    #[error(
        "no room for {} more: {} of {} are used{}; raise cache.maxSize, or pull with --output", DecimalBytes(*need), DecimalBytes(*used),
        DecimalBytes(*budget), if *cleanup { "" } else { ", and cache.autoCleanup is off: `cache prune` or `cache clear` makes some" }
    )]
    NoRoom {
        /// Bytes wanted.
        need: u64,
        /// Bytes that are there.
        used: u64,
        /// Bytes that may be.
        budget: u64,
        /// Whether old ones may go.
        cleanup: bool,
    },
    /// Neither a path nor a model that is here.
    #[error(
        "{0} is neither a folder with manifest.json, nor a signed file, nor a model on this machine; `list --cached` shows those"
    )]
    NothingToVerify(String),
    /// A key is needed, and none is named.
    #[error("no {0} is given; give --{1}, or set {2}")]
    Missing(&'static str, &'static str, &'static str),
    /// Credentials that cannot be used.
    #[error("{path}, which GOOGLE_APPLICATION_CREDENTIALS names: {problem}")]
    Credentials {
        /// The file.
        path: PathBuf,
        /// What is wrong with it; never what is secret in it.
        problem: String,
    },
    /// The files do not tell what the model does.
    #[error(
        "{0} does not tell what the model does; give --type: text-generation, embedding, vision"
    )]
    NoType(PathBuf),
    /// No identifier can be made of the name.
    #[error("{0:?} makes no identifier; give --id, of a-z, 0-9, '.', '_', '-'")]
    NoId(String),
    /// What is to be added to the manifest is not that.
    #[error("{path}: {problem}")]
    BadDescription {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A pinning service could not pin.
    #[error("{url} failed to pin {cid}: {problem}")]
    NotPinned {
        /// The service.
        url: String,
        /// Of what.
        cid: String,
        /// What it says.
        problem: String,
    },
    /// What a server said is not what it should be.
    #[error("{url}: its answer is {problem}")]
    BadAnswer {
        /// What was asked.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A model that is not on this machine.
    #[error("{0} was not pulled; run: edge-net-models pull {0}")]
    NotPulled(String),
    /// A folder without a graph.
    #[error(
        "{0} has no ONNX file: none in its manifest, no model.onnx, and none of these in onnx/"
    )]
    NoOnnx(PathBuf),
    /// A model that makes no vectors of texts.
    #[error("{model} cannot embed texts: {problem}")]
    NotEmbeddable {
        /// The model.
        model: String,
        /// What is in the way.
        problem: String,
    },
    /// A text of which there is no vector.
    #[error("text {text}: {problem}")]
    NotEmbedded {
        /// Which, from 1.
        text: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// A file that is not what its manifest says.
    #[error("{path}: {problem}; pull it again")]
    Altered {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Files are not what the manifest says; each was told on its own line.
    #[error("{0} of {1} files are not what the manifest says")]
    NotVerified(usize, usize),
}

/// Adds the path to an I/O error.
pub fn of_file(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Error {
    move |error| Error::File { path: path.as_ref().to_owned(), error }
}
