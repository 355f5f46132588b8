//! Unfinished uploads: the URL of each session and what the bucket confirmed, so that an upload
//! goes on after its process was killed.
//!
//! Whoever has the URL of a session can finish the upload. So only the user can read these files.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use edge_net_core::dag::digest::Digest;
use serde_json::{Value, json};

use crate::config::state_directory;
use crate::digest::Fingerprint;

/// All unfinished uploads of this user.
pub struct Sessions(Option<PathBuf>);

/// An unfinished upload.
pub struct Session {
    /// The URL of the session.
    pub url: String,
    /// The number of bytes that the bucket confirmed.
    pub stored: u64,
}

/// The place of one unfinished upload.
pub struct Entry(Option<PathBuf>);

impl Sessions {
    /// Returns those of this user. Without a home folder, none are kept.
    pub fn of_user() -> Self {
        Self(state_directory().ok().map(|folder| folder.join("uploads")))
    }

    /// Returns the place for an upload of this content to `target`.
    pub fn entry(&self, target: &str, content: Fingerprint) -> Entry {
        let Fingerprint { size, crc32c } = content;
        let name = Digest::of(format!("{target} {size} {crc32c}").as_bytes()).to_hex();
        Entry(self.0.as_ref().map(|folder| folder.join(format!("{name}.json"))))
    }
}

impl Entry {
    /// Reads the upload; `None` when there is none.
    pub fn read(&self) -> Option<Session> {
        let text = fs::read_to_string(self.0.as_ref()?).ok()?;
        let session: Value = serde_json::from_str(&text).ok()?;
        let (url, stored) = (session["url"].as_str()?, session["stored"].as_u64()?);
        Some(Session { url: url.to_owned(), stored })
    }

    /// Stores the state of the upload. A failure costs no more than bytes that are sent twice.
    pub fn write(&self, session: &Session) {
        let Some(path) = &self.0 else { return };
        let _ = path.parent().map(fs::create_dir_all);
        let file =
            OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path);
        let text = json!({ "url": session.url, "stored": session.stored }).to_string();
        let _ = file.and_then(|mut file| file.write_all(text.as_bytes()));
    }

    /// Forgets the upload.
    pub fn remove(&self) {
        let _ = self.0.as_ref().map(fs::remove_file);
    }
}
