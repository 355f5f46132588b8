use minijinja::Value;
use minijinja::value::ValueKind;

use super::error::TemplateError;
use crate::tokenizer::Tokenizer;

/// Most nested lists and maps in a conversation.
const MAX_DEPTH: usize = 32;

/// A message that is only text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who says it: mostly `system`, `user` or `assistant`.
    pub role: String,
    /// What is said.
    pub content: String,
}

/// A conversation that a template writes as a prompt.
#[derive(Clone, Debug)]
pub struct Chat {
    pub(super) messages: Value,
    pub(super) tools: Value,
    pub(super) generates: bool,
    pub(super) variables: Vec<(String, Value)>,
    pub(super) now: Option<i64>,
}

impl Chat {
    /// A conversation of text. The answer of the assistant comes next.
    #[must_use]
    pub fn new(messages: &[Message]) -> Self {
        let message = |message: &Message| {
            Value::from_pairs([
                ("role", message.role.as_str()),
                ("content", message.content.as_str()),
            ])
        };
        Self::of(messages.iter().map(message).collect())
    }

    /// A conversation in the JSON form of OpenAI's API: a list of messages, which may have more
    /// fields than role and content.
    ///
    /// # Errors
    /// [`TemplateError::Unread`].
    pub fn from_json(messages: &str) -> Result<Self, TemplateError> {
        Ok(Self::of(list("the list of messages", messages)?))
    }

    fn of(messages: Value) -> Self {
        Self { messages, tools: Value::from(()), generates: true, variables: Vec::new(), now: None }
    }

    /// Tools that the model may call: a list in JSON.
    ///
    /// # Errors
    /// [`TemplateError::Unread`].
    pub fn with_tools(mut self, tools: &str) -> Result<Self, TemplateError> {
        self.tools = list("the list of tools", tools)?;
        Ok(self)
    }

    /// Whether the prompt ends with the beginning of an answer (`add_generation_prompt`). It does
    /// unless said otherwise.
    #[must_use]
    pub fn with_generation_prompt(mut self, generates: bool) -> Self {
        self.generates = generates;
        self
    }

    /// Sets a variable that some templates know, such as `enable_thinking`.
    #[must_use]
    pub fn with_variable(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// The time for templates that write the date, in seconds since 1970, local or UTC.
    #[must_use]
    pub fn with_time(mut self, seconds: i64) -> Self {
        self.now = Some(seconds);
        self
    }

    /// Special tokens written out anywhere in messages and tools stay text; see
    /// [`Tokenizer::shield`].
    ///
    /// # Errors
    /// [`TemplateError::TooMuch`] for lists and maps that are nested too deeply.
    pub fn shielded(mut self, tokenizer: &Tokenizer) -> Result<Self, TemplateError> {
        self.messages = shield(&self.messages, tokenizer, 0)?;
        self.tools = shield(&self.tools, tokenizer, 0)?;
        Ok(self)
    }
}

fn list(what: &'static str, json: &str) -> Result<Value, TemplateError> {
    let unread = |reason: String| TemplateError::Unread { what, reason };
    let value: Value = serde_json::from_str(json).map_err(|error| unread(error.to_string()))?;
    if value.kind() == ValueKind::Seq {
        Ok(value)
    } else {
        Err(unread(format!("it is a {}", value.kind())))
    }
}

fn shield(value: &Value, tokenizer: &Tokenizer, depth: usize) -> Result<Value, TemplateError> {
    if depth > MAX_DEPTH {
        let limit = MAX_DEPTH as u64;
        return Err(TemplateError::TooMuch { what: "the depth of a conversation", limit });
    }
    let unread = |error: minijinja::Error| TemplateError::Unread {
        what: "the list",
        reason: error.to_string(),
    };
    match value.kind() {
        ValueKind::String => Ok(Value::from(tokenizer.shield(value.as_str().unwrap_or_default()))),
        ValueKind::Seq => {
            let items = value.try_iter().map_err(unread)?;
            let items: Result<Vec<Value>, _> =
                items.map(|item| shield(&item, tokenizer, depth + 1)).collect();
            Ok(Value::from(items?))
        }
        ValueKind::Map => {
            let mut fields = Vec::new();
            for key in value.try_iter().map_err(unread)? {
                let field = value.get_item(&key).map_err(unread)?;
                let key = shield(&key, tokenizer, depth + 1)?;
                fields.push((key, shield(&field, tokenizer, depth + 1)?));
            }
            Ok(Value::from_pairs(fields))
        }
        _ => Ok(value.clone()),
    }
}
