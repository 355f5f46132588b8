//! The budget of subrequests of one request. A `fetch` is a subrequest, and so is a call of the
//! cache. The platform limits their number (50 on the free plan).

use std::cell::Cell;

use edge_net_core::transfer::source::{Failure, Source};
use edge_net_driver::lookup::Access;
use edge_net_driver::rows::Ledger;

use crate::credential::Credential;

/// Subrequests that are kept for reading the rest of an artifact without the cache: one for its
/// body, one for a bad leaf in it, one for the body of the next source, and one in reserve.
const REST: u32 = 4;
/// Subrequests before a download begins: the manifest.
const BEFORE: u32 = 1;

/// The subrequests of one request.
pub struct Subrequests {
    left: Cell<u32>,
    /// Time spent hashing, in milliseconds.
    hashing: Cell<Option<u64>>,
}

/// No subrequests are left.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("this request has used up its subrequests (SUBREQUESTS)")]
pub struct UsedUp;

impl Subrequests {
    /// A budget of `limit`, of which the manifest has taken its part.
    pub fn new(limit: u32) -> Self {
        Self { left: Cell::new(limit.saturating_sub(BEFORE)), hashing: Cell::default() }
    }

    /// Whether `count` subrequests are left besides those for the rest.
    pub fn allow(&self, count: u32) -> bool {
        self.left.get() >= count + REST
    }

    /// Takes one.
    ///
    /// # Errors
    /// If none is left.
    pub fn take(&self) -> Result<(), UsedUp> {
        let left = self.left.get().checked_sub(1).ok_or(UsedUp)?;
        self.left.set(left);
        Ok(())
    }

    /// Time spent on verification so far, in milliseconds; `None` if nothing was verified. A
    /// worker's clock stands still while it computes, but WebCrypto hashes outside of it. The
    /// comparison of the digests is not measured; it takes far less than a millisecond.
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

/// A credential whose requests are counted.
pub struct Counted<'a>(pub &'a Credential, pub &'a Subrequests);

impl Access for Counted<'_> {
    async fn admit(&self, source: &Source, url: String) -> Result<String, Failure> {
        self.1.ask()?;
        self.0.admit(source, url).await
    }
}

#[cfg(test)]
mod tests {
    use edge_net_core::transfer::source::SourceKind;
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn the_cache_may_use_what_the_rest_does_not_need() {
        let subrequests = Subrequests::new(10);
        // The manifest took one, and four are kept for the rest.
        assert!(subrequests.allow(5));
        assert!(!subrequests.allow(6));
        subrequests.take().unwrap();
        assert!(!subrequests.allow(5));
    }

    #[test]
    fn the_rest_may_use_all_that_is_left() {
        let subrequests = Subrequests::new(10);
        for _ in 0..9 {
            subrequests.take().unwrap();
        }
        assert!(subrequests.take().is_err());
        let Failure::Unreachable(detail) = subrequests.ask().unwrap_err() else { panic!() };
        assert!(detail.contains("SUBREQUESTS"), "{detail}");
    }

    #[test]
    fn a_counted_credential_admits_nothing_beyond_the_budget() {
        let subrequests = Subrequests::new(2);
        let counted = Counted(&Credential::Public, &subrequests);
        let source = Source::new(SourceKind::Gcs, "https://bucket.example");
        let admit = || counted.admit(&source, "https://bucket.example/a".into()).now_or_never();
        assert_eq!(admit(), Some(Ok("https://bucket.example/a".into())));
        assert!(matches!(admit(), Some(Err(Failure::Unreachable(_)))));
    }

    #[test]
    fn times_of_verification_add_up() {
        let subrequests = Subrequests::new(10);
        assert_eq!(subrequests.verifying(), None);
        subrequests.hashed(0);
        assert_eq!(subrequests.verifying(), Some(0));
        subrequests.hashed(3);
        subrequests.hashed(4);
        assert_eq!(subrequests.verifying(), Some(7));
    }
}
