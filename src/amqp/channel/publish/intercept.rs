//! Message interceptors: what the broker notes in a message as it arrives, before it is routed
//! (`rabbit_msg_interceptor`). Off unless configured.

use crate::amqp::session::Session;
use crate::config::Stamp;
use crate::message::field;
use crate::message::properties::{Properties, Rewrite, has_any_key};

/// The header with the time of arrival in ms.
const TIMESTAMP_IN_MS: &[u8] = b"timestamp_in_ms";

/// The header with the node that routed the message.
const ROUTED_BY: &[u8] = b"x-routed-by";

/// The properties with what is configured to be noted; `None` where nothing is to be changed.
pub(super) fn stamped(session: &Session, properties: &[u8]) -> Option<Vec<u8>> {
    let interceptors = session.config.message_interceptors;
    if interceptors.timestamp == Stamp::Off && interceptors.routing_node == Stamp::Off {
        return None;
    }
    let services = &session.broker.services;
    // They were checked when the message arrived.
    let read = Properties::read(properties).ok()?;
    let has = |name| {
        let headers = read.headers;
        headers.is_some_and(|headers| has_any_key(headers, &[name]))
    };
    let (mut time, mut node) = (Vec::new(), Vec::new());
    let mut headers: Vec<(&[u8], Option<&[u8]>)> = Vec::new();
    let now_ms = services.now_ms();
    if interceptors.timestamp.sets(has(TIMESTAMP_IN_MS)) {
        field::put_long(&mut time, i64::try_from(now_ms).unwrap_or(i64::MAX));
        headers.push((TIMESTAMP_IN_MS, Some(&time)));
    }
    if interceptors.routing_node.sets(has(ROUTED_BY)) {
        field::put_long_string(&mut node, services.node.as_bytes());
        headers.push((ROUTED_BY, Some(&node)));
    }
    let has_timestamp = read.timestamp.is_some();
    let timestamp = interceptors.timestamp.sets(has_timestamp);
    let rewrite = Rewrite {
        headers: &headers,
        timestamp: timestamp.then_some(now_ms / 1000),
        ..Rewrite::default()
    };
    rewrite.apply(properties).ok()
}
