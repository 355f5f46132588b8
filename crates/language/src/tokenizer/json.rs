use serde::Deserialize;
use tokenizers::{Encoding, Model as _, PostProcessor, Token};

use super::error::TokenizerError;
use super::pieces::{Kind, MAX_TOKENS, Pieces, Spelling};
use super::vocabulary::{Ends, Model, Parts, Tokenizer};

const FILE: &str = "tokenizer.json";
const CONFIG: &str = "tokenizer_config.json";

/// The parts of `tokenizer.json` that are checked before the library reads it.
#[derive(Deserialize)]
struct Header {
    model: HeaderModel,
    decoder: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct HeaderModel {
    #[serde(rename = "type")]
    kind: Option<String>,
    continuing_subword_prefix: Option<String>,
    dropout: Option<f32>,
}

/// The parts of `tokenizer_config.json` that are about tokens.
#[derive(Default, Deserialize)]
struct Config {
    bos_token: Option<Named>,
    eos_token: Option<Named>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Named {
    Text(String),
    Token { content: String },
}

impl Named {
    fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Token { content: text } => text,
        }
    }
}

impl Tokenizer {
    /// Reads `tokenizer.json`, and from `tokenizer_config.json` which tokens begin and end a text.
    /// Padding and truncation are ignored: no text is cut silently.
    ///
    /// # Errors
    /// [`TokenizerError::Unread`]; [`TokenizerError::Unsupported`] for models other than BPE and
    /// for decoders of which the bytes of single tokens cannot be told.
    pub fn from_json(json: &[u8], config: Option<&[u8]>) -> Result<Self, TokenizerError> {
        let header: Header = serde_json::from_slice(json).map_err(|error| unread(FILE, &error))?;
        header.model.check()?;
        let (spelling, drops_first_space) = decoding(header.decoder.as_ref())?;
        let config: Config = match config {
            Some(config) => {
                serde_json::from_slice(config).map_err(|error| unread(CONFIG, &error))?
            }
            None => Config::default(),
        };
        let library =
            tokenizers::Tokenizer::from_bytes(json).map_err(|error| unread(FILE, &error))?;
        let pieces = pieces(&library, spelling)?;
        let id = |named: &Named| library.token_to_id(named.text());
        let bos = config.bos_token.as_ref().and_then(id);
        let eos = config.eos_token.as_ref().and_then(id);
        let mut plain = library.get_added_vocabulary().clone();
        plain.set_encode_special_tokens(true);
        Self::assemble(Parts {
            ends: ends(&library)?,
            model: Model::Library(Box::new(library)),
            parsed: None,
            plain,
            pieces,
            bos,
            eos,
            stops: eos.into_iter().collect(),
            drops_first_space,
        })
    }
}

fn unread(file: &'static str, error: &dyn ToString) -> TokenizerError {
    TokenizerError::Unread { file, reason: error.to_string() }
}

impl HeaderModel {
    fn check(&self) -> Result<(), TokenizerError> {
        let unsupported = |what, found: String, supported| {
            Err(TokenizerError::Unsupported { what, found, supported })
        };
        if let Some(kind) = self.kind.as_ref().filter(|kind| *kind != "BPE") {
            return unsupported("the model in tokenizer.json", kind.clone(), "BPE");
        }
        let prefix = self.continuing_subword_prefix.as_ref().filter(|prefix| !prefix.is_empty());
        if let Some(prefix) = prefix {
            return unsupported("continuing_subword_prefix", prefix.clone(), "none");
        }
        match self.dropout {
            Some(dropout) if dropout != 0.0 => unsupported("dropout", dropout.to_string(), "0"),
            _ => Ok(()),
        }
    }
}

/// How tokens are spelled, and whether a text's first space is dropped.
fn decoding(decoder: Option<&serde_json::Value>) -> Result<(Spelling, bool), TokenizerError> {
    let Some(decoder) = decoder else { return unknown_decoder("none") };
    let kind = |step: &serde_json::Value| step["type"].as_str().unwrap_or_default().to_owned();
    match kind(decoder).as_str() {
        "ByteLevel" => Ok((Spelling::Bytes, false)),
        "Metaspace" => {
            let never = decoder["prepend_scheme"] == "never"
                || decoder["add_prefix_space"] == serde_json::Value::Bool(false);
            Ok((Spelling::Sentence, !never))
        }
        "Sequence" => {
            let steps = decoder["decoders"].as_array().map_or(&[][..], Vec::as_slice);
            let is_space = |step: &serde_json::Value| {
                step["pattern"]["String"] == "\u{2581}" && step["content"] == " "
            };
            let known = ["Replace", "ByteFallback", "Fuse", "Strip"];
            let all_known = steps.iter().all(|step| known.contains(&kind(step).as_str()));
            if all_known && steps.iter().any(is_space) {
                let drops = steps.iter().any(|step| kind(step) == "Strip" && step["start"] == 1);
                return Ok((Spelling::Sentence, drops));
            }
            if steps.iter().all(|step| kind(step) == "ByteLevel") && !steps.is_empty() {
                return Ok((Spelling::Bytes, false));
            }
            unknown_decoder("Sequence")
        }
        other => unknown_decoder(other),
    }
}

fn unknown_decoder<T>(found: &str) -> Result<T, TokenizerError> {
    Err(TokenizerError::Unsupported {
        what: "the decoder in tokenizer.json",
        found: found.to_owned(),
        supported: "ByteLevel, Metaspace, Sequence of Replace, ByteFallback, Fuse and Strip",
    })
}

fn pieces(library: &tokenizers::Tokenizer, spelling: Spelling) -> Result<Pieces, TokenizerError> {
    let added = library.get_added_vocabulary().get_added_tokens_decoder();
    let words = library.get_model().get_vocab();
    let last = words.values().chain(added.keys()).max().copied().unwrap_or(0) as usize;
    if last >= MAX_TOKENS {
        return Err(unread(FILE, &format!("token {last}; ids end at {}", MAX_TOKENS - 1)));
    }
    let mut texts: Vec<(&str, Kind)> = vec![("", Kind::Literal); last + 1];
    for (text, id) in &words {
        texts[*id as usize] = (text, Kind::Text);
    }
    for (id, token) in added {
        let kind = match (token.special, spelling) {
            (true, _) => Kind::Special,
            (false, Spelling::Bytes) => Kind::Literal,
            (false, Spelling::Sentence) => Kind::Text,
        };
        texts[*id as usize] = (&token.content, kind);
    }
    let mut pieces = Pieces::default();
    for (text, kind) in texts {
        pieces.push(text, kind, spelling)?;
    }
    Ok(pieces)
}

/// What the post-processor puts around a text, found by letting it process one token.
fn ends(library: &tokenizers::Tokenizer) -> Result<Ends, TokenizerError> {
    let Some(processor) = library.get_post_processor() else { return Ok(Ends::default()) };
    let text = u32::MAX;
    let token = Token::new(text, String::new(), (0, 0));
    let encoding = processor
        .process(Encoding::from_tokens(vec![token], 0), None, true)
        .map_err(|error| unread(FILE, &error))?;
    let mut sides = encoding.get_ids().split(|id| *id == text);
    match (sides.next(), sides.next(), sides.next()) {
        (Some(before), Some(after), None) => {
            Ok(Ends { before: before.to_vec(), after: after.to_vec() })
        }
        _ => Err(unread(FILE, &"the post-processor does not keep the text")),
    }
}
