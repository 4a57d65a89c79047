//! The settings that were given, from which each value is taken once, under the name of its key.
//!
//! What nobody takes is an unknown key. All problems are collected on the way.

use std::collections::{BTreeMap, BTreeSet};

use super::error::{ConfigError, ConfigErrors, Origin};
use super::file::Entry;
use super::value::Kind;

pub(super) struct Settings {
    entries: BTreeMap<String, Entry>,
    /// Keys and prefixes (with their dot) that were asked for, whether given or not.
    known: BTreeSet<&'static str>,
    errors: Vec<ConfigError>,
}

/// A value with the key and the place that it comes from, for checks across settings.
pub(super) struct Given<T> {
    /// What follows the prefix in the key of a family, unescaped; else the key.
    pub(super) name: String,
    pub(super) value: T,
    key: String,
    origin: Origin,
}

impl Settings {
    /// A key may be given twice only with the same value.
    pub(super) fn new(entries: Vec<Entry>, errors: Vec<ConfigError>) -> Self {
        let mut settings = Self {
            entries: BTreeMap::new(),
            known: BTreeSet::new(),
            errors,
        };
        for entry in entries {
            match settings.entries.get(&entry.key) {
                Some(first) if first.value != entry.value => {
                    let expected = format!("one value (the first is at {})", first.origin);
                    settings.refuse(
                        entry.origin,
                        entry.key,
                        expected,
                        "another value".to_owned(),
                    );
                }
                Some(_) => {}
                None => _ = settings.entries.insert(entry.key.clone(), entry),
            }
        }
        settings
    }

    /// An environment variable takes the place of what the file says.
    pub(super) fn put(&mut self, key: &str, variable: &'static str, value: String) {
        let origin = Origin::Variable(variable);
        self.entries.insert(
            key.to_owned(),
            Entry {
                key: key.to_owned(),
                value,
                origin,
            },
        );
    }

    /// The value of a key, if it was given and is right.
    pub(super) fn take<T>(&mut self, key: &'static str, kind: &Kind<T>) -> Option<T> {
        Some(self.take_given(key, kind)?.value)
    }

    pub(super) fn take_given<T>(&mut self, key: &'static str, kind: &Kind<T>) -> Option<Given<T>> {
        self.known.insert(key);
        let entry = self.entries.remove(key)?;
        self.read(key.to_owned(), entry, kind)
    }

    /// The values of all keys that begin with `prefix` (which ends with a dot), in the order of the file.
    pub(super) fn take_all<T>(&mut self, prefix: &'static str, kind: &Kind<T>) -> Vec<Given<T>> {
        self.known.insert(prefix);
        let keys = self.entries.range(prefix.to_owned()..).map(|(key, _)| key);
        let keys: Vec<String> = keys
            .take_while(|key| key.starts_with(prefix))
            .cloned()
            .collect();
        let mut entries: Vec<Entry> = keys
            .iter()
            .filter_map(|key| self.entries.remove(key))
            .collect();
        entries.sort_by_key(|entry| match entry.origin {
            Origin::Line { line, .. } => line,
            Origin::File(_) | Origin::Variable(_) => usize::MAX,
        });
        let name = |key: &str| key[prefix.len()..].replace("\\.", ".");
        entries
            .into_iter()
            .filter_map(|entry| self.read(name(&entry.key), entry, kind))
            .collect()
    }

    fn read<T>(&mut self, name: String, entry: Entry, kind: &Kind<T>) -> Option<Given<T>> {
        let Entry {
            key,
            value: text,
            origin,
        } = entry;
        if let Some(value) = (kind.parse)(&text) {
            return Some(Given {
                name,
                value,
                key,
                origin,
            });
        }
        let found = if key.contains("pass") {
            "another value".to_owned()
        } else {
            format!("'{text}'")
        };
        self.refuse(origin, key, kind.expected.to_owned(), found);
        None
    }

    /// Two settings that exclude each other were both given: the second is at fault.
    pub(super) fn contradiction<A, B>(&mut self, first: &Given<A>, second: Given<B>) {
        let expected = format!(
            "no such setting beside '{}' (at {})",
            first.key, first.origin
        );
        self.refuse(second.origin, second.key, expected, "both".to_owned());
    }

    pub(super) fn refuse_given<T>(&mut self, given: Given<T>, expected: &str, found: String) {
        self.refuse(given.origin, given.key, expected.to_owned(), found);
    }

    pub(super) fn refuse(&mut self, origin: Origin, key: String, expected: String, found: String) {
        self.errors.push(ConfigError {
            origin,
            key,
            expected,
            found,
        });
    }

    /// Fails if anything was wrong or is left over.
    pub(super) fn finish(mut self) -> Result<(), ConfigErrors> {
        for entry in std::mem::take(&mut self.entries).into_values() {
            let expected = match self.nearest(&entry.key) {
                Some(key) => format!("a known key, perhaps '{key}'"),
                None => "a known key (docs/configuration.md lists them)".to_owned(),
            };
            self.refuse(
                entry.origin,
                entry.key,
                expected,
                "an unknown one".to_owned(),
            );
        }
        if self.errors.is_empty() {
            return Ok(());
        }
        // Files come before the environment; a stable sort keeps the rest as found.
        self.errors.sort_by_key(|error| match error.origin {
            Origin::File(_) => 0,
            Origin::Line { line, .. } => line,
            Origin::Variable(_) => usize::MAX,
        });
        Err(ConfigErrors(self.errors))
    }

    /// Everything that was asked for so far.
    #[cfg(test)]
    pub(super) fn known(&self) -> impl Iterator<Item = &'static str> {
        self.known.iter().copied()
    }

    /// The known key that differs from `key` in the fewest letters, if that is a slip of the pen.
    fn nearest(&self, key: &str) -> Option<&'static str> {
        let keys = self.known.iter().filter(|known| !known.ends_with('.'));
        let (distance, nearest) = keys
            .map(|known| (edit_distance(key, known), *known))
            .min()?;
        (distance <= 3 && distance * 3 <= key.len()).then_some(nearest)
    }
}

/// How many letters must be inserted, removed or replaced to turn `a` into `b` (Levenshtein).
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edit_distance_counts_letters() {
        for (a, b, distance) in [
            ("", "abc", 3),
            ("abc", "abc", 0),
            ("kitten", "sitting", 3),
            ("hearbeat", "heartbeat", 1),
        ] {
            assert_eq!(edit_distance(a, b), distance, "{a} {b}");
        }
    }
}
