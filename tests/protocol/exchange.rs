//! exchange.declare, delete, bind and unbind.

use crate::check::{
    await_existence, check_channel_error, check_channel_error_on, check_connection_error,
    expect_empty, expect_get, own_queue, peer, unique,
};
use crate::support::broker;
use crate::support::method::Method;
use crate::support::peer::Peer;
use crate::support::wire::table;

fn declare(name: &str, kind: &str) -> Method {
    method!(exchange.declare { exchange: name, type: kind })
}

/// Declares a transient exchange of this type on channel 1.
fn declared(peer: &mut Peer, kind: &str) -> String {
    let name = unique(kind);
    peer.call(1, declare(&name, kind), method!(exchange.declare_ok));
    name
}

fn delete(peer: &mut Peer, name: &str) {
    peer.call(
        1,
        method!(exchange.delete { exchange: name }),
        method!(exchange.delete_ok),
    );
}

fn passive(name: &str) -> Method {
    method!(exchange.declare { exchange: name, passive: true })
}

#[test]
fn the_predeclared_exchanges_are_there_and_durable() {
    let mut peer = peer();
    for (name, kind) in [
        ("amq.direct", "direct"),
        ("amq.fanout", "fanout"),
        ("amq.topic", "topic"),
        ("amq.headers", "headers"),
        ("amq.match", "headers"),
    ] {
        let same = method!(exchange.declare { exchange: name, type: kind, durable: true });
        peer.call(1, same, method!(exchange.declare_ok));
    }
    peer.call(
        1,
        passive("amq.rabbitmq.trace"),
        method!(exchange.declare_ok),
    );
}

#[test]
fn declaring_the_same_again_is_fine() {
    let mut peer = peer();
    let name = declared(&mut peer, "topic");
    peer.call(1, declare(&name, "topic"), method!(exchange.declare_ok));
    delete(&mut peer, &name);
}

#[test]
fn declaring_with_another_type_is_refused() {
    let mut peer = peer();
    let name = declared(&mut peer, "topic");
    let text = format!(
        "inequivalent arg 'type' for exchange '{name}' in vhost '/': received 'fanout' but current is 'topic'"
    );
    check_channel_error_on(&mut peer, declare(&name, "fanout"), 406, &text);
    delete(&mut peer, &name);
}

#[test]
fn declaring_with_other_flags_is_refused() {
    let mut peer = peer();
    let name = declared(&mut peer, "direct");
    for (flag, word) in [
        ("durable", "durable"),
        ("auto_delete", "auto_delete"),
        ("internal", "internal"),
    ] {
        let text = format!(
            "inequivalent arg '{word}' for exchange '{name}' in vhost '/': received 'true' but current is 'false'"
        );
        check_channel_error_on(
            &mut peer,
            declare(&name, "direct").with(flag, true),
            406,
            &text,
        );
    }
    delete(&mut peer, &name);
}

#[test]
fn only_the_alternate_exchange_counts_among_the_arguments() {
    let mut peer = peer();
    let name = declared(&mut peer, "direct");
    let unknown = declare(&name, "direct").with("arguments", table([("x-unknown", 1.into())]));
    peer.call(1, unknown, method!(exchange.declare_ok));
    let alternate = declare(&name, "direct").with(
        "arguments",
        table([("alternate-exchange", "amq.fanout".into())]),
    );
    let text = format!(
        "inequivalent arg 'alternate-exchange' for exchange '{name}' in vhost '/': \
         received the value 'amq.fanout' of type 'longstr' but current is none"
    );
    check_channel_error_on(&mut peer, alternate, 406, &text);
    delete(&mut peer, &name);
}

#[test]
fn an_unknown_type_is_refused() {
    let method = declare(&unique("unknown-type"), "no-such-type");
    if broker::is_foreign() {
        check_connection_error(method, 503, "unknown exchange type 'no-such-type'");
    } else {
        check_channel_error(method, 406, "unknown exchange type 'no-such-type'");
    }
}

#[test]
fn a_passive_declare_of_a_missing_exchange_is_not_found() {
    check_channel_error(
        passive("missing"),
        404,
        "no exchange 'missing' in vhost '/'",
    );
}

#[test]
fn a_passive_declare_ignores_type_and_flags() {
    let mut peer = peer();
    let method = passive("amq.fanout")
        .with("type", "topic")
        .with("auto_delete", true);
    peer.call(1, method, method!(exchange.declare_ok));
}

#[test]
fn the_reserved_prefix_is_refused_for_new_exchanges() {
    let text = "exchange name 'amq.mine' contains reserved prefix 'amq.*'";
    check_channel_error(declare("amq.mine", "direct"), 403, text);
}

#[test]
fn a_predeclared_exchange_cannot_be_deleted() {
    let text = "deletion of system exchange 'amq.direct' in vhost '/' not allowed";
    check_channel_error(
        method!(exchange.delete { exchange: "amq.direct" }),
        403,
        text,
    );
}

#[test]
fn the_default_exchange_can_neither_be_declared_nor_deleted_nor_bound() {
    let text = "operation not permitted on the default exchange";
    check_channel_error(declare("", "direct"), 403, text);
    check_channel_error(method!(exchange.delete), 403, text);
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    check_channel_error_on(&mut peer, method!(queue.bind { queue: &queue }), 403, text);
    check_channel_error_on(
        &mut peer,
        method!(queue.unbind { queue: &queue }),
        403,
        text,
    );
    check_channel_error(
        method!(exchange.bind { source: "", destination: "amq.fanout" }),
        403,
        text,
    );
    check_channel_error(
        method!(exchange.bind { source: "amq.fanout", destination: "" }),
        403,
        text,
    );
}

#[test]
fn deleting_a_missing_exchange_succeeds() {
    delete(&mut peer(), &unique("missing"));
}

#[test]
fn an_exchange_in_use_is_not_deleted_if_unused_is_asked() {
    let mut peer = peer();
    let name = declared(&mut peer, "direct");
    let queue = own_queue(&mut peer);
    let bind = method!(queue.bind { queue: &queue, exchange: &name, routing_key: "k" });
    peer.call(1, bind, method!(queue.bind_ok));
    let text = format!("exchange '{name}' in vhost '/' in use");
    let delete_unused = method!(exchange.delete { exchange: &name, if_unused: true });
    check_channel_error_on(&mut peer, delete_unused.clone(), 406, &text);
    let unbind = method!(queue.unbind { queue: &queue, exchange: &name, routing_key: "k" });
    peer.call(1, unbind, method!(queue.unbind_ok));
    peer.call(1, delete_unused, method!(exchange.delete_ok));
}

#[test]
fn an_internal_exchange_takes_no_publish() {
    let mut peer = peer();
    let name = unique("internal");
    peer.call(
        1,
        declare(&name, "fanout").with("internal", true),
        method!(exchange.declare_ok),
    );
    peer.publish(1, method!(basic.publish { exchange: &name }), b"");
    let text = format!("cannot publish to internal exchange '{name}' in vhost '/'");
    peer.expect_channel_close(1, "basic.publish", 403, &text);
    peer.open_channel(1);
    delete(&mut peer, &name);
}

#[test]
fn an_auto_delete_exchange_goes_with_its_last_binding() {
    let mut peer = peer();
    let name = unique("auto-delete");
    peer.call(
        1,
        declare(&name, "direct").with("auto_delete", true),
        method!(exchange.declare_ok),
    );
    let queue = own_queue(&mut peer);
    for key in ["one", "two"] {
        let bind = method!(queue.bind { queue: &queue, exchange: &name, routing_key: key });
        peer.call(1, bind, method!(queue.bind_ok));
    }
    let unbind = |key| method!(queue.unbind { queue: &queue, exchange: &name, routing_key: key });
    peer.call(1, unbind("one"), method!(queue.unbind_ok));
    peer.call(1, passive(&name), method!(exchange.declare_ok));
    peer.call(1, unbind("two"), method!(queue.unbind_ok));
    let text = format!("no exchange '{name}' in vhost '/'");
    check_channel_error_on(&mut peer, passive(&name), 404, &text);
}

#[test]
fn auto_delete_cascades_through_exchange_bindings() {
    let mut peer = peer();
    let (upper, lower) = (unique("upper"), unique("lower"));
    for name in [&upper, &lower] {
        let declare = declare(name, "fanout").with("auto_delete", true);
        peer.call(1, declare, method!(exchange.declare_ok));
    }
    let queue = own_queue(&mut peer);
    let bind = method!(exchange.bind { source: &upper, destination: &lower });
    peer.call(1, bind, method!(exchange.bind_ok));
    peer.call(
        1,
        method!(queue.bind { queue: &queue, exchange: &lower }),
        method!(queue.bind_ok),
    );
    peer.call(
        1,
        method!(queue.delete { queue: &queue }),
        method!(queue.delete_ok),
    );
    await_existence(&mut peer, &passive(&lower), false);
    await_existence(&mut peer, &passive(&upper), false);
}

#[test]
fn messages_pass_from_exchange_to_exchange_also_in_a_cycle() {
    let mut peer = peer();
    let (first, second) = (declared(&mut peer, "fanout"), declared(&mut peer, "fanout"));
    let queue = own_queue(&mut peer);
    for (source, destination) in [(&first, &second), (&second, &first)] {
        let bind = method!(exchange.bind { source: source, destination: destination });
        peer.call(1, bind, method!(exchange.bind_ok));
    }
    for exchange in [&first, &second] {
        let bind = method!(queue.bind { queue: &queue, exchange: exchange });
        peer.call(1, bind, method!(queue.bind_ok));
    }
    peer.publish(1, method!(basic.publish { exchange: &first }), b"once");
    expect_get(&mut peer, &queue, "once");
    expect_empty(&mut peer, &queue);
    let unbind = method!(exchange.unbind { source: &first, destination: &second });
    peer.call(1, unbind, method!(exchange.unbind_ok));
    delete(&mut peer, &first);
    delete(&mut peer, &second);
}

#[test]
fn binding_a_missing_exchange_is_not_found() {
    let text = "no exchange 'missing' in vhost '/'";
    let to_missing = method!(exchange.bind { source: "amq.fanout", destination: "missing" });
    check_channel_error(to_missing, 404, text);
    let from_missing = method!(exchange.bind { source: "missing", destination: "amq.fanout" });
    check_channel_error(from_missing, 404, text);
}

#[test]
fn unroutable_messages_go_to_the_alternate_exchange() {
    let mut peer = peer();
    let alternate = declared(&mut peer, "fanout");
    let name = unique("with-alternate");
    let arguments = table([("alternate-exchange", alternate.as_str().into())]);
    peer.call(
        1,
        declare(&name, "direct").with("arguments", arguments),
        method!(exchange.declare_ok),
    );
    let queue = own_queue(&mut peer);
    peer.call(
        1,
        method!(queue.bind { queue: &queue, exchange: &alternate }),
        method!(queue.bind_ok),
    );
    let publish =
        method!(basic.publish { exchange: &name, routing_key: "nowhere", mandatory: true });
    peer.publish(1, publish, b"caught");
    let caught = expect_get(&mut peer, &queue, "caught");
    assert_eq!(caught.method.text("exchange"), name);
    delete(&mut peer, &name);
    delete(&mut peer, &alternate);
}

#[test]
fn alternate_exchanges_in_a_circle_do_not_hang() {
    let mut peer = peer();
    let (first, second) = (unique("circle"), unique("circle"));
    for (name, other) in [(&first, &second), (&second, &first)] {
        let arguments = table([("alternate-exchange", other.as_str().into())]);
        let declare = declare(name, "direct").with("arguments", arguments);
        peer.call(1, declare, method!(exchange.declare_ok));
    }
    peer.publish(
        1,
        method!(basic.publish { exchange: &first, mandatory: true }),
        b"lost",
    );
    peer.expect_message(
        1,
        method!(basic.return { reply_code: 312, reply_text: "NO_ROUTE" }),
    );
    delete(&mut peer, &first);
    delete(&mut peer, &second);
}

#[test]
fn nowait_is_not_answered() {
    let mut peer = peer();
    let name = unique("nowait");
    peer.send(1, declare(&name, "fanout").with("nowait", true));
    let bind = method!(exchange.bind { source: "amq.fanout", destination: &name, nowait: true });
    peer.send(1, bind);
    let unbind =
        method!(exchange.unbind { source: "amq.fanout", destination: &name, nowait: true });
    peer.send(1, unbind);
    peer.expect_silence(1);
    peer.call(1, passive(&name), method!(exchange.declare_ok));
    peer.send(
        1,
        method!(exchange.delete { exchange: &name, nowait: true }),
    );
    peer.expect_silence(1);
    let text = format!("no exchange '{name}' in vhost '/'");
    check_channel_error_on(&mut peer, passive(&name), 404, &text);
}
