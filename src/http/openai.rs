//! The request and the answer of OpenAI's embeddings API, as its clients write and read them.

use std::fmt::Write as _;
use std::time::Duration;

use base64ct::{Base64, Encoding as _};
use http::StatusCode;
use serde_json::{Map, Value, json};

/// What is asked for: members that are not listed here are ignored, as `user` is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The model's id.
    pub model: String,
    /// What is to be embedded, in order.
    pub inputs: Vec<Input>,
    /// How embeddings are written.
    pub encoding: Encoding,
    /// How many components are wanted, where not all of them are.
    pub dimensions: Option<usize>,
}

/// One thing to embed. Exhaustive, as OpenAI's API is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A text.
    Text(String),
    /// Token ids, with special ones where the model wants them.
    Tokens(Vec<u32>),
}

/// How an embedding is written. Exhaustive, as OpenAI's API is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As numbers.
    Float,
    /// As base64 of 32-bit floats, little-endian.
    Base64,
}

/// A request that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadRequest {
    /// No JSON.
    #[error("the body is not JSON: {0}")]
    NotJson(String),
    /// JSON, but no object.
    #[error("the body must be a JSON object")]
    NotObject,
    /// A member that must be there.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// The model is no text, or an empty one.
    #[error("model must be the id of a model, as /v1/models lists them")]
    Model,
    /// The input has none of the four forms.
    #[error(
        "input must be a string, an array of strings, an array of token ids, or an array of arrays of token ids; none may be empty"
    )]
    Input,
    /// Another format.
    #[error("encoding_format must be \"float\" or \"base64\"")]
    Encoding,
    /// No number of components.
    #[error("dimensions must be a whole number from 1 on")]
    Dimensions,
}

impl BadRequest {
    /// The member that is wrong.
    #[must_use]
    pub const fn param(&self) -> Option<&'static str> {
        match self {
            Self::NotJson(_) | Self::NotObject => None,
            Self::Missing(name) => Some(name),
            Self::Model => Some("model"),
            Self::Input => Some("input"),
            Self::Encoding => Some("encoding_format"),
            Self::Dimensions => Some("dimensions"),
        }
    }
}

impl Request {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// [`BadRequest`].
    pub fn read(body: &[u8]) -> Result<Self, BadRequest> {
        let body: Value =
            serde_json::from_slice(body).map_err(|error| BadRequest::NotJson(error.to_string()))?;
        let Value::Object(mut members) = body else { return Err(BadRequest::NotObject) };
        let mut member = |name| members.remove(name);
        let model = match member("model") {
            None => return Err(BadRequest::Missing("model")),
            Some(Value::String(model)) if !model.is_empty() => model,
            Some(_) => return Err(BadRequest::Model),
        };
        let inputs = inputs(member("input").ok_or(BadRequest::Missing("input"))?)
            .ok_or(BadRequest::Input)?;
        let encoding = match member("encoding_format") {
            None => Encoding::Float,
            Some(Value::String(format)) if format == "float" => Encoding::Float,
            Some(Value::String(format)) if format == "base64" => Encoding::Base64,
            Some(_) => return Err(BadRequest::Encoding),
        };
        let dimensions = match member("dimensions").map(|dimensions| whole(&dimensions)) {
            None => None,
            Some(Some(dimensions @ 1..)) => Some(usize::try_from(dimensions).unwrap_or(usize::MAX)),
            Some(_) => return Err(BadRequest::Dimensions),
        };
        Ok(Self { model, inputs, encoding, dimensions })
    }
}

fn inputs(input: Value) -> Option<Vec<Input>> {
    let items = match input {
        Value::String(text) => return Some(vec![self::text(text)?]),
        Value::Array(items) => items,
        _ => return None,
    };
    match items.first()? {
        Value::Number(_) => Some(vec![Input::Tokens(tokens(&items)?)]),
        Value::String(_) => items
            .into_iter()
            .map(|item| if let Value::String(text) = item { self::text(text) } else { None })
            .collect(),
        Value::Array(_) => {
            items.iter().map(|item| tokens(item.as_array()?).map(Input::Tokens)).collect()
        }
        _ => None,
    }
}

fn text(text: String) -> Option<Input> {
    (!text.is_empty()).then_some(Input::Text(text))
}

fn tokens(items: &[Value]) -> Option<Vec<u32>> {
    let tokens: Option<Vec<u32>> =
        items.iter().map(|item| u32::try_from(whole(item)?).ok()).collect();
    tokens.filter(|tokens| !tokens.is_empty())
}

/// A whole number, also where it is written as `5.0`, which JSON Schema takes for one too.
fn whole(value: &Value) -> Option<u64> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    // Whole, and in the range where floats are exact.
    let exact = |number: f64| {
        (number.fract() == 0.0 && (0.0..9e15).contains(&number)).then_some(number as u64)
    };
    value.as_u64().or_else(|| value.as_f64().and_then(exact))
}

/// The first `dimensions` components of an embedding, scaled to length 1 again: what is left of one by Matryoshka training.
pub fn shorten(embedding: &mut Vec<f32>, dimensions: usize) {
    if dimensions >= embedding.len() {
        return;
    }
    embedding.truncate(dimensions);
    let length = embedding.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    if length > 0.0 {
        for value in embedding {
            #[allow(clippy::cast_possible_truncation)] // The precision that embeddings have.
            let scaled = (f64::from(*value) / length) as f32;
            *value = scaled;
        }
    }
}

/// The body of the answer: embeddings in the order of the inputs, which had `tokens` tokens.
#[must_use]
pub fn answer(model: &str, embeddings: &[Vec<f32>], encoding: Encoding, tokens: usize) -> String {
    // Written by hand: a tree of JSON values would take thirty times what the numbers do.
    let mut body = String::from(r#"{"object":"list","data":["#);
    for (index, embedding) in embeddings.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(body, r#"{comma}{{"object":"embedding","index":{index},"embedding":"#);
        match encoding {
            // Serialization of numbers does not fail; those that are none are null.
            Encoding::Float => body.push_str(&serde_json::to_string(embedding).unwrap_or_default()),
            Encoding::Base64 => {
                let bytes: Vec<u8> =
                    embedding.iter().flat_map(|value| value.to_le_bytes()).collect();
                let _ = write!(body, "\"{}\"", Base64::encode_string(&bytes));
            }
        }
        body.push('}');
    }
    let usage = json!({ "prompt_tokens": tokens, "total_tokens": tokens });
    let _ = write!(body, r#"],"model":{},"usage":{usage}}}"#, Value::from(model));
    body
}

/// What is said of a request that fails: a problem (RFC 9457) which is OpenAI's error too, for clients that read only that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The status.
    pub status: StatusCode,
    /// What was wrong, and what to do.
    pub detail: String,
    /// The member of the request that is wrong, where one is.
    pub param: Option<&'static str>,
    /// What programs tell it by.
    pub code: Option<&'static str>,
    /// After how long the same may be asked again (`Retry-After`): whole seconds.
    pub retry_after: Option<Duration>,
}

impl Problem {
    /// A problem with this status, of which nothing more is known.
    #[must_use]
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), param: None, code: None, retry_after: None }
    }

    /// The same, about a member of the request.
    #[must_use]
    pub const fn about(mut self, param: Option<&'static str>) -> Self {
        self.param = param;
        self
    }

    /// The same, with a code.
    #[must_use]
    pub const fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// The same, that may be gone after some time.
    #[must_use]
    pub const fn retry_after(mut self, length: Duration) -> Self {
        self.retry_after = Some(length);
        self
    }

    /// The body.
    #[must_use]
    pub fn to_json(&self) -> String {
        let kind = match self.status {
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        let error =
            json!({ "message": self.detail, "type": kind, "param": self.param, "code": self.code });
        let mut problem: Map<String, Value> = Map::new();
        for (name, value) in [
            ("type", "about:blank".into()),
            ("title", self.status.canonical_reason().unwrap_or("Error").into()),
            ("status", self.status.as_u16().into()),
            ("detail", self.detail.clone().into()),
            ("error", error),
        ] {
            problem.insert(name.to_owned(), value);
        }
        Value::Object(problem).to_string()
    }
}

impl From<BadRequest> for Problem {
    fn from(error: BadRequest) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error.to_string()).about(error.param())
    }
}
