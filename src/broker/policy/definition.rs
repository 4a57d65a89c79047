//! What a policy says: its keys with their values, checked once.

use serde_json::{Map, Value};

use super::keys::Key;
use super::term::{Pairs, Term};
use super::{ApplyTo, PolicyKind, Target};

/// The definition of a policy: known keys with values that fit, at least one.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition(Map<String, Value>);

impl Definition {
    /// Checks the definition of a policy of this kind.
    pub(super) fn new(kind: PolicyKind, map: Map<String, Value>) -> Result<Self, String> {
        if map.is_empty() {
            return Err("no policy provided".into());
        }
        let mut entries: Vec<_> = map.iter().collect();
        entries.sort_by_key(|(name, _)| *name);
        let mut unknown = Vec::new();
        for (name, value) in entries {
            match Key::find(kind, name) {
                None => unknown.push((name, value)),
                Some(key) if (key.accepts)(value) => {}
                Some(key) => return Err(format!("{} is not a valid {}", Term(value), key.what)),
            }
        }
        if unknown.is_empty() {
            Ok(Self(map))
        } else {
            Err(format!(
                "{} are not recognised policy settings",
                Pairs(&unknown)
            ))
        }
    }

    /// The keys with their values, as they were set.
    pub const fn as_map(&self) -> &Map<String, Value> {
        &self.0
    }

    /// Whether it asks for mirrors, which RabbitMQ has no more since 4.0 and Leveret never had.
    pub fn asks_for_mirrors(&self) -> bool {
        self.0.keys().any(|key| key.starts_with("ha-"))
    }

    /// Whether queues of that type have all that it says.
    pub(super) fn suits(&self, target: Target, apply_to: ApplyTo) -> bool {
        let chosen = apply_to == ApplyTo::ClassicQueues;
        self.0.keys().all(|name| {
            Key::find(PolicyKind::User, name).is_none_or(|key| key.suits(target, chosen))
        })
    }
}
