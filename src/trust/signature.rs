//! Signatures of manifests: Ed25519 over the RFC 8785 bytes of the manifest without its `signature`
//! member, verified with keys that the deployer pinned. A floor prevents rollback to an older
//! manifest.
//!
//! An endorsement replaces a key. Manifests that the new key signs have it in `endorsements`:
//! `{"keyId", "publicKey", "by", "signature"}`. Its signature is by the old key, named `by`, over
//! the RFC 8785 bytes of the other members. Clients that pinned the old key then accept the new
//! one, and no longer accept the old one for that model, also if both are pinned.
//! [`crate::trust::acceptance`] decides what is accepted.

use std::time::Duration;

use base64ct::{Base64, Encoding as _};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use semver::Version;
use serde_json::{Map, Value, json};

use crate::time::UnixTime;
use crate::trust::manifest::{Manifest, ManifestError};
use crate::trust::newest::is_newer;
use crate::trust::unambiguous::Unambiguous;

/// Public keys that the deployer trusts, by key id.
#[derive(Debug, Clone, Default)]
pub struct PinnedKeys(Vec<(String, VerifyingKey)>);

/// Why pinned keys cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PinnedKeysError {
    /// The text is not a JSON object of strings.
    #[error("pinned keys must be a JSON object from key id to base64 public key: {0}")]
    NotJson(String),
    /// The key is not a point on the curve, or has a small order.
    #[error("the pinned key {0:?} is not the base64 of a 32-byte Ed25519 public key")]
    BadKey(String),
}

impl PinnedKeys {
    /// Parses `{"<keyId>": "<base64 of the 32-byte public key>", …}`.
    ///
    /// # Errors
    /// [`PinnedKeysError`] names the key at fault.
    pub fn parse(json: &str) -> Result<Self, PinnedKeysError> {
        let keys = match serde_json::from_str(json) {
            Ok(Unambiguous(Value::Object(keys))) => keys,
            Ok(_) => return Err(PinnedKeysError::NotJson("it is another JSON value".into())),
            Err(error) => return Err(PinnedKeysError::NotJson(error.to_string())),
        };
        keys.into_iter().try_fold(Self::default(), |pinned, (id, key)| {
            pinned.pin(id, key.as_str().unwrap_or_default())
        })
    }

    /// Adds a public key, in base64.
    ///
    /// # Errors
    /// [`PinnedKeysError::BadKey`].
    pub fn pin(mut self, id: String, key: &str) -> Result<Self, PinnedKeysError> {
        match public_key(key) {
            Some(key) => self.0.push((id, key)),
            None => return Err(PinnedKeysError::BadKey(id)),
        }
        Ok(self)
    }

    /// The key with this identifier alone, if it is pinned.
    #[must_use]
    pub fn only(&self, id: &str) -> Self {
        Self(self.0.iter().filter(|(pinned, _)| pinned == id).cloned().collect())
    }

    /// Whether no key is pinned.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn find(&self, id: &str) -> Option<&VerifyingKey> {
        self.0.iter().find(|(pinned, _)| pinned == id).map(|(_, key)| key)
    }

    /// Adds the keys that pinned keys endorse, in the order of the document, and returns the ids of
    /// the keys that `signer` replaced, directly or through others. Endorsements that do not verify
    /// are ignored.
    fn endorse(&mut self, document: &Map<String, Value>, signer: &str) -> Vec<String> {
        let mut links: Vec<(&str, &str)> = Vec::new();
        let endorsements = document.get("endorsements").and_then(Value::as_array);
        for endorsement in
            endorsements.into_iter().flatten().filter_map(Value::as_object).take(MAX_ENDORSEMENTS)
        {
            let member = |name: &str| endorsement.get(name).and_then(Value::as_str);
            let (Some(id), Some(key)) = (member("keyId"), member("publicKey")) else { continue };
            let (Some(by), Some(signature)) = (member("by"), member("signature")) else { continue };
            let (Some(key), Some(old)) = (public_key(key), self.find(by)) else { continue };
            let nothing_else = endorsement.len() == 4;
            // A pinned key stays what it is; an endorsement of the same key still replaces another.
            let fits = self.find(id).is_none_or(|known| *known == key);
            if nothing_else && fits && check(old, by, signature, endorsement).is_ok() {
                if self.find(id).is_none() {
                    self.0.push((id.to_owned(), key));
                }
                links.push((id, by));
            }
        }
        replaced_by(signer, &links)
    }
}

/// The keys that `signer` replaced, out of the pairs of a new and an old key, in their order.
fn replaced_by(signer: &str, links: &[(&str, &str)]) -> Vec<String> {
    let mut line = vec![signer];
    while let Some((_, old)) =
        links.iter().find(|(new, old)| line.contains(new) && !line.contains(old))
    {
        line.push(old);
    }
    let mut replaced: Vec<String> = Vec::new();
    for (new, old) in links {
        if line.contains(new) && *old != signer && !replaced.iter().any(|known| known == old) {
            replaced.push((*old).to_owned());
        }
    }
    replaced
}

/// Most endorsements that are read from a manifest.
const MAX_ENDORSEMENTS: usize = 16;

fn public_key(base64: &str) -> Option<VerifyingKey> {
    let key = Base64::decode_vec(base64).ok().and_then(|key| VerifyingKey::try_from(&*key).ok())?;
    (!key.is_weak()).then_some(key)
}

/// Checks that `signature` (base64) is by `key` over `document` without its `signature` member.
fn check(
    key: &VerifyingKey,
    key_id: &str,
    signature: &str,
    document: &Map<String, Value>,
) -> Result<(), Refusal> {
    let signature = Base64::decode_vec(signature)
        .ok()
        .and_then(|bytes| <[u8; 64]>::try_from(bytes).ok())
        .filter(is_reduced);
    let Some(signature) = signature else {
        return Err(Refusal::NonCanonical(key_id.to_owned()));
    };
    let fits = key.verify_strict(&signed_bytes(document), &Signature::from_bytes(&signature));
    fits.map_err(|_| Refusal::BadSignature(key_id.to_owned()))
}

/// Why a manifest is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The manifest is malformed.
    #[error(transparent)]
    Malformed(#[from] ManifestError),
    /// The manifest has no signature block, or it lacks this member.
    #[error("the manifest is not signed: `{0}` is missing or not a string")]
    Unsigned(&'static str),
    /// The signature block has an unknown member, which no signature covers.
    #[error("the manifest's signature block has a member {0:?}, which no signature covers")]
    Uncovered(String),
    /// The key is not pinned.
    #[error(
        "the manifest is signed by key {key_id:?}, which is not pinned here (pinned: {pinned})"
    )]
    UnknownKey {
        /// The id of the key.
        key_id: String,
        /// The ids of the pinned keys.
        pinned: String,
    },
    /// The signature block has another public key than the one pinned under the key's id.
    #[error("the manifest carries a public key for {0:?} that is not the pinned one")]
    WrongPublicKey(String),
    /// The signature is not 64 bytes of canonical base64, or its scalar is not reduced.
    #[error("the manifest's signature by {0:?} is not a canonical Ed25519 signature")]
    NonCanonical(String),
    /// The signature does not match the fields.
    #[error(
        "the manifest's signature by {0:?} does not fit its fields: a field was changed after \
         signing, or another key signed"
    )]
    BadSignature(String),
    /// The manifest is of another model or version than the requested one.
    #[error("requested {asked}, but the manifest is of {got}")]
    WrongSubject {
        /// The requested model, and version if one was requested.
        asked: String,
        /// Model and version of the manifest.
        got: String,
    },
    /// The manifest expired: somebody may be withholding a newer one.
    #[error(
        "the manifest expired on {0}; its publisher has to sign it again, unless the clock of this \
         device is ahead"
    )]
    Expired(UnixTime),
    /// The manifest was signed in the future.
    #[error(
        "the manifest was signed on {signed}, which is in the future: here it is {now}. Either the \
         clock of this device is behind and has to be corrected, or the publisher's was ahead, and \
         the manifest has to be signed again"
    )]
    Ahead {
        /// When it was signed.
        signed: UnixTime,
        /// The client's time.
        now: UnixTime,
    },
    /// Another key replaced the key that signed.
    #[error("the manifest is signed by key {0:?}, which was replaced by another")]
    ReplacedKey(String),
    /// A newer manifest was accepted before.
    #[error("{got} is older than {floor}, which was accepted before")]
    Rollback {
        /// Version and signing time of the manifest.
        got: String,
        /// Version and signing time accepted before.
        floor: String,
    },
}

/// The newest version and its signing time accepted so far for a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Floor {
    /// Newest version.
    pub version: Version,
    /// Latest signing time.
    pub timestamp: UnixTime,
    /// Ids of the keys that others replaced.
    pub replaced: Vec<String>,
}

impl std::fmt::Display for Floor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "version {} signed {}", self.version, self.timestamp)
    }
}

/// A manifest that a pinned key signed.
#[derive(Debug, Clone)]
pub struct VerifiedManifest {
    manifest: Manifest,
    key_id: String,
    replaced: Vec<String>,
}

impl std::ops::Deref for VerifiedManifest {
    type Target = Manifest;
    fn deref(&self) -> &Manifest {
        &self.manifest
    }
}

impl VerifiedManifest {
    /// Parses and verifies a manifest from any source.
    ///
    /// # Errors
    /// [`Refusal`] says why it is refused.
    pub fn verify(text: &str, keys: &PinnedKeys) -> Result<Self, Refusal> {
        let manifest = Manifest::parse(text)?;
        let Some(Value::Object(block)) = manifest.document.get("signature") else {
            return Err(Refusal::Unsigned("signature"));
        };
        let member = |name: &'static str| {
            block.get(name).and_then(Value::as_str).ok_or(Refusal::Unsigned(name))
        };
        let key_id = member("keyId")?.to_owned();
        if let Some(more) =
            block.keys().find(|name| !matches!(name.as_str(), "keyId" | "publicKey" | "signature"))
        {
            return Err(Refusal::Uncovered(more.clone()));
        }
        let mut known = keys.clone();
        let replaced = known.endorse(&manifest.document, &key_id);
        let Some(key) = known.find(&key_id) else {
            let pinned: Vec<&str> = keys.0.iter().map(|(id, _)| id.as_str()).collect();
            let pinned = if pinned.is_empty() { "none".to_owned() } else { pinned.join(", ") };
            return Err(Refusal::UnknownKey { key_id, pinned });
        };
        // The key in the manifest proves nothing; it only must not contradict the pinned one.
        if member("publicKey")? != Base64::encode_string(key.as_bytes()) {
            return Err(Refusal::WrongPublicKey(key_id));
        }
        check(key, &key_id, member("signature")?, &manifest.document)?;
        Ok(Self { manifest, key_id, replaced })
    }

    /// Checks that this is the manifest of the requested model, and of the version if one was
    /// requested.
    ///
    /// # Errors
    /// [`Refusal::WrongSubject`].
    pub fn about(self, id: &str, version: Option<&Version>) -> Result<Self, Refusal> {
        if self.id == id && version.is_none_or(|version| *version == self.version) {
            return Ok(self);
        }
        let asked = version.map_or_else(|| id.to_owned(), |version| format!("{id} {version}"));
        Err(Refusal::WrongSubject { asked, got: format!("{} {}", self.id, self.version) })
    }

    /// Checks that no other key replaced the one that signed this.
    ///
    /// # Errors
    /// [`Refusal::ReplacedKey`].
    pub fn not_replaced(self, floor: Option<&Floor>) -> Result<Self, Refusal> {
        match floor {
            Some(floor) if floor.replaced.contains(&self.key_id) => {
                Err(Refusal::ReplacedKey(self.key_id))
            }
            _ => Ok(self),
        }
    }

    /// Checks that this is not older than `floor`.
    ///
    /// # Errors
    /// [`Refusal::Rollback`], or [`Refusal::ReplacedKey`] when a replaced key signed.
    pub fn not_before(self, floor: Option<&Floor>) -> Result<Self, Refusal> {
        let this = self.not_replaced(floor)?;
        match floor {
            Some(floor) if this.is_behind(floor) => {
                Err(Refusal::Rollback { got: this.floor().to_string(), floor: floor.to_string() })
            }
            _ => Ok(this),
        }
    }

    /// Checks that this was signed at most `ahead` after `now`.
    ///
    /// # Errors
    /// [`Refusal::Ahead`].
    pub fn not_ahead(self, now: UnixTime, ahead: Duration) -> Result<Self, Refusal> {
        if self.timestamp > now + ahead {
            return Err(Refusal::Ahead { signed: self.timestamp, now });
        }
        Ok(self)
    }

    /// Checks that this has not expired at `now`.
    ///
    /// # Errors
    /// [`Refusal::Expired`].
    pub fn not_expired(self, now: UnixTime) -> Result<Self, Refusal> {
        match self.expires {
            Some(expires) if expires <= now => Err(Refusal::Expired(expires)),
            _ => Ok(self),
        }
    }

    /// Whether this is older than `floor`, by version or by signing time. A release is not older
    /// than a prerelease of a higher version, which was the newest while no release was there.
    #[must_use]
    pub fn is_behind(&self, floor: &Floor) -> bool {
        let lower =
            self.version.cmp(&floor.version).is_lt() && !is_newer(&self.version, &floor.version);
        lower || self.timestamp < floor.timestamp
    }

    /// The floor that accepting this manifest sets.
    #[must_use]
    pub fn floor(&self) -> Floor {
        Floor {
            version: self.version.clone(),
            timestamp: self.timestamp,
            replaced: self.replaced.clone(),
        }
    }

    /// The id of the key that signed.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key_id
    }
}

/// Signs a manifest and returns the document with its `signature` member.
///
/// # Errors
/// [`ManifestError`] when the manifest is malformed.
pub fn sign(
    mut document: Map<String, Value>,
    key_id: &str,
    key: &SigningKey,
) -> Result<Map<String, Value>, ManifestError> {
    document.remove("signature");
    let document = Manifest::from_document(document)?.document;
    let signature = key.sign(&signed_bytes(&document));
    let mut signed = document;
    signed.insert(
        "signature".into(),
        json!({
            "keyId": key_id,
            "publicKey": Base64::encode_string(key.verifying_key().as_bytes()),
            "signature": Base64::encode_string(&signature.to_bytes()),
        }),
    );
    Ok(signed)
}

/// The endorsement that replaces the key `old`, named `by`, with the public key `new` (base64),
/// named `new_id`. Manifests that the new key signs have it in `endorsements`.
#[must_use]
pub fn endorse(new_id: &str, new: &str, by: &str, old: &SigningKey) -> Value {
    let mut endorsement = Map::new();
    for (name, value) in [("keyId", new_id), ("publicKey", new), ("by", by)] {
        endorsement.insert(name.into(), value.into());
    }
    let signature = old.sign(&signed_bytes(&endorsement));
    endorsement.insert("signature".into(), Base64::encode_string(&signature.to_bytes()).into());
    Value::Object(endorsement)
}

/// The bytes that a signature covers: RFC 8785 of the document without its `signature` member.
fn signed_bytes(document: &Map<String, Value>) -> Vec<u8> {
    let mut unsigned = document.clone();
    unsigned.remove("signature");
    // Fails only for values that JSON cannot represent, which a parsed document does not have; no
    // signature verifies over empty bytes.
    serde_json_canonicalizer::to_vec(&unsigned).unwrap_or_default()
}

/// Whether the scalar S of a signature is below the group order L (RFC 8032, section 5.1.7).
fn is_reduced(signature: &[u8; 64]) -> bool {
    const L: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    signature[32..].iter().rev().lt(L.iter().rev())
}
