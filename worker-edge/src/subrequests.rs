//! What one request may still ask others for. The platform allows it so many subrequests (50 on the free plan): a `fetch`, and a
//! question to the cache, is one.

use std::cell::Cell;

use edge_net_core::transfer::source::{Failure, Source};
use edge_net_driver::lookup::Access;
use edge_net_driver::rows::Ledger;

use crate::credential::Credential;

/// Kept for the rest of an artifact, which comes past the cache: one for its body, one for a bad leaf in it, one for the body of
/// the next source, and one more.
pub const REST: u32 = 4;
/// What has been asked before a download begins: the manifest.
const BEFORE: u32 = 1;

/// Subrequests of one request, and what came of them.
pub struct Subrequests {
    left: Cell<u32>,
    /// What hashing took, in milliseconds.
    hashing: Cell<Option<u64>>,
}

/// There are none left.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("this request has used up its subrequests (SUBREQUESTS)")]
pub struct UsedUp;

impl Subrequests {
    /// `limit` of them, but for what was asked before.
    pub fn new(limit: u32) -> Self {
        Self { left: Cell::new(limit.saturating_sub(BEFORE)), hashing: Cell::default() }
    }

    /// Whether so many are left besides those kept for the rest.
    pub fn allow(&self, count: u32) -> bool {
        self.left.get() >= count + REST
    }

    /// Takes one.
    pub fn take(&self) -> Result<(), UsedUp> {
        let left = self.left.get().checked_sub(1).ok_or(UsedUp)?;
        self.left.set(left);
        Ok(())
    }

    /// How long it took until now to verify what came, in milliseconds; `None` where nothing came. WebCrypto hashes beside
    /// the worker, so the clock, which stands still while a Worker computes, sees it; it does not see the comparison of the
    /// digests, which takes far less than a millisecond.
    pub fn verifying(&self) -> Option<u64> {
        self.hashing.get()
    }
}

impl Ledger for Subrequests {
    fn ask(&self) -> Result<(), Failure> {
        self.take().map_err(|error| Failure::Unreachable(error.to_string()))
    }

    fn hashed(&self, milliseconds: u64) {
        self.hashing.set(Some(self.hashing.get().unwrap_or_default() + milliseconds));
    }
}

/// A credential whose use is counted.
pub struct Counted<'a>(pub &'a Credential, pub &'a Subrequests);

impl Access for Counted<'_> {
    async fn admit(&self, source: &Source, url: String) -> Result<String, Failure> {
        self.1.ask()?;
        self.0.admit(source, url).await
    }
}
