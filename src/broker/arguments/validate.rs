//! Which values RabbitMQ accepts for the arguments of a queue, and how it words its refusals
//! (`rabbit_amqqueue:check_declare_arguments`, `rabbit_stream_queue:declare`).

use amq_protocol::types::{AMQPValue, FieldTable};

use super::{EXPIRY_MS_MAX, QueueType, expiration, term};
use crate::broker::error::Error;
use crate::broker::names::Resource;

/// What a classic queue knows, in the order in which declarations are compared.
pub(super) const CLASSIC_ARGUMENTS: &[&str] = &[
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
pub(super) const QUORUM_ARGUMENTS: &[&str] = &[
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
pub(super) const STREAM_ARGUMENTS: &[&str] = &[
    "x-max-length-bytes",
    "x-queue-type",
    "x-max-age",
    "x-stream-max-segment-size-bytes",
    "x-initial-cluster-size",
    "x-queue-leader-locator",
    "x-stream-filter-size-bytes",
];

/// Arguments of RabbitMQ's quorum queues, and of our own, that every type of queue knows here.
pub(super) const FOR_ALL_TYPES: &[&str] = &[
    "x-delivery-limit",
    "x-message-group",
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
    "x-max-publish-rate",
    "x-max-publish-bytes-rate",
    "x-max-consume-rate",
];

/// Those of them that a stream refuses: it would have to do what it cannot.
const NOT_FOR_STREAMS: &[&str] = &["x-message-delay", "x-message-deduplication"];

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

/// Refuses what RabbitMQ refuses for a new queue.
pub(super) fn validate(resource: &Resource, table: &FieldTable) -> Result<(), Error> {
    // RabbitMQ's channel looks at the dead letter exchange before it looks at anything else.
    super::exchange_name(resource, table, "x-dead-letter-exchange")?;
    let queue_type = checked_queue_type(resource, table)?;
    let known = queue_type.arguments();
    for (argument, check) in CHECKS
        .iter()
        .filter(|(argument, _)| known.contains(argument) || FOR_ALL_TYPES.contains(argument))
    {
        if let Some(value) = table.inner().get(*argument) {
            check(value, table).map_err(|reason| Error::InvalidArgument {
                argument,
                resource: resource.clone(),
                reason,
            })?;
        }
    }
    refuse_arguments_of_other_types(resource, table, queue_type)?;
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
) -> Result<(), Error> {
    let others = [QueueType::Classic, QueueType::Quorum, QueueType::Stream];
    let foreign = others
        .iter()
        .flat_map(|other| other.arguments())
        .chain(NOT_FOR_STREAMS)
        .find(|argument| {
            table.contains_key(argument)
                && !queue_type.arguments().contains(argument)
                && (!FOR_ALL_TYPES.contains(argument)
                    || (queue_type == QueueType::Stream && NOT_FOR_STREAMS.contains(argument)))
        });
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
    longstr(value)?;
    if table.contains_key("x-dead-letter-exchange") {
        Ok(())
    } else {
        Err("routing_key_but_no_dlx_defined".into())
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
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;

    fn text(text: &str) -> AMQPValue {
        AMQPValue::LongString(text.into())
    }

    fn check(entries: &[(&str, AMQPValue)], expected: &str) {
        let vhost: Arc<str> = "/".into();
        let table: BTreeMap<_, _> = entries
            .iter()
            .map(|(key, value)| ((*key).into(), value.clone()))
            .collect();
        let found = match validate(&Resource::queue(&vhost, "q"), &table.into()) {
            Ok(()) => "ok".to_owned(),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected, "{entries:?}");
    }

    fn invalid(entries: &[(&str, AMQPValue)], reason: &str) {
        let argument = entries.last().unwrap().0;
        check(
            entries,
            &format!("invalid arg '{argument}' for queue 'q' in vhost '/': {reason}"),
        );
    }

    /// The texts were read from a running RabbitMQ.
    #[test]
    fn wrong_values_are_refused_in_rabbitmqs_words() {
        let int = AMQPValue::LongLongInt;
        invalid(&[("x-message-ttl", int(-1))], "{value_negative,-1}");
        invalid(
            &[("x-message-ttl", text("5"))],
            "\"expected integer, got longstr\"",
        );
        invalid(
            &[("x-message-ttl", AMQPValue::Boolean(true))],
            "\"expected integer, got bool\"",
        );
        invalid(
            &[("x-message-ttl", int(315_360_000_001))],
            "{value_too_large,315360000001}",
        );
        invalid(
            &[("x-message-ttl", AMQPValue::Timestamp(5))],
            "\"expected integer, got timestamp\"",
        );
        invalid(&[("x-expires", int(0))], "{value_zero,0}");
        invalid(&[("x-expires", int(-3))], "{value_negative,-3}");
        invalid(
            &[("x-expires", text("a"))],
            "\"expected integer, got longstr\"",
        );
        invalid(&[("x-max-length", int(-1))], "{value_negative,-1}");
        invalid(
            &[("x-max-length-bytes", AMQPValue::Void)],
            "\"expected integer, got void\"",
        );
        invalid(
            &[("x-dead-letter-routing-key", text("k"))],
            "routing_key_but_no_dlx_defined",
        );
        invalid(
            &[("x-dead-letter-routing-key", AMQPValue::LongInt(5))],
            "{unacceptable_type,signedint}",
        );
        invalid(&[("x-max-priority", int(256))], "{max_value_exceeded,256}");
        invalid(&[("x-max-priority", int(-1))], "{value_negative,-1}");
        invalid(&[("x-overflow", text("bad"))], "invalid_overflow");
        invalid(
            &[("x-overflow", AMQPValue::LongInt(1))],
            "{unacceptable_type,signedint}",
        );
        invalid(
            &[("x-queue-mode", text("bad"))],
            "\"unsupported queue mode 'bad'\"",
        );
        invalid(
            &[("x-queue-version", int(3))],
            "\"unsupported queue version '3'\"",
        );
        invalid(
            &[("x-queue-version", int(1))],
            "\"unsupported queue version '1'\"",
        );
        invalid(
            &[("x-single-active-consumer", text("true"))],
            "{unacceptable_type,longstr}",
        );
        invalid(
            &[("x-queue-type", text("bad"))],
            "\"unsupported queue type 'bad'\"",
        );
        invalid(
            &[("x-queue-type", AMQPValue::LongInt(5))],
            "{unacceptable_type,signedint}",
        );
        let quorum = ("x-queue-type", text("quorum"));
        invalid(
            &[quorum.clone(), ("x-quorum-initial-group-size", int(0))],
            "{value_zero,0}",
        );
        invalid(
            &[quorum.clone(), ("x-dead-letter-strategy", text("bad"))],
            "invalid_dlx_strategy",
        );
        invalid(
            &[quorum, ("x-queue-leader-locator", text("bad"))],
            "invalid_queue_locator_arg",
        );
        invalid(
            &[("x-consumer-disconnected-timeout", int(-1))],
            "{value_negative,-1}",
        );
        let stream = ("x-queue-type", text("stream"));
        invalid(
            &[stream.clone(), ("x-max-age", text("5X"))],
            "invalid_max_age",
        );
        invalid(
            &[stream.clone(), ("x-max-age", text("D"))],
            "invalid_max_age",
        );
        invalid(
            &[stream.clone(), ("x-max-age", AMQPValue::LongInt(5))],
            "{unacceptable_type,signedint}",
        );
        invalid(
            &[stream, ("x-initial-cluster-size", int(0))],
            "{value_zero,0}",
        );
    }

    #[test]
    fn the_dead_letter_exchange_is_looked_at_first() {
        check(
            &[
                ("x-dead-letter-exchange", AMQPValue::LongInt(5)),
                ("x-message-ttl", AMQPValue::LongInt(-1)),
            ],
            "invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue 'q' in vhost '/'",
        );
    }

    #[test]
    fn expires_is_checked_before_the_time_to_live() {
        let entries = [
            ("x-message-ttl", AMQPValue::LongInt(-1)),
            ("x-expires", AMQPValue::LongInt(0)),
        ];
        invalid(&entries, "{value_zero,0}");
    }

    #[test]
    fn streams_have_ranges_of_their_own() {
        let stream = ("x-queue-type", text("stream"));
        let with = |key, number| [stream.clone(), (key, AMQPValue::LongLongInt(number))];
        let segment = "x-stream-max-segment-size-bytes";
        check(
            &with(segment, 3_000_000_001),
            "Exceeded max value for x-stream-max-segment-size-bytes",
        );
        check(&with(segment, 3_000_000_000), "ok");
        let filter = "x-stream-filter-size-bytes";
        check(
            &with(filter, 15),
            "Invalid value for  x-stream-filter-size-bytes",
        );
        check(&with(filter, 255), "ok");
    }

    #[test]
    fn arguments_of_other_queue_types_are_refused() {
        let text_of = |argument, module| {
            format!(
                "invalid arg '{argument}' for queue 'q' in vhost '/' of queue type rabbit_{module}_queue"
            )
        };
        check(
            &[("x-max-age", text("5D"))],
            &text_of("x-max-age", "classic"),
        );
        let quorum = ("x-queue-type", text("quorum"));
        check(
            &[quorum, ("x-max-priority", AMQPValue::LongInt(5))],
            &text_of("x-max-priority", "quorum"),
        );
        let stream = ("x-queue-type", text("stream"));
        check(
            &[stream, ("x-max-length", AMQPValue::LongInt(5))],
            &text_of("x-max-length", "stream"),
        );
    }

    #[test]
    fn timeouts_of_consumers_are_numbers_of_milliseconds() {
        for argument in ["x-consumer-timeout", "x-consumer-disconnected-timeout"] {
            for queue_type in ["classic", "quorum"] {
                let with = |value| [("x-queue-type", text(queue_type)), (argument, value)];
                check(&with(AMQPValue::LongInt(60_000)), "ok");
                check(&with(AMQPValue::LongLongInt(0)), "ok");
                invalid(&with(AMQPValue::LongInt(-1)), "{value_negative,-1}");
                let not_a_number = "\"expected integer, got longstr\"";
                invalid(&with(text("60000")), not_a_number);
            }
        }
    }

    #[test]
    fn right_and_unknown_values_are_accepted() {
        for (key, value) in [
            ("x-message-ttl", AMQPValue::LongLongInt(315_360_000_000)),
            ("x-message-ttl", AMQPValue::LongInt(0)),
            ("x-max-priority", AMQPValue::ShortShortUInt(255)),
            ("x-max-priority", AMQPValue::LongInt(0)),
            ("x-overflow", text("reject-publish-dlx")),
            ("x-queue-mode", text("lazy")),
            ("x-queue-version", AMQPValue::LongInt(2)),
            ("x-queue-type", text("classic")),
            ("x-queue-master-locator", AMQPValue::LongInt(5)),
            ("x-queue-leader-locator", text("balanced")),
            ("x-dead-letter-exchange", text("no such exchange")),
            ("x-consumer-timeout", AMQPValue::LongInt(5)),
            ("x-delivery-limit", AMQPValue::LongInt(5)),
            ("x-delayed-retry-type", text("failed")),
            ("x-message-group", text("customer")),
            ("x-whatever", AMQPValue::LongInt(-5)),
            ("x-expires-not", text("")),
        ] {
            check(&[(key, value)], "ok");
        }
    }
}
