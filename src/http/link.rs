//! Time-limited links to private models: what a client may fetch without any other credential, until when, signed with
//! HMAC-SHA256 (RFC 2104).
//!
//! A link is a URL of ours with the query `expires={unix seconds}&key={key id}&signature={base64url}`, and for more than one
//! file `prefix={path}`, a folder that all of them lie in. The signature covers the version of this format, the method (GET,
//! which includes HEAD), what is allowed, and until when.
//!
//! Keys rotate: several are known, one of them signs. Whoever takes a key out ends all its links.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use base64ct::{Base64, Base64UrlUnpadded, Encoding};
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::Sha256;

use crate::time::UnixTime;

/// Bytes of a key at the least: as many as the hash has (RFC 2104, section 3).
const MIN_KEY: usize = 32;
/// The longest that a link may be valid: seven days.
pub const MAX_LIFETIME: Duration = Duration::from_hours(7 * 24);

/// The keys of a deployment.
pub struct LinkKeys {
    current: String,
    keys: BTreeMap<String, Vec<u8>>,
}

impl fmt::Debug for LinkKeys {
    /// Shows the ids of the keys, not the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<&String> = self.keys.keys().collect();
        let mut shown = f.debug_struct("LinkKeys");
        shown.field("current", &self.current).field("ids", &ids).finish_non_exhaustive()
    }
}

/// Keys that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkKeysError {
    /// Not the JSON that [`LinkKeys::parse`] reads.
    #[error(
        "they are no JSON {{\"current\": \"<key id>\", \"keys\": {{\"<key id>\": \"<base64>\"}}}}"
    )]
    NotJson,
    /// The key that is to sign is not among them.
    #[error("the current key {0:?} is not among them")]
    NoCurrent(String),
    /// A key or its name is not as it must be.
    #[error(
        "the key {0:?} must be base64 of 32 bytes or more, and its id of letters, digits, '.', '_' and '-'"
    )]
    BadKey(String),
}

/// Why a link is not good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// It lacks a part, or has one twice.
    #[error("the link has no {0}, or more than one")]
    Missing(&'static str),
    /// It was signed with a key that is not known, or no more.
    #[error("the link was signed with a key that is not known here (any more)")]
    UnknownKey,
    /// Its time is over.
    #[error("the link expired {} s ago", .0.as_secs())]
    Expired(Duration),
    /// It is for something else.
    #[error("the link is for {0}")]
    Elsewhere(String),
    /// Something of it was altered.
    #[error("the link's signature does not fit it")]
    Signature,
}

/// What a link allows to fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reach<'a> {
    /// The path, and nothing else.
    Path(&'a str),
    /// Whatever lies below a folder, whose path ends with a slash.
    Below(&'a str),
}

#[derive(Deserialize)]
struct KeysText {
    current: String,
    keys: BTreeMap<String, String>,
}

impl LinkKeys {
    /// Reads `{"current": "<key id>", "keys": {"<key id>": "<base64>"}}`.
    ///
    /// # Errors
    /// [`LinkKeysError`]; it never quotes a key.
    pub fn parse(json: &str) -> Result<Self, LinkKeysError> {
        let KeysText { current, keys: texts } =
            serde_json::from_str(json).map_err(|_| LinkKeysError::NotJson)?;
        let mut keys = BTreeMap::new();
        for (id, text) in texts {
            let named = !id.is_empty()
                && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
            match Base64::decode_vec(&text) {
                Ok(key) if named && key.len() >= MIN_KEY => keys.insert(id, key),
                _ => return Err(LinkKeysError::BadKey(id)),
            };
        }
        if !keys.contains_key(&current) {
            return Err(LinkKeysError::NoCurrent(current));
        }
        Ok(Self { current, keys })
    }

    /// The query of a link that is good until `expires`, cut to whole seconds.
    #[must_use]
    pub fn query(&self, reach: Reach<'_>, expires: UnixTime) -> String {
        let expires = expires.as_secs();
        let signature =
            mac(&self.keys[&self.current], &self.current, reach, expires).finalize().into_bytes();
        let signature = Base64UrlUnpadded::encode_string(&signature);
        let prefix = match reach {
            Reach::Path(_) => String::new(),
            Reach::Below(folder) => format!("&prefix={folder}"),
        };
        format!("expires={expires}&key={}{prefix}&signature={signature}", self.current)
    }

    /// Whether `query` allows a GET or HEAD of `path` at `now`. Both are as they came:
    /// what is percent-encoded is not decoded.
    ///
    /// # Errors
    /// [`LinkError`].
    pub fn check(&self, path: &str, query: &str, now: UnixTime) -> Result<(), LinkError> {
        let id = the(query, "key").ok_or(LinkError::Missing("key"))?;
        let expires = the(query, "expires")
            .and_then(|expires| expires.parse().ok())
            .ok_or(LinkError::Missing("expires"))?;
        let signature = the(query, "signature").ok_or(LinkError::Missing("signature"))?;
        let signature =
            Base64UrlUnpadded::decode_vec(signature).map_err(|_| LinkError::Signature)?;
        let reach = match (query.contains("prefix="), the(query, "prefix")) {
            (false, _) => Reach::Path(path),
            (true, Some(folder)) => Reach::Below(folder),
            (true, None) => return Err(LinkError::Missing("prefix")),
        };
        let key = self.keys.get(id).ok_or(LinkError::UnknownKey)?;
        // In constant time: how much of a guess was right shows nowhere. Only who signed hears more.
        mac(key, id, reach, expires).verify_slice(&signature).map_err(|_| LinkError::Signature)?;
        match reach {
            Reach::Below(folder) if !folder.ends_with('/') || !path.starts_with(folder) => {
                Err(LinkError::Elsewhere(folder.to_owned()))
            }
            _ if now.as_secs() >= expires => {
                Err(LinkError::Expired(Duration::from_secs(now.as_secs() - expires)))
            }
            _ => Ok(()),
        }
    }
}

fn mac(key: &[u8], id: &str, reach: Reach<'_>, expires: u64) -> Hmac<Sha256> {
    let (kind, path) = match reach {
        Reach::Path(path) => ("path", path),
        Reach::Below(folder) => ("prefix", folder),
    };
    let mut mac =
        Hmac::new_from_slice(key).unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
    // No part can hold a line feed: ids and numbers have none, and paths are as they came in a request line.
    mac.update(format!("edge-net-link-v1\nGET\n{kind}\n{path}\n{expires}\n{id}").as_bytes());
    mac
}

/// The value of a parameter that is there once.
fn the<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let mut values =
        query.split('&').filter_map(|part| part.split_once('=').filter(|(of, _)| *of == name));
    let (_, value) = values.next()?;
    values.next().is_none().then_some(value)
}
