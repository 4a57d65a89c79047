//! The keys that a policy's definition may have: what values they take and for which queues they are
//! (`rabbit_policies`, the `unsupported_policies` of the queue types, and the validators of plugins).

use serde_json::Value;

use super::{PolicyKind, Target};
use crate::broker::arguments::{QueueType, is_max_age};
use crate::broker::names::routing_key;

/// A key.
pub(super) struct Key {
    /// Its name.
    pub(super) name: &'static str,
    /// What a wrong value is not: "message TTL".
    pub(super) what: &'static str,
    /// Accepts a value.
    pub(super) accepts: fn(&Value) -> bool,
    /// Operator policies have it too.
    operator: bool,
    scope: Scope,
}

/// Which queues a key is for. Exchanges leave alone what is not for them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// All.
    Any,
    /// All but streams.
    Messages,
    /// Classic queues.
    Classic,
    /// Quorum queues.
    Quorum,
    /// Quorum queues, and classic ones when the policy is for them alone.
    QuorumOrChosen,
    /// Streams.
    Stream,
    /// Quorum queues and streams.
    Replicated,
}

impl Key {
    /// The key called `name` in policies of this kind.
    pub(super) fn find(kind: PolicyKind, name: &str) -> Option<&'static Self> {
        let key = KEYS.iter().find(|key| key.name == name)?;
        (kind == PolicyKind::User || key.operator).then_some(key)
    }

    /// Whether a policy with this key may hold for `target`. `chosen`: the policy is for queues of that type alone.
    ///
    /// RabbitMQ never applies a policy with `delivery-limit` to a classic queue. Leveret has that limit for all types,
    /// and to apply it there would make messages die that RabbitMQ keeps: a policy must say `classic_queues` for it.
    pub(super) const fn suits(&self, target: Target, chosen: bool) -> bool {
        let Target::Queue(queue_type) = target else {
            return true;
        };
        match self.scope {
            Scope::Any => true,
            Scope::Messages => !matches!(queue_type, QueueType::Stream),
            Scope::Classic => matches!(queue_type, QueueType::Classic),
            Scope::Quorum => matches!(queue_type, QueueType::Quorum),
            Scope::QuorumOrChosen => match queue_type {
                QueueType::Classic => chosen,
                QueueType::Quorum => true,
                QueueType::Stream => false,
            },
            Scope::Stream => matches!(queue_type, QueueType::Stream),
            Scope::Replicated => !matches!(queue_type, QueueType::Classic),
        }
    }
}

const fn key(
    name: &'static str,
    scope: Scope,
    what: &'static str,
    accepts: fn(&Value) -> bool,
) -> Key {
    Key {
        name,
        what,
        accepts,
        operator: false,
        scope,
    }
}

const fn both(
    name: &'static str,
    scope: Scope,
    what: &'static str,
    accepts: fn(&Value) -> bool,
) -> Key {
    Key {
        operator: true,
        ..key(name, scope, what, accepts)
    }
}

const KEYS: &[Key] = &[
    key(
        "alternate-exchange",
        Scope::Any,
        "alternate exchange name",
        Value::is_string,
    ),
    both(
        "consumer-timeout",
        Scope::QuorumOrChosen,
        "consumer timeout",
        natural,
    ),
    key(
        "consumer-disconnected-timeout",
        Scope::Quorum,
        "consumer disconnected timeout",
        natural,
    ),
    key(
        "dead-letter-exchange",
        Scope::Messages,
        "dead letter exchange name",
        Value::is_string,
    ),
    key(
        "dead-letter-routing-key",
        Scope::Messages,
        "dead letter routing key",
        |value| {
            let key = value.as_str().map(str::as_bytes);
            key.and_then(routing_key).is_some()
        },
    ),
    key(
        "dead-letter-strategy",
        Scope::Quorum,
        "dead letter strategy",
        |value| one_of(value, &["at-most-once", "at-least-once"]),
    ),
    both("message-ttl", Scope::Messages, "message TTL", natural),
    // Not in RabbitMQ.
    both("message-delay", Scope::Messages, "message delay", natural),
    key(
        "message-deduplication",
        Scope::Messages,
        "message deduplication",
        Value::is_boolean,
    ),
    key(
        "deduplication-header",
        Scope::Messages,
        "deduplication header",
        Value::is_string,
    ),
    key("cache-size", Scope::Messages, "cache size", positive),
    key("cache-ttl", Scope::Messages, "cache TTL", positive),
    key(
        "cache-persistence",
        Scope::Messages,
        "cache persistence",
        |value| one_of(value, &["disk", "memory"]),
    ),
    both("max-publish-rate", Scope::Any, "publish rate", natural),
    both(
        "max-publish-bytes-rate",
        Scope::Any,
        "publish rate in bytes",
        natural,
    ),
    both("max-consume-rate", Scope::Any, "consume rate", natural),
    both("expires", Scope::Messages, "queue expiry", positive),
    both("max-length", Scope::Messages, "maximum length", natural),
    both(
        "max-length-bytes",
        Scope::Any,
        "maximum length in bytes",
        natural,
    ),
    both(
        "max-in-memory-length",
        Scope::Messages,
        "maximum memory in bytes",
        natural,
    ),
    both(
        "max-in-memory-bytes",
        Scope::Messages,
        "maximum memory in bytes",
        natural,
    ),
    key("queue-mode", Scope::Classic, "queue-mode value", |value| {
        one_of(value, &["default", "lazy"])
    }),
    both(
        "queue-version",
        Scope::Any,
        "queue-version value",
        |value| matches!(value.as_u64(), Some(1 | 2)),
    ),
    both("overflow", Scope::Messages, "overflow value", |value| {
        one_of(
            value,
            &["drop-head", "reject-publish", "reject-publish-dlx"],
        )
    }),
    key(
        "consumer-choice",
        Scope::Messages,
        "consumer choice",
        |value| one_of(value, &["round-robin", "least-loaded"]),
    ),
    // Negative for no limit, since RabbitMQ 4.0.
    both(
        "delivery-limit",
        Scope::QuorumOrChosen,
        "delivery limit",
        |value| value.as_i64().is_some(),
    ),
    both(
        "delayed-retry-type",
        Scope::QuorumOrChosen,
        "delayed retry type",
        |value| one_of(value, &["disabled", "all", "failed", "returned"]),
    ),
    both(
        "delayed-retry-min",
        Scope::QuorumOrChosen,
        "delayed retry min",
        natural,
    ),
    both(
        "delayed-retry-max",
        Scope::QuorumOrChosen,
        "delayed retry max",
        natural,
    ),
    key("max-age", Scope::Stream, "max age", |value| {
        value.as_str().is_some_and(|age| is_max_age(age.as_bytes()))
    }),
    key(
        "stream-max-segment-size-bytes",
        Scope::Stream,
        "segment size",
        natural,
    ),
    key(
        "stream-filter-size-bytes",
        Scope::Stream,
        "filter size. Valid range is 16-255",
        |value| {
            value
                .as_u64()
                .is_some_and(|bytes| (16..=255).contains(&bytes))
        },
    ),
    key(
        "queue-leader-locator",
        Scope::Replicated,
        "queue leader locator value",
        |value| {
            one_of(
                value,
                &["client-local", "balanced", "random", "least-leaders"],
            )
        },
    ),
    key(
        "initial-cluster-size",
        Scope::Stream,
        "cluster size",
        natural,
    ),
    both(
        "target-group-size",
        Scope::Quorum,
        "target group size",
        natural,
    ),
    key(
        "queue-master-locator",
        Scope::Classic,
        "master locator",
        Value::is_string,
    ),
    key(
        "federation-upstream",
        Scope::Any,
        "federation upstream name",
        Value::is_string,
    ),
    key(
        "federation-upstream-set",
        Scope::Any,
        "federation upstream set name",
        Value::is_string,
    ),
    key(
        "federation-upstream-pattern",
        Scope::Any,
        "federation upstream pattern",
        Value::is_string,
    ),
    // Mirroring is gone since RabbitMQ 4.0. Definitions of older ones still have its keys.
    key("ha-mode", Scope::Classic, "ha-mode value", anything),
    key("ha-params", Scope::Classic, "ha-params value", anything),
    key(
        "ha-sync-mode",
        Scope::Classic,
        "ha-sync-mode value",
        anything,
    ),
    key(
        "ha-sync-batch-size",
        Scope::Classic,
        "ha-sync-batch-size value",
        anything,
    ),
    key(
        "ha-promote-on-shutdown",
        Scope::Classic,
        "ha-promote-on-shutdown value",
        anything,
    ),
    key(
        "ha-promote-on-failure",
        Scope::Classic,
        "ha-promote-on-failure value",
        anything,
    ),
];

fn natural(value: &Value) -> bool {
    value.is_u64()
}

fn positive(value: &Value) -> bool {
    value.as_u64().is_some_and(|number| number > 0)
}

fn anything(_: &Value) -> bool {
    true
}

fn one_of(value: &Value, accepted: &[&str]) -> bool {
    value.as_str().is_some_and(|text| accepted.contains(&text))
}
