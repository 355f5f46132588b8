//! Metadata of a file, by key.

use super::value::{Array, Strings, Value};

/// Keys and values, in the order of the file. A file has few, so a look-up reads all keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    pairs: Vec<(String, Value)>,
}

/// Why a value is not what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// The key is absent.
    #[error("the metadata lacks {key:?}")]
    Absent {
        /// The key.
        key: String,
    },
    /// The value has another type.
    #[error("the metadata has {found} for {key:?} where {expected} is needed")]
    Type {
        /// The key.
        key: String,
        /// The type that was asked for.
        expected: &'static str,
        /// The type of the value.
        found: &'static str,
    },
    /// The integer does not fit the type that was asked for.
    #[error("the metadata has {found} for {key:?}, which is no {expected}")]
    Range {
        /// The key.
        key: String,
        /// The type that was asked for.
        expected: &'static str,
        /// The value.
        found: i128,
    },
}

impl MetadataError {
    /// Makes an absent key `None`, and leaves other errors.
    ///
    /// # Errors
    /// The errors other than [`MetadataError::Absent`].
    pub fn optional<T>(result: Result<T, Self>) -> Result<Option<T>, Self> {
        match result {
            Err(Self::Absent { .. }) => Ok(None),
            other => other.map(Some),
        }
    }
}

impl Metadata {
    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.pairs.iter().find(|pair| pair.0 == key).map(|pair| &pair.1)
    }

    /// Sets a value. A key that is there keeps its place, another one comes last.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        let value = value.into();
        match self.pairs.iter_mut().find(|pair| pair.0 == key) {
            Some(pair) => pair.1 = value,
            None => self.pairs.push((key.to_owned(), value)),
        }
    }

    /// Removes a key. Returns its value.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let at = self.pairs.iter().position(|pair| pair.0 == key)?;
        Some(self.pairs.remove(at).1)
    }

    /// Keys and values in order.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.pairs.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Number of keys.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there is no key.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// An integer of any type, from 0 to 2³² - 1.
    ///
    /// # Errors
    /// [`MetadataError`].
    pub fn u32(&self, key: &str) -> Result<u32, MetadataError> {
        self.integer(key, "u32")
    }

    /// An integer of any type, from 0 to 2⁶⁴ - 1.
    ///
    /// # Errors
    /// [`MetadataError`].
    pub fn u64(&self, key: &str) -> Result<u64, MetadataError> {
        self.integer(key, "u64")
    }

    /// An integer of any type, from -2⁶³ to 2⁶³ - 1.
    ///
    /// # Errors
    /// [`MetadataError`].
    pub fn i64(&self, key: &str) -> Result<i64, MetadataError> {
        self.integer(key, "i64")
    }

    /// A number of type f32, or f64, which is rounded.
    ///
    /// # Errors
    /// [`MetadataError`].
    #[allow(clippy::cast_possible_truncation)] // Rounding is what the caller asks for.
    pub fn f32(&self, key: &str) -> Result<f32, MetadataError> {
        self.typed(key, "f32", |value| match value {
            Value::F32(number) => Some(*number),
            Value::F64(number) => Some(*number as f32),
            _ => None,
        })
    }

    /// A truth value.
    ///
    /// # Errors
    /// [`MetadataError`].
    pub fn bool(&self, key: &str) -> Result<bool, MetadataError> {
        self.typed(key, "bool", |value| match value {
            Value::Bool(value) => Some(*value),
            _ => None,
        })
    }

    /// A text.
    ///
    /// # Errors
    /// [`MetadataError`].
    pub fn str(&self, key: &str) -> Result<&str, MetadataError> {
        self.typed(key, "a string", |value| match value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// An array of texts.
    ///
    /// # Errors
    /// [`MetadataError`].
    pub fn strings(&self, key: &str) -> Result<&Strings, MetadataError> {
        self.typed(key, "an array of strings", |value| match value {
            Value::Array(Array::Strings(texts)) => Some(texts),
            _ => None,
        })
    }

    /// An array of f32.
    ///
    /// # Errors
    /// [`MetadataError`].
    pub fn f32s(&self, key: &str) -> Result<&[f32], MetadataError> {
        self.typed(key, "an array of f32", |value| match value {
            Value::Array(Array::F32(numbers)) => Some(numbers.as_slice()),
            _ => None,
        })
    }

    /// An array of i32.
    ///
    /// # Errors
    /// [`MetadataError`].
    pub fn i32s(&self, key: &str) -> Result<&[i32], MetadataError> {
        self.typed(key, "an array of i32", |value| match value {
            Value::Array(Array::I32(numbers)) => Some(numbers.as_slice()),
            _ => None,
        })
    }

    /// An array of u32.
    ///
    /// # Errors
    /// [`MetadataError`].
    pub fn u32s(&self, key: &str) -> Result<&[u32], MetadataError> {
        self.typed(key, "an array of u32", |value| match value {
            Value::Array(Array::U32(numbers)) => Some(numbers.as_slice()),
            _ => None,
        })
    }

    fn integer<T: TryFrom<i128>>(
        &self,
        key: &str,
        expected: &'static str,
    ) -> Result<T, MetadataError> {
        let found = self.typed(key, expected, Value::integer)?;
        let range = |_| MetadataError::Range { key: key.to_owned(), expected, found };
        T::try_from(found).map_err(range)
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<T, MetadataError> {
        let key = || key.to_owned();
        let value = self.get(&key()).ok_or_else(|| MetadataError::Absent { key: key() })?;
        let found = value.type_name();
        read(value).ok_or_else(|| MetadataError::Type { key: key(), expected, found })
    }
}
