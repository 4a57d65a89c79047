//! The policies that hold for one queue or exchange, and what they say together.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::Policy;

/// The policies that hold for a queue or exchange.
#[derive(Debug, Clone, Default)]
pub struct Applied {
    /// The user's.
    pub policy: Option<Arc<Policy>>,
    /// The operator's.
    pub operator_policy: Option<Arc<Policy>>,
}

/// What policy and operator policy say together: RabbitMQ's `effective_policy_definition`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Effective(BTreeMap<String, Value>);

impl Applied {
    /// Merges the two: what only one says holds; numbers are the smaller one; else the operator's value holds
    /// (`rabbit_policies:merge_policy_value`).
    pub fn effective(&self) -> Effective {
        let map = |policy: &Option<Arc<Policy>>| match policy {
            Some(policy) => policy.definition.as_map().clone(),
            None => serde_json::Map::new(),
        };
        let mut merged: BTreeMap<_, _> = map(&self.policy).into_iter().collect();
        for (key, operators) in map(&self.operator_policy) {
            let value = match merged.remove(&key) {
                Some(users) => merge(&key, users, operators),
                None => operators,
            };
            merged.insert(key, value);
        }
        Effective(merged)
    }
}

impl Effective {
    /// All keys with their values.
    pub const fn as_map(&self) -> &BTreeMap<String, Value> {
        &self.0
    }

    pub(in crate::broker) fn number(&self, key: &str) -> Option<u64> {
        self.0.get(key)?.as_u64()
    }

    pub(in crate::broker) fn signed(&self, key: &str) -> Option<i64> {
        self.0.get(key)?.as_i64()
    }

    pub(in crate::broker) fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.as_str()
    }
}

fn merge(key: &str, users: Value, operators: Value) -> Value {
    match (users.as_i64(), operators.as_i64()) {
        (Some(a), Some(b)) if key == "delivery-limit" => smaller_limit(a, b).into(),
        (Some(a), Some(b)) => a.min(b).into(),
        _ => operators,
    }
}

/// The stricter of two delivery limits, as RabbitMQ 4 sees it: where one of them is negative, which is no limit, the
/// greater one holds.
pub(super) fn smaller_limit(a: i64, b: i64) -> i64 {
    if a < 0 || b < 0 { a.max(b) } else { a.min(b) }
}
