//! The index of a model in several files, `model.safetensors.index.json`.

use std::collections::BTreeMap;

use super::head::Pairs;

/// Limit for the bytes of an index.
const MAX_INDEX: usize = 16 << 20;
/// Limit for the number of files.
const MAX_FILES: usize = 1024;
/// Limit for the bytes of a file's name.
const MAX_NAME: usize = 255;

/// Which file has which tensor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    files: Vec<String>,
    /// For each tensor, the place of its file.
    tensors: BTreeMap<String, usize>,
}

/// Why an index is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// The text is no JSON, or has another form.
    #[error("the index of the safetensors files cannot be read: {reason}")]
    Json {
        /// The reason.
        reason: String,
    },
    /// The index has too much of something.
    #[error("the index of the safetensors files has {found} {what}; the limit is {most}")]
    TooMany {
        /// What there is too much of, in the plural.
        what: &'static str,
        /// The number.
        found: usize,
        /// The limit.
        most: usize,
    },
    /// A tensor comes twice.
    #[error("the index of the safetensors files has the tensor {name:?} twice")]
    Duplicate {
        /// Name of the tensor.
        name: String,
    },
    /// A file's name is a path, or not that of a safetensors file.
    #[error("the index has the tensor {tensor:?} in {file:?}, which is no safetensors file's name")]
    FileName {
        /// Name of the tensor.
        tensor: String,
        /// The name.
        file: String,
    },
}

#[derive(serde::Deserialize)]
struct Document {
    weight_map: Pairs,
}

impl Index {
    /// Reads an index. Each name of a file in it is a name only: it has no folder.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn parse(text: &str) -> Result<Self, IndexError> {
        limit("bytes", text.len(), MAX_INDEX)?;
        let document: Document = serde_json::from_str(text)
            .map_err(|error| IndexError::Json { reason: error.to_string() })?;
        let mut index = Self::default();
        let mut places = BTreeMap::new();
        for (tensor, file) in document.weight_map.0 {
            if !is_file_name(&file) {
                return Err(IndexError::FileName { tensor, file });
            }
            let next = index.files.len();
            let place = *places.entry(file.clone()).or_insert(next);
            if place == next {
                index.files.push(file);
                limit("files", index.files.len(), MAX_FILES)?;
            }
            if index.tensors.insert(tensor.clone(), place).is_some() {
                return Err(IndexError::Duplicate { name: tensor });
            }
        }
        Ok(index)
    }

    /// The files, in the order in which they are first named.
    #[must_use]
    pub fn files(&self) -> &[String] {
        &self.files
    }

    /// The file that has a tensor.
    #[must_use]
    pub fn file_of(&self, tensor: &str) -> Option<&str> {
        self.tensors.get(tensor).map(|place| self.files[*place].as_str())
    }

    /// The tensors and their files, by the tensors' names.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> + use<'_> {
        self.tensors.iter().map(|(name, place)| (name.as_str(), self.files[*place].as_str()))
    }
}

const fn limit(what: &'static str, found: usize, most: usize) -> Result<(), IndexError> {
    if found > most { Err(IndexError::TooMany { what, found, most }) } else { Ok(()) }
}

fn is_file_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    name.len() <= MAX_NAME
        && name.bytes().all(plain)
        && !name.starts_with('.')
        && name.ends_with(".safetensors")
}
