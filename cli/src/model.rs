//! A model as it lies on a disk: a file, a folder, or a folder as the Hugging Face hub has it. What is published of it, and what its
//! files tell.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use edge_net_core::dag::unixfs::{FileDigests, PROFILE, cid_text};
use edge_net_core::trust::manifest::is_filename;
use serde_json::{Map, Value, json};

use crate::Context;
use crate::cache::MANIFEST;
use crate::digest::{self, Fingerprint};
use crate::error::{Error, of_file};
use crate::onnx::{self, Onnx};
use crate::terminal::bar;

/// A file to publish.
pub struct Piece {
    /// Its role in the manifest.
    pub role: String,
    /// Its name there.
    pub filename: String,
    /// Where it is.
    pub path: PathBuf,
    /// What it is.
    pub digests: FileDigests,
    /// By what a bucket knows it.
    pub fingerprint: Fingerprint,
}

/// What git and the hub's own tools leave in a folder: no part of the model.
const LEFTOVERS: [&str; 5] = [".git", ".gitattributes", ".gitignore", ".cache", ".DS_Store"];

/// Hashes a file, or every file below a folder.
pub fn read(path: &Path, context: &Context) -> Result<Vec<Piece>, Error> {
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) };
    let mut files = if path.is_dir() { files_below(path)? } else { vec![path.to_owned()] };
    // What lies deeper is about a part of the model: it takes no role from what is about all of it.
    files.sort_by_cached_key(|path| (path.components().count(), path.clone()));
    let mut pieces: BTreeMap<String, Piece> = BTreeMap::new();
    for path in files {
        let filename =
            path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().replace('\\', "/");
        // What an earlier --out left here is no part of the model.
        if filename == MANIFEST || filename.ends_with(".leaves") {
            continue;
        }
        if !is_filename(&filename) {
            return Err(Error::BadFilename(path));
        }
        let mut role = role_of(&filename).to_owned();
        if role.is_empty() || pieces.contains_key(&role) {
            role = filename.replace(['/', '.'], "-");
        }
        let length = fs::metadata(&path).map_err(of_file(&path))?.len();
        let bar = bar(context, "hashing", &filename, length);
        let (digests, fingerprint) = digest::file_and_fingerprint(&path, |read| bar.inc(read))?;
        bar.finish_and_clear();
        pieces.insert(role.clone(), Piece { role, filename, path, digests, fingerprint });
    }
    if pieces.is_empty() {
        return Err(Error::NoFiles(path.to_owned()));
    }
    Ok(pieces.into_values().collect())
}

fn files_below(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut folders = vec![folder.to_owned()];
    let mut files = Vec::new();
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).map_err(of_file(&next))? {
            let entry = entry.map_err(of_file(&next))?;
            if LEFTOVERS.iter().any(|leftover| entry.file_name() == *leftover) {
                continue;
            }
            let path = entry.path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    Ok(files)
}

/// The role a file has by its name; empty if none.
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

/// The manifest's `artifacts`.
pub fn artifacts(pieces: &[Piece]) -> Value {
    let artifact = |piece: &Piece| {
        let value = json!({
            "filename": piece.filename, "size": piece.digests.size, "sha256": piece.digests.sha256.to_hex(),
            "cid": cid_text(&piece.digests.cid), "profile": PROFILE,
        });
        (piece.role.clone(), value)
    };
    Value::Object(pieces.iter().map(artifact).collect())
}

/// What the files tell of the model they are of.
#[derive(Default)]
pub struct Told {
    /// What it does.
    pub kind: Option<&'static str>,
    /// `architecture` of the manifest.
    pub architecture: Map<String, Value>,
    /// `optimization.quantization`.
    pub quantization: Option<&'static str>,
    /// SPDX expression.
    pub license: Option<String>,
}

impl Told {
    /// Reads `config.json`, the model card and the ONNX file, as far as they are there.
    pub fn of(pieces: &[Piece]) -> Self {
        let config = pieces
            .iter()
            .find(|piece| piece.role == "config")
            .and_then(|piece| fs::read(&piece.path).ok());
        let config: Value =
            config.and_then(|config| serde_json::from_slice(&config).ok()).unwrap_or_default();
        let is_onnx =
            |piece: &&Piece| piece.path.extension().is_some_and(|extension| extension == "onnx");
        // The one called the model, or else the first.
        let graphs = || pieces.iter().filter(is_onnx);
        let graph = graphs().find(|piece| piece.role == "model").or_else(|| graphs().next());
        let onnx = graph.and_then(|piece| onnx::skim(&piece.path));
        let card = pieces
            .iter()
            .find(|piece| piece.filename == "README.md")
            .and_then(|piece| fs::read_to_string(&piece.path).ok());
        let card = Card::read(card.as_deref().unwrap_or_default());

        let names = [
            ("type", "model_type"),
            ("layers", "num_hidden_layers"),
            ("hiddenSize", "hidden_size"),
            ("vocabSize", "vocab_size"),
            ("contextLength", "max_position_embeddings"),
        ];
        let mut architecture: Map<String, Value> = names
            .iter()
            .filter_map(|(ours, theirs)| Some(((*ours).to_owned(), config.get(theirs)?.clone())))
            .collect();
        if let Some(opset) = onnx.as_ref().and_then(|onnx| onnx.opset) {
            architecture.insert("opset".into(), opset.into());
        }
        let quantization = onnx.as_ref().and_then(Onnx::quantization).or_else(|| {
            match config["quantization_config"]["bits"].as_u64() {
                Some(4) => Some("INT4"),
                Some(8) => Some("INT8"),
                _ => None,
            }
        });
        let license = card.license.or_else(|| {
            onnx.as_ref()?.metadata.get("license").cloned().filter(|license| !license.is_empty())
        });
        Self {
            kind: kind(card.task.as_deref(), &config, onnx.as_ref()),
            architecture,
            quantization,
            license,
        }
    }
}

/// What a model does: as its card, its configuration or its outputs say.
fn kind(task: Option<&str>, config: &Value, onnx: Option<&Onnx>) -> Option<&'static str> {
    match task {
        Some("text-generation") => return Some("text-generation"),
        Some("feature-extraction" | "sentence-similarity") => return Some("embedding"),
        Some(
            "image-classification" | "zero-shot-image-classification" | "image-feature-extraction",
        ) => return Some("vision"),
        _ => {}
    }
    let class = config["architectures"][0].as_str().unwrap_or_default();
    let outputs = onnx.map_or(&[][..], |onnx| &onnx.outputs);
    let gives = |name: &str| outputs.iter().any(|output| output == name);
    if class.ends_with("ForCausalLM") {
        Some("text-generation")
    } else if class.ends_with("ForImageClassification") || gives("image_embeds") {
        Some("vision")
    } else if gives("sentence_embedding") || gives("last_hidden_state") {
        Some("embedding")
    } else {
        None
    }
}

/// The head of a model card (`README.md`), between lines of `---`.
#[derive(Default)]
struct Card {
    license: Option<String>,
    task: Option<String>,
}

impl Card {
    /// Reads the two lines that matter. All else in a head is the hub's, of any shape.
    fn read(text: &str) -> Self {
        let mut lines = text.lines();
        if lines.next() != Some("---") {
            return Self::default();
        }
        let mut card = Self::default();
        for line in lines.take_while(|line| *line != "---") {
            let value = |key: &str| {
                let value = line.strip_prefix(key)?.trim().trim_matches(['"', '\'']);
                (!value.is_empty()).then(|| value.to_owned())
            };
            if let Some(license) = value("license:") {
                card.license = Some(spdx(&license));
            } else if let Some(task) = value("pipeline_tag:") {
                card.task = Some(task);
            }
        }
        card
    }
}

/// The hub writes licences in small letters; SPDX does not.
fn spdx(license: &str) -> String {
    let known = [
        "Apache-2.0",
        "MIT",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "CC-BY-4.0",
        "CC-BY-SA-4.0",
        "CC-BY-NC-4.0",
        "CC0-1.0",
        "GPL-3.0",
        "MPL-2.0",
    ];
    known
        .iter()
        .find(|name| name.eq_ignore_ascii_case(license))
        .map_or_else(|| license.to_owned(), |name| (*name).to_owned())
}
