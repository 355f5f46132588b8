//! Which sources are asked for a small document, a manifest or a leaf table, and why none has it.
//!
//! A driver asks the sources that [`Lookup::step`] names, one after the other, and reports failures
//! until one document is good:
//!
//! ```
//! use edge_net_core::transfer::lookup::{Lookup, Reason, Step};
//! use edge_net_core::transfer::source::Failure;
//!
//! let mut lookup = Lookup::new(["edge", "gcs"].map(str::to_owned), 0);
//! let found = loop {
//!     match lookup.step() {
//!         Some(Step::Ask(0)) => lookup.failed(0, Reason::Failed(Failure::Status(404))),
//!         Some(Step::Ask(_)) => break Ok("the document"),
//!         Some(Step::Pause(_)) => unreachable!("the driver sleeps"),
//!         None => break Err(lookup.reasons()),
//!     }
//! };
//! assert!(found.is_ok());
//! ```

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use crate::dag::verify::LeafTable;
use crate::dag::walk::Walk;
use crate::transfer::source::Failure;
use crate::trust::acceptance::NoManifest;
use crate::trust::manifest::Artifact;
use crate::trust::signature::Refusal;

/// The largest leaf table that is read, in bytes: that of an artifact of 256 GiB.
pub const MAX_TABLE_BYTES: u64 = 32 << 20;
/// The largest dag-pb block that is read, in bytes; 174 links take about 9 KiB.
pub const MAX_BLOCK_BYTES: u64 = 64 << 10;
/// The wait before sources are asked again. It doubles each time.
const PAUSE: Duration = Duration::from_millis(250);
/// The longest wait.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// The failure of one source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The request failed.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// The manifest is refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The leaf table or a block is invalid.
    #[error("{0}")]
    Invalid(String),
}

impl Reason {
    /// Whether the source said that the document does not exist.
    #[must_use]
    pub const fn is_absence(&self) -> bool {
        matches!(self, Self::Failed(Failure::Status(404 | 410)))
    }

    /// Whether the source may have the document later.
    const fn is_temporary(&self) -> bool {
        match self {
            Self::Failed(failure) => !failure.is_final(),
            Self::Refused(_) | Self::Invalid(_) => false,
        }
    }
}

/// What a driver is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Ask the source with this place in the list.
    Ask(usize),
    /// Wait.
    Pause(Duration),
}

/// A lookup at sources, the preferred ones first.
#[derive(Debug)]
pub struct Lookup {
    names: Vec<String>,
    waiting: VecDeque<usize>,
    again: VecDeque<usize>,
    reasons: Vec<(usize, Reason)>,
    retries: u8,
    pause: Duration,
}

impl Lookup {
    /// A lookup at the sources with these names. Sources with a temporary failure are asked again
    /// up to `retries` times, after a pause.
    #[must_use]
    pub fn new(names: impl IntoIterator<Item = String>, retries: u8) -> Self {
        let names: Vec<String> = names.into_iter().collect();
        Self {
            waiting: (0..names.len()).collect(),
            names,
            again: VecDeque::new(),
            reasons: Vec::new(),
            retries,
            pause: PAUSE,
        }
    }

    /// What to do next; `None` when no source has the document.
    pub fn step(&mut self) -> Option<Step> {
        if let Some(source) = self.waiting.pop_front() {
            return Some(Step::Ask(source));
        }
        if self.again.is_empty() {
            return None;
        }
        self.waiting.append(&mut self.again);
        self.retries -= 1;
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        Some(Step::Pause(pause))
    }

    /// Notes why a source has no good document.
    pub fn failed(&mut self, source: usize, reason: Reason) {
        if self.retries > 0 && reason.is_temporary() {
            self.again.push_back(source);
        } else {
            self.reasons.push((source, reason));
        }
    }

    /// Why no source has the document.
    #[must_use]
    pub fn reasons(self) -> Reasons {
        let Self { names, reasons, .. } = self;
        let named = |(source, reason): (usize, Reason)| {
            (names.get(source).cloned().unwrap_or_default(), reason)
        };
        Reasons(reasons.into_iter().map(named).collect())
    }
}

/// The failure of each source, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reasons(Vec<(String, Reason)>);

impl Reasons {
    /// The name of each source, and its failure.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Reason)> {
        self.0.iter().map(|(name, reason)| (name.as_str(), reason))
    }

    /// Whether at least one source was asked, and all said that the document does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|(_, reason)| reason.is_absence())
    }

    /// Whether all requests failed, so that no source gave any document.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        !self.is_not_found() && self.0.iter().all(|(_, reason)| matches!(reason, Reason::Failed(_)))
    }

    /// Why there is no manifest of the model `id`.
    #[must_use]
    pub fn no_manifest(&self, id: &str) -> NoManifest {
        let refused = || self.0.iter().filter(|(_, reason)| matches!(reason, Reason::Refused(_)));
        let is_older =
            |reason: &Reason| matches!(reason, Reason::Refused(Refusal::Rollback { .. }));
        if refused().next().is_none() {
            if !self.is_not_found() {
                return NoManifest::Unreachable(self.to_string());
            }
            let absent = |(name, _): &(String, Reason)| format!("{name} has no manifest of {id}");
            return NoManifest::NotFound(self.0.iter().map(absent).collect::<Vec<_>>().join("; "));
        }
        let why = list(refused());
        if refused().all(|(_, reason)| is_older(reason)) {
            NoManifest::Older(why)
        } else {
            NoManifest::Refused(why)
        }
    }
}

fn list<'a>(reasons: impl Iterator<Item = &'a (String, Reason)>) -> String {
    let text = |(name, reason): &(String, Reason)| format!("{name}: {reason}");
    reasons.map(text).collect::<Vec<_>>().join("; ")
}

impl fmt::Display for Reasons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&list(self.0.iter()))
    }
}

/// The leaf table that a source sent.
///
/// # Errors
/// [`Reason::Invalid`].
pub fn sent_table(table: &[u8], artifact: &Artifact) -> Result<LeafTable, Reason> {
    LeafTable::verify(table, artifact.size, &artifact.cid)
        .map_err(|error| Reason::Invalid(error.to_string()))
}

/// The leaf table out of the blocks of the DAG that a gateway sent.
///
/// # Errors
/// [`Reason::Invalid`].
pub fn walked_table(walk: &Walk, artifact: &Artifact) -> Result<LeafTable, Reason> {
    let no_sha = || Reason::Invalid("the DAG has leaves with a hash other than SHA-256".into());
    let leaves = walk.leaves().ok_or_else(no_sha)?;
    LeafTable::from_digests(leaves, artifact.size, &artifact.cid)
        .map_err(|error| Reason::Invalid(error.to_string()))
}
