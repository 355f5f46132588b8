//! Time-limited links to private models, signed with HMAC-SHA256 (RFC 2104). A link is the only
//! credential that its client needs.
//!
//! A link is a URL of the edge with the query `expires={unix seconds}&key={key
//! id}&signature={base64url}`. A link to a folder also has `prefix={path}`, the folder's path. The
//! signature covers the version of this format, the method (GET, which includes HEAD), the path or
//! prefix, and the expiry.
//!
//! Keys rotate: several keys are valid and one of them signs. Removing a key ends its links.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use base64ct::{Base64, Base64UrlUnpadded, Encoding};
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::Sha256;

use crate::time::UnixTime;

/// Least bytes of a key: the length of the hash (RFC 2104, section 3).
const MIN_KEY: usize = 32;
/// The longest lifetime of a link: seven days.
pub const MAX_LIFETIME: Duration = Duration::from_hours(7 * 24);

/// The link keys of a deployment.
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

/// Why link keys cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkKeysError {
    /// The text is not the JSON that [`LinkKeys::parse`] reads.
    #[error(
        "it must be JSON: {{\"current\": \"<key id>\", \"keys\": {{\"<key id>\": \"<base64>\"}}}}"
    )]
    NotJson,
    /// The key that signs is not one of the keys.
    #[error("the current key {0:?} is not one of the keys")]
    NoCurrent(String),
    /// A key or its id is malformed.
    #[error(
        "the key {0:?} must be base64 of at least 32 bytes, and its id must have only letters, \
         digits, '.', '_' and '-'"
    )]
    BadKey(String),
}

/// Why a link is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// A parameter is missing, malformed or repeated.
    #[error("the link has no {0}, or more than one")]
    Missing(&'static str),
    /// The key is unknown, or was removed.
    #[error("the link is signed with a key that is unknown here, or was removed")]
    UnknownKey,
    /// The link expired this long ago.
    #[error("the link expired {} s ago", .0.as_secs())]
    Expired(Duration),
    /// The link is for another folder.
    #[error("the link is for {0}")]
    Elsewhere(String),
    /// The link was altered.
    #[error("the link's signature is wrong")]
    Signature,
}

/// The paths that a link allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reach<'a> {
    /// One path.
    Path(&'a str),
    /// Every path below a folder, whose path ends with a slash.
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
    /// [`LinkKeysError`], which never quotes a key.
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

    /// The query of a link that is valid until `expires`, cut to whole seconds.
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

    /// Checks that `query` allows a GET or HEAD of `path` at `now`. Neither is percent-decoded.
    ///
    /// # Errors
    /// [`LinkError`] says why the link is refused.
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
        // In constant time, so that timing tells nothing about a guess. The errors below are told
        // only for a genuine signature.
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
    // No part can have a line feed: ids and numbers have none, and paths come from a request line.
    mac.update(format!("edge-net-link-v1\nGET\n{kind}\n{path}\n{expires}\n{id}").as_bytes());
    mac
}

/// The value of a parameter that the query has exactly once.
fn the<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let mut values =
        query.split('&').filter_map(|part| part.split_once('=').filter(|(of, _)| *of == name));
    let (_, value) = values.next()?;
    values.next().is_none().then_some(value)
}
