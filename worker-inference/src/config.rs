//! The configuration: the variables of `wrangler.toml`.

use edge_net_core::trust::signature::{PinnedKeys, PinnedKeysError};
use js_sys::{Object, Reflect};

use crate::limits::Limits;

/// The configuration of a deployment.
pub struct Config {
    /// The keys whose models are run.
    pub keys: PinnedKeys,
    /// The limits of requests.
    pub limits: Limits,
}

/// A variable is missing or wrong.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is not set.
    #[error("the variable {0} is not set; see worker-inference/wrangler.toml")]
    Missing(&'static str),
    /// The pinned keys are malformed.
    #[error("the variable PINNED_KEYS cannot be used: {0}")]
    Keys(#[from] PinnedKeysError),
    /// It is not a number, or too small.
    #[error("the variable {0} must be a whole number, at least 1, not {1:?}")]
    Number(&'static str, String),
}

impl Config {
    /// The configuration of the bindings `env`.
    ///
    /// # Errors
    /// [`ConfigError`] names the variable.
    pub fn from_env(env: &Object) -> Result<Self, ConfigError> {
        Self::read(|name| Reflect::get(env, &name.into()).ok()?.as_string())
    }

    /// Reads `PINNED_KEYS`, and, if they are set, `MAX_INPUTS`, `MAX_INPUT_TOKENS`, `MAX_TOKENS`,
    /// `MAX_BODY_BYTES` and `MAX_REQUESTS`. `var` returns the value of one.
    fn read(var: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let number = |name, default| match var(name) {
            None => Ok(default),
            Some(text) => text
                .parse()
                .ok()
                .filter(|number| *number > 0)
                .ok_or(ConfigError::Number(name, text)),
        };
        let limits = Limits {
            inputs: number("MAX_INPUTS", 256)?,
            input_tokens: number("MAX_INPUT_TOKENS", 512)?,
            tokens: number("MAX_TOKENS", 16_384)?,
            body: number("MAX_BODY_BYTES", 1 << 20)?,
            requests: number("MAX_REQUESTS", 16)?,
        };
        let keys =
            PinnedKeys::parse(&var("PINNED_KEYS").ok_or(ConfigError::Missing("PINNED_KEYS"))?)?;
        Ok(Self { keys, limits })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Limits, String> {
        let value = |name: &str| {
            let mut all = variables.iter().chain(&[("PINNED_KEYS", "{}")]);
            all.find(|(of, _)| *of == name).map(|(_, value)| (*value).to_owned())
        };
        Config::read(value).map(|config| config.limits).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_those_of_wrangler_toml() {
        let text = include_str!("../wrangler.toml");
        let variables: Vec<_> = text
            .lines()
            .filter_map(|line| line.split_once(" = "))
            .filter(|(name, _)| name.starts_with("MAX_"))
            .map(|(name, value)| (name, value.trim_matches('"')))
            .collect();
        assert_eq!(variables.len(), 5);
        assert_eq!(read(&variables), read(&[]));
    }

    #[test]
    fn variables_replace_the_defaults() {
        let limits = read(&[("MAX_INPUTS", "1"), ("MAX_BODY_BYTES", "2")]).unwrap();
        assert_eq!((limits.inputs, limits.body, limits.requests), (1, 2, 16));
    }

    #[test]
    fn errors_name_the_variable() {
        for name in
            ["MAX_INPUTS", "MAX_INPUT_TOKENS", "MAX_TOKENS", "MAX_BODY_BYTES", "MAX_REQUESTS"]
        {
            for text in ["0", "-1", "1.5", "", "many"] {
                assert_eq!(
                    read(&[(name, text)]).unwrap_err(),
                    format!("the variable {name} must be a whole number, at least 1, not {text:?}")
                );
            }
        }
        let missing = Config::read(|_| None).err().map(|error| error.to_string());
        assert!(missing.unwrap().contains("PINNED_KEYS is not set"));
        assert!(read(&[("PINNED_KEYS", "key")]).unwrap_err().contains("PINNED_KEYS"));
    }
}
