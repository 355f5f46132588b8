//! The error of a command. It gathers the errors of all operations; its text is the message for the
//! user, and the exit status is 1.

use std::path::PathBuf;

use edge_net_core::transfer::source::SourceKind;
use edge_net_core::trust::manifest::ManifestError;
use edge_net_core::trust::signature::{PinnedKeysError, Refusal};

use crate::accepted::AcceptedError;
use crate::bucket::BucketError;
use crate::cache::CacheError;
use crate::claim::ClaimError;
use crate::config::ConfigError;
use crate::credentials::CredentialsError;
use crate::delivery::DeliveryError;
use crate::description::DescriptionError;
use crate::files::FileError;
use crate::http::HttpError;
use crate::ipfs::IpfsError;
use crate::key::KeyError;
use crate::model::ModelError;
use crate::places::PlacesError;

/// The failure of a command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The settings cannot be read or changed.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A request failed.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// No source gave a valid document.
    #[error(transparent)]
    Places(#[from] PlacesError),
    /// A download failed.
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
    /// The cache cannot be read or changed.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A record of an accepted version cannot be read or written.
    #[error(transparent)]
    Accepted(#[from] AcceptedError),
    /// A signing key cannot be read or made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The files cannot be published.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// No manifest can be built.
    #[error(transparent)]
    Description(#[from] DescriptionError),
    /// There is no access token.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// A bucket cannot be read or written.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// Another publisher has claimed the version.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// A file cannot be published on IPFS.
    #[error(transparent)]
    Ipfs(#[from] IpfsError),
    /// A manifest is malformed.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The keys to verify against are invalid.
    #[error(transparent)]
    Keys(#[from] PinnedKeysError),
    /// A manifest is refused.
    #[error("{path}: {refusal}")]
    Refused {
        /// Path or URL of the manifest.
        path: String,
        /// The reason.
        refusal: Refusal,
    },
    /// The version is published with other content.
    #[error(
        "{id} {version} is already published with other content; a published version never \
         changes: give a higher --version"
    )]
    Published {
        /// Identifier of the model.
        id: String,
        /// The version.
        version: String,
    },
    /// The version to withdraw does not exist.
    #[error("{url}: the version does not exist")]
    NotPublished {
        /// URL of the version in the registry.
        url: String,
    },
    /// No registry is given.
    #[error("no registry is given; give --registry, or set edge.url")]
    NoRegistry,
    /// No key is pinned.
    #[error(
        "no publisher key is pinned, so no signature can be verified; pin the key that keygen or \
         public-key prints: edge-net-models config set keys.<name> <key>"
    )]
    NoKeys,
    /// No source of the wanted kind is configured.
    #[error("no {} source is configured; set {}", .0.name(), match .0 {
        SourceKind::Edge => "edge.url",
        SourceKind::Gcs => "cdn.endpoint",
        SourceKind::Ipfs => "ipfs.gateways",
        other => other.name(),
    })]
    NoSuchSource(SourceKind),
    /// A file of size 0 has another CID than that of an empty file.
    #[error("{0}: the manifest says 0 bytes, but has the CID of a file that is not empty")]
    NotEmpty(String),
    /// The argument of `verify` names nothing.
    #[error(
        "{0} is not a folder with manifest.json, a signed file or a cached model; `list --cached` \
         lists the cached models"
    )]
    NothingToVerify(String),
    /// `doctor` found faults; they are printed.
    #[error("{0} problems; see above")]
    Unhealthy(usize),
    /// Files differ from their manifest; the differences are printed.
    #[error("{0} of {1} files differ from the manifest")]
    NotVerified(usize, usize),
    /// `sign` got an option about a file together with a manifest.
    #[error("{0} is a manifest; --id, --version and --type are for other files")]
    NotAFile(PathBuf),
    /// The model is not in the cache.
    #[error("{0} is not in the cache; run: edge-net-models pull {0}")]
    NotPulled(String),
    /// The folder has no ONNX file.
    #[error(
        "{0} has no ONNX file: none in the manifest, no model.onnx, onnx/model.onnx or \
         onnx/model_quantized.onnx"
    )]
    NoOnnx(PathBuf),
    /// The model cannot embed texts.
    #[error("{model} cannot embed texts: {problem}")]
    NotEmbeddable {
        /// The argument that names the model.
        model: String,
        /// The reason.
        problem: String,
    },
    /// A text cannot be embedded.
    #[error("text {text}: {problem}")]
    NotEmbedded {
        /// Number of the text, from 1.
        text: usize,
        /// The reason.
        problem: String,
    },
    /// A file differs from its manifest.
    #[error("{path}: {problem}; pull the model again")]
    Altered {
        /// The file.
        path: PathBuf,
        /// The difference.
        problem: String,
    },
}
