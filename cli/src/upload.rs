//! HTTP with bodies that are streamed from files.

use std::io::{Cursor, Read};
use std::time::Duration;

use ureq::http::Response;
use ureq::{Agent, Body, SendBody};

use crate::error::Error;

/// Separates the parts of multipart bodies: random enough not to occur in a file.
pub const BOUNDARY: &str = "edge-net-models-2f9b0c5e7d1a4863b7e0";

/// An agent that leaves statuses to its caller.
pub fn agent() -> Agent {
    Agent::config_builder().http_status_as_error(false).timeout_connect(Some(Duration::from_secs(10))).build().into()
}

/// `content`, of `length` bytes, between `head` and `tail`.
pub struct Framed<R> {
    head: Vec<u8>,
    content: R,
    length: u64,
    tail: Vec<u8>,
}

impl<R: Read> Framed<R> {
    /// A body of one or more parts, the last of which is `content`; `head` is all that stands before it.
    pub fn new(head: String, content: R, length: u64) -> Self {
        Self { head: head.into_bytes(), content, length, tail: format!("\r\n--{BOUNDARY}--\r\n").into_bytes() }
    }

    /// Bytes in all.
    pub fn len(&self) -> u64 {
        self.head.len() as u64 + self.length + self.tail.len() as u64
    }

    fn into_reader(self) -> impl Read {
        // A file that grew since it was hashed is cut; the server's digest or the next verify tells.
        Cursor::new(self.head).chain(self.content.take(self.length)).chain(Cursor::new(self.tail))
    }
}

/// Sends a POST with a multipart body.
pub fn post<R: Read>(
    agent: &Agent,
    url: &str,
    token: Option<&str>,
    subtype: &str,
    body: Framed<R>,
) -> Result<Response<Body>, Error> {
    let mut request = agent
        .post(url)
        .header("Content-Type", format!("multipart/{subtype}; boundary={BOUNDARY}"))
        .header("Content-Length", body.len().to_string());
    if let Some(token) = token {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    let sent = request.send(SendBody::from_reader(&mut body.into_reader()));
    accepted(url, sent.map_err(|error| Error::Unreachable { url: url.to_owned(), error: error.into() })?)
}

/// Turns any status but success into an error.
pub fn accepted(url: &str, mut response: Response<Body>) -> Result<Response<Body>, Error> {
    if response.status().is_success() {
        return Ok(response);
    }
    let said = response.body_mut().with_config().limit(64 << 10).read_to_string().unwrap_or_default();
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect();
    Err(Error::Status { url: url.to_owned(), status: response.status().as_u16(), said })
}
