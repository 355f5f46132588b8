//! Who may say what a model is: Ed25519 over the RFC 8785 bytes of the manifest without its
//! `signature` member, against keys the deployer pinned, and never back to an older manifest.
//!
//! A key is replaced by an endorsement, which manifests signed by the new key carry in `endorsements`:
//! `{"keyId", "publicKey", "by", "signature"}`, the last by the key `by`, over the RFC 8785 bytes of the
//! others. Clients that pinned the old key accept the new one then, and for that model the old one no more.

use base64ct::{Base64, Encoding as _};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use semver::Version;
use serde_json::{Map, Value, json};

use crate::time::UnixTime;
use crate::trust::manifest::{Manifest, ManifestError, Unambiguous};

/// Public keys the deployer trusts, by key identifier.
#[derive(Debug, Clone, Default)]
pub struct PinnedKeys(Vec<(String, VerifyingKey)>);

/// A pinned key that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PinnedKeysError {
    /// Not a JSON object of strings.
    #[error("pinned keys must be a JSON object from key id to base64 public key: {0}")]
    NotJson(String),
    /// Not a point on the curve, or one of small order.
    #[error("the pinned key {0:?} is not the base64 of a 32-byte Ed25519 public key")]
    BadKey(String),
}

impl PinnedKeys {
    /// Reads `{"<keyId>": "<base64 of the 32-byte public key>", …}`.
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

    /// Pins the key with the base64 `key`.
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

    /// Adds the keys that those pinned endorse, in the order of the document; what does not verify adds nothing.
    /// Returns the keys that were replaced.
    fn endorse(&mut self, document: &Map<String, Value>) -> Vec<String> {
        let mut replaced = Vec::new();
        let endorsements = document.get("endorsements").and_then(Value::as_array);
        for endorsement in
            endorsements.into_iter().flatten().filter_map(Value::as_object).take(MAX_ENDORSEMENTS)
        {
            let member = |name: &str| endorsement.get(name).and_then(Value::as_str);
            let (Some(id), Some(key)) = (member("keyId"), member("publicKey")) else { continue };
            let (Some(by), Some(signature)) = (member("by"), member("signature")) else { continue };
            let (Some(key), Some(old)) = (public_key(key), self.find(by)) else { continue };
            let nothing_else = endorsement.len() == 4;
            if nothing_else
                && self.find(id).is_none()
                && check(old, by, signature, endorsement).is_ok()
            {
                self.0.push((id.to_owned(), key));
                replaced.push(by.to_owned());
            }
        }
        replaced
    }
}

/// Endorsements read of a manifest at the most.
const MAX_ENDORSEMENTS: usize = 16;

fn public_key(base64: &str) -> Option<VerifyingKey> {
    let key = Base64::decode_vec(base64).ok().and_then(|key| VerifyingKey::try_from(&*key).ok())?;
    (!key.is_weak()).then_some(key)
}

/// Whether `signature`, in base64, is by `key` over `document` without its `signature` member.
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
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It is not well-formed.
    #[error(transparent)]
    Malformed(#[from] ManifestError),
    /// It has no signature block.
    #[error("the manifest is not signed: `{0}` is missing or not a string")]
    Unsigned(&'static str),
    /// Its signature block has more in it: no signature covers that.
    #[error("the manifest's signature block has a member {0:?}, which no signature covers")]
    Uncovered(String),
    /// Its key is not pinned.
    #[error(
        "the manifest is signed by key {key_id:?}, which is not pinned here (pinned: {pinned})"
    )]
    UnknownKey {
        /// The key it names.
        key_id: String,
        /// The keys that are pinned.
        pinned: String,
    },
    /// It carries another public key than the one pinned under its key identifier.
    #[error("the manifest carries a public key for {0:?} that is not the pinned one")]
    WrongPublicKey(String),
    /// The signature is not 64 bytes of canonical base64, or its scalar is not reduced.
    #[error("the manifest's signature by {0:?} is not a canonical Ed25519 signature")]
    NonCanonical(String),
    /// The signature does not fit the fields.
    #[error(
        "the manifest's signature by {0:?} does not fit its fields: a field was changed after signing, or another key signed"
    )]
    BadSignature(String),
    /// It is about something else than what was asked for.
    #[error("asked for {asked}, but the manifest is of {got}")]
    WrongSubject {
        /// Model, and version if one was asked for.
        asked: String,
        /// Model and version of the manifest.
        got: String,
    },
    /// It should have been replaced by now: somebody may be holding the newer one back.
    #[error("the manifest expired on {0}; its publisher has to sign it again")]
    Expired(UnixTime),
    /// Another key replaced the one that signed.
    #[error("the manifest is signed by key {0:?}, which was replaced by another")]
    ReplacedKey(String),
    /// A newer one was accepted before.
    #[error("{got} is older than {floor}, which was accepted before")]
    Rollback {
        /// Version and time of signing offered.
        got: String,
        /// Version and time of signing accepted before.
        floor: String,
    },
}

/// The highest version and time of signing accepted so far for a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Floor {
    /// Highest version.
    pub version: Version,
    /// Latest time of signing.
    pub timestamp: UnixTime,
    /// Keys that were replaced by the one that signed it.
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
    /// Reads and verifies a manifest from anywhere.
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
        let replaced = if keys.find(&key_id).is_some() {
            Vec::new()
        } else {
            known.endorse(&manifest.document)
        };
        let Some(key) = known.find(&key_id) else {
            let pinned: Vec<&str> = keys.0.iter().map(|(id, _)| id.as_str()).collect();
            let pinned = if pinned.is_empty() { "none".to_owned() } else { pinned.join(", ") };
            return Err(Refusal::UnknownKey { key_id, pinned });
        };
        // The key inside proves nothing; it must merely not contradict the pinned one.
        if member("publicKey")? != Base64::encode_string(key.as_bytes()) {
            return Err(Refusal::WrongPublicKey(key_id));
        }
        check(key, &key_id, member("signature")?, &manifest.document)?;
        Ok(Self { manifest, key_id, replaced })
    }

    /// Checks that this is the manifest of the model that was asked for, and of the version if one was.
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

    /// Checks that this does not go back behind what was accepted before.
    ///
    /// # Errors
    /// [`Refusal::Rollback`].
    pub fn not_before(self, floor: Option<&Floor>) -> Result<Self, Refusal> {
        match floor {
            Some(floor) if floor.replaced.contains(&self.key_id) => {
                Err(Refusal::ReplacedKey(self.key_id))
            }
            Some(floor) if self.is_behind(floor) => {
                Err(Refusal::Rollback { got: self.floor().to_string(), floor: floor.to_string() })
            }
            _ => Ok(self),
        }
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

    /// Whether this goes back behind `floor`, in version or in time.
    #[must_use]
    pub fn is_behind(&self, floor: &Floor) -> bool {
        self.version < floor.version || self.timestamp < floor.timestamp
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

    /// The key that signed.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key_id
    }
}

/// Signs a manifest: returns the document with its `signature` member set.
///
/// # Errors
/// [`ManifestError`] when the manifest would not be accepted by a client.
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

/// Says that the key `new` (base64), named `new_id`, replaces `old`, named `by`: what manifests signed by it carry in `endorsements`.
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

/// The bytes a signature covers: RFC 8785 of the document without its `signature` member.
fn signed_bytes(document: &Map<String, Value>) -> Vec<u8> {
    let mut unsigned = document.clone();
    unsigned.remove("signature");
    // Fails only for values JSON cannot hold, which a parsed document has none of; empty bytes verify nothing.
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
