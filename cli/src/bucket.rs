//! A Google Cloud Storage bucket, through its JSON API (<https://cloud.google.com/storage/docs/json_api>).

use std::env;
use std::io::Read;

use base64ct::{Base64, Encoding as _};
use edge_net_core::manifest::MAX_MANIFEST_BYTES;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use ureq::Agent;

use crate::digest::Fingerprint;
use crate::error::Error;
use crate::upload::{self, Framed};

/// All but the unreserved characters of RFC 3986.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A bucket, and how to get at it.
pub struct Bucket {
    agent: Agent,
    endpoint: String,
    name: String,
    token: Option<String>,
}

impl Bucket {
    /// The bucket `name` at `endpoint`, with the OAuth token in `GOOGLE_OAUTH_ACCESS_TOKEN` if there is one.
    pub fn new(endpoint: &str, name: String) -> Self {
        let endpoint = endpoint.trim_end_matches('/');
        // STORAGE_EMULATOR_HOST may be host:port without a scheme, as Google's own tools read it.
        let endpoint = if endpoint.contains("://") { endpoint.to_owned() } else { format!("http://{endpoint}") };
        Self { agent: upload::agent(), endpoint, name, token: env::var("GOOGLE_OAUTH_ACCESS_TOKEN").ok() }
    }

    /// Public base URL of the objects.
    pub fn base_url(&self) -> String {
        format!("{}/{}", self.endpoint, self.name)
    }

    fn object_url(&self, object: &str) -> String {
        format!("{}/storage/v1/b/{}/o/{}", self.endpoint, self.name, utf8_percent_encode(object, ESCAPED))
    }

    fn get(&self, url: &str) -> Result<Option<ureq::http::Response<ureq::Body>>, Error> {
        let mut request = self.agent.get(url);
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let response = request.call().map_err(|error| Error::Unreachable { url: url.to_owned(), error: error.into() })?;
        if response.status() == 404 {
            return Ok(None);
        }
        upload::accepted(url, response).map(Some)
    }

    /// The text of an object, if it exists.
    pub fn read(&self, object: &str) -> Result<Option<String>, Error> {
        let url = format!("{}?alt=media", self.object_url(object));
        let Some(mut response) = self.get(&url)? else { return Ok(None) };
        let text = response.body_mut().with_config().limit(MAX_MANIFEST_BYTES).read_to_string();
        text.map(Some).map_err(|error| Error::Unreachable { url, error: error.into() })
    }

    /// What is stored under a name, if anything.
    pub fn stored(&self, object: &str) -> Result<Option<Fingerprint>, Error> {
        let url = self.object_url(object);
        let Some(response) = self.get(&url)? else { return Ok(None) };
        fingerprint(url, response)
    }

    /// Writes an object, and checks that what is stored then is what `expected` says.
    ///
    /// # Errors
    /// [`Error::StoredOtherwise`] when the file changed since it was fingerprinted, or the bucket has other bytes.
    pub fn write(
        &self,
        object: &str,
        content: impl Read,
        expected: Fingerprint,
        media_type: &str,
        cache_control: &str,
    ) -> Result<(), Error> {
        let url = format!("{}/upload/storage/v1/b/{}/o?uploadType=multipart", self.endpoint, self.name);
        let metadata = json!({ "name": object, "contentType": media_type, "cacheControl": cache_control });
        let head = |boundary: &str| {
            format!(
                "--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{metadata}\r\n--{boundary}\r\nContent-Type: {media_type}\r\n\r\n"
            )
        };
        let body = Framed::new(head, content, expected.size)?;
        let response = upload::post(&self.agent, &url, self.token.as_deref(), "related", body)?;
        match fingerprint(url, response)? {
            Some(stored) if stored == expected => Ok(()),
            _ => Err(Error::StoredOtherwise(object.to_owned())),
        }
    }
}

/// Reads the object resource in an answer; `None` when it has no size or CRC32C.
fn fingerprint(url: String, mut response: ureq::http::Response<ureq::Body>) -> Result<Option<Fingerprint>, Error> {
    let text = response.body_mut().with_config().limit(MAX_MANIFEST_BYTES).read_to_string();
    let text = text.map_err(|error| Error::Unreachable { url, error: error.into() })?;
    let read = || {
        let object: Value = serde_json::from_str(&text).ok()?;
        // The API writes 64-bit numbers as strings, and the checksum as base64 of its big-endian bytes.
        let size = object["size"].as_str()?.parse().ok()?;
        let crc32c = Base64::decode_vec(object["crc32c"].as_str()?).ok()?.try_into().ok()?;
        Some(Fingerprint { size, crc32c: u32::from_be_bytes(crc32c) })
    };
    Ok(read())
}
