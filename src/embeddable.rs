//! Which models embed text: what of a manifest is needed for that.

use crate::trust::manifest::{Artifact, Manifest};

/// The type of models that embed.
const KIND: &str = "embedding";
/// Bytes of a model at the most: what is made of it has to fit into an isolate of 128 MB, with another one.
pub const MAX_MODEL_BYTES: u64 = 64 << 20;
/// Bytes of a tokenizer at the most.
pub const MAX_TOKENIZER_BYTES: u64 = 4 << 20;
/// Bytes of each of the other files at the most.
pub const MAX_SETTINGS_BYTES: u64 = 64 << 10;

/// Why a model does not embed text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotEmbeddable {
    /// It does something else.
    #[error("its type is {0:?}, not {KIND:?}")]
    Kind(String),
    /// It has no graph that can be run.
    #[error("it has no ONNX file")]
    NoModel,
    /// It has several, and nothing says which is meant.
    #[error("it has {0} ONNX files, and none of them has the role \"model\"")]
    SeveralModels(usize),
    /// Texts cannot be cut into tokens.
    #[error("it has no tokenizer.json")]
    NoTokenizer,
    /// A file that is too large for an isolate.
    #[error("{file} has {size} bytes, of which {limit} are taken at the most")]
    TooLarge {
        /// The file.
        file: String,
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
}

/// The files that embedding takes.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// The ONNX graph.
    pub model: &'a Artifact,
    /// `tokenizer.json`.
    pub tokenizer: &'a Artifact,
}

impl<'a> Parts<'a> {
    /// The parts of a model that embeds text.
    ///
    /// # Errors
    /// [`NotEmbeddable`].
    pub fn of(manifest: &'a Manifest) -> Result<Self, NotEmbeddable> {
        if manifest.kind != KIND {
            return Err(NotEmbeddable::Kind(manifest.kind.clone()));
        }
        let model = graph(manifest)?;
        let tokenizer = manifest.artifact("tokenizer.json").ok_or(NotEmbeddable::NoTokenizer)?;
        for (artifact, limit) in [(model, MAX_MODEL_BYTES), (tokenizer, MAX_TOKENIZER_BYTES)] {
            if artifact.size > limit {
                return Err(NotEmbeddable::TooLarge {
                    file: artifact.filename.clone(),
                    size: artifact.size,
                    limit,
                });
            }
        }
        Ok(Self { model, tokenizer })
    }
}

/// The ONNX file of a model: the only one, or the one whose role is that.
///
/// # Errors
/// [`NotEmbeddable::NoModel`] and [`NotEmbeddable::SeveralModels`].
pub fn graph(manifest: &Manifest) -> Result<&Artifact, NotEmbeddable> {
    let is_onnx = |artifact: &&Artifact| {
        artifact.filename.rsplit_once('.').is_some_and(|(_, extension)| extension == "onnx")
    };
    let models: Vec<&Artifact> = manifest.artifacts.iter().filter(is_onnx).collect();
    match models.as_slice() {
        [] => Err(NotEmbeddable::NoModel),
        [model] => Ok(model),
        several => several
            .iter()
            .find(|model| model.role == "model")
            .copied()
            .ok_or(NotEmbeddable::SeveralModels(several.len())),
    }
}
