//! Requests and responses of OpenAI's embeddings API.

use std::fmt::Write as _;
use std::time::Duration;

use base64ct::{Base64, Encoding as _};
use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::http::registry::Summary;

/// A request for embeddings. Other members of the body, such as `user`, are ignored, and a member
/// that is null is as one that is missing: clients send null for what was not set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The model's id.
    pub model: String,
    /// The inputs to embed, in order.
    pub inputs: Vec<Input>,
    /// How embeddings are encoded.
    pub encoding: Encoding,
    /// The number of components of each embedding; without, all of them.
    pub dimensions: Option<usize>,
}

/// An input to embed. Exhaustive, as OpenAI's API is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A text.
    Text(String),
    /// Token ids, including the special tokens that the model needs.
    Tokens(Vec<u32>),
}

/// The encoding of an embedding. Exhaustive, as OpenAI's API is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// An array of numbers.
    Float,
    /// Base64 of 32-bit floats, little-endian.
    Base64,
}

/// Why a request is malformed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadRequest {
    /// The body is not JSON.
    #[error("the body is not JSON: {0}")]
    NotJson(String),
    /// The body is JSON, but not an object.
    #[error("the body must be a JSON object")]
    NotObject,
    /// A required member is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// `model` is not a string, or empty.
    #[error("model must be the id of a model that /v1/models lists")]
    Model,
    /// `input` has none of the four forms.
    #[error(
        "input must be a string, an array of strings, an array of token ids, or an array of arrays \
         of token ids; none may be empty"
    )]
    Input,
    /// An element of `input` is empty, or has another form than the first.
    #[error("input {at}: it must be {wanted}, as in the elements before it; none may be empty")]
    InputAt {
        /// The element's index.
        at: usize,
        /// The form of the first element.
        wanted: &'static str,
    },
    /// `encoding_format` is unknown.
    #[error("encoding_format must be \"float\" or \"base64\"")]
    Encoding,
    /// `dimensions` is not a number of components.
    #[error("dimensions must be a whole number of at least 1")]
    Dimensions,
}

impl BadRequest {
    /// The member at fault, if one is.
    #[must_use]
    pub const fn param(&self) -> Option<&'static str> {
        match self {
            Self::NotJson(_) | Self::NotObject => None,
            Self::Missing(name) => Some(name),
            Self::Model => Some("model"),
            Self::Input | Self::InputAt { .. } => Some("input"),
            Self::Encoding => Some("encoding_format"),
            Self::Dimensions => Some("dimensions"),
        }
    }
}

impl Request {
    /// Parses the body of a request.
    ///
    /// # Errors
    /// [`BadRequest`] names the member at fault.
    pub fn read(body: &[u8]) -> Result<Self, BadRequest> {
        let body: Value =
            serde_json::from_slice(body).map_err(|error| BadRequest::NotJson(error.to_string()))?;
        let Value::Object(mut members) = body else { return Err(BadRequest::NotObject) };
        let mut member = |name| members.remove(name).filter(|value| !value.is_null());
        let model = match member("model") {
            None => return Err(BadRequest::Missing("model")),
            Some(Value::String(model)) if !model.is_empty() => model,
            Some(_) => return Err(BadRequest::Model),
        };
        let inputs = inputs(member("input").ok_or(BadRequest::Missing("input"))?)?;
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

fn inputs(input: Value) -> Result<Vec<Input>, BadRequest> {
    let items = match input {
        Value::String(text) => return Ok(vec![self::text(text).ok_or(BadRequest::Input)?]),
        Value::Array(items) => items,
        _ => return Err(BadRequest::Input),
    };
    match items.first() {
        Some(Value::Number(_)) => Ok(vec![Input::Tokens(tokens(&items).ok_or(BadRequest::Input)?)]),
        Some(Value::String(_)) => each(items, "a string", |item| match item {
            Value::String(text) => self::text(text),
            _ => None,
        }),
        Some(Value::Array(_)) => {
            each(items, "an array of token ids", |item| tokens(item.as_array()?).map(Input::Tokens))
        }
        _ => Err(BadRequest::Input),
    }
}

/// Reads each element of `input`; the error names the one at fault.
fn each(
    items: Vec<Value>,
    wanted: &'static str,
    read: impl Fn(Value) -> Option<Input>,
) -> Result<Vec<Input>, BadRequest> {
    let items = items.into_iter().enumerate();
    items.map(|(at, item)| read(item).ok_or(BadRequest::InputAt { at, wanted })).collect()
}

fn text(text: String) -> Option<Input> {
    (!text.is_empty()).then_some(Input::Text(text))
}

fn tokens(items: &[Value]) -> Option<Vec<u32>> {
    let tokens: Option<Vec<u32>> =
        items.iter().map(|item| u32::try_from(whole(item)?).ok()).collect();
    tokens.filter(|tokens| !tokens.is_empty())
}

/// A whole number; `5.0` is one, as in JSON Schema.
fn whole(value: &Value) -> Option<u64> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    // Whole, and in the range where floats are exact.
    let exact = |number: f64| {
        (number.fract() == 0.0 && (0.0..9e15).contains(&number)).then_some(number as u64)
    };
    value.as_u64().or_else(|| value.as_f64().and_then(exact))
}

/// Shortens an embedding to its first `dimensions` components and scales it to length 1 again. That
/// keeps most of the meaning for models with Matryoshka training.
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

/// The body of the response: embeddings in the order of the inputs; `tokens` is the inputs' number
/// of tokens.
#[must_use]
pub fn answer(model: &str, embeddings: &[Vec<f32>], encoding: Encoding, tokens: usize) -> String {
    // Written by hand: a tree of JSON values would need thirty times the memory of the numbers.
    let mut body = String::from(r#"{"object":"list","data":["#);
    for (index, embedding) in embeddings.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(body, r#"{comma}{{"object":"embedding","index":{index},"embedding":"#);
        match encoding {
            // Serializing numbers cannot fail; NaN becomes null.
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

/// The body of OpenAI's list of models.
#[must_use]
pub fn models(models: &[Summary]) -> Value {
    json!({ "object": "list", "data": models.iter().map(model).collect::<Value>() })
}

/// A model in the form of OpenAI's API.
#[must_use]
pub fn model(model: &Summary) -> Value {
    let Summary { id, signed, owner, .. } = model;
    json!({ "id": id, "object": "model", "created": signed / 1000, "owned_by": owner })
}

/// The body of a failed request: a problem (RFC 9457) with a member `error` for OpenAI's clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The status.
    pub status: StatusCode,
    /// What is wrong, and what to do.
    pub detail: String,
    /// The member of the request at fault, if one is.
    pub param: Option<&'static str>,
    /// A code for programs.
    pub code: Option<&'static str>,
    /// After how long the client may try again (`Retry-After`), in whole seconds.
    pub retry_after: Option<Duration>,
}

impl Problem {
    /// A problem with a status and a detail.
    #[must_use]
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), param: None, code: None, retry_after: None }
    }

    /// The same problem about a member of the request.
    #[must_use]
    pub const fn about(mut self, param: Option<&'static str>) -> Self {
        self.param = param;
        self
    }

    /// The same problem with a code.
    #[must_use]
    pub const fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// The same problem with the time after which the client may try again.
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
