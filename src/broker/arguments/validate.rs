//! Which values RabbitMQ accepts for the arguments of a queue, and how it words its refusals
//! (`rabbit_amqqueue:check_declare_arguments`, `rabbit_stream_queue:declare`).

use amq_protocol::types::{AMQPValue, FieldTable};

use super::{EXPIRY_MS_MAX, QueueType, expiration, term};
use crate::broker::error::Error;
use crate::broker::names::{self, Resource};

/// What a classic queue knows, in the order in which declarations are compared.
const CLASSIC_ARGUMENTS: &[&str] = &[
    "x-expires",
    "x-message-ttl",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-priority",
    "x-overflow",
    "x-queue-mode",
    "x-queue-version",
    "x-single-active-consumer",
    "x-queue-type",
    "x-queue-master-locator",
    "x-queue-leader-locator",
];

/// What a quorum queue knows.
const QUORUM_ARGUMENTS: &[&str] = &[
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-dead-letter-strategy",
    "x-expires",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-in-memory-length",
    "x-max-in-memory-bytes",
    "x-overflow",
    "x-single-active-consumer",
    "x-queue-type",
    "x-quorum-initial-group-size",
    "x-delivery-limit",
    "x-message-ttl",
    "x-queue-leader-locator",
    "x-consumer-timeout",
    "x-consumer-disconnected-timeout",
    "x-delayed-retry-type",
    "x-delayed-retry-min",
    "x-delayed-retry-max",
    "x-delayed-retry-multiplier",
];

/// What a stream knows.
const STREAM_ARGUMENTS: &[&str] = &[
    "x-max-length-bytes",
    "x-queue-type",
    "x-max-age",
    "x-stream-max-segment-size-bytes",
    "x-initial-cluster-size",
    "x-queue-leader-locator",
    "x-stream-filter-size-bytes",
];

/// Arguments of our own that every type of queue knows.
const FOR_ALL_TYPES: &[&str] = &[
    "x-max-publish-rate",
    "x-max-publish-bytes-rate",
    "x-max-consume-rate",
];

/// Arguments of RabbitMQ's quorum queues, and of our own, that every type of queue knows here but a stream, which would
/// have to do what it cannot: its messages never come back, wait or go one by one.
const FOR_ALL_BUT_STREAMS: &[&str] = &[
    "x-delivery-limit",
    "x-message-group",
    "x-consumer-choice",
    "x-consumer-timeout",
    "x-consumer-disconnected-timeout",
    "x-delayed-retry-type",
    "x-delayed-retry-min",
    "x-delayed-retry-max",
    "x-delayed-retry-multiplier",
    "x-message-delay",
    "x-message-deduplication",
    "x-deduplication-header",
    "x-cache-size",
    "x-cache-ttl",
    "x-cache-persistence",
];

const STREAM_SEGMENT_BYTES_MAX: i64 = 3_000_000_000;
const STREAM_FILTER_BYTES: std::ops::RangeInclusive<i64> = 16..=255;

type Check = fn(&AMQPValue, &FieldTable) -> Result<(), String>;

/// The checks in RabbitMQ's order: the first that fails is reported.
const CHECKS: &[(&str, Check)] = &[
    ("x-expires", |value, _| match int(value)? {
        0 => Err("{value_zero,0}".into()),
        number => expiry(number),
    }),
    ("x-message-ttl", |value, _| expiry(int(value)?)),
    ("x-dead-letter-exchange", |value, _| {
        longstr(value).map(drop)
    }),
    ("x-dead-letter-routing-key", dead_letter_routing_key),
    ("x-dead-letter-strategy", |value, _| {
        one_of(
            value,
            &[b"at-most-once", b"at-least-once"],
            "invalid_dlx_strategy",
        )
    }),
    ("x-max-length", |value, _| not_negative(value).map(drop)),
    ("x-max-length-bytes", |value, _| {
        not_negative(value).map(drop)
    }),
    ("x-max-in-memory-length", |value, _| {
        not_negative(value).map(drop)
    }),
    ("x-max-in-memory-bytes", |value, _| {
        not_negative(value).map(drop)
    }),
    ("x-max-priority", |value, _| match not_negative(value)? {
        number if number > 255 => Err(format!("{{max_value_exceeded,{number}}}")),
        _ => Ok(()),
    }),
    ("x-overflow", |value, _| {
        one_of(
            value,
            &[b"drop-head", b"reject-publish", b"reject-publish-dlx"],
            "invalid_overflow",
        )
    }),
    ("x-queue-mode", queue_mode),
    ("x-queue-version", |value, _| match not_negative(value)? {
        2 => Ok(()),
        number => Err(format!("\"unsupported queue version '{number}'\"")),
    }),
    ("x-single-active-consumer", |value, _| boolean(value)),
    ("x-quorum-initial-group-size", |value, _| positive(value)),
    ("x-message-delay", |value, _| expiry(int(value)?)),
    ("x-message-deduplication", |value, _| boolean(value)),
    ("x-deduplication-header", |value, _| {
        longstr(value).map(drop)
    }),
    ("x-cache-size", |value, _| positive(value)),
    ("x-cache-ttl", |value, _| positive(value)),
    ("x-cache-persistence", |value, _| {
        one_of(value, &[b"disk", b"memory"], "invalid_cache_persistence")
    }),
    ("x-max-age", |value, _| match is_max_age(longstr(value)?) {
        true => Ok(()),
        false => Err("invalid_max_age".into()),
    }),
    ("x-stream-max-segment-size-bytes", |value, _| {
        not_negative(value).map(drop)
    }),
    ("x-stream-filter-size-bytes", |value, _| {
        not_negative(value).map(drop)
    }),
    ("x-initial-cluster-size", |value, _| positive(value)),
    ("x-queue-leader-locator", |value, _| {
        one_of(
            value,
            &[b"client-local", b"balanced", b"random", b"least-leaders"],
            "invalid_queue_locator_arg",
        )
    }),
    ("x-delivery-limit", |value, _| int(value).map(drop)),
    ("x-message-group", |value, _| longstr(value).map(drop)),
    ("x-consumer-choice", |value, _| {
        one_of(
            value,
            &[b"round-robin", b"least-loaded"],
            "invalid_consumer_choice",
        )
    }),
    ("x-consumer-timeout", |value, _| {
        not_negative(value).map(drop)
    }),
    ("x-consumer-disconnected-timeout", |value, _| {
        not_negative(value).map(drop)
    }),
    ("x-delayed-retry-type", |value, _| {
        one_of(
            value,
            &[b"disabled", b"all", b"failed", b"returned"],
            "invalid_delayed_retry_type",
        )
    }),
    ("x-delayed-retry-min", |value, _| {
        not_negative(value).map(drop)
    }),
    ("x-delayed-retry-max", |value, _| {
        not_negative(value).map(drop)
    }),
    ("x-delayed-retry-multiplier", |value, _| {
        not_negative(value).map(drop)
    }),
    ("x-max-publish-rate", |value, _| {
        not_negative(value).map(drop)
    }),
    ("x-max-publish-bytes-rate", |value, _| {
        not_negative(value).map(drop)
    }),
    ("x-max-consume-rate", |value, _| {
        not_negative(value).map(drop)
    }),
];

/// All arguments that a queue of this type knows: RabbitMQ's, then those that only here it has.
pub(super) fn known_arguments(queue_type: QueueType) -> impl Iterator<Item = &'static str> {
    let (rabbitmqs, more): (_, &[_]) = match queue_type {
        QueueType::Classic => (CLASSIC_ARGUMENTS, FOR_ALL_BUT_STREAMS),
        QueueType::Quorum => (QUORUM_ARGUMENTS, FOR_ALL_BUT_STREAMS),
        QueueType::Stream => (STREAM_ARGUMENTS, &[]),
    };
    let more = more.iter().chain(FOR_ALL_TYPES);
    rabbitmqs
        .iter()
        .chain(more.filter(|argument| !rabbitmqs.contains(argument)))
        .copied()
}

/// Refuses what RabbitMQ refuses for a new queue.
pub(super) fn validate(resource: &Resource, table: &FieldTable) -> Result<(), Error> {
    // RabbitMQ's channel looks at the dead letter exchange before it looks at anything else.
    super::exchange_name(resource, table, "x-dead-letter-exchange")?;
    let queue_type = checked_queue_type(resource, table)?;
    let known: Vec<_> = known_arguments(queue_type).collect();
    for (argument, check) in CHECKS
        .iter()
        .filter(|(argument, _)| known.contains(argument))
    {
        if let Some(value) = table.inner().get(*argument) {
            check(value, table).map_err(|reason| Error::InvalidArgument {
                argument,
                resource: resource.clone(),
                reason,
            })?;
        }
    }
    refuse_arguments_of_other_types(resource, table, queue_type, &known)?;
    match queue_type {
        QueueType::Stream => check_stream(table),
        QueueType::Classic | QueueType::Quorum => Ok(()),
    }
}

fn checked_queue_type(resource: &Resource, table: &FieldTable) -> Result<QueueType, Error> {
    let Some(value) = table.inner().get("x-queue-type") else {
        return Ok(QueueType::Classic);
    };
    let checked = longstr(value).and_then(|name| {
        QueueType::from_name(name).ok_or_else(|| {
            let mut reason = String::new();
            // Writing to a string cannot fail.
            let _ = term::quoted(
                &mut reason,
                &format!("unsupported queue type '{}'", String::from_utf8_lossy(name)),
            );
            reason
        })
    });
    checked.map_err(|reason| Error::InvalidArgument {
        argument: "x-queue-type",
        resource: resource.clone(),
        reason,
    })
}

/// Arguments that another type knows and this one does not are refused; arguments that nobody knows are not.
fn refuse_arguments_of_other_types(
    resource: &Resource,
    table: &FieldTable,
    queue_type: QueueType,
    known: &[&str],
) -> Result<(), Error> {
    let foreign = [QueueType::Classic, QueueType::Quorum, QueueType::Stream]
        .into_iter()
        .flat_map(known_arguments)
        .find(|argument| table.contains_key(argument) && !known.contains(argument));
    match foreign {
        Some(argument) => Err(Error::UnsupportedArgument {
            argument,
            resource: resource.clone(),
            queue_type,
        }),
        None => Ok(()),
    }
}

fn check_stream(table: &FieldTable) -> Result<(), Error> {
    let number = |argument: &str| table.inner().get(argument).and_then(term::integer);
    if number("x-stream-max-segment-size-bytes")
        .is_some_and(|bytes| bytes > STREAM_SEGMENT_BYTES_MAX)
    {
        return Err(Error::InvalidStreamArgument(
            "Exceeded max value for x-stream-max-segment-size-bytes",
        ));
    }
    if number("x-stream-filter-size-bytes")
        .is_some_and(|bytes| !STREAM_FILTER_BYTES.contains(&bytes))
    {
        // The two spaces are RabbitMQ's.
        return Err(Error::InvalidStreamArgument(
            "Invalid value for  x-stream-filter-size-bytes",
        ));
    }
    Ok(())
}

fn int(value: &AMQPValue) -> Result<i64, String> {
    term::integer(value)
        .ok_or_else(|| format!("\"expected integer, got {}\"", term::type_name(value)))
}

fn not_negative(value: &AMQPValue) -> Result<i64, String> {
    match int(value)? {
        number if number < 0 => Err(format!("{{value_negative,{number}}}")),
        number => Ok(number),
    }
}

fn expiry(number: i64) -> Result<(), String> {
    expiration::check_expiry(number.into()).map(drop)
}

fn longstr(value: &AMQPValue) -> Result<&[u8], String> {
    match value {
        AMQPValue::LongString(text) => Ok(text.as_bytes()),
        other => Err(unacceptable(other)),
    }
}

fn one_of(value: &AMQPValue, accepted: &[&[u8]], reason: &str) -> Result<(), String> {
    if accepted.contains(&longstr(value)?) {
        Ok(())
    } else {
        Err(reason.into())
    }
}

fn dead_letter_routing_key(value: &AMQPValue, table: &FieldTable) -> Result<(), String> {
    let key = longstr(value)?;
    if !table.contains_key("x-dead-letter-exchange") {
        return Err("routing_key_but_no_dlx_defined".into());
    }
    // RabbitMQ takes it, and fails when it has to deliver a letter with it.
    match names::routing_key(key) {
        Some(_) => Ok(()),
        None => Err(format!("{{max_length_exceeded,{}}}", key.len())),
    }
}

fn queue_mode(value: &AMQPValue, _: &FieldTable) -> Result<(), String> {
    let mode = longstr(value)?;
    if [&b"default"[..], b"lazy"].contains(&mode) {
        return Ok(());
    }
    let mut reason = String::new();
    // Writing to a string cannot fail.
    let _ = term::quoted(
        &mut reason,
        &format!("unsupported queue mode '{}'", String::from_utf8_lossy(mode)),
    );
    Err(reason)
}

fn boolean(value: &AMQPValue) -> Result<(), String> {
    match value {
        AMQPValue::Boolean(_) => Ok(()),
        other => Err(unacceptable(other)),
    }
}

fn positive(value: &AMQPValue) -> Result<(), String> {
    match not_negative(value)? {
        0 => Err("{value_zero,0}".into()),
        _ => Ok(()),
    }
}

/// A positive number and one of the units `Y M D h m s`.
pub(in crate::broker) fn is_max_age(age: &[u8]) -> bool {
    super::max_age_ms(age).is_some()
}

fn unacceptable(value: &AMQPValue) -> String {
    format!("{{unacceptable_type,{}}}", term::type_name(value))
}

const _: () = assert!(EXPIRY_MS_MAX <= i64::MAX as u64);

#[cfg(test)]
mod tests;
