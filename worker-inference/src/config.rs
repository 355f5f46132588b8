//! Configuration: the variables of `wrangler.toml`.

use edge_net_core::trust::signature::{PinnedKeys, PinnedKeysError};
use js_sys::{Object, Reflect};

/// What the deployer configured.
pub struct Config {
    /// Whose models are run.
    pub keys: PinnedKeys,
    /// What is taken in.
    pub limits: Limits,
}

/// What is taken in at the most.
pub struct Limits {
    /// Inputs of a request.
    pub inputs: usize,
    /// Tokens of an input, where the model would take more.
    pub input_tokens: usize,
    /// Tokens of all inputs of a request.
    pub tokens: usize,
    /// Bytes of a request's body.
    pub body: usize,
    /// Requests at once in the isolate.
    pub requests: usize,
}

/// A variable that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not set.
    #[error("the variable {0} is not set; see worker-inference/wrangler.toml")]
    Missing(&'static str),
    /// The keys cannot be read.
    #[error("the variable PINNED_KEYS cannot be used: {0}")]
    Keys(#[from] PinnedKeysError),
    /// No number, or one that is too small.
    #[error("the variable {0} must be a whole number from 1 on, not {1:?}")]
    Number(&'static str, String),
}

impl Config {
    /// Reads `PINNED_KEYS`, and of `MAX_INPUTS`, `MAX_INPUT_TOKENS`, `MAX_TOKENS`, `MAX_BODY_BYTES` and `MAX_REQUESTS` what is set.
    ///
    /// # Errors
    /// [`ConfigError`] names the variable.
    pub fn from_env(env: &Object) -> Result<Self, ConfigError> {
        let var =
            |name: &str| Reflect::get(env, &name.into()).ok().and_then(|value| value.as_string());
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
