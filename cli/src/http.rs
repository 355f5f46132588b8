//! HTTP with bodies that are streamed from files.

use std::io::{Cursor, Read};
use std::time::Duration;

use ureq::config::ConfigBuilder;
use ureq::http::Response;
use ureq::typestate::AgentScope;
use ureq::{Agent, Body, SendBody};

use crate::error::Error;

/// An agent that leaves statuses to its caller.
pub fn agent() -> Agent {
    config().build().into()
}

/// One for which no answer is a redirection: a bucket says 308 where it wants more.
pub fn staying_agent() -> Agent {
    config().max_redirects(0).max_redirects_will_error(false).build().into()
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
    /// A body of one or more parts, the last of which is `content`; `head` makes, of the boundary, all that stands before it.
    ///
    /// # Errors
    /// [`Error::Randomness`]: the boundary is drawn anew for each body, so that no file can hold it (RFC 2046, 5.1.1).
    pub fn new(head: impl FnOnce(&str) -> String, content: R, length: u64) -> Result<Self, Error> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| Error::Randomness(error.to_string()))?;
        let boundary = format!("edge-net-models-{:032x}", u128::from_ne_bytes(random));
        let tail = format!("\r\n--{boundary}--\r\n").into_bytes();
        Ok(Self { head: head(&boundary).into_bytes(), content, length, tail, boundary })
    }

    /// Bytes in all.
    pub fn len(&self) -> u64 {
        self.head.len() as u64 + self.length + self.tail.len() as u64
    }

    fn into_reader(self) -> impl Read {
        // A file that grew since it was hashed is cut; the digest of what was stored tells.
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
        .header("Content-Type", format!("multipart/{subtype}; boundary={}", body.boundary))
        .header("Content-Length", body.len().to_string());
    if let Some(token) = token {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    let sent = request.send(SendBody::from_reader(&mut body.into_reader()));
    accepted(
        url,
        sent.map_err(|error| Error::Unreachable { url: url.to_owned(), error: error.into() })?,
    )
}

/// Turns any status but success into an error.
pub fn accepted(url: &str, mut response: Response<Body>) -> Result<Response<Body>, Error> {
    if response.status().is_success() {
        return Ok(response);
    }
    let said =
        response.body_mut().with_config().limit(64 << 10).read_to_string().unwrap_or_default();
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect();
    Err(Error::Status { url: url.to_owned(), status: response.status().as_u16(), said })
}
