//! Configuration: the variables of `wrangler.toml`.

use std::cell::RefCell;
use std::rc::Rc;

use edge_net_core::dag::unixfs::Digest;
use edge_net_core::http::gcs::{HmacKey, ServiceAccount, SigningError};
use edge_net_core::http::link::{LinkKeys, LinkKeysError};
use edge_net_core::transfer::source::{Source, SourceKind};
use edge_net_core::trust::signature::{PinnedKeys, PinnedKeysError};
use edge_net_driver::lookup::Places;
use js_sys::Object;
use worker::Env;

use crate::credential::Credential;
use crate::private::Private;

thread_local! {
    /// Read once: an isolate's variables never change.
    static READ: RefCell<Option<Rc<Config>>> = const { RefCell::new(None) };
}

/// What the platform allows a request on the free plan.
const SUBREQUESTS: u32 = 50;
/// With fewer, nothing could be kept in the cache.
const FEWEST_SUBREQUESTS: u32 = 10;

/// What the deployer configured.
pub struct Config {
    /// Where artifacts come from, in the order they are asked.
    pub sources: Vec<Source>,
    /// Whose manifests are served.
    pub keys: PinnedKeys,
    /// Who the bucket is asked as.
    pub credential: Credential,
    /// Which models are private.
    pub private: Private,
    /// Whether verified segments are kept in the zone's cache.
    pub segment_cache: bool,
    /// Subrequests that one request may make.
    pub subrequests: u32,
}

/// A variable that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not set.
    #[error("the variable {0} is not set; see wrangler.toml")]
    Missing(&'static str),
    /// The keys cannot be read.
    #[error("the variable PINNED_KEYS cannot be used: {0}")]
    Keys(#[from] PinnedKeysError),
    /// The bucket's credential cannot be used.
    #[error("the secret GCS_SERVICE_ACCOUNT cannot be used: {0}")]
    Account(#[from] SigningError),
    /// The keys of links cannot be read.
    #[error("the secret LINK_KEYS cannot be used: {0}")]
    LinkKeys(#[from] LinkKeysError),
    /// Neither `on` nor `off`.
    #[error("the variable {0} must be on or off, not {1:?}")]
    Switch(&'static str, String),
    /// No number, or one that is too small.
    #[error("the variable {0} must be a whole number, at least {1}, not {2:?}")]
    Number(&'static str, u32, String),
}

impl Config {
    /// The configuration of this isolate.
    ///
    /// # Errors
    /// [`ConfigError`] names the variable.
    pub fn of(env: &Env) -> Result<Rc<Self>, ConfigError> {
        if let Some(config) = READ.with_borrow(Clone::clone) {
            return Ok(config);
        }
        let config = Rc::new(Self::from_env(env)?);
        READ.set(Some(Rc::clone(&config)));
        Ok(config)
    }

    /// Reads `GCS_BASE`, `IPFS_GATEWAYS` (separated by commas, may be empty), `PINNED_KEYS`, `SEGMENT_CACHE` (`on` if
    /// not set), `SUBREQUESTS` (50 if not set), and of the secrets `GCS_SERVICE_ACCOUNT`, or `GCS_HMAC_ACCESS_ID` and
    /// `GCS_HMAC_SECRET`, what is set; `PRIVATE_MODELS` (ids, separated by commas) and the secrets `LINK_KEYS` and
    /// `LINK_TOKEN`.
    fn from_env(env: &Env) -> Result<Self, ConfigError> {
        let var = |name| {
            env.var(name).map(|value| value.to_string()).map_err(|_| ConfigError::Missing(name))
        };
        let gateways = var("IPFS_GATEWAYS")?;
        let gateways = gateways.split(',').map(str::trim).filter(|base| !base.is_empty());
        let mut sources = vec![Source::new(SourceKind::Gcs, &var("GCS_BASE")?)];
        sources.extend(gateways.map(|base| Source::new(SourceKind::Ipfs, base)));
        let segment_cache = match var("SEGMENT_CACHE").as_deref() {
            Ok("on") | Err(_) => true,
            Ok("off") => false,
            Ok(other) => return Err(ConfigError::Switch("SEGMENT_CACHE", other.to_owned())),
        };
        let subrequests = var("SUBREQUESTS").map_or(Ok(SUBREQUESTS), |text| {
            let number = text.parse().ok().filter(|number| *number >= FEWEST_SUBREQUESTS);
            number.ok_or(ConfigError::Number("SUBREQUESTS", FEWEST_SUBREQUESTS, text))
        })?;
        let credential = if let Ok(account) = var("GCS_SERVICE_ACCOUNT") {
            Credential::Account(ServiceAccount::parse(&account)?)
        } else if let Ok(access_id) = var("GCS_HMAC_ACCESS_ID") {
            Credential::Hmac(HmacKey { access_id, secret: var("GCS_HMAC_SECRET")? })
        } else {
            Credential::Public
        };
        let models = var("PRIVATE_MODELS").unwrap_or_default();
        let models = models
            .split(',')
            .map(str::trim)
            .filter(|id| !id.is_empty())
            .map(str::to_owned)
            .collect();
        let keys = var("LINK_KEYS").ok().map(|keys| LinkKeys::parse(&keys)).transpose()?;
        let token = var("LINK_TOKEN").ok().map(|token| Digest::of(token.as_bytes()));
        let private = Private { models, keys, token };
        Ok(Self {
            sources,
            private,
            segment_cache,
            subrequests,
            credential,
            keys: PinnedKeys::parse(&var("PINNED_KEYS")?)?,
        })
    }

    /// Where manifests and leaf tables are looked for.
    pub fn places<'a>(&'a self, init: &'a Object) -> Places<'a, Credential> {
        Places { sources: &self.sources, init, access: &self.credential }
    }
}
