//! The files of a model to publish: one file, a folder, or a folder in the layout of the Hugging
//! Face hub.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use edge_net_core::dag::cid::cid_text;
use edge_net_core::dag::hasher::FileDigests;
use edge_net_core::dag::unixfs::PROFILE;
use edge_net_core::trust::manifest::is_filename;
use serde_json::{Value, json};

use crate::context::Context;
use crate::digest::{self, Fingerprint};
use crate::document::MANIFEST;
use crate::files::{FileError, of_file};

/// The files cannot be published.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file or folder cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is a pipe, a socket or a device.
    #[error("{0} is a pipe, a socket or a device; only files can be published")]
    NotAFile(PathBuf),
    /// The folder has no files.
    #[error("{0} has no files to publish")]
    NoFiles(PathBuf),
    /// The filename is not allowed in a manifest.
    #[error(
        "{0} cannot be published under this name; use letters, digits, '.', '_', '-', at most 200 \
         bytes, no '.' at either end, and no reserved name: *.leaves, manifest.json, folders such \
         as v1.0.0, devices of Windows such as con and aux"
    )]
    BadFilename(PathBuf),
}

/// A file to publish.
pub struct Piece {
    /// The file's role in the manifest.
    pub role: String,
    /// The file's name in the manifest.
    pub filename: String,
    /// The file's path on this machine.
    pub path: PathBuf,
    /// The file's digests.
    pub digests: FileDigests,
    /// The file's size and checksum, to compare with a bucket's.
    pub fingerprint: Fingerprint,
}

/// The files of a model.
pub struct Model {
    /// Those to publish, ordered by role.
    pub pieces: Vec<Piece>,
    /// The names of those that are no part of the model.
    pub left_out: Vec<String>,
}

/// Files of version control, of the hub's tools, of notebooks, editors and systems, which are no
/// part of a model.
const LEFTOVERS: [&str; 21] = [
    ".git",
    ".gitattributes",
    ".gitignore",
    ".gitkeep",
    ".gitmodules",
    ".github",
    ".lfsconfig",
    ".hg",
    ".hgignore",
    ".svn",
    ".dvc",
    ".dvcignore",
    ".cache",
    ".huggingface",
    ".locks",
    ".ipynb_checkpoints",
    "__pycache__",
    ".idea",
    ".vscode",
    ".DS_Store",
    "Thumbs.db",
];

/// Hashes a file, or all files below a folder.
///
/// # Errors
/// [`ModelError`].
pub fn read(path: &Path, context: &Context) -> Result<Model, ModelError> {
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) };
    let mut left_out = Vec::new();
    let mut files =
        if path.is_dir() { files_below(path, &mut left_out)? } else { vec![path.to_owned()] };
    // Reading a pipe would wait for ever.
    for file in &files {
        if !fs::metadata(file).map_err(of_file(file))?.is_file() {
            return Err(ModelError::NotAFile(file.clone()));
        }
    }
    // Files in subfolders describe parts of the model. They come last, so that they do not take a
    // role from a file that describes all of it.
    files.sort_by_cached_key(|path| (path.components().count(), path.clone()));
    let mut pieces: BTreeMap<String, Piece> = BTreeMap::new();
    for path in files {
        let filename = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned();
        if filename == MANIFEST {
            left_out.push(format!("{MANIFEST} (publish writes its own)"));
            continue;
        }
        // Written by an earlier --out.
        if filename.ends_with(".leaves") {
            continue;
        }
        if !is_filename(&filename) {
            return Err(ModelError::BadFilename(path));
        }
        let mut role = role_of(&filename).to_owned();
        if role.is_empty() || pieces.contains_key(&role) {
            role = filename.replace(['/', '.'], "-");
        }
        let length = fs::metadata(&path).map_err(of_file(&path))?.len();
        let bar = context.bar("hashing", &filename, length);
        let (digests, fingerprint) = digest::file_and_fingerprint(&path, |read| bar.inc(read))?;
        bar.finish_and_clear();
        pieces.insert(role.clone(), Piece { role, filename, path, digests, fingerprint });
    }
    if pieces.is_empty() {
        return Err(ModelError::NoFiles(path.to_owned()));
    }
    left_out.sort();
    Ok(Model { pieces: pieces.into_values().collect(), left_out })
}

/// Lists the files below a folder. The leftovers are added to `left_out`.
fn files_below(folder: &Path, left_out: &mut Vec<String>) -> Result<Vec<PathBuf>, FileError> {
    let mut folders = vec![folder.to_owned()];
    let mut files = Vec::new();
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).map_err(of_file(&next))? {
            let entry = entry.map_err(of_file(&next))?;
            let path = entry.path();
            if LEFTOVERS.iter().any(|leftover| entry.file_name() == *leftover) {
                let name = path.strip_prefix(folder).unwrap_or(&path);
                left_out.push(name.to_string_lossy().into_owned());
                continue;
            }
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    Ok(files)
}

/// Returns the role that a filename implies; empty if none.
fn role_of(filename: &str) -> &str {
    match filename.rsplit('/').next().unwrap_or_default() {
        "tokenizer.json" => "tokenizer",
        "config.json" => "config",
        name => match name.rsplit_once('.') {
            Some((_, "onnx" | "gguf" | "safetensors")) => "model",
            Some((stem, "txt" | "json")) => stem,
            _ => "",
        },
    }
}

/// Returns the member `artifacts` of the manifest.
pub fn artifacts(pieces: &[Piece]) -> Value {
    let artifact = |piece: &Piece| {
        let value = json!({
            "filename": piece.filename,
            "size": piece.digests.size,
            "sha256": piece.digests.sha256.to_hex(),
            "cid": cid_text(&piece.digests.cid),
            "profile": PROFILE,
        });
        (piece.role.clone(), value)
    };
    Value::Object(pieces.iter().map(artifact).collect())
}
