//! Signing keys: Ed25519 in PKCS#8 PEM files, as openssl writes and reads them.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use base64ct::{Base64, Encoding as _};
use clap::Args;
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, KeypairBytes};

use crate::config::ConfigError;
use crate::context::Context;
use crate::files::{FileError, of_file};

/// A signing key cannot be read or made.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The key file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The settings, which may name the key, cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The key file exists and is not overwritten.
    #[error("{0} exists; give another --out, or --force to overwrite the key in it")]
    Exists(PathBuf),
    /// The file has no private key.
    #[error("{path} holds no Ed25519 private key in PKCS#8 PEM: {problem}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The fault.
        problem: String,
    },
    /// A seed could not be drawn.
    #[error("the operating system gives no random bytes: {0}")]
    Randomness(String),
    /// Neither an option nor a setting names the key.
    #[error("no {what} is given; give --{option}, or set {setting}")]
    Missing {
        /// The missing value, as a noun.
        what: &'static str,
        /// The option.
        option: &'static str,
        /// The setting.
        setting: &'static str,
    },
}

/// The options that select the signing key.
#[derive(Args)]
pub struct Signer {
    /// Private key, PKCS#8 PEM; default: signing.keyPath
    #[arg(long)]
    key: Option<PathBuf>,
    /// Name of the key; default: signing.keyId
    #[arg(long)]
    key_id: Option<String>,
}

impl Signer {
    /// Reads the key, and returns it with its name.
    ///
    /// # Errors
    /// [`KeyError::Missing`], [`KeyError::File`], [`KeyError::Invalid`] and [`KeyError::Config`].
    pub fn key(&self, context: &Context) -> Result<(SigningKey, String), KeyError> {
        let (path, id) = match (&self.key, &self.key_id) {
            // The settings are not needed, so a fault in them does not matter.
            (Some(path), Some(id)) => (Some(path.clone()), Some(id.clone())),
            (path, id) => {
                let settings = context.settings()?;
                (path.clone().or(settings.signing_key_path), id.clone().or(settings.signing_key_id))
            }
        };
        let missing = |what, option, setting| KeyError::Missing { what, option, setting };
        let path = path.ok_or(missing("signing key", "key", "signing.keyPath"))?;
        let id = id.ok_or(missing("name of the signing key", "key-id", "signing.keyId"))?;
        Ok((read(&path)?, id))
    }
}

/// Returns the base64 of the public key.
pub fn public(key: &SigningKey) -> String {
    Base64::encode_string(key.verifying_key().as_bytes())
}

/// Reads a private key. Lines above the PEM block are ignored, as comments.
///
/// # Errors
/// [`KeyError::File`] and [`KeyError::Invalid`].
pub fn read(path: &Path) -> Result<SigningKey, KeyError> {
    const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
    let text = fs::read_to_string(path).map_err(of_file(path))?;
    let invalid = |problem: String| KeyError::Invalid { path: path.to_owned(), problem };
    let begin = text.find(BEGIN).ok_or_else(|| invalid(format!("{BEGIN} is missing")))?;
    SigningKey::from_pkcs8_pem(&text[begin..]).map_err(|error| invalid(error.to_string()))
}

/// Makes a key and writes it to a file that only its owner can read.
///
/// # Errors
/// [`KeyError::Exists`] when the file exists, unless `overwrite`; [`KeyError::File`] and
/// [`KeyError::Randomness`].
pub fn generate(path: &Path, overwrite: bool) -> Result<SigningKey, KeyError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| KeyError::Randomness(error.to_string()))?;
    let key = SigningKey::from_bytes(&seed);
    // PKCS#8 version 1, without the public key: openssl before 3.2 reads no other.
    let pair = KeypairBytes { secret_key: seed, public_key: None };
    let pem = pair
        .to_pkcs8_pem(LineEnding::LF)
        .map_err(|error| KeyError::Invalid { path: path.to_owned(), problem: error.to_string() })?;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    if !overwrite {
        options.create_new(true);
    }
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => KeyError::Exists(path.to_owned()),
        _ => of_file(path)(error).into(),
    })?;
    file.write_all(pem.as_bytes()).map_err(of_file(path))?;
    Ok(key)
}
