//! Which models embed text, and which of their files that needs.

use crate::trust::manifest::{Artifact, Manifest};

/// The manifest's `type` of models that embed text.
const KIND: &str = "embedding";
/// The largest model in bytes: two loaded models have to fit into an isolate of 128 MB.
pub const MAX_MODEL_BYTES: u64 = 64 << 20;
/// The largest tokenizer in bytes.
pub const MAX_TOKENIZER_BYTES: u64 = 4 << 20;
/// The largest size in bytes of each other file.
pub const MAX_SETTINGS_BYTES: u64 = 64 << 10;

/// Why a model does not embed text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotEmbeddable {
    /// The model has another type.
    #[error("its type is {0:?}, not {KIND:?}")]
    Kind(String),
    /// The model has no ONNX graph.
    #[error("it has no ONNX file")]
    NoModel,
    /// The model has several ONNX graphs, and no role marks one.
    #[error("it has {0} ONNX files, and none of them has the role \"model\"")]
    SeveralModels(usize),
    /// The model has no tokenizer.
    #[error("it has no tokenizer.json")]
    NoTokenizer,
    /// A file is too large for an isolate.
    #[error("{file} has {size} bytes; the limit is {limit}")]
    TooLarge {
        /// Name of the file.
        file: String,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
}

/// The files that embedding needs.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// The ONNX graph.
    pub model: &'a Artifact,
    /// `tokenizer.json`.
    pub tokenizer: &'a Artifact,
}

impl<'a> Parts<'a> {
    /// Finds the files of a model that embeds text.
    ///
    /// # Errors
    /// [`NotEmbeddable`] says why the model does not embed text.
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

/// The ONNX file of a model: the only one, or the one with the role `model`.
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
