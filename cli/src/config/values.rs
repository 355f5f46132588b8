//! The types of settings: how each is parsed and shown.

use std::path::PathBuf;
use std::time::Duration;

use edge_net_core::transfer::source::SourceKind;
use serde_json::Value;

use crate::config::folders::home;
use crate::yaml::Raw;

/// A type that a setting can have.
pub trait Setting: Sized {
    /// Parses a value. The error is a phrase that follows the value, such as "must be a number".
    fn read(raw: &Raw) -> Result<Self, String>;
    /// Returns the value as JSON, for `config show`.
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

/// A duration; a plain number is in milliseconds.
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

/// A number of concurrent requests, 1 to 16.
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

/// A number of retries, 0 to 20.
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

/// A path; a leading `~/` stands for the home folder.
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

/// The base URL of a server, without a trailing slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url(pub String);

impl Url {
    /// Parses an HTTP(S) URL without a query, user name or password.
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
        let rule = "must be http://… or https://…, without a query";
        Self::read(one(raw)?).ok_or_else(|| rule.into())
    }

    fn show(&self) -> Value {
        self.0.clone().into()
    }
}

/// A list of URLs; commas separate them on the command line and in the environment.
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
                .ok_or_else(|| format!("must be a list of http(s) URLs; {item:?} is not one"))
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
