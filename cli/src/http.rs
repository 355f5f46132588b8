//! HTTP requests to servers that publish: agents, multipart bodies and errors.
//!
//! Bodies are streamed from files, so that memory does not grow with a model's size.

use std::io::{Cursor, Read};
use std::time::Duration;

use ureq::config::ConfigBuilder;
use ureq::http::Response;
use ureq::typestate::AgentScope;
use ureq::{Agent, Body, SendBody};

use crate::network::{self, message};
use crate::proxy::via;

/// A failed request.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The request was not answered.
    #[error("{url}: {}", message(.url, .error))]
    Unreachable {
        /// URL of the request.
        url: String,
        /// The cause.
        error: Box<ureq::Error>,
    },
    /// The response has an error status.
    #[error("{url}{}: status {status}: {body}", via(.url))]
    Status {
        /// URL of the request.
        url: String,
        /// The status.
        status: u16,
        /// The first 300 characters of the body.
        body: String,
    },
    /// The response has a good status, but other content than the protocol asks for.
    #[error("{url}: invalid response: {problem}")]
    BadResponse {
        /// URL of the request.
        url: String,
        /// The fault, as a noun phrase.
        problem: String,
    },
    /// A multipart boundary could not be drawn.
    #[error("the operating system gives no random bytes: {0}")]
    Randomness(String),
}

/// Adds the URL to an error of a request; for `map_err`.
pub fn of_url(url: impl Into<String>) -> impl FnOnce(ureq::Error) -> HttpError {
    move |error| HttpError::Unreachable { url: url.into(), error: error.into() }
}

/// Returns an agent that reports error statuses as responses.
pub fn agent() -> Agent {
    network::agent(config())
}

/// Returns an agent that follows no redirects: a bucket answers 308 to ask for the next part.
pub fn staying_agent() -> Agent {
    network::agent(config().max_redirects(0).max_redirects_will_error(false))
}

fn config() -> ConfigBuilder<AgentScope> {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(Duration::from_secs(10)));
    config.timeout_per_read(Some(Duration::from_mins(5)))
}

/// A multipart body: `content`, of `length` bytes, between `head` and `tail`.
pub struct Framed<R> {
    boundary: String,
    head: Vec<u8>,
    content: R,
    length: u64,
    tail: Vec<u8>,
}

impl<R: Read> Framed<R> {
    /// Builds a body of one or more parts, the last of which is `content`. `head` receives the
    /// boundary and returns all text before `content`.
    ///
    /// # Errors
    /// [`HttpError::Randomness`]: each body has a new random boundary, so that no file can contain
    /// it (RFC 2046, 5.1.1).
    pub fn new(
        head: impl FnOnce(&str) -> String,
        content: R,
        length: u64,
    ) -> Result<Self, HttpError> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| HttpError::Randomness(error.to_string()))?;
        let boundary = format!("edge-net-models-{:032x}", u128::from_ne_bytes(random));
        let tail = format!("\r\n--{boundary}--\r\n").into_bytes();
        Ok(Self { head: head(&boundary).into_bytes(), content, length, tail, boundary })
    }

    /// Returns the length of the whole body in bytes.
    pub fn len(&self) -> u64 {
        self.head.len() as u64 + self.length + self.tail.len() as u64
    }

    fn into_reader(self) -> impl Read {
        // A file that grew since it was hashed is cut here; the stored checksum shows it.
        Cursor::new(self.head).chain(self.content.take(self.length)).chain(Cursor::new(self.tail))
    }
}

/// Sends a POST request with a body of type `multipart/{subtype}`.
///
/// # Errors
/// [`HttpError::Unreachable`] and [`HttpError::Status`].
pub fn post<R: Read>(
    agent: &Agent,
    url: &str,
    token: Option<&str>,
    subtype: &str,
    body: Framed<R>,
) -> Result<Response<Body>, HttpError> {
    let mut request = agent
        .post(url)
        .header("Content-Type", format!("multipart/{subtype}; boundary={}", body.boundary))
        .header("Content-Length", body.len().to_string());
    if let Some(token) = token {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    let sent = request.send(SendBody::from_reader(&mut body.into_reader()));
    accepted(url, sent.map_err(of_url(url))?)
}

/// Returns the response if its status is a success.
///
/// # Errors
/// [`HttpError::Status`] with the beginning of the body.
pub fn accepted(url: &str, mut response: Response<Body>) -> Result<Response<Body>, HttpError> {
    if response.status().is_success() {
        return Ok(response);
    }
    let body =
        response.body_mut().with_config().limit(64 << 10).read_to_string().unwrap_or_default();
    let body = body.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect();
    Err(HttpError::Status { url: url.to_owned(), status: response.status().as_u16(), body })
}

/// Reads a response as text of at most `limit` bytes.
///
/// # Errors
/// [`HttpError::Unreachable`] when the body is cut, too long or not UTF-8.
pub fn text(url: &str, mut response: Response<Body>, limit: u64) -> Result<String, HttpError> {
    response.body_mut().with_config().limit(limit).read_to_string().map_err(of_url(url))
}
