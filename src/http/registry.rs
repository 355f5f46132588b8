//! The rules of a registry of models, without its database: what it lists and what it accepts.
//!
//! A publisher publishes a manifest by sending it: the signature is the credential. A model belongs
//! to the key that published it first, or to a key that replaced that one
//! ([`crate::trust::signature`]), as long as that key is pinned. Signing times increase. Versions
//! never change and are never reused; a version lower than the newest may be published, as a hotfix
//! of an older line is. [`crate::trust::newest`] says which version is the newest.
//!
//! A version that is signed again with `"yanked": true` is no longer the newest version, but still
//! served by name. Signed again with `"yanked": false`, or with nothing changed but the absence of
//! `yanked`, it is offered again. Signed again with another expiry or other endorsements, and
//! without `yanked`, it stays what it was.

use std::time::Duration;

use http::StatusCode;
use semver::Version;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::embeddable::Parts;
use crate::time::UnixTime;
use crate::trust::manifest::{Manifest, ManifestError, is_id};
use crate::trust::newest::newest;
use crate::trust::signature::{PinnedKeys, Refusal, VerifiedManifest};

/// How far a publisher's clock may be ahead. A timestamp of next year would block all versions of
/// this year.
const AHEAD: Duration = Duration::from_mins(10);
/// Members that may change when a version is signed again; all others are its content.
const RENEWED: [&str; 5] = ["signature", "timestamp", "expires", "endorsements", "yanked"];

/// An entry in a list of models: the newest version that is not yanked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Identifier of the model.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// What it does, such as `embedding`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `optimization.quantization` of the manifest, such as `INT8`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantization: Option<String>,
    /// Licence: an SPDX expression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// Size of all files in bytes.
    pub size: u64,
    /// Semantic version.
    pub version: String,
    /// Whether `/v1/embeddings` supports it: see [`crate::embeddable`].
    #[serde(default, skip_serializing_if = "is_false", deserialize_with = "truth")]
    pub embeddings: bool,
    /// When it was signed, in milliseconds since the Unix epoch. Only OpenAI's list has it.
    #[serde(default, skip_serializing)]
    pub signed: u64,
    /// The key that signed it. Only OpenAI's list has it.
    #[serde(default, skip_serializing)]
    pub owner: String,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // As serde calls it.
const fn is_false(value: &bool) -> bool {
    !*value
}

/// A boolean, which databases store as a number.
fn truth<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    let value = Value::deserialize(deserializer)?;
    Ok(value.as_bool().unwrap_or_else(|| value.as_f64().is_some_and(|number| number != 0.0)))
}

impl Summary {
    /// The entry of a manifest.
    #[must_use]
    pub fn of(manifest: &Manifest) -> Self {
        let document = manifest.document();
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        Self {
            id: manifest.id.clone(),
            name: manifest.name.clone(),
            kind: manifest.kind.clone(),
            quantization: text(
                document
                    .get("optimization")
                    .and_then(|optimization| optimization.get("quantization")),
            ),
            license: text(document.get("license")),
            size: manifest
                .artifacts
                .iter()
                .fold(0, |sum, artifact| artifact.size.saturating_add(sum)),
            version: manifest.version.to_string(),
            embeddings: Parts::of(manifest).is_ok(),
            signed: manifest.timestamp.as_millis(),
            owner: text(document.get("signature").and_then(|signature| signature.get("keyId")))
                .unwrap_or_default(),
        }
    }
}

/// An entry in a list of a model's versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Release {
    /// Semantic version.
    pub version: String,
    /// When it was signed, RFC 3339.
    pub timestamp: String,
    /// The key that signed it.
    pub key_id: String,
    /// Size of all files in bytes.
    pub size: u64,
    /// Whether it was withdrawn.
    pub yanked: bool,
}

/// A selection of models, ordered by id, and a page of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only models of this type.
    pub kind: Option<String>,
    /// Only models with this quantization, in any case.
    pub quantization: Option<String>,
    /// Only models with this licence, in any case.
    pub license: Option<String>,
    /// Only models with this text in id or name, in any case.
    pub text: Option<String>,
    /// Only models after this id.
    pub after: Option<String>,
    /// Most models in the page.
    pub limit: Limit,
}

/// The most models in a page: 1 to [`Limit::MOST`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit(u16);

impl Limit {
    /// The most models that a page can have.
    pub const MOST: u16 = 100;

    fn parse(value: &str) -> Result<Self, BadFilter> {
        // `parse` alone would accept a plus sign.
        let number = value.parse().ok().filter(|_| value.bytes().all(|byte| byte.is_ascii_digit()));
        number.filter(|number| (1..=Self::MOST).contains(number)).map(Self).ok_or(BadFilter::Limit)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self(Self::MOST)
    }
}

/// Why a query for a list is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadFilter {
    /// The parameter is unknown.
    #[error(
        "unknown parameter {0:?}; the parameters are type, quantization, license, q, limit, \
         cursor"
    )]
    Unknown(String),
    /// The parameter is repeated.
    #[error("the parameter {0} is given more than once")]
    Twice(&'static str),
    /// The text is empty, too long, or has control characters.
    #[error(
        "the parameter {0} must have 1 to {MAX_TEXT} characters, none of them a control character"
    )]
    Text(&'static str),
    /// The limit is not a number in its range.
    #[error("the parameter limit must be a number from 1 to {}", Limit::MOST)]
    Limit,
    /// The cursor is not one that a page returned.
    #[error("the parameter cursor must be one that an earlier page gave in its Link field")]
    Cursor,
}

/// Most characters of a filter's text.
const MAX_TEXT: usize = 128;

impl Filter {
    /// Parses the percent-decoded parameters of a query.
    ///
    /// # Errors
    /// [`BadFilter`] names the parameter.
    pub fn parse(
        query: impl IntoIterator<Item = (impl AsRef<str>, impl AsRef<str>)>,
    ) -> Result<Self, BadFilter> {
        let mut filter = Self::default();
        let mut limit = None;
        for (name, value) in query {
            let value = value.as_ref();
            match name.as_ref() {
                "type" => once(&mut filter.kind, "type", text("type", value)?)?,
                "quantization" => {
                    once(&mut filter.quantization, "quantization", text("quantization", value)?)?;
                }
                "license" => once(&mut filter.license, "license", text("license", value)?)?,
                "q" => once(&mut filter.text, "q", text("q", value)?)?,
                "cursor" => once(&mut filter.after, "cursor", cursor(value)?)?,
                "limit" => once(&mut limit, "limit", Limit::parse(value)?)?,
                other => return Err(BadFilter::Unknown(other.chars().take(MAX_TEXT).collect())),
            }
        }
        filter.limit = limit.unwrap_or_default();
        Ok(filter)
    }

    /// Whether a model is selected. The database's query has to select the same.
    #[must_use]
    pub fn admits(&self, summary: &Summary) -> bool {
        let is = |wanted: &Option<String>, got: Option<&str>| {
            wanted
                .as_ref()
                .is_none_or(|wanted| got.is_some_and(|got| got.eq_ignore_ascii_case(wanted)))
        };
        let has = |text: &str| {
            let text = text.to_ascii_lowercase();
            summary.id.contains(&text) || summary.name.to_ascii_lowercase().contains(&text)
        };
        self.kind.as_ref().is_none_or(|kind| *kind == summary.kind)
            && is(&self.quantization, summary.quantization.as_deref())
            && is(&self.license, summary.license.as_deref())
            && self.text.as_deref().is_none_or(has)
            && self.after.as_ref().is_none_or(|after| summary.id > *after)
    }

    /// Splits ordered models, one more than [`Filter::limit`] if the database has them, into the
    /// page and the cursor of the next page.
    #[must_use]
    pub fn page(&self, mut models: Vec<Summary>) -> (Vec<Summary>, Option<String>) {
        let most = usize::from(self.limit.get());
        let more = models.len() > most;
        models.truncate(most);
        let next = models.last().filter(|_| more).map(|last| last.id.clone());
        (models, next)
    }
}

fn text(name: &'static str, value: &str) -> Result<String, BadFilter> {
    let fits =
        (1..=MAX_TEXT).contains(&value.chars().count()) && !value.chars().any(char::is_control);
    fits.then(|| value.to_owned()).ok_or(BadFilter::Text(name))
}

fn cursor(value: &str) -> Result<String, BadFilter> {
    is_id(value).then(|| value.to_owned()).ok_or(BadFilter::Cursor)
}

/// Fills an empty slot.
fn once<T>(slot: &mut Option<T>, name: &'static str, value: T) -> Result<(), BadFilter> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(BadFilter::Twice(name)),
    }
}

/// A manifest that a pinned key signed and that is offered for publication.
#[derive(Debug)]
pub struct Offer {
    manifest: VerifiedManifest,
    text: String,
}

/// What the registry knows of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The key that owns the model.
    pub owner: String,
    /// Keys that the owner's key replaced.
    pub replaced: Vec<String>,
    /// The latest signing time of its manifests.
    pub signed: UnixTime,
    /// Its versions, and whether they are yanked.
    pub versions: Vec<(Version, bool)>,
    /// The published manifest of the offered version, if there is one.
    pub current: Option<String>,
}

impl Known {
    fn is_yanked(&self, version: &Version) -> bool {
        self.versions.iter().any(|(known, yanked)| known == version && *yanked)
    }
}

/// What the registry has to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// The entry for lists.
    pub summary: Summary,
    /// The manifest's text, as it was sent.
    pub text: String,
    /// The key that signed it and now owns the model.
    pub owner: String,
    /// Keys that the owner's key replaced, now or before.
    pub replaced: Vec<String>,
    /// When it was signed.
    pub timestamp: UnixTime,
    /// The latest signing time of all the model's manifests.
    pub signed: UnixTime,
    /// Whether this version is yanked.
    pub yanked: bool,
    /// Whether the version is new.
    pub new: bool,
    /// The newest version that is not yanked, if there is one: see [`crate::trust::newest`].
    pub newest: Option<Version>,
}

/// Why a manifest is rejected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// It is malformed, or no pinned key signed it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Its timestamp is this far in the future.
    #[error(
        "the manifest's timestamp is {} minutes from now; check the publisher's clock",
        .0.as_secs() / 60
    )]
    Future(Duration),
    /// The member `yanked` is not a boolean.
    #[error("manifest field `yanked` must be true or false")]
    Yanked,
    /// It yanks a version that is not published.
    #[error("{id} {version} is not published; there is nothing to yank")]
    NothingToYank {
        /// The model.
        id: String,
        /// The version.
        version: String,
    },
    /// The model belongs to another key.
    #[error(
        "{id} belongs to the key {owner:?}; only that key, or one that it endorsed, may publish it"
    )]
    NotOwner {
        /// The model.
        id: String,
        /// The key it belongs to.
        owner: String,
    },
    /// The version is published, and this manifest is not signed later.
    #[error("{id} {version} is already published, and this manifest is not signed later")]
    Replay {
        /// The model.
        id: String,
        /// The version.
        version: String,
    },
    /// The version is published with other content.
    #[error(
        "{id} {version} is already published with other content; published versions never change: \
         choose a higher version"
    )]
    Changed {
        /// The model.
        id: String,
        /// The version.
        version: String,
    },
    /// A manifest of the model that was signed later is published.
    #[error(
        "{id} {version} is signed on {timestamp}, before another version of {signed}; signing \
         times have to increase"
    )]
    Older {
        /// The model.
        id: String,
        /// The version offered.
        version: String,
        /// When it was signed.
        timestamp: UnixTime,
        /// The latest signing time that is published.
        signed: UnixTime,
    },
}

impl Rejection {
    /// The status of the response.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Refused(Refusal::Malformed(ManifestError::NotJson(_))) => StatusCode::BAD_REQUEST,
            Self::Refused(Refusal::Malformed(_) | Refusal::Expired(_))
            | Self::Future(_)
            | Self::Yanked
            | Self::NothingToYank { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Refused(_) | Self::NotOwner { .. } => StatusCode::FORBIDDEN,
            Self::Replay { .. } | Self::Changed { .. } | Self::Older { .. } => StatusCode::CONFLICT,
        }
    }
}

impl Offer {
    /// Parses and verifies a manifest that was sent at `now`.
    ///
    /// # Errors
    /// [`Rejection`] says why it is rejected.
    pub fn read(text: String, keys: &PinnedKeys, now: UnixTime) -> Result<Self, Rejection> {
        let manifest = VerifiedManifest::verify(&text, keys)?.not_expired(now)?;
        if manifest.timestamp > now + AHEAD {
            return Err(Rejection::Future(manifest.timestamp.duration_since(now)));
        }
        match manifest.document().get("yanked") {
            None | Some(Value::Bool(_)) => Ok(Self { manifest, text }),
            Some(_) => Err(Rejection::Yanked),
        }
    }

    /// The manifest.
    #[must_use]
    pub const fn manifest(&self) -> &VerifiedManifest {
        &self.manifest
    }

    fn yanked(&self) -> bool {
        self.manifest.document().get("yanked") == Some(&Value::Bool(true))
    }

    /// Decides on the offer; `known` is `None` for a new model.
    ///
    /// # Errors
    /// [`Rejection`] says why it is rejected.
    pub fn decide(
        self,
        known: Option<&Known>,
        keys: &PinnedKeys,
    ) -> Result<Publication, Rejection> {
        let manifest = &self.manifest;
        let (id, version) = (manifest.id.clone(), manifest.version.to_string());
        let Some(known) = known else {
            if self.yanked() {
                return Err(Rejection::NothingToYank { id, version });
            }
            return Ok(self.publication(&[], &[], UnixTime::default(), true, false));
        };
        // A key that is no longer pinned has lost the model to the keys that are.
        let owners = keys.only(&known.owner);
        let by_owner = || {
            manifest.key_id() == known.owner
                || VerifiedManifest::verify(&self.text, &owners).is_ok()
        };
        if !owners.is_empty() && !by_owner() {
            return Err(Rejection::NotOwner { id, owner: known.owner.clone() });
        }
        if known.replaced.iter().any(|replaced| replaced == manifest.key_id()) {
            return Err(Refusal::ReplacedKey(manifest.key_id().to_owned()).into());
        }
        let mut yanked = self.yanked();
        let new = match &known.current {
            Some(current) => {
                // The published manifest may be malformed by newer rules; its version still cannot
                // change.
                let Ok(current) = Manifest::parse(current) else {
                    return Err(Rejection::Changed { id, version });
                };
                if content(current.document()) != content(manifest.document()) {
                    return Err(Rejection::Changed { id, version });
                }
                if manifest.timestamp <= current.timestamp {
                    return Err(Rejection::Replay { id, version });
                }
                yanked |= self.is_renewal(&current) && known.is_yanked(&manifest.version);
                false
            }
            None if yanked => return Err(Rejection::NothingToYank { id, version }),
            None => {
                if manifest.timestamp < known.signed {
                    let (timestamp, signed) = (manifest.timestamp, known.signed);
                    return Err(Rejection::Older { id, version, timestamp, signed });
                }
                true
            }
        };
        Ok(self.publication(&known.versions, &known.replaced, known.signed, new, yanked))
    }

    /// Whether this says nothing about yanking, and changes expiry or endorsements of `current`.
    fn is_renewal(&self, current: &Manifest) -> bool {
        let (new, old) = (self.manifest.document(), current.document());
        let changes = |name| new.get(name) != old.get(name);
        !new.contains_key("yanked") && (changes("expires") || changes("endorsements"))
    }

    fn publication(
        self,
        versions: &[(Version, bool)],
        replaced: &[String],
        signed: UnixTime,
        new: bool,
        yanked: bool,
    ) -> Publication {
        let Self { manifest, text } = self;
        let others = versions
            .iter()
            .filter(|(version, yanked)| !yanked && *version != manifest.version)
            .map(|(version, _)| version);
        let newest = newest(others.chain((!yanked).then_some(&manifest.version))).cloned();
        let mut replaced = replaced.to_vec();
        for key in manifest.floor().replaced {
            if !replaced.contains(&key) {
                replaced.push(key);
            }
        }
        Publication {
            summary: Summary::of(&manifest),
            text,
            owner: manifest.key_id().to_owned(),
            replaced,
            timestamp: manifest.timestamp,
            signed: manifest.timestamp.max(signed),
            yanked,
            new,
            newest,
        }
    }
}

/// The content of a version: its document without the members that may change when it is signed
/// again.
#[must_use]
pub fn content(document: &Map<String, Value>) -> Map<String, Value> {
    document
        .iter()
        .filter(|(name, _)| !RENEWED.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}
