//! Policies: optional arguments for many queues and exchanges at once, chosen by name.
//!
//! A virtual host has policies, which its users set, and operator policies, which bound what users can ask for. At most
//! one of each holds for a queue or exchange: the one with the highest priority among those that match, as a whole
//! (semantics row 82).
//!
//! - [`mod@definition`]: what a policy says, validated; [`keys`]: which keys there are.
//! - [`applied`]: the two policies that hold for a queue or exchange, merged.
//! - [`policies`]: all policies of a virtual host.
//! - [`settings`]: what they and the arguments of the declaration come to.
//! - [`term`]: JSON as RabbitMQ prints it in refusals.

mod applied;
mod definition;
mod keys;
mod policies;
mod settings;
mod term;

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Number, Value, json};

pub use self::applied::{Applied, Effective};
pub use self::definition::Definition;
pub use self::policies::Policies;
pub use self::settings::queue_settings;
pub(super) use self::term::Term;
use super::arguments::QueueType;
use crate::auth::Pattern;

/// Names of policies travel in the keys of the store with one byte of length.
const NAME_BYTES_MAX: usize = 255;

/// Whose policy it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PolicyKind {
    /// A user's (`rabbitmqctl set_policy`).
    User,
    /// The operator's (`rabbitmqctl set_operator_policy`).
    Operator,
}

/// What a policy is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApplyTo {
    /// Queues of all types.
    Queues,
    /// Classic queues.
    ClassicQueues,
    /// Quorum queues.
    QuorumQueues,
    /// Streams.
    Streams,
    /// Exchanges.
    Exchanges,
    /// Queues and exchanges.
    All,
}

/// What a policy can match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A queue of this type.
    Queue(QueueType),
    /// An exchange.
    Exchange,
}

/// A policy.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Its name, 1 to 255 bytes.
    pub name: Arc<str>,
    /// Which names it matches: anywhere in the name.
    pattern: Pattern,
    /// The highest wins.
    pub priority: Number,
    /// What it is for.
    pub apply_to: ApplyTo,
    /// What it says.
    pub definition: Definition,
}

/// Why a policy or a limit is refused, in RabbitMQ's words: one line for each fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Validation failed\n\n{}\n", .0.join("\n"))]
pub struct ValidationFailed(pub Vec<String>);

impl Policy {
    /// Reads a policy as definitions, the HTTP API and `rabbitmqctl set_parameter` write it: an object with `pattern`,
    /// `definition`, `priority` (0 when absent) and `apply-to` (`all` when absent).
    ///
    /// # Errors
    /// All that is wrong with it (`rabbit_policy:policy_validation`).
    pub fn parse(
        kind: PolicyKind,
        name: &str,
        source: &Map<String, Value>,
    ) -> Result<Self, ValidationFailed> {
        let mut faults = Vec::new();
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            faults.push(format!(
                "the name of a policy should have 1 to {NAME_BYTES_MAX} bytes"
            ));
        }
        let known = ["pattern", "definition", "priority", "apply-to"];
        let unknown: Vec<_> = source
            .iter()
            .filter(|(key, _)| !known.contains(&key.as_str()))
            .collect();
        if !unknown.is_empty() {
            faults.push(format!(
                "Unrecognised terms {} in {name}",
                term::Pairs(&unknown)
            ));
        }
        // RabbitMQ reports the last of its checks first.
        let definition = keep(&mut faults, definition(kind, name, source));
        let apply_to = keep(&mut faults, apply_to(source));
        let pattern = keep(&mut faults, pattern(name, source));
        let priority = keep(&mut faults, priority(source));
        match (definition, apply_to, pattern, priority) {
            (Some(definition), Some(apply_to), Some(pattern), Some(priority))
                if faults.is_empty() =>
            {
                Ok(Self {
                    name: name.into(),
                    pattern,
                    priority,
                    apply_to,
                    definition,
                })
            }
            _ => Err(ValidationFailed(faults)),
        }
    }

    /// The pattern as it was set.
    pub fn pattern(&self) -> &str {
        self.pattern.source()
    }

    /// What [`Self::parse`] reads.
    pub fn to_json(&self) -> Value {
        json!({
            "pattern": self.pattern(),
            "definition": self.definition.as_map(),
            "priority": self.priority,
            "apply-to": self.apply_to.name(),
        })
    }

    /// Whether it may hold for a queue or exchange of this kind and name. As in RabbitMQ one that says something that
    /// queues of that type do not have holds for none of them (`unsupported_policies`).
    pub fn matches(&self, target: Target, name: &str) -> bool {
        self.apply_to.covers(target)
            && self.definition.suits(target, self.apply_to)
            && self.pattern.matches(name)
    }

    /// The one that wins comes first: higher priority, then, where RabbitMQ leaves it open, the first by name.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        let priority = |policy: &Self| policy.priority.as_f64().unwrap_or(0.0);
        priority(other)
            .total_cmp(&priority(self))
            .then_with(|| self.name.cmp(&other.name))
    }
}

impl ApplyTo {
    const ALL: [Self; 6] = [
        Self::Queues,
        Self::ClassicQueues,
        Self::QuorumQueues,
        Self::Streams,
        Self::Exchanges,
        Self::All,
    ];

    /// RabbitMQ's word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queues => "queues",
            Self::ClassicQueues => "classic_queues",
            Self::QuorumQueues => "quorum_queues",
            Self::Streams => "streams",
            Self::Exchanges => "exchanges",
            Self::All => "all",
        }
    }

    const fn covers(self, target: Target) -> bool {
        match (self, target) {
            (Self::All, _)
            | (Self::Exchanges, Target::Exchange)
            | (Self::Queues, Target::Queue(_))
            | (Self::ClassicQueues, Target::Queue(QueueType::Classic))
            | (Self::QuorumQueues, Target::Queue(QueueType::Quorum))
            | (Self::Streams, Target::Queue(QueueType::Stream)) => true,
            (
                Self::Queues
                | Self::ClassicQueues
                | Self::QuorumQueues
                | Self::Streams
                | Self::Exchanges,
                _,
            ) => false,
        }
    }
}

impl fmt::Display for PolicyKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::User => "policy",
            Self::Operator => "operator policy",
        })
    }
}

/// The value, or else a further fault.
fn keep<T>(faults: &mut Vec<String>, checked: Result<T, String>) -> Option<T> {
    checked.map_err(|fault| faults.push(fault)).ok()
}

fn definition(
    kind: PolicyKind,
    name: &str,
    source: &Map<String, Value>,
) -> Result<Definition, String> {
    match source.get("definition") {
        None => Err(format!("Key \"definition\" not found in {name}")),
        Some(Value::Object(definition)) => Definition::new(kind, definition.clone()),
        Some(other) => Err(format!("definition must be a dictionary: {}", Term(other))),
    }
}

fn apply_to(source: &Map<String, Value>) -> Result<ApplyTo, String> {
    let Some(given) = source.get("apply-to") else {
        return Ok(ApplyTo::All);
    };
    let found = ApplyTo::ALL
        .into_iter()
        .find(|apply_to| given.as_str() == Some(apply_to.name()));
    found.ok_or_else(|| {
        let given = given.as_str().map_or_else(|| Term(given).to_string(), str::to_owned);
        // The two spaces are RabbitMQ's.
        format!(
            "apply-to '{given}' unrecognised; should be one of: 'queues', 'classic_queues',  'quorum_queues', \
             'streams', 'exchanges', or 'all'"
        )
    })
}

fn pattern(name: &str, source: &Map<String, Value>) -> Result<Pattern, String> {
    match source.get("pattern") {
        None => Err(format!("Key \"pattern\" not found in {name}")),
        Some(Value::String(pattern)) => Pattern::unanchored(pattern).map_err(|reason| {
            format!("pattern should be regular expression but is invalid: {reason}")
        }),
        Some(other) => Err(format!(
            "pattern should be a binary but was {}",
            Term(other)
        )),
    }
}

fn priority(source: &Map<String, Value>) -> Result<Number, String> {
    match source.get("priority") {
        None => Ok(0.into()),
        Some(Value::Number(priority)) => Ok(priority.clone()),
        Some(other) => Err(format!(
            "priority should be a number, actually was {}",
            Term(other)
        )),
    }
}

#[cfg(test)]
mod tests;
