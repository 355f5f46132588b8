//! Signing keys: Ed25519, PKCS#8 PEM, as openssl writes and reads them.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use base64ct::{Base64, Encoding as _};
use clap::Args;
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, KeypairBytes};
use edge_net_core::trust::signature::endorse;
use serde_json::json;

use crate::Context;
use crate::error::{Error, of_file};

/// `keygen`
#[derive(Args)]
pub struct Keygen {
    /// Name of the key, as manifests and clients call it
    #[arg(long)]
    key_id: String,
    /// Where to write the private key
    #[arg(long)]
    out: PathBuf,
    /// Write over a key that exists
    #[arg(long)]
    force: bool,
}

/// `public-key`
#[derive(Args)]
pub struct PublicKey {
    /// The private key, PKCS#8 PEM
    #[arg(long)]
    key: PathBuf,
    /// Name of the key, as manifests and clients call it
    #[arg(long)]
    key_id: String,
}

/// Who signs: as the command line says, or else the settings.
#[derive(Args)]
pub struct Signer {
    /// Private key, PKCS#8 PEM; signing.keyPath if not given
    #[arg(long)]
    key: Option<PathBuf>,
    /// Name of the key; signing.keyId if not given
    #[arg(long)]
    key_id: Option<String>,
}

impl Signer {
    /// The key and its name.
    pub fn key(&self, context: &Context) -> Result<(SigningKey, String), Error> {
        let (path, id) = match (&self.key, &self.key_id) {
            // Then the settings do not matter, nor whether they can be read.
            (Some(path), Some(id)) => (Some(path.clone()), Some(id.clone())),
            (path, id) => {
                let settings = context.settings()?;
                (path.clone().or(settings.signing_key_path), id.clone().or(settings.signing_key_id))
            }
        };
        let path = path.ok_or(Error::Missing("key to sign with", "key", "signing.keyPath"))?;
        let id = id.ok_or(Error::Missing("name of the key", "key-id", "signing.keyId"))?;
        Ok((read(&path)?, id))
    }
}

/// `endorse`
#[derive(Args)]
pub struct Endorse {
    /// The old private key, PKCS#8 PEM, which clients pinned
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

impl Endorse {
    /// Prints the endorsement.
    pub fn run(self) -> Result<(), Error> {
        let (old, new) = (read(&self.key)?, public(&read(&self.new_key)?));
        out!("{}", endorse(&self.new_key_id, &new, &self.key_id, &old));
        Ok(())
    }
}

impl Keygen {
    /// Makes the key.
    pub fn run(self) -> Result<(), Error> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| Error::Randomness(error.to_string()))?;
        let key = SigningKey::from_bytes(&seed);
        // Version 1 of PKCS#8, without the public key: openssl before 3.2 reads no other.
        let pair = KeypairBytes { secret_key: seed, public_key: None };
        let pem = pair.to_pkcs8_pem(LineEnding::LF).map_err(|error| Error::BadKey {
            path: self.out.clone(),
            problem: error.to_string(),
        })?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        if !self.force {
            options.create_new(true);
        }
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&self.out).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => Error::KeyExists(self.out.clone()),
            _ => of_file(&self.out)(error),
        })?;
        file.write_all(pem.as_bytes()).map_err(of_file(&self.out))?;
        print_pinned(&self.key_id, &key);
        Ok(())
    }
}

impl PublicKey {
    /// Prints the public half.
    pub fn run(self) -> Result<(), Error> {
        print_pinned(&self.key_id, &read(&self.key)?);
        Ok(())
    }
}

fn print_pinned(key_id: &str, key: &SigningKey) {
    out!("{}", json!({ key_id: public(key) }));
}

/// The public half, in base64.
pub fn public(key: &SigningKey) -> String {
    Base64::encode_string(key.verifying_key().as_bytes())
}

/// Reads a private key; lines above the PEM block are comments.
pub fn read(path: &Path) -> Result<SigningKey, Error> {
    const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
    let text = fs::read_to_string(path).map_err(of_file(path))?;
    let bad = |problem: String| Error::BadKey { path: path.to_owned(), problem };
    let begin = text.find(BEGIN).ok_or_else(|| bad(format!("there is no {BEGIN}")))?;
    SigningKey::from_pkcs8_pem(&text[begin..]).map_err(|error| bad(error.to_string()))
}
