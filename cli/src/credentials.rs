//! OAuth 2.0 access tokens for Google Cloud Storage, from Google's usual environment variables
//! (<https://cloud.google.com/docs/authentication/application-default-credentials>).

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{env, fs};

use base64ct::{Base64UrlUnpadded, Encoding as _};
use edge_net_core::http::gcs::ServiceAccount;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::{Value, json};
use ureq::Agent;

use crate::files::{FileError, of_file};
use crate::http::{self, HttpError, of_url};

/// What a token of a service account is for. An account may have less rights than this.
#[derive(Clone, Copy)]
pub enum Scope {
    /// Reading and writing objects.
    Objects,
    /// Also the configuration of buckets.
    Buckets,
}

impl Scope {
    const fn url(self) -> &'static str {
        match self {
            Self::Objects => "https://www.googleapis.com/auth/devstorage.read_write",
            Self::Buckets => "https://www.googleapis.com/auth/devstorage.full_control",
        }
    }
}

/// URL of the token service, unless the key file names another one.
const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";
/// The shortest remaining lifetime of a token that is used for a request.
const MARGIN: Duration = Duration::from_mins(5);

/// No access token can be made.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The key file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The key file has invalid content.
    #[error("{path}, which GOOGLE_APPLICATION_CREDENTIALS names: {problem}")]
    Unusable {
        /// Path of the key file.
        path: PathBuf,
        /// The fault, without secrets of the file.
        problem: String,
    },
    /// The request for a token failed to be signed.
    #[error("the request for an access token cannot be signed with the RSA key")]
    Unsigned,
    /// The token service failed.
    #[error(transparent)]
    Http(#[from] HttpError),
}

/// A source of access tokens.
pub enum Credentials {
    /// No tokens: an emulator needs none, and a bucket that needs one refuses the request.
    None,
    /// The token in `GOOGLE_OAUTH_ACCESS_TOKEN`.
    Token(String),
    /// The key file that `GOOGLE_APPLICATION_CREDENTIALS` names.
    File {
        /// Path of the file.
        path: PathBuf,
        /// Its JSON.
        key: Box<Value>,
        /// What the tokens are for.
        scope: Scope,
        /// The latest token, and the end of its lifetime.
        latest: RefCell<Option<(String, SystemTime)>>,
    },
}

impl Credentials {
    /// Reads the environment, and the file that it names.
    ///
    /// # Errors
    /// [`CredentialsError::File`] and [`CredentialsError::Unusable`].
    pub fn of_environment(scope: Scope) -> Result<Self, CredentialsError> {
        if let Ok(token) = env::var("GOOGLE_OAUTH_ACCESS_TOKEN") {
            return Ok(Self::Token(token));
        }
        let Some(path) = env::var_os("GOOGLE_APPLICATION_CREDENTIALS").map(PathBuf::from) else {
            return Ok(Self::None);
        };
        let text = fs::read_to_string(&path).map_err(of_file(&path))?;
        let key: Value =
            serde_json::from_str(&text).map_err(|error| unusable(&path, error.to_string()))?;
        Ok(Self::File { path, key: Box::new(key), scope, latest: RefCell::default() })
    }

    /// Returns a token that is valid for at least five minutes; `None` when requests need no token.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub fn token(&self, agent: &Agent) -> Result<Option<String>, CredentialsError> {
        let (path, key, scope, latest) = match self {
            Self::None => return Ok(None),
            Self::Token(token) => return Ok(Some(token.clone())),
            Self::File { path, key, scope, latest } => (path, key, *scope, latest),
        };
        let now = SystemTime::now();
        if let Some((token, until)) = latest.borrow().as_ref()
            && *until > now + MARGIN
        {
            return Ok(Some(token.clone()));
        }
        let uri = key["token_uri"].as_str().unwrap_or(TOKEN_URI);
        let fields = token_request(path, key, (uri, scope), now)?;
        let response = agent.post(uri).send_form(fields).map_err(of_url(uri))?;
        let text = http::text(uri, http::accepted(uri, response)?, 64 << 10)?;
        let answer: Value = serde_json::from_str(&text).unwrap_or_default();
        let token = answer["access_token"].as_str().ok_or_else(|| HttpError::BadResponse {
            url: uri.to_owned(),
            problem: "no access token".into(),
        })?;
        let lifetime = Duration::from_secs(answer["expires_in"].as_u64().unwrap_or_default());
        *latest.borrow_mut() = Some((token.to_owned(), now + lifetime));
        Ok(Some(token.to_owned()))
    }
}

fn unusable(path: &Path, problem: String) -> CredentialsError {
    CredentialsError::Unusable { path: path.to_owned(), problem }
}

/// Builds the form that asks the token service for a token.
fn token_request(
    path: &Path,
    key: &Value,
    (uri, scope): (&str, Scope),
    now: SystemTime,
) -> Result<Vec<(&'static str, String)>, CredentialsError> {
    let field = |name: &str| {
        let value = key[name].as_str().map(str::to_owned);
        value.ok_or_else(|| unusable(path, format!("{name} is missing")))
    };
    match key["type"].as_str() {
        Some("service_account") => Ok(vec![
            ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer".into()),
            ("assertion", assertion(path, key, (uri, scope), now)?),
        ]),
        // Written by `gcloud auth application-default login`.
        Some("authorized_user") => Ok(vec![
            ("grant_type", "refresh_token".into()),
            ("client_id", field("client_id")?),
            ("client_secret", field("client_secret")?),
            ("refresh_token", field("refresh_token")?),
        ]),
        other => {
            let kind = other.unwrap_or("missing");
            let supported = "service_account and authorized_user are supported";
            Err(unusable(path, format!("its type is {kind}; {supported}")))
        }
    }
}

/// Builds the JWT with which a service account asks for a token (RFC 7523), signed with
/// RSASSA-PKCS1-v1_5 and SHA-256.
fn assertion(
    path: &Path,
    key: &Value,
    (uri, scope): (&str, Scope),
    now: SystemTime,
) -> Result<String, CredentialsError> {
    let account = ServiceAccount::parse(&key.to_string())
        .map_err(|error| unusable(path, error.to_string()))?;
    let der = account.pkcs8().map_err(|error| unusable(path, error.to_string()))?;
    let pair = RsaKeyPair::from_pkcs8(&der)
        .map_err(|error| unusable(path, format!("private_key is not an RSA key: {error}")))?;
    let issued = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut header = json!({ "alg": "RS256", "typ": "JWT" });
    if let Some(id) = key["private_key_id"].as_str() {
        header["kid"] = id.into();
    }
    let claims = json!({
        "iss": account.client_email,
        "scope": scope.url(),
        "aud": uri,
        "iat": issued,
        "exp": issued + 3600,
    });
    let encode = |bytes: &[u8]| Base64UrlUnpadded::encode_string(bytes);
    let signed = format!(
        "{}.{}",
        encode(header.to_string().as_bytes()),
        encode(claims.to_string().as_bytes())
    );
    let mut signature = vec![0; pair.public().modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
        .map_err(|_| CredentialsError::Unsigned)?;
    Ok(format!("{signed}.{}", encode(&signature)))
}
