//! Every method of AMQP 0-9-1 as RabbitMQ speaks it: ids and fields, in wire order.

/// One method: `class.name`, the two ids, and its fields as `name:type` words.
pub(crate) struct MethodSpec {
    pub(crate) name: &'static str,
    pub(crate) class_id: u16,
    pub(crate) method_id: u16,
    pub(crate) fields: &'static str,
}

const fn row(name: &'static str, ids: (u16, u16), fields: &'static str) -> MethodSpec {
    MethodSpec {
        name,
        class_id: ids.0,
        method_id: ids.1,
        fields,
    }
}

/// The methods, in the order of their ids. A field whose name is `_` is reserved and always zero.
#[rustfmt::skip]
pub(crate) const METHODS: &[MethodSpec] = &[
    row("connection.start", (10, 10), "version_major:octet version_minor:octet server_properties:table mechanisms:longstr locales:longstr"),
    row("connection.start_ok", (10, 11), "client_properties:table mechanism:shortstr response:longstr locale:shortstr"),
    row("connection.secure", (10, 20), "challenge:longstr"),
    row("connection.secure_ok", (10, 21), "response:longstr"),
    row("connection.tune", (10, 30), "channel_max:short frame_max:long heartbeat:short"),
    row("connection.tune_ok", (10, 31), "channel_max:short frame_max:long heartbeat:short"),
    row("connection.open", (10, 40), "virtual_host:shortstr _:shortstr insist:bit"),
    row("connection.open_ok", (10, 41), "_:shortstr"),
    row("connection.close", (10, 50), "reply_code:short reply_text:shortstr class_id:short method_id:short"),
    row("connection.close_ok", (10, 51), ""),
    row("connection.blocked", (10, 60), "reason:shortstr"),
    row("connection.unblocked", (10, 61), ""),
    row("connection.update_secret", (10, 70), "new_secret:longstr reason:shortstr"),
    row("connection.update_secret_ok", (10, 71), ""),
    row("channel.open", (20, 10), "_:shortstr"),
    row("channel.open_ok", (20, 11), "_:longstr"),
    row("channel.flow", (20, 20), "active:bit"),
    row("channel.flow_ok", (20, 21), "active:bit"),
    row("channel.close", (20, 40), "reply_code:short reply_text:shortstr class_id:short method_id:short"),
    row("channel.close_ok", (20, 41), ""),
    row("access.request", (30, 10), "realm:shortstr exclusive:bit passive:bit active:bit write:bit read:bit"),
    row("access.request_ok", (30, 11), "ticket:short"),
    row("exchange.declare", (40, 10), "_:short exchange:shortstr type:shortstr passive:bit durable:bit auto_delete:bit internal:bit nowait:bit arguments:table"),
    row("exchange.declare_ok", (40, 11), ""),
    row("exchange.delete", (40, 20), "_:short exchange:shortstr if_unused:bit nowait:bit"),
    row("exchange.delete_ok", (40, 21), ""),
    row("exchange.bind", (40, 30), "_:short destination:shortstr source:shortstr routing_key:shortstr nowait:bit arguments:table"),
    row("exchange.bind_ok", (40, 31), ""),
    row("exchange.unbind", (40, 40), "_:short destination:shortstr source:shortstr routing_key:shortstr nowait:bit arguments:table"),
    row("exchange.unbind_ok", (40, 51), ""),
    row("queue.declare", (50, 10), "_:short queue:shortstr passive:bit durable:bit exclusive:bit auto_delete:bit nowait:bit arguments:table"),
    row("queue.declare_ok", (50, 11), "queue:shortstr message_count:long consumer_count:long"),
    row("queue.bind", (50, 20), "_:short queue:shortstr exchange:shortstr routing_key:shortstr nowait:bit arguments:table"),
    row("queue.bind_ok", (50, 21), ""),
    row("queue.purge", (50, 30), "_:short queue:shortstr nowait:bit"),
    row("queue.purge_ok", (50, 31), "message_count:long"),
    row("queue.delete", (50, 40), "_:short queue:shortstr if_unused:bit if_empty:bit nowait:bit"),
    row("queue.delete_ok", (50, 41), "message_count:long"),
    row("queue.unbind", (50, 50), "_:short queue:shortstr exchange:shortstr routing_key:shortstr arguments:table"),
    row("queue.unbind_ok", (50, 51), ""),
    row("basic.qos", (60, 10), "prefetch_size:long prefetch_count:short global:bit"),
    row("basic.qos_ok", (60, 11), ""),
    row("basic.consume", (60, 20), "_:short queue:shortstr consumer_tag:shortstr no_local:bit no_ack:bit exclusive:bit nowait:bit arguments:table"),
    row("basic.consume_ok", (60, 21), "consumer_tag:shortstr"),
    row("basic.cancel", (60, 30), "consumer_tag:shortstr nowait:bit"),
    row("basic.cancel_ok", (60, 31), "consumer_tag:shortstr"),
    row("basic.publish", (60, 40), "_:short exchange:shortstr routing_key:shortstr mandatory:bit immediate:bit"),
    row("basic.return", (60, 50), "reply_code:short reply_text:shortstr exchange:shortstr routing_key:shortstr"),
    row("basic.deliver", (60, 60), "consumer_tag:shortstr delivery_tag:longlong redelivered:bit exchange:shortstr routing_key:shortstr"),
    row("basic.get", (60, 70), "_:short queue:shortstr no_ack:bit"),
    row("basic.get_ok", (60, 71), "delivery_tag:longlong redelivered:bit exchange:shortstr routing_key:shortstr message_count:long"),
    row("basic.get_empty", (60, 72), "cluster_id:shortstr"),
    row("basic.ack", (60, 80), "delivery_tag:longlong multiple:bit"),
    row("basic.reject", (60, 90), "delivery_tag:longlong requeue:bit"),
    row("basic.recover_async", (60, 100), "requeue:bit"),
    row("basic.recover", (60, 110), "requeue:bit"),
    row("basic.recover_ok", (60, 111), ""),
    row("basic.nack", (60, 120), "delivery_tag:longlong multiple:bit requeue:bit"),
    row("confirm.select", (85, 10), "nowait:bit"),
    row("confirm.select_ok", (85, 11), ""),
    row("tx.select", (90, 10), ""),
    row("tx.select_ok", (90, 11), ""),
    row("tx.commit", (90, 20), ""),
    row("tx.commit_ok", (90, 21), ""),
    row("tx.rollback", (90, 30), ""),
    row("tx.rollback_ok", (90, 31), ""),
];

pub(crate) fn by_name(name: &str) -> &'static MethodSpec {
    METHODS
        .iter()
        .find(|spec| spec.name == name)
        .unwrap_or_else(|| panic!("no method is called {name}"))
}

pub(crate) fn by_ids(class_id: u16, method_id: u16) -> Option<&'static MethodSpec> {
    METHODS
        .iter()
        .find(|spec| (spec.class_id, spec.method_id) == (class_id, method_id))
}

/// The name that starts every reply text of a code: `NOT_FOUND - no queue ...`.
pub(crate) fn reply_code_name(code: u16) -> &'static str {
    match code {
        311 => "CONTENT_TOO_LARGE",
        312 => "NO_ROUTE",
        313 => "NO_CONSUMERS",
        320 => "CONNECTION_FORCED",
        402 => "INVALID_PATH",
        403 => "ACCESS_REFUSED",
        404 => "NOT_FOUND",
        405 => "RESOURCE_LOCKED",
        406 => "PRECONDITION_FAILED",
        501 => "FRAME_ERROR",
        502 => "SYNTAX_ERROR",
        503 => "COMMAND_INVALID",
        504 => "CHANNEL_ERROR",
        505 => "UNEXPECTED_FRAME",
        506 => "RESOURCE_ERROR",
        530 => "NOT_ALLOWED",
        540 => "NOT_IMPLEMENTED",
        541 => "INTERNAL_ERROR",
        _ => panic!("{code} is no reply code of AMQP 0-9-1"),
    }
}
