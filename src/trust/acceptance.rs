//! Which manifest of a model a client accepts. Service worker, page, tool, edge and embedding
//! worker ask this module; none has rules of its own.
//!
//! | from a source | rule |
//! |---|---|
//! | always | a pinned or endorsed key signed it, for this model, and the version that was named |
//! | always | no other key replaced that key, as far as this client ever learned |
//! | always | it was not signed more than [`AHEAD`] after this client's time |
//! | without a named version | it is not behind the [`Floor`], and has not expired |
//!
//! What a client kept takes the first two rules again each time it is read: the key may have been
//! unpinned or replaced since. When the sources have nothing that is acceptable, but nothing forged
//! either, the kept manifest holds until it expires: see [`Acceptance::settle`].

use std::borrow::Borrow;
use std::time::Duration;

use semver::Version;
use serde_json::json;

use crate::time::UnixTime;
use crate::trust::manifest::object;
use crate::trust::signature::{Floor, PinnedKeys, Refusal, VerifiedManifest};

/// How far after a client's own time a manifest may be signed. Clocks that were set by hand are off
/// by hours; a publisher whose clock is off by years would lock out every later manifest.
pub const AHEAD: Duration = Duration::from_hours(24);

/// An accepted manifest and its text.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// The manifest.
    pub manifest: VerifiedManifest,
    /// Its JSON, as the source sent it.
    pub text: String,
}

/// Why there is no manifest. The text names each source with its failure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoManifest {
    /// Every source responded that it has no manifest.
    #[error("no such model: {0}")]
    NotFound(String),
    /// The sources' manifests are refused.
    #[error("manifest refused: {0}")]
    Refused(String),
    /// The sources' manifests are older than one that was accepted before, which stays valid.
    #[error("manifest refused: {0}")]
    Older(String),
    /// No source responded.
    #[error("no source could be reached for the manifest: {0}")]
    Unreachable(String),
}

/// What a client looks for, and what it knows already.
#[derive(Debug, Clone, Copy)]
pub struct Acceptance<'a> {
    /// The pinned keys.
    pub keys: &'a PinnedKeys,
    /// The model.
    pub id: &'a str,
    /// The version, if one was named; else the newest.
    pub version: Option<&'a Version>,
    /// What was accepted before.
    pub floor: Option<&'a Floor>,
    /// The client's time.
    pub now: UnixTime,
}

impl Acceptance<'_> {
    /// Accepts the manifest that a source sent.
    ///
    /// # Errors
    /// [`Refusal`] says why it is refused.
    pub fn offered(&self, text: String) -> Result<Accepted, Refusal> {
        let Accepted { manifest, text } = self.current(text)?;
        let floor = self.floor.filter(|_| self.version.is_none());
        Ok(Accepted { manifest: manifest.not_before(floor)?, text })
    }

    /// As [`Acceptance::offered`], from a database that is trusted to know the newest version: it
    /// may go back when a version is yanked.
    ///
    /// # Errors
    /// [`Refusal`] says why it is refused.
    pub fn current(&self, text: String) -> Result<Accepted, Refusal> {
        let Accepted { manifest, text } = self.kept(text)?;
        let manifest = manifest.not_ahead(self.now, AHEAD)?;
        self.holds(&manifest)?;
        Ok(Accepted { manifest, text })
    }

    /// Verifies a manifest that this client kept. Whether it still holds is another question: see
    /// [`Acceptance::settle`].
    ///
    /// # Errors
    /// [`Refusal`] says why it is refused.
    pub fn kept(&self, text: String) -> Result<Accepted, Refusal> {
        let manifest = VerifiedManifest::verify(&text, self.keys)?
            .about(self.id, self.version)?
            .not_replaced(self.floor)?;
        Ok(Accepted { manifest, text })
    }

    /// Whether a manifest that was verified before is not below what was accepted since: no other
    /// key replaced its key, and no newer one was accepted.
    #[must_use]
    pub fn keeps(&self, manifest: &VerifiedManifest) -> bool {
        self.floor.is_none_or(|floor| {
            !floor.replaces(manifest.key_id())
                && (self.version.is_some() || !manifest.is_behind(floor))
        })
    }

    /// Checks that a kept manifest has not expired, unless its version was named.
    ///
    /// # Errors
    /// [`Refusal::Expired`].
    pub fn holds(&self, manifest: &VerifiedManifest) -> Result<(), Refusal> {
        match (self.version, manifest.expires) {
            (None, Some(expires)) if expires <= self.now => Err(Refusal::Expired(expires)),
            _ => Ok(()),
        }
    }

    /// Whether a manifest that was verified before still counts: it has not expired, and is not
    /// below what was accepted since.
    #[must_use]
    pub fn is_valid(&self, manifest: &VerifiedManifest) -> bool {
        self.holds(manifest).is_ok() && self.keeps(manifest)
    }

    /// The floor for what sources offer. A kept manifest is a floor too: the record of the floor
    /// may be lost.
    #[must_use]
    pub fn floor_above(&self, kept: Option<&VerifiedManifest>) -> Option<Floor> {
        kept.map_or_else(|| self.floor.cloned(), |kept| self.raise(kept))
    }

    /// The manifest that holds after the sources were asked, and why it is the kept one. It is, if
    /// it has not expired and no source could be reached, none has a manifest, or all are older. A
    /// manifest that is refused for another reason is an error: somebody may be forging.
    ///
    /// # Errors
    /// [`NoManifest`].
    pub fn settle<A: Borrow<Accepted>>(
        &self,
        found: Result<A, NoManifest>,
        kept: Option<A>,
    ) -> Result<(A, Option<NoManifest>), NoManifest> {
        match (found, kept) {
            (Ok(found), _) => Ok((found, None)),
            (Err(error @ NoManifest::Refused(_)), _) | (Err(error), None) => Err(error),
            (Err(error), Some(kept)) => match self.holds(&kept.borrow().manifest) {
                Ok(()) => Ok((kept, Some(error))),
                Err(expired) => Err(NoManifest::Refused(format!("{expired} ({error})"))),
            },
        }
    }

    /// The floor after `manifest` was accepted. A named version does not raise version and time: it
    /// may be a hotfix of an older line, signed after the newest version. Nothing is ever removed
    /// from the replaced keys.
    #[must_use]
    pub fn raise(&self, manifest: &VerifiedManifest) -> Option<Floor> {
        let mut floor = match (self.version, self.floor) {
            (Some(_), None) if manifest.floor().replaced.is_empty() => return None,
            // The lowest of all: only the replaced keys are known.
            (Some(_), None) => Floor::lowest(),
            (Some(_), Some(floor)) => floor.clone(),
            (None, _) => Floor { replaced: Vec::new(), ..manifest.floor() },
        };
        let before = self.floor.map_or(&[][..], |floor| &floor.replaced);
        let replaced = manifest.floor().replaced;
        floor.replaced = before.to_vec();
        floor.replaced.extend(replaced.into_iter().filter(|key| !before.contains(key)));
        Some(floor)
    }
}

impl Floor {
    /// A floor that no manifest is behind.
    #[must_use]
    pub fn lowest() -> Self {
        let version = Version { pre: LOWEST.parse().unwrap_or_default(), ..Version::new(0, 0, 0) };
        Self { version, timestamp: UnixTime::default(), replaced: Vec::new() }
    }

    /// Whether another key replaced the key with this id.
    #[must_use]
    pub fn replaces(&self, key_id: &str) -> bool {
        self.replaced.iter().any(|replaced| replaced == key_id)
    }

    /// The JSON form in which clients store it.
    #[must_use]
    pub fn to_json(&self) -> String {
        let record = json!({
            "version": self.version.to_string(),
            "timestamp": self.timestamp.as_millis(),
            "replaced": self.replaced,
        });
        // The writer of signed documents: another one would make the service worker larger.
        serde_json_canonicalizer::to_string(&record).unwrap_or_default()
    }

    /// Reads the JSON form; `None` if it is damaged.
    #[must_use]
    pub fn from_json(text: &str) -> Option<Self> {
        let value = object(text).ok()?;
        let replaced = value.get("replaced")?.as_array()?.iter();
        let replaced = replaced.map(|key| key.as_str().map(str::to_owned));
        Some(Self {
            version: Version::parse(value.get("version")?.as_str()?).ok()?,
            timestamp: UnixTime::from_millis(value.get("timestamp")?.as_u64()?),
            replaced: replaced.collect::<Option<_>>()?,
        })
    }
}

/// The lowest prerelease.
const LOWEST: &str = "0";
