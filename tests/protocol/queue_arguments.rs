//! The arguments of queue.declare: which are known, which values are legal, which are compared.

use crate::check::{check_channel_error, check_channel_error_on, peer, unique};
use crate::support::method::Method;
use crate::support::wire::{Value, table};

fn declare(name: &str, argument: &str, value: Value) -> Method {
    method!(queue.declare {
        queue: name,
        exclusive: true,
        arguments: table([(argument, value)]),
    })
}

#[track_caller]
fn check_refused(argument: &str, value: Value, reason: &str) {
    let name = unique("refused");
    let text = format!("invalid arg '{argument}' for queue '{name}' in vhost '/': {reason}");
    check_channel_error(declare(&name, argument, value), 406, &text);
}

#[track_caller]
fn check_accepted(argument: &str, value: Value) {
    let method = declare(&unique("accepted"), argument, value);
    peer().call(1, method, method!(queue.declare_ok));
}

/// A second declare with another value of an argument; `received` and `current` as RabbitMQ
/// words them.
#[track_caller]
fn check_compared(argument: &str, first: Option<Value>, second: Option<Value>, words: &str) {
    let mut peer = peer();
    let name = unique("compared");
    let method = |value: Option<Value>| match value {
        Some(value) => declare(&name, argument, value),
        None => method!(queue.declare { queue: &name, exclusive: true }),
    };
    peer.call(1, method(first), method!(queue.declare_ok));
    let text = format!("inequivalent arg '{argument}' for queue '{name}' in vhost '/': {words}");
    check_channel_error_on(&mut peer, method(second), 406, &text);
}

#[test]
fn an_argument_that_came_later_is_inequivalent() {
    check_compared(
        "x-message-ttl",
        None,
        Some(Value::I32(2)),
        "received the value '2' of type 'signedint' but current is none",
    );
}

#[test]
fn an_argument_that_is_missing_later_is_inequivalent() {
    check_compared(
        "x-message-ttl",
        Some(Value::I32(2)),
        None,
        "received none but current is the value '2' of type 'signedint'",
    );
}

#[test]
fn another_value_of_an_argument_is_inequivalent() {
    check_compared(
        "x-max-length",
        Some(Value::I32(1000)),
        Some(Value::I32(2)),
        crate::check::since_4(
            "received the value '2' of type 'signedint' but current is the value '1000' of type 'signedint'",
            "received '2' but current is '1000'",
        ),
    );
}

#[test]
fn integers_of_another_width_are_equal() {
    let mut peer = peer();
    let name = unique("width");
    for value in [
        Value::I32(60_000),
        Value::I64(60_000),
        Value::U32(60_000),
        Value::U16(60_000),
    ] {
        let method = declare(&name, "x-message-ttl", value);
        peer.call(1, method, method!(queue.declare_ok));
    }
}

#[test]
fn unknown_arguments_never_differ() {
    let mut peer = peer();
    let name = unique("unknown");
    for value in [Value::I32(1), "two".into(), Value::Bool(true)] {
        let method = declare(&name, "x-no-such-argument", value);
        peer.call(1, method, method!(queue.declare_ok));
    }
}

#[test]
fn an_absent_queue_type_equals_classic() {
    let mut peer = peer();
    let name = unique("type");
    let plain = method!(queue.declare { queue: &name, exclusive: true });
    peer.call(1, plain, method!(queue.declare_ok));
    let classic = declare(&name, "x-queue-type", "classic".into());
    peer.call(1, classic, method!(queue.declare_ok));
}

#[test]
fn negative_numbers_are_refused() {
    for argument in ["x-message-ttl", "x-max-length", "x-max-length-bytes"] {
        check_refused(argument, Value::I32(-1), "{value_negative,-1}");
    }
}

#[test]
fn text_in_place_of_a_number_is_refused() {
    for argument in [
        "x-message-ttl",
        "x-expires",
        "x-max-length",
        "x-max-priority",
    ] {
        check_refused(argument, "ten".into(), "\"expected integer, got longstr\"");
    }
}

#[test]
fn an_expiry_of_zero_is_refused() {
    check_refused("x-expires", Value::I32(0), "{value_zero,0}");
}

#[test]
fn a_time_beyond_ten_years_is_refused() {
    let beyond = 315_360_000_001;
    check_refused(
        "x-message-ttl",
        Value::I64(beyond),
        "{value_too_large,315360000001}",
    );
}

#[test]
fn a_dead_letter_routing_key_without_exchange_is_refused() {
    check_refused(
        "x-dead-letter-routing-key",
        "key".into(),
        "routing_key_but_no_dlx_defined",
    );
}

#[test]
fn an_unknown_overflow_is_refused() {
    check_refused("x-overflow", "drop-tail".into(), "invalid_overflow");
}

#[test]
fn known_arguments_with_good_values_are_accepted() {
    check_accepted("x-message-ttl", Value::I32(0));
    check_accepted("x-expires", Value::I32(60_000));
    check_accepted("x-max-length", Value::I32(0));
    check_accepted("x-max-length-bytes", Value::I64(1 << 40));
    check_accepted("x-max-priority", Value::U8(10));
    check_accepted("x-single-active-consumer", Value::Bool(true));
    check_accepted("x-dead-letter-exchange", "".into());
    check_accepted("x-overflow", "reject-publish".into());
    check_accepted("x-queue-mode", "lazy".into());
}
