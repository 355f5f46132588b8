//! The settings: what they are, where each comes from (flags over environment over file over defaults), and `config`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs};

use clap::{Args, Subcommand};
use edge_net_core::transfer::source::SourceKind;
use edge_net_core::trust::signature::PinnedKeys;
use serde_json::{Map, Value, json};

use crate::Context;
use crate::error::{Error, of_file};
use crate::files::replace;
use crate::yaml::{self, Entry, Raw};

/// Where the value of a setting comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The command line.
    Flag,
    /// A variable of the environment.
    Environment(String),
    /// A line of the file.
    File(PathBuf, usize),
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("the command line"),
            Self::Environment(variable) => f.write_str(variable),
            Self::File(path, line) => write!(f, "{}, line {line}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// What a setting can be.
trait Setting: Sized {
    /// Reads it; the error is a phrase that follows the value.
    fn read(raw: &Raw) -> Result<Self, String>;
    /// Shows it.
    fn show(&self) -> Value;
}

fn one(raw: &Raw) -> Result<&str, String> {
    match raw {
        Raw::One(text) => Ok(text),
        Raw::Many(_) => Err("must be a single value, not a list".into()),
    }
}

impl Setting for bool {
    fn read(raw: &Raw) -> Result<Self, String> {
        one(raw)?.parse().map_err(|_| "must be true or false".into())
    }

    fn show(&self) -> Value {
        (*self).into()
    }
}

impl Setting for SourceKind {
    fn read(raw: &Raw) -> Result<Self, String> {
        let text = one(raw)?;
        let kinds = [Self::Gcs, Self::Ipfs, Self::Edge];
        kinds
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| "must be gcs, ipfs or edge".into())
    }

    fn show(&self) -> Value {
        self.name().into()
    }
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl Setting for Bytes {
    fn read(raw: &Raw) -> Result<Self, String> {
        let size = parse_size::parse_size(one(raw)?)
            .map_err(|_| "must be a size such as 10GB or 500MiB".to_owned())?;
        Ok(Self(size))
    }

    fn show(&self) -> Value {
        self.0.into()
    }
}

/// A time, in milliseconds where it is a number.
impl Setting for Duration {
    fn read(raw: &Raw) -> Result<Self, String> {
        let text = one(raw)?;
        let time = text
            .parse()
            .map(Self::from_millis)
            .ok()
            .or_else(|| humantime::parse_duration(text).ok());
        time.filter(|time| !time.is_zero())
            .ok_or_else(|| "must be a number of milliseconds, or a time such as 30s".into())
    }

    fn show(&self) -> Value {
        u64::try_from(self.as_millis()).unwrap_or(u64::MAX).into()
    }
}

/// A small number that is not zero, such as one of requests at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lanes(pub u8);

impl Setting for Lanes {
    fn read(raw: &Raw) -> Result<Self, String> {
        let number = one(raw)?.parse().ok().filter(|number| (1..=16).contains(number));
        number.map(Self).ok_or_else(|| "must be a number from 1 to 16".into())
    }

    fn show(&self) -> Value {
        self.0.into()
    }
}

impl Setting for u8 {
    fn read(raw: &Raw) -> Result<Self, String> {
        one(raw)?
            .parse()
            .ok()
            .filter(|number| *number <= 20)
            .ok_or_else(|| "must be a number from 0 to 20".into())
    }

    fn show(&self) -> Value {
        (*self).into()
    }
}

/// A path; a `~/` at its beginning is the home folder.
impl Setting for PathBuf {
    fn read(raw: &Raw) -> Result<Self, String> {
        let text = one(raw)?;
        match text.strip_prefix("~/").or((text == "~").then_some("")) {
            Some(rest) => home()
                .map(|home| home.join(rest))
                .ok_or_else(|| "begins with ~, but HOME is not set".into()),
            None if text.is_empty() => Err("must not be empty".into()),
            None => Ok(text.into()),
        }
    }

    fn show(&self) -> Value {
        self.display().to_string().into()
    }
}

impl Setting for String {
    fn read(raw: &Raw) -> Result<Self, String> {
        Some(one(raw)?)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
            .ok_or_else(|| "must not be empty".into())
    }

    fn show(&self) -> Value {
        self.clone().into()
    }
}

/// The address of a server, without a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url(pub String);

impl Url {
    /// Reads one.
    pub fn read(text: &str) -> Option<Self> {
        let uri: ureq::http::Uri = text.parse().ok()?;
        let good = matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.query().is_none()
            && !text.contains('@');
        good.then(|| Self(text.trim_end_matches('/').to_owned()))
    }
}

impl Setting for Url {
    fn read(raw: &Raw) -> Result<Self, String> {
        Self::read(one(raw)?).ok_or_else(|| "must be http://… or https://…, without a query".into())
    }

    fn show(&self) -> Value {
        self.0.clone().into()
    }
}

/// A list; on the command line and in the environment its items are separated by commas.
impl Setting for Vec<Url> {
    fn read(raw: &Raw) -> Result<Self, String> {
        let items: Vec<&str> = match raw {
            Raw::One(text) => {
                text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect()
            }
            Raw::Many(items) => items.iter().map(String::as_str).collect(),
        };
        let read = |item: &&str| {
            Url::read(item)
                .ok_or_else(|| format!("must be a list of http(s)://…, which {item:?} is not"))
        };
        items.iter().map(read).collect()
    }

    fn show(&self) -> Value {
        self.iter().map(Url::show).collect()
    }
}

impl<T: Setting> Setting for Option<T> {
    fn read(raw: &Raw) -> Result<Self, String> {
        T::read(raw).map(Some)
    }

    fn show(&self) -> Value {
        self.as_ref().map_or(Value::Null, T::show)
    }
}

/// Declares the settings: field, type, name in the file, default.
macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $field:ident: $type:ty = $name:literal, $default:expr;)+) => {
        /// All settings.
        #[derive(Debug, Clone)]
        pub struct Settings {
            $($(#[doc = $doc])+ pub $field: $type,)+
            /// The publishers that are trusted: base64 of their public keys by their names.
            pub keys: BTreeMap<String, String>,
            /// Where each comes from, by its name.
            origins: BTreeMap<String, Origin>,
        }

        /// The names in the file, in its order.
        const NAMES: &[&str] = &[$($name),+];

        impl Settings {
            /// Reads what the layers say.
            fn resolve(layers: &Layers) -> Result<Self, Error> {
                let mut origins = BTreeMap::new();
                $(
                    let (raw, origin) = layers.find($name);
                    let $field: $type = match raw {
                        Some(raw) => read($name, &raw, &origin)?,
                        None => $default.map_or_else(<$type as Fallback>::none, |raw: Raw| read($name, &raw, &origin))?,
                    };
                    origins.insert($name.to_owned(), origin);
                )+
                let keys = layers.keys(&mut origins)?;
                Ok(Self { $($field,)+ keys, origins })
            }

            /// Name, value and origin of each.
            fn rows(&self) -> Vec<(&str, Value, &Origin)> {
                let mut rows = vec![$(($name, self.$field.show(), &self.origins[$name])),+];
                rows.extend(self.origins.iter().filter_map(|(name, origin)| {
                    let key = self.keys.get(name.strip_prefix("keys.")?)?;
                    Some((name.as_str(), key.clone().into(), origin))
                }));
                rows
            }
        }

        /// Whether a value is one that the setting can have.
        fn check(name: &str, raw: &Raw) -> Result<(), Error> {
            match name {
                $($name => read::<$type>($name, raw, &Origin::Flag).map(drop),)+
                _ => key_of(name, raw, &Origin::Flag).map(drop),
            }
        }
    };
}

/// What a setting without a default is.
trait Fallback: Sized {
    fn none() -> Result<Self, Error> {
        Err(Error::NoHome)
    }
}
impl<T> Fallback for Option<T> {
    fn none() -> Result<Self, Error> {
        Ok(None)
    }
}
impl Fallback for SourceKind {}
impl Fallback for PathBuf {}
impl Fallback for Bytes {}
impl Fallback for bool {}
impl Fallback for Url {}
impl Fallback for Duration {}
impl Fallback for u8 {}
impl Fallback for Vec<Url> {}
impl Fallback for Lanes {}

fn default(text: &str) -> Raw {
    Raw::One(text.into())
}

settings! {
    /// The source that is asked first.
    default_source: SourceKind = "defaultSource", Some(default("gcs"));
    /// Where pulled models are.
    cache_directory: PathBuf = "cache.directory", default_cache();
    /// Bytes that they may have together.
    cache_max_size: Bytes = "cache.maxSize", Some(default("10GB"));
    /// Whether those used least recently go when there is no room.
    cache_auto_cleanup: bool = "cache.autoCleanup", Some(default("true"));
    /// The bucket.
    cdn_endpoint: Url = "cdn.endpoint", Some(default("https://storage.googleapis.com/edge-net-models"));
    /// How long bucket and edge may send nothing.
    cdn_timeout: Duration = "cdn.timeout", Some(default("30000"));
    /// How often a source is asked again for the same bytes.
    cdn_retries: u8 = "cdn.retries", Some(default("3"));
    /// IPFS gateways.
    ipfs_gateways: Vec<Url> = "ipfs.gateways", Some(default("https://ipfs.io/ipfs/,https://dweb.link/ipfs/"));
    /// Requests at once for each file, where gateways are among the sources.
    ipfs_parallel: Lanes = "ipfs.parallel", Some(default("4"));
    /// How long gateways may send nothing.
    ipfs_timeout: Duration = "ipfs.timeout", Some(default("60000"));
    /// The edge worker, and its registry.
    edge_url: Option<Url> = "edge.url", None;
    /// The quantization to take where a name means several models.
    prefer_quantization: Option<String> = "preferences.preferQuantization", Some(default("INT4"));
    /// Whether the smallest of several is taken then, else the largest.
    prefer_small_models: bool = "preferences.preferSmallModels", Some(default("true"));
    /// Whether `pull` looks for a newer version of what is there.
    auto_update: bool = "preferences.autoUpdate", Some(default("true"));
    /// The private key that is signed with.
    signing_key_path: Option<PathBuf> = "signing.keyPath", None;
    /// Its name.
    signing_key_id: Option<String> = "signing.keyId", None;
}

impl Settings {
    /// The trusted publishers' keys.
    pub fn pinned(&self) -> Result<PinnedKeys, Error> {
        let pin = |keys: PinnedKeys, (id, key): (&String, &String)| keys.pin(id.clone(), key);
        Ok(self.keys.iter().try_fold(PinnedKeys::default(), pin)?)
    }
}

fn read<T: Setting>(name: &str, raw: &Raw, origin: &Origin) -> Result<T, Error> {
    T::read(raw).map_err(|problem| {
        let value = match raw {
            Raw::One(value) => format!("is {value:?}; it "),
            Raw::Many(_) => String::new(),
        };
        Error::Setting { origin: origin.clone(), problem: format!("{name} {value}{problem}") }
    })
}

/// The key's name and the key, of the setting `keys.<name>`.
fn key_of<'a>(name: &'a str, raw: &Raw, origin: &Origin) -> Result<(&'a str, String), Error> {
    let Some(id) = name.strip_prefix("keys.").filter(|id| !id.is_empty()) else {
        return Err(Error::Setting { origin: origin.clone(), problem: unknown(name) });
    };
    let key: String = read(name, raw, origin)?;
    let pinned = PinnedKeys::default().pin(id.to_owned(), &key);
    pinned.map_err(|error| Error::Setting {
        origin: origin.clone(),
        problem: format!("{name}: {error}"),
    })?;
    Ok((id, key))
}

fn unknown(name: &str) -> String {
    format!(
        "there is no setting {name:?}; there are {}, and keys.<name of a key>",
        NAMES.join(", ")
    )
}

fn home() -> Option<PathBuf> {
    env::home_dir().filter(|home| home.is_absolute())
}

/// The folder that a variable of the XDG base directory specification names, if it names one.
fn xdg(variable: &str) -> Option<PathBuf> {
    // Relative ones are to be ignored, that specification says.
    env::var_os(variable)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .map(|path| path.join("edge-net"))
}

fn default_cache() -> Option<Raw> {
    let folder = xdg("XDG_CACHE_HOME").or_else(|| home().map(|home| home.join(".edge-net")));
    folder.map(|folder| default(&folder.join("models").to_string_lossy()))
}

/// Where it is kept what was accepted of each model.
pub fn state_directory() -> Result<PathBuf, Error> {
    xdg("XDG_STATE_HOME").or_else(|| home().map(|home| home.join(".edge-net"))).ok_or(Error::NoHome)
}

/// The file, whether it is there or not: the one told, else one that is there, else where XDG wants it, else below the home folder.
fn config_file(told: Option<&Path>) -> Option<PathBuf> {
    let in_xdg = xdg("XDG_CONFIG_HOME").map(|folder| folder.join("models.yaml"));
    let in_home = home().map(|home| home.join(".edge-net/models.yaml"));
    let there = || [&in_xdg, &in_home].into_iter().flatten().find(|path| path.exists()).cloned();
    told.map(Path::to_owned).or_else(there).or_else(|| in_xdg.clone()).or_else(|| in_home.clone())
}

/// What is said by flags, environment and file.
struct Layers {
    flags: BTreeMap<String, Raw>,
    file: BTreeMap<String, Entry>,
    path: PathBuf,
}

/// The variable of the environment for a setting.
fn variable(name: &str) -> String {
    let mut variable = "EDGE_NET_".to_owned();
    for character in name.chars() {
        match character {
            '.' => variable.push('_'),
            upper if upper.is_ascii_uppercase() => variable.extend(['_', upper]),
            other => variable.push(other.to_ascii_uppercase()),
        }
    }
    variable
}

impl Layers {
    fn find(&self, name: &str) -> (Option<Raw>, Origin) {
        let variable = variable(name);
        if let Some(raw) = self.flags.get(name) {
            (Some(raw.clone()), Origin::Flag)
        } else if let Some(text) = env::var(&variable).ok().filter(|text| !text.is_empty()) {
            (Some(Raw::One(text)), Origin::Environment(variable))
        } else if let Some(entry) = self.file.get(name) {
            (Some(entry.raw.clone()), Origin::File(self.path.clone(), entry.line))
        } else {
            (None, Origin::Default)
        }
    }

    /// The keys of the highest layer that has any: who gives some on the command line means those alone.
    fn keys(
        &self,
        origins: &mut BTreeMap<String, Origin>,
    ) -> Result<BTreeMap<String, String>, Error> {
        let json = env::var("EDGE_NET_KEYS").ok().filter(|text| !text.is_empty());
        let of_json = |text: &str, origin: Origin| -> Result<Vec<(String, Raw, Origin)>, Error> {
            let fault = |problem: String| Error::Setting {
                origin: origin.clone(),
                problem: format!("keys: {problem}"),
            };
            let keys: Map<String, Value> =
                serde_json::from_str(text).map_err(|error| fault(error.to_string()))?;
            let key = |(id, key): (String, Value)| match key {
                Value::String(key) => Ok((format!("keys.{id}"), Raw::One(key), origin.clone())),
                _ => Err(fault(format!("{id:?} must be a string, the base64 of a public key"))),
            };
            keys.into_iter().map(key).collect()
        };
        let flags: Vec<_> =
            self.flags.iter().filter(|(name, _)| name.starts_with("keys.")).collect();
        let found = if !flags.is_empty() {
            flags.into_iter().map(|(name, raw)| (name.clone(), raw.clone(), Origin::Flag)).collect()
        } else if let Some(json) = json {
            of_json(&json, Origin::Environment("EDGE_NET_KEYS".into()))?
        } else {
            let of_file = self.file.iter().filter(|(name, _)| name.starts_with("keys."));
            of_file
                .map(|(name, entry)| {
                    (name.clone(), entry.raw.clone(), Origin::File(self.path.clone(), entry.line))
                })
                .collect()
        };
        let mut keys = BTreeMap::new();
        for (name, raw, origin) in found {
            let (id, key) = key_of(&name, &raw, &origin)?;
            keys.insert(id.to_owned(), key);
            origins.insert(name, origin);
        }
        Ok(keys)
    }
}

/// What the command line says of settings.
#[derive(Args, Debug, Clone, Default)]
pub struct Flags {
    /// Configuration file, instead of ~/.edge-net/models.yaml
    #[arg(
        long,
        global = true,
        env = "EDGE_NET_CONFIG",
        value_name = "FILE",
        help_heading = "Settings"
    )]
    config: Option<PathBuf>,
    /// Set a setting for this run, such as cache.maxSize=2GB; may be given several times
    #[arg(long, global = true, value_name = "KEY=VALUE", help_heading = "Settings")]
    set: Vec<String>,
    /// Pinned keys, as keygen prints them, or a file that holds them
    #[arg(long, global = true, value_name = "JSON|FILE", help_heading = "Settings")]
    keys: Option<String>,
}

impl Flags {
    /// All settings, as they are for this run.
    pub fn settings(&self) -> Result<Settings, Error> {
        let path = config_file(self.config.as_deref());
        let mut file = BTreeMap::new();
        if let Some(path) = &path {
            file = match fs::read_to_string(path) {
                Ok(text) => read_file(path, &text)?,
                // Nobody has to have one; who names one has to.
                Err(error)
                    if error.kind() == std::io::ErrorKind::NotFound && self.config.is_none() =>
                {
                    BTreeMap::new()
                }
                Err(error) => return Err(of_file(path)(error)),
            };
        }
        let mut flags = BTreeMap::new();
        for given in &self.set {
            let Some((name, value)) = given.split_once('=') else {
                return Err(Error::Setting {
                    origin: Origin::Flag,
                    problem: format!("--set {given} must be KEY=VALUE"),
                });
            };
            let (name, raw) = (full_name(name), Raw::One(value.to_owned()));
            check(name, &raw)?;
            flags.insert(name.to_owned(), raw);
        }
        if let Some(keys) = &self.keys {
            let json = if keys.trim_start().starts_with('{') {
                keys.clone()
            } else {
                fs::read_to_string(keys).map_err(of_file(keys))?
            };
            let fault = |problem: String| Error::Setting {
                origin: Origin::Flag,
                problem: format!("--keys: {problem}"),
            };
            // Of one object, as the edge reads it too.
            PinnedKeys::parse(&json).map_err(|error| fault(error.to_string()))?;
            let keys: BTreeMap<String, String> =
                serde_json::from_str(&json).map_err(|error| fault(error.to_string()))?;
            flags.extend(keys.into_iter().map(|(id, key)| (format!("keys.{id}"), Raw::One(key))));
        }
        Settings::resolve(&Layers { flags, file, path: path.unwrap_or_default() })
    }

    /// Whether keys are given on the command line.
    pub const fn names_keys(&self) -> bool {
        self.keys.is_some()
    }
}

/// The settings of a file, all of which must be ones that there are.
fn read_file(path: &Path, text: &str) -> Result<BTreeMap<String, Entry>, Error> {
    let mut entries = yaml::read(text).map_err(|bad| Error::Setting {
        origin: Origin::File(path.to_owned(), bad.line),
        problem: bad.problem,
    })?;
    let at = |line: usize| Origin::File(path.to_owned(), line);
    if let Some(version) =
        entries.remove("version").filter(|version| version.raw != Raw::One("1".into()))
    {
        let problem =
            "version must be 1: this is the version of the file's format that is read here".into();
        return Err(Error::Setting { origin: at(version.line), problem });
    }
    match entries
        .iter()
        .find(|(name, _)| !NAMES.contains(&name.as_str()) && !name.starts_with("keys."))
    {
        Some((name, entry)) => {
            Err(Error::Setting { origin: at(entry.line), problem: unknown(name) })
        }
        None => Ok(entries),
    }
}

/// The settings' names that are written shorter.
fn full_name(name: &str) -> &str {
    match name {
        "cacheDir" => "cache.directory",
        other => other,
    }
}

/// `config`
#[derive(Args)]
pub struct Config {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Show all settings, and where each comes from
    Show,
    /// Set a setting in the file
    Set {
        /// Its name, such as cache.maxSize
        key: String,
        /// What to set it to; the items of a list are separated by commas
        value: String,
    },
}

impl Config {
    /// Shows or sets.
    pub fn run(self, context: &Context) -> Result<(), Error> {
        match self.command {
            ConfigCommand::Show => {
                show(&context.settings()?, context);
                Ok(())
            }
            ConfigCommand::Set { key, value } => {
                set(&context.flags, full_name(&key), &value, context)
            }
        }
    }
}

fn show(settings: &Settings, context: &Context) {
    let rows = settings.rows();
    if context.json {
        let rows = rows.into_iter().map(|(name, value, origin)| {
            (name.to_owned(), json!({ "value": value, "from": origin.to_string() }))
        });
        out!("{}", Value::Object(rows.collect()));
        return;
    }
    for (name, value, origin) in rows {
        let value = match value {
            Value::Null => "-".into(),
            Value::String(text) => text,
            Value::Array(items) => {
                items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
            }
            other => other.to_string(),
        };
        out!("{name} = {value}  ({origin})");
    }
}

fn set(flags: &Flags, name: &str, value: &str, context: &Context) -> Result<(), Error> {
    let path = config_file(flags.config.as_deref()).ok_or(Error::NoHome)?;
    let raw = match name {
        "ipfs.gateways" => Raw::Many(value.split(',').map(|item| item.trim().to_owned()).collect()),
        _ => Raw::One(value.to_owned()),
    };
    check(name, &raw)?;
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => "version: 1\n".into(),
        Err(error) => return Err(of_file(&path)(error)),
    };
    // What cannot be read is not added to.
    read_file(&path, &text)?;
    let parts: Vec<&str> = name.splitn(2, '.').collect();
    let changed = yaml::set(&text, &parts, &raw)
        .ok_or_else(|| Error::NotEditable { path: path.clone(), key: name.to_owned() })?;
    replace(&path, changed.as_bytes())?;
    if context.json {
        out!("{}", json!({ "file": path.display().to_string(), "key": name, "value": value }));
    } else {
        out!("{name} = {value}  ({})", path.display());
    }
    Ok(())
}
