//! A Google Cloud Storage bucket, through its JSON API
//! (<https://cloud.google.com/storage/docs/json_api>).

use std::io::{ErrorKind, Read, Seek, SeekFrom};
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
use crate::sessions::{self, Session, Sessions};

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
    /// The object changed since it was read.
    #[error("{0}: another process changed the object meanwhile; publish again")]
    Changed(String),
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
    sessions: Sessions,
}

/// The generation of an object, which each write changes. A write names the generation that it
/// replaces, so that it replaces nothing else
/// (<https://cloud.google.com/storage/docs/request-preconditions>).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation(String);

impl Generation {
    /// That of an object that does not exist.
    pub fn none() -> Self {
        Self("0".into())
    }
}

/// An object to write.
pub struct Object<'a> {
    /// Its name.
    pub name: &'a str,
    /// Size and checksum of its content.
    pub fingerprint: Fingerprint,
    /// Its media type.
    pub media_type: &'a str,
    /// Its `Cache-Control`.
    pub cache_control: &'a str,
    /// The generation that it replaces.
    pub over: &'a Generation,
}

impl Object<'_> {
    fn metadata(&self) -> Value {
        let Self { name, media_type, cache_control, .. } = self;
        json!({ "name": name, "contentType": media_type, "cacheControl": cache_control })
    }
}

/// Size of the parts of a resumable upload, in bytes; the API asks for a multiple of 256 KiB.
/// Smaller files are sent in one request.
const PART: u64 = 8 << 20;
/// The longest page of a list of objects that is read, in bytes.
const MAX_LIST_BYTES: u64 = 16 << 20;
/// The number of retries for a part.
const RETRIES: u32 = 5;
/// How often another request is repeated: an error is shown within two seconds.
const REPEATS: u32 = 3;

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
        let sessions = Sessions::of_user();
        Self { agent: http::staying_agent(), endpoint, name, credentials, sessions }
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
        patiently(|_| self.get_once(url))
    }

    fn get_once(&self, url: &str) -> Result<Option<ureq::http::Response<ureq::Body>>, BucketError> {
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

    /// Reads an object as text, with its generation; `None` when it does not exist.
    ///
    /// # Errors
    /// [`BucketError::Http`] and [`BucketError::Credentials`].
    pub fn read(&self, object: &str) -> Result<Option<(String, Generation)>, BucketError> {
        let url = format!("{}?alt=media", self.object_url(object));
        let Some(response) = self.get(&url)? else { return Ok(None) };
        let generation = response.headers().get("x-goog-generation");
        let generation = generation.and_then(|value| value.to_str().ok()).map(str::to_owned);
        let generation = generation.ok_or_else(|| HttpError::BadResponse {
            url: url.clone(),
            problem: "no x-goog-generation".into(),
        })?;
        Ok(Some((http::text(&url, response, MAX_MANIFEST_BYTES)?, Generation(generation))))
    }

    /// Returns fingerprint and generation of an object; `None` when it does not exist.
    ///
    /// # Errors
    /// [`BucketError::Http`] and [`BucketError::Credentials`].
    pub fn stored(
        &self,
        object: &str,
    ) -> Result<Option<(Option<Fingerprint>, Generation)>, BucketError> {
        let url = self.object_url(object);
        let Some(response) = self.get(&url)? else { return Ok(None) };
        let resource = resource(&url, response)?;
        let generation = resource["generation"].as_str().ok_or_else(|| HttpError::BadResponse {
            url,
            problem: "an object without generation".into(),
        })?;
        Ok(Some((fingerprint(&resource), Generation(generation.into()))))
    }

    fn bucket_url(&self) -> String {
        format!("{}/storage/v1/b/{}", self.endpoint, self.name)
    }

    /// Returns the rules for requests of pages of other origins.
    ///
    /// # Errors
    /// [`BucketError::Http`] and [`BucketError::Credentials`].
    pub fn cors(&self) -> Result<Vec<Value>, BucketError> {
        let url = self.bucket_url();
        let response = self.get(&url)?.ok_or_else(|| HttpError::Status {
            url: url.clone(),
            status: 404,
            body: "there is no such bucket".into(),
        })?;
        Ok(resource(&url, response)?["cors"].as_array().cloned().unwrap_or_default())
    }

    /// Replaces these rules, and returns those that the bucket then has.
    ///
    /// # Errors
    /// [`BucketError::Http`] and [`BucketError::Credentials`].
    pub fn set_cors(&self, rules: &[Value]) -> Result<Vec<Value>, BucketError> {
        self.patch(&self.bucket_url(), &json!({ "cors": rules }))?;
        self.cors()
    }

    /// Sets the `Cache-Control` of an object.
    ///
    /// # Errors
    /// [`BucketError::Http`] and [`BucketError::Credentials`].
    pub fn set_cache_control(&self, object: &str, value: &str) -> Result<(), BucketError> {
        self.patch(&self.object_url(object), &json!({ "cacheControl": value }))
    }

    /// Returns name and `Cache-Control` of all objects.
    ///
    /// # Errors
    /// [`BucketError::Http`] and [`BucketError::Credentials`].
    pub fn objects(&self) -> Result<Vec<(String, String)>, BucketError> {
        let mut objects = Vec::new();
        let mut page = String::new();
        loop {
            let url = format!("{}/o?maxResults=1000&pageToken={page}", self.bucket_url());
            let Some(response) = self.get(&url)? else { return Ok(objects) };
            let text = http::text(&url, response, MAX_LIST_BYTES)?;
            let list: Value = serde_json::from_str(&text).unwrap_or_default();
            let text =
                |object: &Value, name: &str| object[name].as_str().unwrap_or_default().to_owned();
            let items = list["items"].as_array().into_iter().flatten();
            objects.extend(items.map(|item| (text(item, "name"), text(item, "cacheControl"))));
            match list["nextPageToken"].as_str() {
                Some(next) if !next.is_empty() => {
                    page = utf8_percent_encode(next, ESCAPED).to_string();
                }
                _ => return Ok(objects),
            }
        }
    }

    fn patch(&self, url: &str, change: &Value) -> Result<(), BucketError> {
        patiently(|_| self.patch_once(url, change))
    }

    fn patch_once(&self, url: &str, change: &Value) -> Result<(), BucketError> {
        let mut request = self.agent.patch(url).content_type("application/json; charset=UTF-8");
        if let Some(token) = self.credentials.token(&self.agent)? {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let response = request.send(change.to_string()).map_err(of_url(url))?;
        http::accepted(url, response)?;
        Ok(())
    }

    /// Removes an object if it still has this generation.
    ///
    /// # Errors
    /// [`BucketError::Http`] and [`BucketError::Credentials`].
    pub fn remove(&self, object: &str, generation: &Generation) -> Result<(), BucketError> {
        patiently(|_| self.remove_once(object, generation))
    }

    fn remove_once(&self, object: &str, generation: &Generation) -> Result<(), BucketError> {
        let url = format!("{}?ifGenerationMatch={}", self.object_url(object), generation.0);
        let mut request = self.agent.delete(&url);
        if let Some(token) = self.credentials.token(&self.agent)? {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let response = request.call().map_err(of_url(&url))?;
        match response.status().as_u16() {
            404 | 412 => Ok(()),
            _ => Ok(http::accepted(&url, response).map(drop)?),
        }
    }

    /// Writes an object in place of the generation that it names, and checks the fingerprint of
    /// what the bucket stored.
    ///
    /// # Errors
    /// [`BucketError::Changed`] when the object has another generation;
    /// [`BucketError::StoredOtherwise`] when the stored bytes are not those of the fingerprint: the
    /// file changed since it was hashed, or the bucket stored other bytes. All other variants too.
    pub fn write(
        &self,
        object: &Object<'_>,
        mut content: impl Read + Seek,
    ) -> Result<(), BucketError> {
        let stored = if object.fingerprint.size > PART {
            self.write_in_parts(object, content)
        } else {
            patiently(|failures| match self.write_at_once(object, &mut content) {
                // The response to an earlier attempt may have been lost.
                Err(error) if failures > 0 && is_precondition(&error) => {
                    let stored = self.stored(object.name)?.and_then(|(stored, _)| stored);
                    stored.filter(|stored| *stored == object.fingerprint).ok_or(error).map(Some)
                }
                stored => stored,
            })
        };
        let stored = stored.map_err(|error| {
            let is_changed = is_precondition(&error);
            if is_changed { BucketError::Changed(object.name.to_owned()) } else { error }
        })?;
        if stored == Some(object.fingerprint) {
            Ok(())
        } else {
            Err(BucketError::StoredOtherwise(object.name.to_owned()))
        }
    }

    fn upload_url(&self, kind: &str, over: &Generation) -> String {
        format!(
            "{}/upload/storage/v1/b/{}/o?uploadType={kind}&ifGenerationMatch={}",
            self.endpoint, self.name, over.0
        )
    }

    fn write_at_once(
        &self,
        object: &Object<'_>,
        content: &mut (impl Read + Seek),
    ) -> Result<Option<Fingerprint>, BucketError> {
        content.rewind().map_err(of_file("the file that is uploaded"))?;
        let url = self.upload_url("multipart", object.over);
        let head = |boundary: &str| {
            let json = "application/json; charset=UTF-8";
            format!(
                "--{boundary}\r\nContent-Type: {json}\r\n\r\n{}\r\n\
                 --{boundary}\r\nContent-Type: {}\r\n\r\n",
                object.metadata(),
                object.media_type
            )
        };
        let body = Framed::new(head, content, object.fingerprint.size)?;
        let token = self.credentials.token(&self.agent)?;
        let response = http::post(&self.agent, &url, token.as_deref(), "related", body)?;
        Ok(fingerprint(&resource(&url, response)?))
    }

    /// Uploads in parts, and goes on where an interrupted upload of the same content ended
    /// (<https://cloud.google.com/storage/docs/performing-resumable-uploads>).
    fn write_in_parts(
        &self,
        object: &Object<'_>,
        mut content: impl Read + Seek,
    ) -> Result<Option<Fingerprint>, BucketError> {
        let target = format!("{}/{}/{}", self.endpoint, self.name, object.name);
        let kept = self.sessions.entry(&target, object.fingerprint);
        if let Some(session) = kept.read() {
            // It may be too old, or for another generation.
            if let Ok(Some(stored)) = self.send(object, &mut content, session, &kept)
                && stored == object.fingerprint
            {
                return Ok(Some(stored));
            }
        }
        let session = Session { url: patiently(|_| self.session(object))?, stored: 0 };
        self.send(object, &mut content, session, &kept)
    }

    /// Sends the parts of an upload. A part that fails is sent again, from the last byte that the
    /// bucket confirmed.
    fn send(
        &self,
        object: &Object<'_>,
        content: &mut (impl Read + Seek),
        mut session: Session,
        kept: &sessions::Entry,
    ) -> Result<Option<Fingerprint>, BucketError> {
        let unread = |error| of_file("the file that is uploaded")(error);
        let size = object.fingerprint.size;
        let mut part = vec![0; usize::try_from(PART).unwrap_or(usize::MAX)];
        let mut failures = 0;
        loop {
            kept.write(&session);
            // Confirmed bytes are not sent again. A file that became shorter ends here; its
            // fingerprint shows it.
            let start = session.stored;
            content.seek(SeekFrom::Start(start)).map_err(unread)?;
            let length = fill(content, &mut part).map_err(unread)? as u64;
            let end = (start + length).min(size);
            let range = if end > start {
                format!("bytes {start}-{}/{size}", end - 1)
            } else {
                format!("bytes */{size}")
            };
            let length = usize::try_from(end - start).unwrap_or(usize::MAX);
            match self.put(&session.url, &range, &part[..length]) {
                Ok(Progress::Done(response)) => {
                    kept.remove();
                    return Ok(fingerprint(&resource(&session.url, response)?));
                }
                Ok(Progress::Stored(bytes)) if bytes > end => {
                    let problem = "a range that does not belong to this upload".into();
                    return Err(HttpError::BadResponse { url: session.url, problem }.into());
                }
                Ok(Progress::Stored(bytes)) if bytes > start => {
                    failures = 0;
                    session.stored = bytes;
                }
                // Nothing new was stored, or some of it was lost: send from there.
                Ok(Progress::Stored(bytes)) if failures < RETRIES => session.stored = bytes,
                Ok(Progress::Stored(bytes)) => {
                    let problem = format!("{bytes} of {size} bytes stored, and no progress");
                    return Err(HttpError::BadResponse { url: session.url, problem }.into());
                }
                Err(error) if failures >= RETRIES || !is_temporary(&error) => return Err(error),
                Err(_) => {}
            }
            if session.stored <= start {
                sleep(Duration::from_millis(250 << failures));
                failures += 1;
            }
        }
    }

    /// Begins a resumable upload and returns the URL of its session.
    fn session(&self, object: &Object<'_>) -> Result<String, BucketError> {
        let url = self.upload_url("resumable", object.over);
        let mut request = self.agent.post(&url).content_type("application/json; charset=UTF-8");
        if let Some(token) = self.credentials.token(&self.agent)? {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        request = request
            .header("X-Upload-Content-Type", object.media_type)
            .header("X-Upload-Content-Length", object.fingerprint.size.to_string());
        let begun = request.send(object.metadata().to_string()).map_err(of_url(&url))?;
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

/// Repeats a request that may succeed a little later; it gets the number of failures before.
fn patiently<T>(mut request: impl FnMut(u32) -> Result<T, BucketError>) -> Result<T, BucketError> {
    let mut failures = 0;
    loop {
        match request(failures) {
            Err(error) if failures < REPEATS && is_temporary(&error) => {
                sleep(Duration::from_millis(250 << failures));
                failures += 1;
            }
            result => return result,
        }
    }
}

/// Returns whether the object did not have the generation that the request named.
const fn is_precondition(error: &BucketError) -> bool {
    matches!(error, BucketError::Http(HttpError::Status { status: 412, .. }))
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

/// Reads the resource in a response.
fn resource(url: &str, response: ureq::http::Response<ureq::Body>) -> Result<Value, HttpError> {
    let text = http::text(url, response, MAX_MANIFEST_BYTES)?;
    Ok(serde_json::from_str(&text).unwrap_or_default())
}

/// Returns the fingerprint in an object resource; `None` when it has no size or no CRC32C.
fn fingerprint(object: &Value) -> Option<Fingerprint> {
    // The API writes 64-bit numbers as strings, and the checksum as the base64 of its big-endian
    // bytes.
    let size = object["size"].as_str()?.parse().ok()?;
    let crc32c = Base64::decode_vec(object["crc32c"].as_str()?).ok()?.try_into().ok()?;
    Some(Fingerprint { size, crc32c: u32::from_be_bytes(crc32c) })
}
