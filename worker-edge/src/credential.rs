//! The credential for the bucket: requests to a private bucket have signed URLs (V4, see
//! [`gcs`](edge_net_core::http::gcs)).

use std::cell::RefCell;
use std::time::Duration;

use edge_net_core::http::gcs::{HmacKey, ServiceAccount, SigningError};
use edge_net_core::transfer::source::{Failure, Source, SourceKind};
use edge_net_driver::host;
use edge_net_driver::lookup::Access;
use js_sys::{Array, Object, Reflect, Uint8Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{CryptoKey, SubtleCrypto, WorkerGlobalScope};

/// Validity of a signed URL. The URL never leaves this worker; a slow client has to finish its
/// download within this time.
const LIFETIME: Duration = Duration::from_hours(12);

thread_local! {
    /// The key of a service account, as WebCrypto holds it, and the account's e-mail address.
    static IMPORTED: RefCell<Option<(String, CryptoKey)>> = const { RefCell::new(None) };
}

/// A credential for the bucket.
pub enum Credential {
    /// None: the bucket is public.
    Public,
    /// An HMAC key.
    Hmac(HmacKey),
    /// A service account.
    Account(ServiceAccount),
}

/// A secret is missing or wrong.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// It is not set.
    #[error("the secret {0} is not set")]
    Missing(&'static str),
    /// The service account is malformed.
    #[error(transparent)]
    Account(#[from] SigningError),
}

impl Credential {
    /// The credential of the secrets `GCS_SERVICE_ACCOUNT`, or else `GCS_HMAC_ACCESS_ID` and
    /// `GCS_HMAC_SECRET`; public without them. `var` returns the value of one.
    ///
    /// # Errors
    /// [`CredentialError`].
    pub fn choose(var: &impl Fn(&str) -> Option<String>) -> Result<Self, CredentialError> {
        if let Some(account) = var("GCS_SERVICE_ACCOUNT") {
            return Ok(Self::Account(ServiceAccount::parse(&account)?));
        }
        let Some(access_id) = var("GCS_HMAC_ACCESS_ID") else { return Ok(Self::Public) };
        let secret = var("GCS_HMAC_SECRET").ok_or(CredentialError::Missing("GCS_HMAC_SECRET"))?;
        Ok(Self::Hmac(HmacKey { access_id, secret }))
    }
}

/// Why a URL was not signed.
#[derive(Debug, thiserror::Error)]
enum NotSigned {
    #[error(transparent)]
    Refused(#[from] SigningError),
    #[error("WebCrypto: {0}")]
    Host(String),
}

impl From<JsValue> for NotSigned {
    fn from(error: JsValue) -> Self {
        Self::Host(host::message(&error))
    }
}

impl Access for Credential {
    async fn admit(&self, source: &Source, url: String) -> Result<String, Failure> {
        if source.kind != SourceKind::Gcs {
            return Ok(url);
        }
        let signed = match self {
            Self::Public => return Ok(url),
            Self::Hmac(key) => key.sign(&url, host::unix_time(), LIFETIME).map_err(NotSigned::from),
            Self::Account(account) => sign(account, &url).await,
        };
        signed
            .map_err(|error| Failure::Unreachable(format!("its URL could not be signed: {error}")))
    }
}

async fn sign(account: &ServiceAccount, url: &str) -> Result<String, NotSigned> {
    let unsigned = account.unsigned(url, host::unix_time(), LIFETIME)?;
    let subtle = subtle()?;
    let key = imported(&subtle, account).await?;
    let signed = subtle.sign_with_str_and_u8_array(
        "RSASSA-PKCS1-v1_5",
        &key,
        unsigned.string_to_sign().as_bytes(),
    )?;
    let signature = Uint8Array::new(&JsFuture::from(signed).await?).to_vec();
    Ok(unsigned.with_signature(&signature))
}

fn subtle() -> Result<SubtleCrypto, JsValue> {
    Ok(js_sys::global().unchecked_into::<WorkerGlobalScope>().crypto()?.subtle())
}

async fn imported(subtle: &SubtleCrypto, account: &ServiceAccount) -> Result<CryptoKey, NotSigned> {
    let known = IMPORTED.with_borrow(|known| {
        known.as_ref().filter(|(of, _)| *of == account.client_email).map(|(_, key)| key.clone())
    });
    if let Some(key) = known {
        return Ok(key);
    }
    let algorithm = Object::new();
    Reflect::set(&algorithm, &"name".into(), &"RSASSA-PKCS1-v1_5".into())?;
    Reflect::set(&algorithm, &"hash".into(), &"SHA-256".into())?;
    let der = Uint8Array::from(&*account.pkcs8()?);
    let usages = Array::of1(&"sign".into());
    let key = subtle.import_key_with_object("pkcs8", &der, &algorithm, false, &usages)?;
    let key: CryptoKey = JsFuture::from(key).await?.unchecked_into();
    IMPORTED.set(Some((account.client_email.clone(), key.clone())));
    Ok(key)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn choose(secrets: &[(&str, &str)]) -> Result<Credential, CredentialError> {
        Credential::choose(&|name: &str| {
            secrets.iter().find(|(of, _)| *of == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn without_secrets_the_bucket_is_public() {
        assert!(matches!(choose(&[]), Ok(Credential::Public)));
        assert!(matches!(choose(&[("GCS_HMAC_SECRET", "secret")]), Ok(Credential::Public)));
    }

    #[test]
    fn an_hmac_key_needs_both_of_its_parts() {
        let both = [("GCS_HMAC_ACCESS_ID", "GOOG1E"), ("GCS_HMAC_SECRET", "secret")];
        let Ok(Credential::Hmac(HmacKey { access_id, secret })) = choose(&both) else { panic!() };
        assert_eq!((&*access_id, &*secret), ("GOOG1E", "secret"));
        assert!(matches!(choose(&both[..1]), Err(CredentialError::Missing("GCS_HMAC_SECRET"))));
    }

    #[test]
    fn a_service_account_comes_before_an_hmac_key_even_if_it_is_malformed() {
        let secrets = [
            ("GCS_SERVICE_ACCOUNT", "{"),
            ("GCS_HMAC_ACCESS_ID", "GOOG1E"),
            ("GCS_HMAC_SECRET", "secret"),
        ];
        assert!(matches!(choose(&secrets), Err(CredentialError::Account(_))));
        let account = r#"{"client_email": "edge@example", "private_key":
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"}"#;
        let chosen = choose(&[("GCS_SERVICE_ACCOUNT", account), secrets[1], secrets[2]]);
        let Ok(Credential::Account(account)) = chosen else { panic!() };
        assert_eq!(account.client_email, "edge@example");
    }

    #[test]
    fn only_urls_of_the_bucket_are_signed() {
        let key = HmacKey { access_id: "GOOG1E".into(), secret: "secret".into() };
        let gateway = Source::new(SourceKind::Ipfs, "https://gateway.example/ipfs");
        let url = "https://gateway.example/ipfs/bafy";
        let admitted = Credential::Hmac(key).admit(&gateway, url.into()).now_or_never();
        assert_eq!(admitted, Some(Ok(url.to_owned())));
    }
}
