//! The claim on a version while it is published: an object beside its files, which only one
//! publisher can create. Without it, two publishers of one version could mix their files.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use edge_net_core::dag::digest::Digest;
use serde_json::{Map, Value, json};

use crate::bucket::{Bucket, BucketError, Generation, Object};
use crate::config::state_directory;
use crate::digest::Fingerprint;
use crate::lock::Lock;

/// A version cannot be claimed.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// The bucket cannot be read or written.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// Another publisher is at work.
    #[error(
        "{folder} is being published with other content by another publisher, since {since}; wait \
         for the end, or give --take-over if it was given up"
    )]
    Taken {
        /// The version's folder in the bucket.
        folder: String,
        /// The time of the claim.
        since: String,
    },
}

/// A claim on a version.
pub struct Claim<'a> {
    bucket: &'a Bucket,
    object: String,
    generation: Generation,
    own: Own,
}

/// What tells this user's claims from others.
struct Own {
    /// A random name of the user.
    by: String,
    /// Keeps other processes of the user away, so that a claim of the user is one that was given
    /// up; with the locked folder.
    lock: Option<(Lock, PathBuf)>,
}

impl<'a> Claim<'a> {
    /// Claims the version in `folder` for this content. With `take_over`, the claim of another
    /// publisher is replaced.
    ///
    /// # Errors
    /// [`ClaimError::Taken`] when another publisher has claimed the version for other content.
    pub fn take(
        bucket: &'a Bucket,
        folder: &str,
        content: &Map<String, Value>,
        take_over: bool,
    ) -> Result<Self, ClaimError> {
        let own = Own::of(&format!("{}/{folder}", bucket.base_url()));
        let object = name_in(folder);
        let content = Digest::of(json!(content).to_string().as_bytes()).to_hex();
        let over = match bucket.read(&object)? {
            None => Generation::none(),
            Some((claim, generation)) => {
                let claim: Value = serde_json::from_str(&claim).unwrap_or_default();
                if !take_over && claim["content"] != content && claim["by"] != own.by {
                    let since = claim["since"].as_str().unwrap_or("an unknown time").to_owned();
                    return Err(ClaimError::Taken { folder: folder.to_owned(), since });
                }
                generation
            }
        };
        let since = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let claim = json!({ "by": own.by, "content": content, "since": since }).to_string();
        let written = Object {
            name: &object,
            fingerprint: Fingerprint::of(claim.as_bytes()),
            media_type: "application/json",
            cache_control: "no-store",
            over: &over,
        };
        bucket.write(&written, Cursor::new(&claim))?;
        match bucket.read(&object)? {
            Some((there, generation)) if there == claim => {
                Ok(Self { bucket, object, generation, own })
            }
            _ => Err(BucketError::Changed(object).into()),
        }
    }

    /// Removes the claim on a version that is published: its publisher was killed at the end.
    ///
    /// # Errors
    /// [`BucketError`].
    pub fn clear(bucket: &Bucket, folder: &str) -> Result<(), BucketError> {
        let object = name_in(folder);
        match bucket.read(&object)? {
            None => Ok(()),
            Some((_, generation)) => bucket.remove(&object, &generation),
        }
    }

    /// Ends the claim.
    ///
    /// # Errors
    /// [`BucketError`].
    pub fn release(self) -> Result<(), BucketError> {
        self.bucket.remove(&self.object, &self.generation)?;
        if let Some((lock, folder)) = self.own.lock {
            drop(lock);
            // Fails while another process waits.
            let _ = fs::remove_dir(folder);
        }
        Ok(())
    }
}

/// Returns the object's name. It is hidden, so that no artifact can have it.
fn name_in(folder: &str) -> String {
    format!("{folder}/.publishing")
}

impl Own {
    /// Waits for other processes of the user that publish to `target`.
    fn of(target: &str) -> Self {
        let stranger = Self { by: random(), lock: None };
        let Ok(state) = state_directory() else { return stranger };
        let folder = state.join("publishing").join(&Digest::of(target.as_bytes()).to_hex()[..32]);
        let lock = Lock::take(&folder, || {
            eprintln!("waiting for another process that publishes to {target}");
        });
        match (lock, name(&state)) {
            (Ok(lock), Some(by)) if lock.exclusive => Self { by, lock: Some((lock, folder)) },
            _ => stranger,
        }
    }
}

/// Returns the user's name, which is made on the first use.
fn name(state: &Path) -> Option<String> {
    let file = state.join("publisher");
    if let Ok(name) = fs::read_to_string(&file) {
        return Some(name);
    }
    let name = random();
    fs::write(&file, &name).ok()?;
    Some(name)
}

fn random() -> String {
    let mut random = [0; 16];
    // Without random bytes, a claim that was given up has to be taken over by hand.
    let _ = getrandom::fill(&mut random);
    format!("{:032x}", u128::from_ne_bytes(random))
}
