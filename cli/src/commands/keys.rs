//! `keygen`, `public-key` and `endorse`: signing keys.

use std::path::PathBuf;

use clap::Args;
use ed25519_dalek::SigningKey;
use edge_net_core::trust::signature;
use serde_json::json;

use crate::error::Error;
use crate::key::{generate, public, read};

/// `keygen`
#[derive(Args)]
pub struct Keygen {
    /// Name of the key in manifests and in clients' pinned keys
    #[arg(long)]
    key_id: String,
    /// File for the private key
    #[arg(long)]
    out: PathBuf,
    /// Overwrite an existing file
    #[arg(long)]
    force: bool,
}

/// `public-key`
#[derive(Args)]
pub struct PublicKey {
    /// The private key, PKCS#8 PEM
    #[arg(long)]
    key: PathBuf,
    /// Name of the key in manifests and in clients' pinned keys
    #[arg(long)]
    key_id: String,
}

/// `endorse`
#[derive(Args)]
pub struct Endorse {
    /// The old private key, PKCS#8 PEM, which clients have pinned
    #[arg(long)]
    key: PathBuf,
    /// Name of the old key
    #[arg(long)]
    key_id: String,
    /// The new private key, PKCS#8 PEM
    #[arg(long)]
    new_key: PathBuf,
    /// Name of the new key
    #[arg(long)]
    new_key_id: String,
}

impl Keygen {
    /// Runs the command.
    ///
    /// # Errors
    /// [`Error::Key`].
    pub fn run(self) -> Result<(), Error> {
        print_pinned(&self.key_id, &generate(&self.out, self.force)?);
        Ok(())
    }
}

impl PublicKey {
    /// Runs the command.
    ///
    /// # Errors
    /// [`Error::Key`].
    pub fn run(self) -> Result<(), Error> {
        print_pinned(&self.key_id, &read(&self.key)?);
        Ok(())
    }
}

impl Endorse {
    /// Runs the command.
    ///
    /// # Errors
    /// [`Error::Key`].
    pub fn run(self) -> Result<(), Error> {
        let (old, new) = (read(&self.key)?, public(&read(&self.new_key)?));
        out!("{}", signature::endorse(&self.new_key_id, &new, &self.key_id, &old));
        Ok(())
    }
}

/// Prints the public key in the form that clients pin: `{"<name>":"<base64>"}`.
fn print_pinned(key_id: &str, key: &SigningKey) {
    out!("{}", json!({ key_id: public(key) }));
}
