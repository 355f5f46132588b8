//! Signs what a private bucket is asked for: V4 URLs, see [`gcs`](edge_net_core::http::gcs).

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

/// How long a signed URL is valid. It never leaves this worker; a client that reads slowly must be done by then.
const LIFETIME: Duration = Duration::from_hours(12);

thread_local! {
    /// The service account's key, as WebCrypto holds it, by who signs.
    static IMPORTED: RefCell<Option<(String, CryptoKey)>> = const { RefCell::new(None) };
}

/// Who the bucket is asked as.
pub enum Credential {
    /// Nobody: the bucket is public.
    Public,
    /// The owner of an HMAC key.
    Hmac(HmacKey),
    /// A service account.
    Account(ServiceAccount),
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
