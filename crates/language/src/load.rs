//! A decoder's weights from the bytes of a file, as they arrive.

use edge_net_tensor::container::{self, Contents, Event, Metadata};
use edge_net_tensor::{gguf, safetensors};

use crate::config::{Config, ConfigError};
use crate::weights::{Weights, WeightsBuilder, WeightsError};

/// Why a file is not loaded.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The bytes are no such file.
    #[error(transparent)]
    Container(#[from] container::Error),
    /// The description is refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The weights are refused.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// Nothing more is taken after an error.
    #[error("loading has failed before")]
    Failed,
}

/// What a file gives.
#[derive(Debug)]
pub struct Loaded {
    /// The metadata of the file: in GGUF they have the tokenizer and the template of chats.
    pub metadata: Metadata,
    /// The weights, and the description of the decoder.
    pub weights: Weights,
}

/// Takes the bytes of a whole file in pieces of any size, from its beginning to its end. It holds
/// the head of the file and the weights, and no second copy of them.
#[derive(Debug)]
pub struct Loader {
    reader: Reader,
    contents: Contents,
    /// `None` until the metadata of a GGUF file are read.
    config: Option<Config>,
    /// `None` until all tensors are listed.
    builder: Option<WeightsBuilder>,
    failed: bool,
}

#[derive(Debug)]
enum Reader {
    Gguf(gguf::Reader),
    Safetensors(safetensors::Reader),
}

impl Reader {
    fn next<'i>(&mut self, input: &mut &'i [u8]) -> Result<Option<Event<'i>>, container::Error> {
        match self {
            Self::Gguf(reader) => reader.next(input),
            Self::Safetensors(reader) => reader.next(input),
        }
    }

    fn finish(&self) -> Result<(), container::Error> {
        match self {
            Self::Gguf(reader) => reader.finish(),
            Self::Safetensors(reader) => reader.finish(),
        }
    }

    const fn position(&self) -> u64 {
        match self {
            Self::Gguf(reader) => reader.position(),
            Self::Safetensors(reader) => reader.position(),
        }
    }
}

impl Loader {
    /// Loads a GGUF file of `size` bytes.
    #[must_use]
    pub fn gguf(size: u64) -> Self {
        Self::new(Reader::Gguf(gguf::Reader::new(size)), None)
    }

    /// Loads a safetensors file of `size` bytes, with the description of its `config.json`.
    #[must_use]
    pub fn safetensors(config: Config, size: u64) -> Self {
        Self::new(Reader::Safetensors(safetensors::Reader::new(size)), Some(config))
    }

    fn new(reader: Reader, config: Option<Config>) -> Self {
        Self { reader, contents: Contents::default(), config, builder: None, failed: false }
    }

    /// Takes the next bytes of the file.
    ///
    /// # Errors
    /// When the file is malformed, describes no supported decoder, or lacks a tensor: as soon as
    /// the bytes that show it have come. Afterwards [`LoadError::Failed`].
    pub fn push(&mut self, piece: &[u8]) -> Result<(), LoadError> {
        if self.failed {
            return Err(LoadError::Failed);
        }
        let result = self.take(piece);
        self.failed = result.is_err();
        result
    }

    fn take(&mut self, mut piece: &[u8]) -> Result<(), LoadError> {
        while let Some(event) = self.reader.next(&mut piece)? {
            if let Some((tensor, bytes)) = self.contents.take(event) {
                self.begun()?.push(tensor, bytes)?;
            }
        }
        Ok(())
    }

    /// The weights, begun once all tensors are listed.
    fn begun(&mut self) -> Result<&mut WeightsBuilder, LoadError> {
        if self.builder.is_none() {
            let config = match self.config.take() {
                Some(config) => config,
                None => Config::from_gguf(&self.contents)?,
            };
            let builder = WeightsBuilder::new(&config, &self.contents.tensors);
            self.config = Some(config);
            self.builder = Some(builder?);
        }
        self.builder.as_mut().ok_or(LoadError::Failed)
    }

    /// Number of bytes taken.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.reader.position()
    }

    /// The description, once it is known.
    #[must_use]
    pub const fn config(&self) -> Option<&Config> {
        self.config.as_ref()
    }

    /// The metadata that have been read. They are complete when the description is known.
    #[must_use]
    pub const fn metadata(&self) -> &Metadata {
        &self.contents.metadata
    }

    /// What the file gives.
    ///
    /// # Errors
    /// When bytes are missing, and for what [`push`](Self::push) refuses.
    pub fn finish(mut self) -> Result<Loaded, LoadError> {
        if self.failed {
            return Err(LoadError::Failed);
        }
        self.reader.finish()?;
        self.begun()?;
        let Self { contents, builder: Some(builder), .. } = self else {
            return Err(LoadError::Failed);
        };
        Ok(Loaded { metadata: contents.metadata, weights: builder.finish()? })
    }
}
