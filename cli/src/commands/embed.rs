//! `embed`: computes the vectors of texts on this machine, with the code of the edge worker.

use std::fs;
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use edge_net_core::embeddable;
use edge_net_core::trust::manifest::{Manifest, is_id};
use edge_net_inference::{Embedder, ModelReader, Settings, Tokenizer};
use semver::Version;
use serde_json::json;

use crate::cache::{self, Cache};
use crate::check::problem;
use crate::context::Context;
use crate::document::MANIFEST;
use crate::error::Error;
use crate::files::{FileError, of_file};

const TOKENIZER: &str = "tokenizer.json";
/// The size of a read from the model file, in bytes.
const PIECE: usize = 4 << 20;
/// The number of texts in a batch.
const BATCH: usize = 32;

/// `embed`
#[derive(Args)]
pub struct Embed {
    /// Identifier of a pulled model, or a folder with an ONNX file and its tokenizer.json
    model: String,
    /// Texts; default: each line of standard input
    texts: Vec<String>,
    /// Version of a pulled model; default: the newest
    #[arg(long)]
    version: Option<Version>,
    /// Print the tokens instead of the vectors
    #[arg(long)]
    tokens: bool,
}

impl Embed {
    /// Runs the command: prints a JSON array per text and line, or with --json one object.
    ///
    /// # Errors
    /// [`Error::NotPulled`], [`Error::NoOnnx`], [`Error::NotEmbeddable`], [`Error::NotEmbedded`],
    /// [`Error::Altered`], [`Error::Manifest`], [`Error::File`] and [`Error::Config`].
    pub fn run(self, context: &Context) -> Result<(), Error> {
        let folder = self.folder(context)?;
        let unusable =
            |problem: String| Error::NotEmbeddable { model: self.model.clone(), problem };
        let files = Files::of(&folder, context)?;
        let tokenizer = Tokenizer::read(&files.read(TOKENIZER)?)
            .map_err(|error| unusable(error.to_string()))?;
        let texts = self.texts()?;
        let rows: Vec<String> = if self.tokens {
            let tokens = texts
                .iter()
                .map(|text| tokenizer.encode(text).map(|tokens| json!(tokens).to_string()));
            tokens.collect::<Result<_, _>>().map_err(|error| unusable(error.to_string()))?
        } else {
            let embedder = files.embedder(tokenizer)?.map_err(unusable)?;
            embed(&embedder, &texts)?
        };
        let mut out = io::stdout().lock();
        let written = if context.json {
            let kind = if self.tokens { "tokens" } else { "embeddings" };
            writeln!(out, "{{\"{kind}\":[{}]}}", rows.join(","))
        } else {
            rows.iter().try_for_each(|row| writeln!(out, "{row}"))
        };
        match written {
            // The reader of the pipe closed it.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => Ok(written.map_err(of_file("standard output"))?),
        }
    }

    /// Returns the folder of the model.
    fn folder(&self, context: &Context) -> Result<PathBuf, Error> {
        let path = PathBuf::from(&self.model);
        if path.is_dir() || !is_id(&self.model) {
            return Ok(path);
        }
        let entry = Cache::new(&context.settings()?).find(&self.model, self.version.as_ref())?;
        let folder = entry.ok_or_else(|| Error::NotPulled(self.model.clone()))?.folder;
        cache::touch(&folder);
        Ok(folder)
    }

    fn texts(&self) -> Result<Vec<String>, FileError> {
        if self.texts.is_empty() {
            io::stdin().lock().lines().collect::<Result<_, _>>().map_err(of_file("standard input"))
        } else {
            Ok(self.texts.clone())
        }
    }
}

/// The files of a model. Files that are in the manifest are verified before they are used.
struct Files<'a> {
    folder: &'a Path,
    manifest: Option<Manifest>,
    context: &'a Context,
}

impl<'a> Files<'a> {
    fn of(folder: &'a Path, context: &'a Context) -> Result<Self, Error> {
        let path = folder.join(MANIFEST);
        let text = if path.is_file() {
            Some(fs::read_to_string(&path).map_err(of_file(&path))?)
        } else {
            None
        };
        let manifest = text.map(|text| Manifest::parse(&text)).transpose()?;
        Ok(Self { folder, manifest, context })
    }

    /// Returns the path of a file, after it was compared with the manifest.
    fn path(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.folder.join(name);
        let Some(artifact) = self.manifest.as_ref().and_then(|manifest| manifest.artifact(name))
        else {
            return Ok(path);
        };
        match problem(self.folder, artifact, self.context) {
            Some(problem) => Err(Error::Altered { path, problem }),
            None => Ok(path),
        }
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, Error> {
        let path = self.path(name)?;
        Ok(fs::read(&path).map_err(of_file(&path))?)
    }

    /// Returns the path of the ONNX file: the one that the manifest names as the graph, or one with
    /// a usual name.
    fn model(&self) -> Result<PathBuf, Error> {
        if let Some(artifact) =
            self.manifest.as_ref().and_then(|manifest| embeddable::graph(manifest).ok())
        {
            return self.path(&artifact.filename);
        }
        let usual = ["model.onnx", "onnx/model_quantized.onnx", "onnx/model.onnx"];
        let found = usual.iter().map(|name| self.folder.join(name)).find(|path| path.is_file());
        found.ok_or_else(|| Error::NoOnnx(self.folder.to_owned()))
    }

    /// Loads the model. The inner error says why it cannot embed texts.
    fn embedder(&self, tokenizer: Tokenizer) -> Result<Result<Embedder, String>, Error> {
        let mut small = Vec::new();
        for name in Settings::FILES {
            if self.folder.join(name).is_file() {
                small.push((name, self.read(name)?));
            }
        }
        let settings = Settings::read(|name| {
            small.iter().find(|(of, _)| *of == name).map(|(_, bytes)| &**bytes)
        });
        let settings = match settings {
            Ok(settings) => settings,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let path = self.model()?;
        let mut file = fs::File::open(&path).map_err(of_file(&path))?;
        let mut reader = ModelReader::new(file.metadata().map_err(of_file(&path))?.len());
        let mut piece = vec![0; PIECE];
        loop {
            match file.read(&mut piece).map_err(of_file(&path))? {
                0 => break,
                read => {
                    if let Err(error) = reader.push(&piece[..read]) {
                        return Ok(Err(error.to_string()));
                    }
                }
            }
        }
        Ok(reader
            .finish()
            .map(|model| Embedder::new(model, tokenizer, settings))
            .map_err(|error| error.to_string()))
    }
}

/// Computes the vectors of texts, each as a JSON array.
fn embed(embedder: &Embedder, texts: &[String]) -> Result<Vec<String>, Error> {
    let mut rows = Vec::with_capacity(texts.len());
    for (first, texts) in (0..).step_by(BATCH).zip(texts.chunks(BATCH)) {
        let refused =
            |at: usize, problem: String| Error::NotEmbedded { text: first + at + 1, problem };
        let tokens = texts.iter().enumerate().map(|(at, text)| {
            embedder.encode(text).map_err(|error| refused(at, error.to_string()))
        });
        let tokens = tokens.collect::<Result<Vec<_>, _>>()?;
        let vectors = embedder.embed(&tokens).map_err(|error| refused(0, error.to_string()))?;
        rows.extend(vectors.iter().map(|vector| json!(vector).to_string()));
    }
    Ok(rows)
}
