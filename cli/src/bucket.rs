//! A Google Cloud Storage bucket, through its JSON API
//! (<https://cloud.google.com/storage/docs/json_api>).

use std::io::{ErrorKind, Read};
use std::thread::sleep;
use std::time::Duration;

use base64ct::{Base64, Encoding as _};
use edge_net_core::trust::manifest::MAX_MANIFEST_BYTES;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use ureq::Agent;

use crate::credentials::{Credentials, CredentialsError};
use crate::digest::Fingerprint;
use crate::files::{FileError, of_file};
use crate::http::{self, Framed, HttpError, of_url};

/// All characters except the unreserved ones of RFC 3986.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A bucket cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// There is no access token.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// A request failed.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The file to upload cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The stored object differs from the file that was hashed.
    #[error(
        "{0}: the stored object differs from the file that was hashed; no manifest refers to it \
         yet. Publish again, and do not change the file meanwhile"
    )]
    StoredOtherwise(String),
}

/// A bucket.
pub struct Bucket {
    agent: Agent,
    endpoint: String,
    name: String,
    credentials: Credentials,
}

/// Size of the parts of a resumable upload, in bytes; the API asks for a multiple of 256 KiB.
/// Smaller files are sent in one request.
const PART: u64 = 8 << 20;
/// The number of retries for a part.
const RETRIES: u32 = 5;

impl Bucket {
    /// Returns the bucket `name` at `endpoint`.
    pub fn new(endpoint: &str, name: String, credentials: Credentials) -> Self {
        let endpoint = endpoint.trim_end_matches('/');
        // STORAGE_EMULATOR_HOST may be host:port without a scheme, as for Google's own tools.
        let endpoint = if endpoint.contains("://") {
            endpoint.to_owned()
        } else {
            format!("http://{endpoint}")
        };
        Self { agent: http::staying_agent(), endpoint, name, credentials }
    }

    /// Returns the public base URL of the objects.
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

    fn get(&self, url: &str) -> Result<Option<ureq::http::Response<ureq::Body>>, BucketError> {
        let mut request = self.agent.get(url);
        if let Some(token) = self.credentials.token(&self.agent)? {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let response = request.call().map_err(of_url(url))?;
        if response.status() == 404 {
            return Ok(None);
        }
        Ok(Some(http::accepted(url, response)?))
    }

    /// Reads an object as text; `None` when it does not exist.
    ///
    /// # Errors
    /// [`BucketError::Http`] and [`BucketError::Credentials`].
    pub fn read(&self, object: &str) -> Result<Option<String>, BucketError> {
        let url = format!("{}?alt=media", self.object_url(object));
        let Some(response) = self.get(&url)? else { return Ok(None) };
        Ok(Some(http::text(&url, response, MAX_MANIFEST_BYTES)?))
    }

    /// Returns the fingerprint of an object; `None` when it does not exist.
    ///
    /// # Errors
    /// [`BucketError::Http`] and [`BucketError::Credentials`].
    pub fn stored(&self, object: &str) -> Result<Option<Fingerprint>, BucketError> {
        let url = self.object_url(object);
        let Some(response) = self.get(&url)? else { return Ok(None) };
        Ok(fingerprint(&url, response)?)
    }

    /// Writes an object, and checks the fingerprint of what the bucket stored.
    ///
    /// # Errors
    /// [`BucketError::StoredOtherwise`] when the stored bytes are not those of `expected`: the file
    /// changed since it was hashed, or the bucket stored other bytes. All other variants too.
    pub fn write(
        &self,
        object: &str,
        content: impl Read,
        expected: Fingerprint,
        media_type: &str,
        cache_control: &str,
    ) -> Result<(), BucketError> {
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
            Err(BucketError::StoredOtherwise(object.to_owned()))
        }
    }

    fn write_at_once(
        &self,
        metadata: &Value,
        content: impl Read,
        size: u64,
        media_type: &str,
    ) -> Result<Option<Fingerprint>, BucketError> {
        let url =
            format!("{}/upload/storage/v1/b/{}/o?uploadType=multipart", self.endpoint, self.name);
        let head = |boundary: &str| {
            let json = "application/json; charset=UTF-8";
            format!(
                "--{boundary}\r\nContent-Type: {json}\r\n\r\n{metadata}\r\n\
                 --{boundary}\r\nContent-Type: {media_type}\r\n\r\n"
            )
        };
        let body = Framed::new(head, content, size)?;
        let token = self.credentials.token(&self.agent)?;
        let response = http::post(&self.agent, &url, token.as_deref(), "related", body)?;
        Ok(fingerprint(&url, response)?)
    }

    /// Uploads in parts. A part that fails is sent again, from the last byte that the bucket
    /// confirmed (<https://cloud.google.com/storage/docs/performing-resumable-uploads>).
    fn write_in_parts(
        &self,
        metadata: &Value,
        mut content: impl Read,
        size: u64,
        media_type: &str,
    ) -> Result<Option<Fingerprint>, BucketError> {
        let session = self.session(metadata, size, media_type)?;
        let mut part = vec![0; usize::try_from(PART).unwrap_or(usize::MAX)];
        // The part in memory: its offset in the file, and its length.
        let (mut start, mut length) = (0, 0);
        // The number of bytes that the bucket confirmed.
        let mut stored = 0;
        let mut failures = 0;
        loop {
            if stored >= start + length as u64 {
                start = stored;
                length =
                    fill(&mut content, &mut part).map_err(of_file("the file that is uploaded"))?;
            }
            // Confirmed bytes are not sent again. A file that became shorter ends here; its
            // fingerprint shows it.
            let from =
                usize::try_from(stored.saturating_sub(start)).unwrap_or(usize::MAX).min(length);
            let end = start + length as u64;
            let range = if from < length {
                format!("bytes {stored}-{}/{size}", end.min(size) - 1)
            } else {
                format!("bytes */{size}")
            };
            let last = usize::try_from(end.min(size) - start).unwrap_or(usize::MAX);
            match self.put(&session, &range, &part[from..last]) {
                Ok(Progress::Stored(bytes)) if bytes > stored && bytes <= end => {
                    failures = 0;
                    stored = bytes;
                }
                Ok(Progress::Done(response)) => return Ok(fingerprint(&session, response)?),
                // The bucket confirmed fewer bytes than before, no new ones, or ones not sent yet.
                Ok(Progress::Stored(_)) => {
                    let problem = "a range that does not belong to this upload".into();
                    return Err(HttpError::BadResponse { url: session, problem }.into());
                }
                Err(error) if failures >= RETRIES || !is_temporary(&error) => return Err(error),
                // Send from the last confirmed byte; the bucket ignores bytes that it has already.
                Err(_) => {
                    sleep(Duration::from_millis(250 << failures));
                    failures += 1;
                }
            }
        }
    }

    /// Begins a resumable upload and returns the URL of its session.
    fn session(
        &self,
        metadata: &Value,
        size: u64,
        media_type: &str,
    ) -> Result<String, BucketError> {
        let url =
            format!("{}/upload/storage/v1/b/{}/o?uploadType=resumable", self.endpoint, self.name);
        let mut request = self.agent.post(&url).content_type("application/json; charset=UTF-8");
        if let Some(token) = self.credentials.token(&self.agent)? {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        request = request
            .header("X-Upload-Content-Type", media_type)
            .header("X-Upload-Content-Length", size.to_string());
        let begun = request.send(metadata.to_string()).map_err(of_url(&url))?;
        let begun = http::accepted(&url, begun)?;
        let location = begun.headers().get("Location").and_then(|value| value.to_str().ok());
        let session = location.ok_or_else(|| HttpError::BadResponse {
            url,
            problem: "no session for an upload".into(),
        })?;
        Ok(session.to_owned())
    }

    /// Sends a part, or with no bytes asks how many the bucket has.
    fn put(&self, session: &str, range: &str, bytes: &[u8]) -> Result<Progress, BucketError> {
        let mut request = self.agent.put(session).header("Content-Range", range);
        if let Some(token) = self.credentials.token(&self.agent)? {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let response = request.send(bytes).map_err(of_url(session))?;
        if response.status() != 308 {
            return Ok(Progress::Done(http::accepted(session, response)?));
        }
        // `bytes=0-N`; the field is missing when the bucket has no bytes.
        let range = response.headers().get("Range").and_then(|range| range.to_str().ok());
        let last: Option<u64> = range.and_then(|range| range.rsplit_once('-')?.1.parse().ok());
        Ok(Progress::Stored(last.map_or(0, |last| last.saturating_add(1))))
    }
}

/// The state of an upload.
enum Progress {
    /// The bucket has the first N bytes.
    Stored(u64),
    /// The upload is complete.
    Done(ureq::http::Response<ureq::Body>),
}

/// Returns whether the same request may succeed a little later.
const fn is_temporary(error: &BucketError) -> bool {
    match error {
        BucketError::Http(HttpError::Unreachable { .. })
        | BucketError::Credentials(CredentialsError::Http(HttpError::Unreachable { .. })) => true,
        BucketError::Http(HttpError::Status { status, .. })
        | BucketError::Credentials(CredentialsError::Http(HttpError::Status { status, .. })) => {
            matches!(status, 408 | 429 | 500..=599)
        }
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

/// Reads the object resource of a response; `None` when it has no size or no CRC32C.
fn fingerprint(
    url: &str,
    response: ureq::http::Response<ureq::Body>,
) -> Result<Option<Fingerprint>, HttpError> {
    let text = http::text(url, response, MAX_MANIFEST_BYTES)?;
    let read = || {
        let object: Value = serde_json::from_str(&text).ok()?;
        // The API writes 64-bit numbers as strings, and the checksum as the base64 of its
        // big-endian bytes.
        let size = object["size"].as_str()?.parse().ok()?;
        let crc32c = Base64::decode_vec(object["crc32c"].as_str()?).ok()?.try_into().ok()?;
        Some(Fingerprint { size, crc32c: u32::from_be_bytes(crc32c) })
    };
    Ok(read())
}
