//! The settings: their names, types and defaults.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use edge_net_core::transfer::source::SourceKind;
use edge_net_core::trust::signature::PinnedKeys;
use serde_json::Value;

use crate::config::error::ConfigError;
use crate::config::folders::default_cache;
use crate::config::layers::Layers;
use crate::config::origin::Origin;
use crate::config::values::{Bytes, Lanes, Setting, Url};
use crate::yaml::Raw;

/// Declares the settings: field, type, name in the file, default.
///
/// It generates `Settings`, `NAMES` and `check` from one list, so that they cannot differ.
macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $field:ident: $type:ty = $name:literal, $default:expr;)+) => {
        /// All settings.
        #[derive(Debug, Clone)]
        pub struct Settings {
            $($(#[doc = $doc])+ pub $field: $type,)+
            /// The pinned keys: the base64 of each public key, by the key's name.
            pub keys: BTreeMap<String, String>,
            /// The origin of each setting, by its name.
            origins: BTreeMap<String, Origin>,
        }

        /// The names of the settings, in the order of `config show`.
        pub const NAMES: &[&str] = &[$($name),+];

        impl Settings {
            /// Parses the settings of all layers.
            ///
            /// # Errors
            /// [`ConfigError::Setting`] names an invalid value and its origin.
            pub fn resolve(layers: &Layers) -> Result<Self, ConfigError> {
                let mut origins = BTreeMap::new();
                $(
                    let (raw, origin) = layers.find($name);
                    let $field: $type = match raw {
                        Some(raw) => read($name, &raw, &origin)?,
                        None => match $default {
                            Some(raw) => read($name, &raw, &origin)?,
                            None => <$type as Fallback>::none(),
                        },
                    };
                    origins.insert($name.to_owned(), origin);
                )+
                let mut keys = BTreeMap::new();
                for (name, raw, origin) in layers.keys()? {
                    let (id, key) = key_of(&name, &raw, &origin)?;
                    keys.insert(id.to_owned(), key);
                    origins.insert(name, origin);
                }
                Ok(Self { $($field,)+ keys, origins })
            }

            /// Returns name, value and origin of each setting.
            pub fn rows(&self) -> Vec<(&str, Value, &Origin)> {
                let mut rows =
                    vec![$(($name, self.$field.show(), &self.origins[$name])),+];
                rows.extend(self.origins.iter().filter_map(|(name, origin)| {
                    let key = self.keys.get(name.strip_prefix("keys.")?)?;
                    Some((name.as_str(), key.clone().into(), origin))
                }));
                rows
            }
        }

        /// Checks that a setting exists and can have this value.
        ///
        /// # Errors
        /// [`ConfigError::Setting`].
        pub fn check(name: &str, raw: &Raw) -> Result<(), ConfigError> {
            match name {
                $($name => read::<$type>($name, raw, &Origin::Flag).map(drop),)+
                _ => key_of(name, raw, &Origin::Flag).map(drop),
            }
        }
    };
}

/// The value of a setting that is not set and has no default. Types without such a value have a
/// default for every setting.
trait Fallback: Sized {
    fn none() -> Self {
        unreachable!("the setting has a default")
    }
}
impl<T> Fallback for Option<T> {
    fn none() -> Self {
        None
    }
}
impl Fallback for SourceKind {}
impl Fallback for Bytes {}
impl Fallback for bool {}
impl Fallback for Url {}
impl Fallback for Duration {}
impl Fallback for u8 {}
impl Fallback for Vec<Url> {}
impl Fallback for Lanes {}

/// A default, in the notation of the configuration file.
#[allow(clippy::unnecessary_wraps)] // The macro takes an `Option`.
fn default(text: &str) -> Option<Raw> {
    Some(Raw::One(text.into()))
}

settings! {
    /// The source that is asked first.
    default_source: SourceKind = "defaultSource", default("edge");
    /// The folder of pulled models.
    cache_directory: Option<PathBuf> = "cache.directory",
        default_cache().and_then(|folder| default(&folder.to_string_lossy()));
    /// The size limit of that folder, in bytes.
    cache_max_size: Bytes = "cache.maxSize", default("10GB");
    /// Whether `pull` removes the least recently used models to make room.
    cache_auto_cleanup: bool = "cache.autoCleanup", default("true");
    /// URL of the bucket.
    cdn_endpoint: Url = "cdn.endpoint",
        default("https://storage.googleapis.com/edge-net-models");
    /// The longest silence that bucket and edge worker are allowed.
    cdn_timeout: Duration = "cdn.timeout", default("30000");
    /// The number of retries for the same bytes at one source.
    cdn_retries: u8 = "cdn.retries", default("3");
    /// URLs of IPFS gateways.
    ipfs_gateways: Vec<Url> = "ipfs.gateways",
        default("https://ipfs.io/ipfs/,https://dweb.link/ipfs/");
    /// The number of concurrent requests for a file when gateways are among its sources.
    ipfs_parallel: Lanes = "ipfs.parallel", default("4");
    /// The longest silence that gateways are allowed.
    ipfs_timeout: Duration = "ipfs.timeout", default("60000");
    /// URL of the edge worker, which is also the registry.
    edge_url: Option<Url> = "edge.url", None;
    /// The quantization to choose when a name matches several models.
    prefer_quantization: Option<String> = "preferences.preferQuantization", default("INT4");
    /// Whether to choose the smallest of several models, else the largest.
    prefer_small_models: bool = "preferences.preferSmallModels", default("true");
    /// Whether `pull` looks for a newer version of a model that is in the cache.
    auto_update: bool = "preferences.autoUpdate", default("true");
    /// Path of the private key to sign with.
    signing_key_path: Option<PathBuf> = "signing.keyPath", None;
    /// Name of that key.
    signing_key_id: Option<String> = "signing.keyId", None;
}

impl Settings {
    /// Returns the pinned keys.
    ///
    /// # Errors
    /// [`ConfigError::Keys`] when one is not an Ed25519 public key.
    pub fn pinned(&self) -> Result<PinnedKeys, ConfigError> {
        let pin = |keys: PinnedKeys, (id, key): (&String, &String)| keys.pin(id.clone(), key);
        Ok(self.keys.iter().try_fold(PinnedKeys::default(), pin)?)
    }
}

/// Parses a value; an error names the setting, the value and the origin.
fn read<T: Setting>(name: &str, raw: &Raw, origin: &Origin) -> Result<T, ConfigError> {
    T::read(raw).map_err(|problem| {
        let value = match raw {
            Raw::One(value) => format!("is {value:?}; it "),
            Raw::Many(_) => String::new(),
        };
        ConfigError::setting(origin, format!("{name} {value}{problem}"))
    })
}

/// Returns the name and the public key of the setting `keys.<name>`.
fn key_of<'a>(name: &'a str, raw: &Raw, origin: &Origin) -> Result<(&'a str, String), ConfigError> {
    let Some(id) = name.strip_prefix("keys.").filter(|id| !id.is_empty()) else {
        return Err(ConfigError::setting(origin, unknown(name)));
    };
    let key: String = read(name, raw, origin)?;
    let pinned = PinnedKeys::default().pin(id.to_owned(), &key);
    pinned.map_err(|error| ConfigError::setting(origin, format!("{name}: {error}")))?;
    Ok((id, key))
}

/// The message for an unknown setting.
pub fn unknown(name: &str) -> String {
    format!(
        "there is no setting {name:?}; the settings are {}, and keys.<name of a key>",
        NAMES.join(", ")
    )
}

/// Resolves the short names of settings.
pub fn full_name(name: &str) -> &str {
    match name {
        "cacheDir" => "cache.directory",
        other => other,
    }
}
