//! The configuration: variables and secrets, as described in `wrangler.toml`.

use std::cell::RefCell;
use std::rc::Rc;

use edge_net_core::dag::digest::Digest;
use edge_net_core::http::gcs::SigningError;
use edge_net_core::http::link::{LinkKeys, LinkKeysError};
use edge_net_core::transfer::source::{Source, SourceKind};
use edge_net_core::trust::signature::{PinnedKeys, PinnedKeysError};
use edge_net_driver::lookup::Places;
use js_sys::Object;
use worker::Env;

use crate::credential::{Credential, CredentialError};
use crate::private::Private;

thread_local! {
    /// Read once: the variables of an isolate never change.
    static READ: RefCell<Option<Rc<Config>>> = const { RefCell::new(None) };
}

/// Subrequests of a request on the platform's free plan.
const SUBREQUESTS: u32 = 50;
/// With fewer, nothing could be kept in the cache.
const FEWEST_SUBREQUESTS: u32 = 10;

/// The configuration of a deployment.
pub struct Config {
    /// The sources of artifacts, in the order in which they are asked.
    pub sources: Vec<Source>,
    /// The keys whose manifests are served.
    pub keys: PinnedKeys,
    /// The credential for the bucket.
    pub credential: Credential,
    /// The private models.
    pub private: Private,
    /// Whether verified segments are kept in the zone's cache.
    pub segment_cache: bool,
    /// Maximum number of subrequests of one request.
    pub subrequests: u32,
}

/// A variable or secret is missing or wrong.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is not set.
    #[error("the variable {0} is not set; see wrangler.toml")]
    Missing(&'static str),
    /// The pinned keys are malformed.
    #[error("the variable PINNED_KEYS cannot be used: {0}")]
    Keys(#[from] PinnedKeysError),
    /// The service account is malformed.
    #[error("the secret GCS_SERVICE_ACCOUNT cannot be used: {0}")]
    Account(#[from] SigningError),
    /// The keys of links are malformed.
    #[error("the secret LINK_KEYS cannot be used: {0}")]
    LinkKeys(#[from] LinkKeysError),
    /// It is neither `on` nor `off`.
    #[error("the variable {0} must be on or off, not {1:?}")]
    Switch(&'static str, String),
    /// It is not a number, or too small.
    #[error("the variable {0} must be a whole number, at least {1}, not {2:?}")]
    Number(&'static str, u32, String),
}

impl From<CredentialError> for ConfigError {
    fn from(error: CredentialError) -> Self {
        match error {
            CredentialError::Missing(name) => Self::Missing(name),
            CredentialError::Account(error) => Self::Account(error),
        }
    }
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
        let var = |name: &str| env.var(name).ok().map(|value| value.to_string());
        let config = Rc::new(Self::read(&var)?);
        READ.set(Some(Rc::clone(&config)));
        Ok(config)
    }

    /// Reads the variables `GCS_BASE`, `IPFS_GATEWAYS` (separated by commas, may be empty) and
    /// `PINNED_KEYS`; if they are set, the variables `SEGMENT_CACHE` (default `on`), `SUBREQUESTS`
    /// (default 50) and `PRIVATE_MODELS` (ids, separated by commas), and the secrets of
    /// [`Credential::choose`], `LINK_KEYS` and `LINK_TOKEN`. `var` returns the value of one.
    fn read(var: &impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let required = |name| var(name).ok_or(ConfigError::Missing(name));
        let gateways = required("IPFS_GATEWAYS")?;
        let mut sources = vec![Source::new(SourceKind::Gcs, &required("GCS_BASE")?)];
        sources.extend(listed(&gateways).map(|base| Source::new(SourceKind::Ipfs, base)));
        let segment_cache = match var("SEGMENT_CACHE").as_deref() {
            Some("on") | None => true,
            Some("off") => false,
            Some(other) => return Err(ConfigError::Switch("SEGMENT_CACHE", other.to_owned())),
        };
        let subrequests = var("SUBREQUESTS").map_or(Ok(SUBREQUESTS), |text| {
            let number = text.parse().ok().filter(|number| *number >= FEWEST_SUBREQUESTS);
            number.ok_or(ConfigError::Number("SUBREQUESTS", FEWEST_SUBREQUESTS, text))
        })?;
        let models = var("PRIVATE_MODELS").unwrap_or_default();
        let private = Private {
            models: listed(&models).map(str::to_owned).collect(),
            keys: var("LINK_KEYS").map(|keys| LinkKeys::parse(&keys)).transpose()?,
            token: var("LINK_TOKEN").map(|token| Digest::of(token.as_bytes())),
        };
        Ok(Self {
            sources,
            private,
            segment_cache,
            subrequests,
            credential: Credential::choose(var)?,
            keys: PinnedKeys::parse(&required("PINNED_KEYS")?)?,
        })
    }

    /// The places of manifests and leaf tables.
    pub fn places<'a>(&'a self, init: &'a Object) -> Places<'a, Credential> {
        Places { sources: &self.sources, init, access: &self.credential }
    }
}

/// The items of a list that is separated by commas.
fn listed(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMUM: [(&str, &str); 3] = [
        ("GCS_BASE", "https://bucket.example/models"),
        ("IPFS_GATEWAYS", ""),
        ("PINNED_KEYS", "{}"),
    ];

    /// The configuration with `more` variables, which replace those of the minimum.
    fn read(more: &[(&str, &str)]) -> Result<Config, String> {
        let var = |name: &str| {
            let all = more.iter().chain(&MINIMUM);
            all.clone().find(|(of, _)| *of == name).map(|(_, value)| (*value).to_owned())
        };
        Config::read(&var).map_err(|error| error.to_string())
    }

    fn error(more: &[(&str, &str)]) -> String {
        read(more).err().expect("an error")
    }

    #[test]
    fn the_minimum_has_the_defaults() {
        let config = read(&[]).unwrap();
        assert_eq!(config.sources.len(), 1);
        assert!(config.segment_cache);
        assert_eq!(config.subrequests, 50);
        assert!(matches!(config.credential, Credential::Public));
        assert!(!config.private.contains("demo"));
    }

    #[test]
    fn the_bucket_comes_before_the_gateways_in_their_order() {
        let config =
            read(&[("IPFS_GATEWAYS", " https://a.example/ipfs/ ,, https://b.example/ipfs/")]);
        let sources = config.unwrap().sources;
        let kinds: Vec<_> = sources.iter().map(|source| source.kind).collect();
        assert_eq!(kinds, [SourceKind::Gcs, SourceKind::Ipfs, SourceKind::Ipfs]);
        assert!(sources[1].base.starts_with("https://a.example/ipfs"), "{}", sources[1].base);
        assert!(sources[2].base.starts_with("https://b.example/ipfs"), "{}", sources[2].base);
    }

    #[test]
    fn errors_name_the_variable() {
        for (name, _) in MINIMUM {
            let var = |of: &str| {
                let (_, value) = MINIMUM.iter().find(|(known, _)| *known == of && of != name)?;
                Some((*value).to_owned())
            };
            let error = Config::read(&var).err().expect(name).to_string();
            assert_eq!(error, format!("the variable {name} is not set; see wrangler.toml"));
        }
        assert!(error(&[("PINNED_KEYS", "key")]).contains("PINNED_KEYS"));
        assert!(error(&[("LINK_KEYS", "{")]).contains("LINK_KEYS"));
        assert!(error(&[("GCS_SERVICE_ACCOUNT", "{")]).contains("GCS_SERVICE_ACCOUNT"));
        assert_eq!(
            error(&[("SEGMENT_CACHE", "yes")]),
            "the variable SEGMENT_CACHE must be on or off, not \"yes\""
        );
        for text in ["9", "9.5", "-1", "many", ""] {
            assert_eq!(
                error(&[("SUBREQUESTS", text)]),
                format!(
                    "the variable SUBREQUESTS must be a whole number, at least 10, not {text:?}"
                )
            );
        }
    }

    #[test]
    fn optional_variables_replace_the_defaults() {
        let config = read(&[
            ("SEGMENT_CACHE", "off"),
            ("SUBREQUESTS", "10"),
            ("PRIVATE_MODELS", "secret, other"),
        ])
        .unwrap();
        assert!(!config.segment_cache);
        assert_eq!(config.subrequests, 10);
        assert!(config.private.contains("secret") && config.private.contains("other"));
    }
}
