use serde::Deserialize;

use super::error::TemplateError;
use super::jinja::ChatTemplate;

#[derive(Deserialize)]
struct Config {
    chat_template: Option<Templates>,
    bos_token: Option<Token>,
    eos_token: Option<Token>,
    unk_token: Option<Token>,
    pad_token: Option<Token>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Templates {
    One(String),
    Named(Vec<Named>),
}

#[derive(Deserialize)]
struct Named {
    name: String,
    template: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Token {
    Text(String),
    Added { content: String },
}

impl Token {
    fn text(self) -> String {
        match self {
            Self::Text(text) | Self::Added { content: text } => text,
        }
    }
}

/// The template of this name, if there are several, is for conversations without tools.
const DEFAULT: &str = "default";

impl ChatTemplate {
    /// The template in `tokenizer_config.json`. Of several, the one with this name; [`None`] takes
    /// the one for conversations without tools.
    ///
    /// # Errors
    /// [`TemplateError::Missing`], [`TemplateError::Unread`], [`TemplateError::Invalid`].
    pub fn from_config(json: &[u8], name: Option<&str>) -> Result<Self, TemplateError> {
        let config: Config = serde_json::from_slice(json).map_err(|error| {
            TemplateError::Unread { what: "tokenizer_config.json", reason: error.to_string() }
        })?;
        let wanted = name.unwrap_or(DEFAULT);
        let source = match config.chat_template {
            None => return Err(TemplateError::Missing(String::new())),
            Some(Templates::One(source)) => source,
            Some(Templates::Named(all)) => {
                let names: Vec<&str> = all.iter().map(|named| named.name.as_str()).collect();
                let missing = format!(" named {wanted:?}; its templates: {}", names.join(", "));
                let found = all.into_iter().find(|named| named.name == wanted);
                found.ok_or(TemplateError::Missing(missing))?.template
            }
        };
        let tokens = [
            ("bos_token", config.bos_token),
            ("eos_token", config.eos_token),
            ("unk_token", config.unk_token),
            ("pad_token", config.pad_token),
        ];
        let template = Self::new(&source)?;
        Ok(tokens.into_iter().fold(template, |template, (name, token)| match token {
            Some(token) => template.with_token(name, &token.text()),
            None => template,
        }))
    }
}
