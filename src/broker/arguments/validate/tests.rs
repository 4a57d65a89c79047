//! What is accepted, and what is refused in which words.

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
        &[("x-consumer-choice", text("random"))],
        "invalid_consumer_choice",
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

/// They would mean nothing there, and a declaration that says something should not do nothing.
#[test]
fn streams_refuse_what_all_other_queues_have() {
    for argument in FOR_ALL_BUT_STREAMS {
        // Any value: whether the argument is known comes first.
        check(
            &[("x-queue-type", text("stream")), (argument, text("5"))],
            &format!(
                "invalid arg '{argument}' for queue 'q' in vhost '/' of queue type rabbit_stream_queue"
            ),
        );
    }
    for argument in FOR_ALL_TYPES {
        check(
            &[
                ("x-queue-type", text("stream")),
                (argument, AMQPValue::LongInt(5)),
            ],
            "ok",
        );
    }
}

/// RabbitMQ takes such a key and fails when it has to deliver a letter with it.
#[test]
fn a_dead_letter_routing_key_has_to_fit_into_a_short_string() {
    let exchange = ("x-dead-letter-exchange", text(""));
    let with = |key: &str| [exchange.clone(), ("x-dead-letter-routing-key", text(key))];
    check(&with(&"k".repeat(255)), "ok");
    invalid(&with(&"k".repeat(256)), "{max_length_exceeded,256}");
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
