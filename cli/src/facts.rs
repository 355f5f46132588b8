//! Facts about a model, read from its files for the manifest.

use std::fs;

use serde_json::{Map, Value};

use crate::model::Piece;
use crate::onnx::{self, Onnx};

/// Facts about a model.
#[derive(Default)]
pub struct Facts {
    /// The model type, `type` of the manifest.
    pub kind: Option<&'static str>,
    /// `architecture` of the manifest.
    pub architecture: Map<String, Value>,
    /// `optimization.quantization` of the manifest.
    pub quantization: Option<&'static str>,
    /// The licence, an SPDX expression.
    pub license: Option<String>,
    /// What could not be read, as a sentence.
    pub unread: Option<String>,
}

impl Facts {
    /// Reads `config.json`, the model card and the ONNX file. Missing or unreadable files give no
    /// facts.
    pub fn of(pieces: &[Piece]) -> Self {
        let config = pieces
            .iter()
            .find(|piece| piece.role == "config")
            .and_then(|piece| fs::read(&piece.path).ok());
        let (config, unread) = match config.map(|config| configuration(&config)).transpose() {
            Ok(config) => (config.unwrap_or_default(), None),
            Err(error) => (Value::Null, Some(format!("config.json is not read: {error}"))),
        };
        let is_onnx =
            |piece: &&Piece| piece.path.extension().is_some_and(|extension| extension == "onnx");
        // The file with the role `model`, or else the first one.
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
            .filter(|(_, value)| !value.is_null())
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
            unread,
        }
    }
}

/// Parses a `config.json` as Python's readers do: with a byte order mark, and with numbers that
/// JSON does not have, which count as missing here.
fn configuration(bytes: &[u8]) -> serde_json::Result<Value> {
    let text = String::from_utf8_lossy(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes));
    serde_json::from_str(&text)
        .or_else(|error| serde_json::from_str(&without_numbers_of_python(&text)).map_err(|_| error))
}

/// Replaces `NaN`, `Infinity` and `-Infinity` outside of strings.
fn without_numbers_of_python(text: &str) -> String {
    let mut parts: Vec<String> = text.split('"').map(str::to_owned).collect();
    let mut in_string = false;
    for part in &mut parts {
        let escapes = part.len() - part.trim_end_matches('\\').len();
        if !in_string {
            for number in ["-Infinity", "Infinity", "NaN"] {
                *part = part.replace(number, "null");
            }
        }
        // A quotation mark after an odd number of backslashes does not end a string.
        in_string = if in_string { escapes % 2 == 1 } else { true };
    }
    parts.join("\"")
}

/// Returns the model type: from the model card, the configuration or the outputs of the graph.
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

/// The YAML front matter of a model card (`README.md`), between lines of `---`.
#[derive(Default)]
struct Card {
    license: Option<String>,
    task: Option<String>,
}

impl Card {
    /// Reads the two needed lines. The rest of the front matter has no fixed form.
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

/// Returns the SPDX name of a licence, which the hub writes in lower case.
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
