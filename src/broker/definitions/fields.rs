//! The fields of an entry, each of the type that it should have.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::broker::policy::Term;

/// An entry. A field that is null counts as absent.
pub(super) struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    /// # Errors
    /// It is no object.
    pub(super) fn of(entry: &'a Value) -> Result<Self, String> {
        match entry {
            Value::Object(fields) => Ok(Self(fields)),
            other => Err(format!(
                "an entry should be an object, actually was {}",
                Term(other)
            )),
        }
    }

    /// All of them.
    pub(super) const fn all(&self) -> &'a Map<String, Value> {
        self.0
    }

    pub(super) fn find(&self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    /// A field of any type, also null.
    pub(super) fn value(&self, key: &str) -> Result<&'a Value, String> {
        self.0.get(key).ok_or_else(|| missing(key))
    }

    pub(super) fn text(&self, key: &str) -> Result<&'a str, String> {
        self.optional_text(key)?.ok_or_else(|| missing(key))
    }

    pub(super) fn optional_text(&self, key: &str) -> Result<Option<&'a str>, String> {
        let read = |value: &'a Value| value.as_str().ok_or_else(|| wrong(key, "a text", value));
        self.find(key).map(read).transpose()
    }

    pub(super) fn flag(&self, key: &str) -> Result<bool, String> {
        self.optional_flag(key)?.ok_or_else(|| missing(key))
    }

    pub(super) fn optional_flag(&self, key: &str) -> Result<Option<bool>, String> {
        let read = |value: &Value| {
            value
                .as_bool()
                .ok_or_else(|| wrong(key, "true or false", value))
        };
        self.find(key).map(read).transpose()
    }

    pub(super) fn optional_object(&self, key: &str) -> Result<Option<Self>, String> {
        let read = |value: &'a Value| match value {
            Value::Object(fields) => Ok(Self(fields)),
            other => Err(wrong(key, "an object", other)),
        };
        self.find(key).map(read).transpose()
    }

    /// A list, or as in older exports one text with commas.
    pub(super) fn optional_tags(&self, key: &str) -> Result<Option<Vec<String>>, String> {
        let read = |value: &Value| match value {
            Value::String(tags) => {
                let tags = tags.split(',').map(str::trim);
                let tags = tags.filter(|tag| !tag.is_empty());
                Ok(tags.map(str::to_owned).collect())
            }
            Value::Array(tags) => {
                let tags = tags.iter().map(|tag| tag.as_str().map(str::to_owned));
                let tags: Option<Vec<_>> = tags.collect();
                tags.ok_or_else(|| wrong(key, "a list of texts", value))
            }
            other => Err(wrong(key, "a list of texts", other)),
        };
        self.find(key).map(read).transpose()
    }

    /// One of the values that `T` has.
    pub(super) fn optional_one_of<T: DeserializeOwned>(
        &self,
        key: &str,
    ) -> Result<Option<T>, String> {
        let read = |value: &Value| {
            serde_json::from_value(value.clone()).map_err(|error| format!("{key}: {error}"))
        };
        self.find(key).map(read).transpose()
    }
}

fn missing(key: &str) -> String {
    format!("missing field `{key}`")
}

fn wrong(key: &str, expected: &str, actual: &Value) -> String {
    format!("{key} should be {expected}, actually was {}", Term(actual))
}
