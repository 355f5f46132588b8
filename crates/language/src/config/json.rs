//! Members of `config.json`.

use serde_json::{Map, Value};

use super::error::ConfigError;

/// The members of an object. Those that are null count as absent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Members<'a>(pub &'a Map<String, Value>);

impl<'a> Members<'a> {
    pub(super) fn get(self, member: &str) -> Option<&'a Value> {
        self.0.get(member).filter(|value| !value.is_null())
    }

    /// Whether the member is there, null or not.
    pub(super) fn names(self, member: &str) -> bool {
        self.0.contains_key(member)
    }

    pub(super) fn size(self, member: &str) -> Result<Option<usize>, ConfigError> {
        let read = |value: &Value| value.as_u64().and_then(|size| usize::try_from(size).ok());
        self.read(member, "a positive integer", read)
    }

    pub(super) fn number(self, member: &str) -> Result<Option<f64>, ConfigError> {
        self.read(member, "a number", Value::as_f64)
    }

    pub(super) fn bool(self, member: &str) -> Result<bool, ConfigError> {
        Ok(self.read(member, "true or false", Value::as_bool)?.unwrap_or(false))
    }

    pub(super) fn str(self, member: &str) -> Result<Option<&'a str>, ConfigError> {
        self.read(member, "a string", Value::as_str)
    }

    pub(super) fn object(self, member: &str) -> Result<Option<Members<'a>>, ConfigError> {
        self.read(member, "an object", |value| value.as_object().map(Members))
    }

    pub(super) fn array(self, member: &str) -> Result<Option<&'a [Value]>, ConfigError> {
        self.read(member, "an array", |value| value.as_array().map(Vec::as_slice))
    }

    pub(super) fn need_size(self, member: &str) -> Result<usize, ConfigError> {
        self.size(member)?.ok_or_else(|| wrong(member, "a positive integer", "nothing"))
    }

    pub(super) fn need_number(self, member: &str) -> Result<f64, ConfigError> {
        self.number(member)?.ok_or_else(|| wrong(member, "a number", "nothing"))
    }

    fn read<T>(
        self,
        member: &str,
        expected: &'static str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.get(member) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| wrong(member, expected, &shown(value)))
    }
}

pub(super) fn wrong(member: &str, expected: &'static str, found: &str) -> ConfigError {
    ConfigError::Member { member: member.to_owned(), expected, found: found.to_owned() }
}

/// A value in a message: numbers and short texts as they are.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Object(_) => "an object".to_owned(),
        Value::Array(_) => "an array".to_owned(),
        Value::String(text) if text.len() > 40 => "a long string".to_owned(),
        short => short.to_string(),
    }
}
