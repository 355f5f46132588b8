//! Signed URLs of a private Cloud Storage bucket: the V4 signing process in its query string form
//! (<https://cloud.google.com/storage/docs/authentication/canonical-requests>,
//! <https://cloud.google.com/storage/docs/access-control/signing-urls-manually>).
//!
//! With an HMAC key ([`HmacKey`]) this module signs. The RSA key of a service account stays in
//! WebCrypto: for it this module says what to sign ([`Unsigned`]).

use std::fmt::{self, Write as _};
use std::time::Duration;

use base64ct::{Base64, Encoding};
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::time::UnixTime;

/// The longest lifetime of a signed URL: seven days.
pub const MAX_LIFETIME: Duration = Duration::from_hours(7 * 24);

/// The scope of the credential: any location, Cloud Storage, V4 signatures.
const SCOPE: &str = "auto/storage/goog4_request";

/// Why a URL cannot be signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SigningError {
    /// The URL is not `https://host/path`.
    #[error("{0:?} is not the URL of a bucket; it must be http(s)://host/path without a query")]
    Url(String),
    /// The lifetime is not between one second and [`MAX_LIFETIME`].
    #[error(
        "a signed URL cannot be valid for {} s; the limit is {} s",
        .0.as_secs(), MAX_LIFETIME.as_secs()
    )]
    Lifetime(Duration),
    /// The time is after the last year that the format can write.
    #[error(
        "a URL cannot be signed at {} ms after 1970: the year has more than four digits",
        .0.as_millis()
    )]
    Clock(UnixTime),
    /// The text is not the key file of a service account.
    #[error("the service account's key cannot be read: {0}")]
    Account(String),
}

/// The members of a service account's key file (JSON) that signing needs.
#[derive(Deserialize)]
pub struct ServiceAccount {
    /// The account's address, which names the signer.
    pub client_email: String,
    private_key: String,
}

impl fmt::Debug for ServiceAccount {
    /// Does not show the private key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("ServiceAccount");
        shown.field("client_email", &self.client_email).finish_non_exhaustive()
    }
}

impl ServiceAccount {
    /// Parses a key file from the Cloud console.
    ///
    /// # Errors
    /// [`SigningError::Account`], which never quotes the key.
    pub fn parse(json: &str) -> Result<Self, SigningError> {
        let account: Self = serde_json::from_str(json).map_err(|_| {
            SigningError::Account("it is not JSON with client_email and private_key".into())
        })?;
        account.pkcs8()?;
        Ok(account)
    }

    /// The private key as PKCS #8 in DER (RFC 5958), for WebCrypto.
    ///
    /// # Errors
    /// [`SigningError::Account`].
    pub fn pkcs8(&self) -> Result<Vec<u8>, SigningError> {
        let body = self.private_key.trim().strip_prefix("-----BEGIN PRIVATE KEY-----");
        let body = body.and_then(|body| body.strip_suffix("-----END PRIVATE KEY-----"));
        let body: Option<String> = body.map(|body| body.split_whitespace().collect());
        let der = body.and_then(|body| Base64::decode_vec(&body).ok());
        der.ok_or_else(|| {
            SigningError::Account(
                "private_key is not a PKCS #8 key in PEM (BEGIN PRIVATE KEY)".into(),
            )
        })
    }

    /// The URL for a GET of `url`, valid from `now` for `lifetime` (whole seconds), which is to be
    /// signed with RSASSA-PKCS1-v1_5 and SHA-256.
    ///
    /// # Errors
    /// [`SigningError`] says why the URL cannot be signed.
    pub fn unsigned(
        &self,
        url: &str,
        now: UnixTime,
        lifetime: Duration,
    ) -> Result<Unsigned, SigningError> {
        Unsigned::new("GOOG4-RSA-SHA256", &self.client_email, url, now, lifetime)
    }
}

/// An HMAC key of the bucket's project.
pub struct HmacKey {
    /// The access id, which names the signer.
    pub access_id: String,
    /// The secret that signs.
    pub secret: String,
}

impl fmt::Debug for HmacKey {
    /// Does not show the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HmacKey").field("access_id", &self.access_id).finish_non_exhaustive()
    }
}

impl HmacKey {
    /// The signed URL for a GET of `url`, valid from `now` for `lifetime` (whole seconds).
    ///
    /// # Errors
    /// [`SigningError`] says why the URL cannot be signed.
    pub fn sign(
        &self,
        url: &str,
        now: UnixTime,
        lifetime: Duration,
    ) -> Result<String, SigningError> {
        let unsigned = Unsigned::new("GOOG4-HMAC-SHA256", &self.access_id, url, now, lifetime)?;
        let key = format!("GOOG4{}", self.secret).into_bytes();
        let key = unsigned.scope.split('/').fold(key, |key, part| hmac(&key, part));
        let signature = hmac(&key, unsigned.string_to_sign());
        Ok(unsigned.with_signature(&signature))
    }
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key)
        .unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// A URL that lacks its signature.
#[derive(Debug)]
pub struct Unsigned {
    url: String,
    scope: String,
    string_to_sign: String,
}

impl Unsigned {
    fn new(
        algorithm: &str,
        principal: &str,
        url: &str,
        now: UnixTime,
        lifetime: Duration,
    ) -> Result<Self, SigningError> {
        if !(Duration::from_secs(1)..=MAX_LIFETIME).contains(&lifetime) {
            return Err(SigningError::Lifetime(lifetime));
        }
        let (host, path) = host_and_path(url).ok_or_else(|| SigningError::Url(url.to_owned()))?;
        let (time, lifetime) = (basic_time(now)?, lifetime.as_secs());
        let scope = format!("{}/{SCOPE}", &time[..8]);
        let credential = encode(&format!("{principal}/{scope}"), "");
        // In the order of their names, as the canonical request requires.
        let query = format!(
            "X-Goog-Algorithm={algorithm}&X-Goog-Credential={credential}&X-Goog-Date={time}\
             &X-Goog-Expires={lifetime}&X-Goog-SignedHeaders=host"
        );
        let request = format!("GET\n{path}\n{query}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD");
        let digest = base16ct::lower::encode_string(&Sha256::digest(request));
        let string_to_sign = format!("{algorithm}\n{time}\n{scope}\n{digest}");
        let scheme = url.split_once("://").map_or("https", |(scheme, _)| scheme);
        Ok(Self { url: format!("{scheme}://{host}{path}?{query}"), scope, string_to_sign })
    }

    /// The text to sign, in UTF-8.
    #[must_use]
    pub fn string_to_sign(&self) -> &str {
        &self.string_to_sign
    }

    /// The URL, with the signature of [`Unsigned::string_to_sign`].
    #[must_use]
    pub fn with_signature(self, signature: &[u8]) -> String {
        format!("{}&X-Goog-Signature={}", self.url, base16ct::lower::encode_string(signature))
    }
}

/// The host, with its port, and the path, encoded as the canonical request requires.
fn host_and_path(url: &str) -> Option<(String, String)> {
    let (scheme, rest) = url.split_once("://")?;
    let (host, path) = rest.split_at(rest.find('/')?);
    let good = matches!(scheme, "https" | "http")
        && !host.is_empty()
        && !url.contains(['?', '#', '@'])
        && url.is_ascii();
    // Escapes that the path already has stay as they are.
    good.then(|| (host.to_ascii_lowercase(), encode(path, "/%")))
}

/// Percent-encodes all but unreserved characters (RFC 3986, section 2.3) and those of `safe`.
fn encode(text: &str, safe: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        let character = char::from(byte);
        if character.is_ascii_alphanumeric()
            || "-._~".contains(character)
            || safe.contains(character)
        {
            encoded.push(character);
        } else {
            let _ = write!(encoded, "%{byte:02X}"); // Writing to a String cannot fail.
        }
    }
    encoded
}

/// `YYYYMMDDTHHMMSSZ` (ISO 8601, basic format).
fn basic_time(now: UnixTime) -> Result<String, SigningError> {
    const YEAR_10000: UnixTime = UnixTime::from_secs(253_402_300_800);
    if now >= YEAR_10000 {
        return Err(SigningError::Clock(now));
    }
    let time = UnixTime::from_secs(now.as_secs()).to_string();
    Ok(time.replace(['-', ':'], ""))
}
