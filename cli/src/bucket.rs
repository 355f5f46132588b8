//! A Google Cloud Storage bucket, through its JSON API (<https://cloud.google.com/storage/docs/json_api>).

use std::io::{ErrorKind, Read};
use std::thread::sleep;
use std::time::Duration;

use base64ct::{Base64, Encoding as _};
use edge_net_core::trust::manifest::MAX_MANIFEST_BYTES;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use ureq::Agent;

use crate::credentials::Credentials;
use crate::digest::Fingerprint;
use crate::error::{Error, of_file};
use crate::http::{self, Framed};

/// All but the unreserved characters of RFC 3986.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A bucket, and how to get at it.
pub struct Bucket {
    agent: Agent,
    endpoint: String,
    name: String,
    credentials: Credentials,
}

/// Bytes that are sent at once of a file that is sent in parts: a multiple of 256 KiB, as the API wants it. What is smaller than that
/// goes in one request.
const PART: u64 = 8 << 20;
/// How often a part is sent again.
const RETRIES: u32 = 5;

impl Bucket {
    /// The bucket `name` at `endpoint`.
    pub fn new(endpoint: &str, name: String, credentials: Credentials) -> Self {
        let endpoint = endpoint.trim_end_matches('/');
        // STORAGE_EMULATOR_HOST may be host:port without a scheme, as Google's own tools read it.
        let endpoint = if endpoint.contains("://") {
            endpoint.to_owned()
        } else {
            format!("http://{endpoint}")
        };
        Self { agent: http::staying_agent(), endpoint, name, credentials }
    }

    /// Public base URL of the objects.
    pub fn base_url(&self) -> String {
        format!("{}/{}", self.endpoint, self.name)
    }

    fn object_url(&self, object: &str) -> String {
        format!(
            "{}/storage/v1/b/{}/o/{}",
            self.endpoint,
            self.name,
            utf8_percent_encode(object, ESCAPED)
        )
    }

    fn get(&self, url: &str) -> Result<Option<ureq::http::Response<ureq::Body>>, Error> {
        let mut request = self.agent.get(url);
        if let Some(token) = self.credentials.token(&self.agent)? {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let response = request
            .call()
            .map_err(|error| Error::Unreachable { url: url.to_owned(), error: error.into() })?;
        if response.status() == 404 {
            return Ok(None);
        }
        http::accepted(url, response).map(Some)
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
        let metadata =
            json!({ "name": object, "contentType": media_type, "cacheControl": cache_control });
        let stored = if expected.size > PART {
            self.write_in_parts(&metadata, content, expected.size, media_type)?
        } else {
            self.write_at_once(&metadata, content, expected.size, media_type)?
        };
        if stored == Some(expected) {
            Ok(())
        } else {
            Err(Error::StoredOtherwise(object.to_owned()))
        }
    }

    fn write_at_once(
        &self,
        metadata: &Value,
        content: impl Read,
        size: u64,
        media_type: &str,
    ) -> Result<Option<Fingerprint>, Error> {
        let url =
            format!("{}/upload/storage/v1/b/{}/o?uploadType=multipart", self.endpoint, self.name);
        let head = |boundary: &str| {
            format!(
                "--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{metadata}\r\n--{boundary}\r\nContent-Type: {media_type}\r\n\r\n"
            )
        };
        let body = Framed::new(head, content, size)?;
        let token = self.credentials.token(&self.agent)?;
        let response = http::post(&self.agent, &url, token.as_deref(), "related", body)?;
        fingerprint(url, response)
    }

    /// A resumable upload (<https://cloud.google.com/storage/docs/performing-resumable-uploads>): a part that fails is sent again, from
    /// where the bucket has it.
    fn write_in_parts(
        &self,
        metadata: &Value,
        mut content: impl Read,
        size: u64,
        media_type: &str,
    ) -> Result<Option<Fingerprint>, Error> {
        let url =
            format!("{}/upload/storage/v1/b/{}/o?uploadType=resumable", self.endpoint, self.name);
        let mut request = self.agent.post(&url).content_type("application/json; charset=UTF-8");
        if let Some(token) = self.credentials.token(&self.agent)? {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        request = request
            .header("X-Upload-Content-Type", media_type)
            .header("X-Upload-Content-Length", size.to_string());
        let begun = request.send(metadata.to_string());
        let begun = http::accepted(
            &url,
            begun.map_err(|error| Error::Unreachable { url: url.clone(), error: error.into() })?,
        )?;
        let session = begun
            .headers()
            .get("Location")
            .and_then(|location| location.to_str().ok())
            .map(str::to_owned);
        let session = session
            .ok_or_else(|| Error::BadAnswer { url, problem: "no session for an upload".into() })?;

        let mut part = vec![0; usize::try_from(PART).unwrap_or(usize::MAX)];
        let (mut start, mut length) = (0, 0);
        // Bytes that the bucket has.
        let mut has = 0;
        let mut failures = 0;
        loop {
            if has >= start + length as u64 {
                start = has;
                length =
                    fill(&mut content, &mut part).map_err(of_file("the file that is uploaded"))?;
            }
            // What it has of this part already is not sent again. A file that is shorter than it was ends here, and is not what was hashed.
            let from = usize::try_from(has.saturating_sub(start)).unwrap_or(usize::MAX).min(length);
            let end = start + length as u64;
            let range = if from < length {
                format!("bytes {has}-{}/{size}", end.min(size) - 1)
            } else {
                format!("bytes */{size}")
            };
            let last = usize::try_from(end.min(size) - start).unwrap_or(usize::MAX);
            match self.put(&session, &range, &part[from..last]) {
                Ok(Progress::Has(bytes)) if bytes > has && bytes <= end => {
                    failures = 0;
                    has = bytes;
                }
                Ok(Progress::Done(response)) => return fingerprint(session, response),
                // It went back, or ahead of us, or nowhere.
                Ok(Progress::Has(_)) => {
                    return Err(Error::BadAnswer {
                        url: session,
                        problem: "of another upload than ours".into(),
                    });
                }
                Err(error) if failures >= RETRIES || !may_pass(&error) => return Err(error),
                // Sent again from where we know that it has it: what it has besides it ignores.
                Err(_) => {
                    sleep(Duration::from_millis(250 << failures));
                    failures += 1;
                }
            }
        }
    }

    fn put(&self, session: &str, range: &str, bytes: &[u8]) -> Result<Progress, Error> {
        let mut request = self.agent.put(session).header("Content-Range", range);
        if let Some(token) = self.credentials.token(&self.agent)? {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let response = request.send(bytes);
        let response = response
            .map_err(|error| Error::Unreachable { url: session.to_owned(), error: error.into() })?;
        if response.status() != 308 {
            return http::accepted(session, response).map(Progress::Done);
        }
        // `bytes=0-N`; nothing, where it has nothing.
        let range = response.headers().get("Range").and_then(|range| range.to_str().ok());
        let last: Option<u64> = range.and_then(|range| range.rsplit_once('-')?.1.parse().ok());
        Ok(Progress::Has(last.map_or(0, |last| last.saturating_add(1))))
    }
}

/// What the bucket has of an upload.
enum Progress {
    /// This many bytes.
    Has(u64),
    /// All.
    Done(ureq::http::Response<ureq::Body>),
}

/// Whether the same may succeed a little later.
const fn may_pass(error: &Error) -> bool {
    match error {
        Error::Unreachable { .. } => true,
        Error::Status { status, .. } => matches!(status, 408 | 429 | 500..=599),
        _ => false,
    }
}

/// Reads until the buffer is full or the source ends.
fn fill(source: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Reads the object resource in an answer; `None` when it has no size or CRC32C.
fn fingerprint(
    url: String,
    mut response: ureq::http::Response<ureq::Body>,
) -> Result<Option<Fingerprint>, Error> {
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
