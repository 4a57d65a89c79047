//! Codes, scopes and texts.

use std::sync::Arc;

use amq_protocol::protocol::channel;

use super::*;
use crate::amqp::frame::{self, FrameError};
use crate::broker::error::Error;
use crate::broker::names::Resource;

fn vhost() -> Arc<str> {
    "/".into()
}

fn check(error: &AmqpError, code: u16, scope: Scope, offender: (u16, u16), text: &str) {
    assert_eq!(error.text(), text);
    assert_eq!((error.code(), error.scope()), (code, scope), "{text}");
    assert_eq!(error.ids((50, 10)), offender, "{text}");
}

/// Texts, codes and offenders were read from a running RabbitMQ.
#[test]
fn protocol_errors_have_rabbitmqs_codes_and_texts() {
    use Scope::{Channel, Connection};
    let (framing, publish, current) = ((0, 0), (60, 40), (50, 10));
    let method = AMQPClass::Channel(channel::AMQPMethod::OpenOk(channel::OpenOk {}));
    let frame = |kind, payload| frame::Frame {
        kind,
        channel: 0,
        payload,
    };
    let bad_end = FrameError::BadEnd {
        found: 0,
        kind: 1,
        octets: vec![0, 20, 0, 10, 0],
    };
    let too_large = FrameError::TooLarge {
        size: 200_000,
        limit: 131_072,
        kind: 1,
        octets: vec![1],
    };
    #[rustfmt::skip]
    let cases = [
        (AmqpError::from_frame(&bad_end), 501, Connection, framing,
         "FRAME_ERROR - type 1, all octets = <<0,20,0,10,0>>: {invalid_frame_end_marker,0}"),
        (AmqpError::from_frame(&too_large), 501, Connection, framing,
         "FRAME_ERROR - type 1, all octets = <<>>: {frame_too_large,200000,131064}"),
        (AmqpError::unknown_frame(&frame(9, b"abc")), 501, Connection, framing,
         "FRAME_ERROR - type 9, all octets = <<\"abc\">>: unknown_frame"),
        (AmqpError::unexpected_frame(&frame(8, b"")), 505, Connection, framing,
         "UNEXPECTED_FRAME - type 8, all octets = <<>>"),
        (AmqpError::unexpected_frame(&frame(2, b"abcdefghijklmnopqrst")), 505, Connection, framing,
         "UNEXPECTED_FRAME - type 2, first 16 octets = <<\"abcdefghijklmnop\">>"),
        (AmqpError::expected_method_frame(), 505, Connection, framing,
         "UNEXPECTED_FRAME - expected method frame, got non method frame instead"),
        (AmqpError::expected_content_header(true), 505, Connection, publish,
         "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead"),
        (AmqpError::wrong_content_class(50), 505, Connection, publish,
         "UNEXPECTED_FRAME - expected content header for class 60, got one for class 50 instead"),
        (AmqpError::expected_content_body(false), 505, Connection, publish,
         "UNEXPECTED_FRAME - expected content body, got non content body frame instead"),
        (AmqpError::malformed_utf8(), 501, Connection, framing,
         "FRAME_ERROR - Malformed UTF-8 in shortstr"),
        (AmqpError::channel_not_open(), 504, Connection, current,
         "CHANNEL_ERROR - expected 'channel.open'"),
        (AmqpError::second_channel_open(), 504, Connection, current,
         "CHANNEL_ERROR - second 'channel.open' seen"),
        (AmqpError::unexpected_method_in_state(&method, "running"), 504, Connection, current,
         "CHANNEL_ERROR - unexpected method in connection state running"),
        (AmqpError::unexpected_method(&method), 503, Connection, current,
         "COMMAND_INVALID - unimplemented method"),
        (AmqpError::too_many_channels(2, 2), 530, Connection, framing,
         "NOT_ALLOWED - number of channels opened (2) has reached the negotiated channel_max (2)"),
        (AmqpError::vhost_not_found("nope"), 530, Connection, current,
         "NOT_ALLOWED - vhost nope not found"),
        (AmqpError::consumer_tag_in_use("t"), 530, Connection, current,
         "NOT_ALLOWED - attempt to reuse consumer tag 't'"),
        (AmqpError::not_implemented("immediate=true"), 540, Connection, current,
         "NOT_IMPLEMENTED - immediate=true"),
        (AmqpError::internal_error(), 541, Connection, current, "INTERNAL_ERROR"),
        (AmqpError::unknown_delivery_tag(7), 406, Channel, current,
         "PRECONDITION_FAILED - unknown delivery tag 7"),
        (AmqpError::invalid_expiration("abc", "no_integer"), 406, Channel, publish,
         "PRECONDITION_FAILED - invalid expiration 'abc': no_integer"),
        (AmqpError::user_id_mismatch("abc", "guest"), 406, Channel, publish,
         "PRECONDITION_FAILED - user_id property set to 'abc' but authenticated user was 'guest'"),
        (AmqpError::message_too_large(20, 10), 406, Channel, publish,
         "PRECONDITION_FAILED - message size 20 is larger than configured max size 10"),
        (AmqpError::not_found("no previously declared queue"), 404, Channel, current,
         "NOT_FOUND - no previously declared queue"),
    ];
    for (error, code, scope, offender, text) in &cases {
        check(error, *code, *scope, *offender, text);
    }
}

#[test]
fn refusals_of_the_broker_have_rabbitmqs_codes() {
    let queue = || Resource::queue(&vhost(), "q");
    let cases = [
        (
            Error::NotFound(queue()),
            404,
            "NOT_FOUND - no queue 'q' in vhost '/'",
        ),
        (
            Error::DefaultExchange,
            403,
            "ACCESS_REFUSED - operation not permitted on the default exchange",
        ),
        (
            Error::InUse(queue()),
            406,
            "PRECONDITION_FAILED - queue 'q' in vhost '/' in use",
        ),
        (
            Error::UnknownExchangeType("foo".into()),
            406,
            "PRECONDITION_FAILED - unknown exchange type 'foo'",
        ),
        (
            Error::InvalidArgument {
                argument: "x-message-ttl",
                resource: queue(),
                reason: "{value_negative,-1}".into(),
            },
            406,
            "PRECONDITION_FAILED - invalid arg 'x-message-ttl' for queue 'q' in vhost '/': {value_negative,-1}",
        ),
        (
            Error::Locked(queue()),
            405,
            "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be \
             originally declared on another connection or the exclusive property value does not match that of the \
             original declaration.",
        ),
    ];
    for (error, code, text) in cases {
        check(&error.into(), code, Scope::Channel, (50, 10), text);
    }
}

#[test]
fn long_texts_are_cut_between_characters() {
    let text = |name: &str| {
        AmqpError::from(Error::NotFound(Resource::queue(&vhost(), name)))
            .text()
            .to_owned()
    };
    let ascii = text(&"n".repeat(255));
    assert_eq!(ascii.len(), 255);
    assert!(ascii.ends_with("nnn..."));
    for padding in 0..4 {
        let cut = text(&format!("{}{}", "a".repeat(padding), "é€".repeat(50)));
        assert!((250..=255).contains(&cut.len()), "{} bytes", cut.len());
        assert!(cut.ends_with("..."));
    }
    assert!(!text(&"n".repeat(200)).ends_with("..."));
}
