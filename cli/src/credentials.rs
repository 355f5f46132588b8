//! Who we are to Google: an OAuth 2.0 access token, from what the usual variables of the environment name
//! (<https://cloud.google.com/docs/authentication/application-default-credentials>).

use std::cell::RefCell;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{env, fs};

use base64ct::{Base64UrlUnpadded, Encoding as _};
use edge_net_core::http::gcs::ServiceAccount;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::{Value, json};
use ureq::Agent;

use crate::error::{Error, of_file};
use crate::http;

/// What is asked for: to read and write objects.
const SCOPE: &str = "https://www.googleapis.com/auth/devstorage.read_write";
/// Where tokens come from, unless the key file says otherwise.
const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";
/// How long a token has to be valid yet, to be used: a request may take a while.
const MARGIN: Duration = Duration::from_mins(5);

/// Gives access tokens.
pub enum Credentials {
    /// None: an emulator wants none, and a bucket says so itself.
    None,
    /// `GOOGLE_OAUTH_ACCESS_TOKEN`.
    Token(String),
    /// The file that `GOOGLE_APPLICATION_CREDENTIALS` names, and the token that it last gave, valid until then.
    File {
        /// Where it is.
        path: PathBuf,
        /// What is in it.
        key: Box<Value>,
        /// What it last gave.
        latest: RefCell<Option<(String, SystemTime)>>,
    },
}

impl Credentials {
    /// As the environment says.
    pub fn of_environment() -> Result<Self, Error> {
        if let Ok(token) = env::var("GOOGLE_OAUTH_ACCESS_TOKEN") {
            return Ok(Self::Token(token));
        }
        let Some(path) = env::var_os("GOOGLE_APPLICATION_CREDENTIALS").map(PathBuf::from) else {
            return Ok(Self::None);
        };
        let text = fs::read_to_string(&path).map_err(of_file(&path))?;
        let key: Value =
            serde_json::from_str(&text).map_err(|error| bad(&path, error.to_string()))?;
        Ok(Self::File { path, key: Box::new(key), latest: RefCell::default() })
    }

    /// A token that is valid for a while, where one is to be sent.
    pub fn token(&self, agent: &Agent) -> Result<Option<String>, Error> {
        let (path, key, latest) = match self {
            Self::None => return Ok(None),
            Self::Token(token) => return Ok(Some(token.clone())),
            Self::File { path, key, latest } => (path, key, latest),
        };
        let now = SystemTime::now();
        if let Some((token, until)) = latest.borrow().as_ref()
            && *until > now + MARGIN
        {
            return Ok(Some(token.clone()));
        }
        let uri = key["token_uri"].as_str().unwrap_or(TOKEN_URI);
        let form = |name: &str| {
            let value = key[name].as_str().map(str::to_owned);
            value.ok_or_else(|| bad(path, format!("{name} is missing")))
        };
        let fields = match key["type"].as_str() {
            Some("service_account") => {
                vec![
                    ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer".into()),
                    ("assertion", assertion(path, key, uri, now)?),
                ]
            }
            // What `gcloud auth application-default login` writes.
            Some("authorized_user") => vec![
                ("grant_type", "refresh_token".into()),
                ("client_id", form("client_id")?),
                ("client_secret", form("client_secret")?),
                ("refresh_token", form("refresh_token")?),
            ],
            other => {
                let kind = other.unwrap_or("missing");
                return Err(bad(
                    path,
                    format!(
                        "its type is {kind}; service_account and authorized_user are read here"
                    ),
                ));
            }
        };
        let answer = agent.post(uri).send_form(fields);
        let answer = answer
            .map_err(|error| Error::Unreachable { url: uri.to_owned(), error: error.into() })?;
        let text =
            http::accepted(uri, answer)?.body_mut().with_config().limit(64 << 10).read_to_string();
        let text =
            text.map_err(|error| Error::Unreachable { url: uri.to_owned(), error: error.into() })?;
        let answer: Value = serde_json::from_str(&text).unwrap_or_default();
        let no_token =
            || Error::BadAnswer { url: uri.to_owned(), problem: "no access token".into() };
        let token = answer["access_token"].as_str().ok_or_else(no_token)?.to_owned();
        let lifetime = Duration::from_secs(answer["expires_in"].as_u64().unwrap_or_default());
        *latest.borrow_mut() = Some((token.clone(), now + lifetime));
        Ok(Some(token))
    }
}

fn bad(path: &std::path::Path, problem: String) -> Error {
    Error::Credentials { path: path.to_owned(), problem }
}

/// A JWT by which a service account asks for a token (RFC 7523), signed with RSASSA-PKCS1-v1_5 and SHA-256.
fn assertion(
    path: &std::path::Path,
    key: &Value,
    uri: &str,
    now: SystemTime,
) -> Result<String, Error> {
    let account =
        ServiceAccount::parse(&key.to_string()).map_err(|error| bad(path, error.to_string()))?;
    let der = account.pkcs8().map_err(|error| bad(path, error.to_string()))?;
    let pair = RsaKeyPair::from_pkcs8(&der)
        .map_err(|error| bad(path, format!("private_key is no RSA key: {error}")))?;
    let issued = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut header = json!({ "alg": "RS256", "typ": "JWT" });
    if let Some(id) = key["private_key_id"].as_str() {
        header["kid"] = id.into();
    }
    let claims = json!({ "iss": account.client_email, "scope": SCOPE, "aud": uri, "iat": issued, "exp": issued + 3600 });
    let encode = |bytes: &[u8]| Base64UrlUnpadded::encode_string(bytes);
    let signed = format!(
        "{}.{}",
        encode(header.to_string().as_bytes()),
        encode(claims.to_string().as_bytes())
    );
    let mut signature = vec![0; pair.public().modulus_len()];
    let done =
        pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature);
    done.map_err(|_| Error::Randomness("RSA".into()))?;
    Ok(format!("{signed}.{}", encode(&signature)))
}
