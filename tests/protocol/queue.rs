//! queue.declare, purge and delete.

use crate::check::{
    await_existence, check_channel_error, check_channel_error_on, consume, expect_counts,
    expect_delivery, expect_empty, expect_get, own_queue, peer, send_to, unique,
};
use crate::support::method::Method;
use crate::support::wire::table;

fn declare(name: &str) -> Method {
    method!(queue.declare { queue: name })
}

fn passive(name: &str) -> Method {
    method!(queue.declare { queue: name, passive: true })
}

fn not_found(name: &str) -> String {
    format!("no queue '{name}' in vhost '/'")
}

#[test]
fn declare_ok_names_the_queue_and_its_counts() {
    let mut peer = peer();
    let name = unique("counts");
    let fresh = method!(queue.declare_ok { queue: &name, message_count: 0, consumer_count: 0 });
    peer.call(1, declare(&name).with("exclusive", true), fresh);
    send_to(&mut peer, &name, "a");
    send_to(&mut peer, &name, "b");
    expect_counts(&mut peer, &name, 2, 0);
    consume(&mut peer, &name, "c");
    expect_delivery(&mut peer, "a");
    expect_delivery(&mut peer, "b");
    // Unacknowledged messages are not counted.
    expect_counts(&mut peer, &name, 0, 1);
}

#[test]
fn a_queue_without_a_name_gets_one() {
    let mut peer = peer();
    let first = own_queue(&mut peer);
    let second = own_queue(&mut peer);
    assert!(first.starts_with("amq.gen-"), "{first}");
    assert_eq!(first.len(), "amq.gen-".len() + 22, "16 bytes as base64url");
    assert_ne!(first, second);
}

#[test]
fn an_empty_name_later_means_the_last_declared_queue_of_the_channel() {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    send_to(&mut peer, &queue, "found");
    expect_get(&mut peer, "", "found");
    peer.call(
        1,
        method!(queue.purge),
        method!(queue.purge_ok { message_count: 0 }),
    );
    let text = "no previously declared queue";
    peer.open_channel(2);
    peer.send(2, method!(basic.get));
    peer.expect_channel_close(2, "basic.get", 404, text);
}

#[test]
fn without_a_declared_queue_an_empty_name_is_not_found() {
    let text = "no previously declared queue";
    check_channel_error(method!(queue.purge), 404, text);
    check_channel_error(method!(queue.delete), 404, text);
    check_channel_error(method!(basic.consume), 404, text);
    check_channel_error(method!(queue.bind { exchange: "amq.fanout" }), 404, text);
    check_channel_error(
        method!(queue.declare { passive: true }),
        404,
        &not_found(""),
    );
}

#[test]
fn a_passive_declare_of_a_missing_queue_is_not_found() {
    check_channel_error(passive("missing"), 404, &not_found("missing"));
}

#[test]
fn a_passive_declare_ignores_flags_and_arguments() {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    let arguments = table([("x-message-ttl", 5.into())]);
    let method = passive(&queue)
        .with("durable", true)
        .with("arguments", arguments);
    peer.call(1, method, method!(queue.declare_ok { queue: &queue }));
}

#[test]
fn declaring_with_other_flags_is_refused() {
    let mut peer = peer();
    let name = unique("flags");
    peer.call(
        1,
        declare(&name).with("durable", true),
        method!(queue.declare_ok),
    );
    let text = format!(
        "inequivalent arg 'durable' for queue '{name}' in vhost '/': received 'false' but current is 'true'"
    );
    check_channel_error_on(&mut peer, declare(&name), 406, &text);
    let text = format!(
        "inequivalent arg 'auto_delete' for queue '{name}' in vhost '/': received 'true' but current is 'false'"
    );
    let auto_delete = declare(&name)
        .with("durable", true)
        .with("auto_delete", true);
    check_channel_error_on(&mut peer, auto_delete, 406, &text);
    peer.call(
        1,
        method!(queue.delete { queue: &name }),
        method!(queue.delete_ok),
    );
}

fn locked(name: &str) -> String {
    format!(
        "cannot obtain exclusive access to locked queue '{name}' in vhost '/'. It could be \
         originally declared on another connection or the exclusive property value does not \
         match that of the original declaration."
    )
}

#[test]
fn an_exclusive_queue_is_locked_for_other_connections() {
    let mut owner = peer();
    let name = unique("locked");
    owner.call(
        1,
        declare(&name).with("exclusive", true),
        method!(queue.declare_ok),
    );
    let bind = method!(queue.bind { queue: &name, exchange: "amq.fanout" });
    owner.call(1, bind, method!(queue.bind_ok));
    let text = locked(&name);
    check_channel_error(declare(&name).with("exclusive", true), 405, &text);
    check_channel_error(passive(&name), 405, &text);
    check_channel_error(method!(basic.get { queue: &name }), 405, &text);
    check_channel_error(method!(basic.consume { queue: &name }), 405, &text);
    check_channel_error(method!(queue.purge { queue: &name }), 405, &text);
    check_channel_error(method!(queue.delete { queue: &name }), 405, &text);
    check_channel_error(
        method!(queue.bind { queue: &name, exchange: "amq.fanout" }),
        405,
        &text,
    );
    check_channel_error(
        method!(queue.unbind { queue: &name, exchange: "amq.fanout" }),
        405,
        &text,
    );
}

#[test]
fn anyone_may_publish_to_an_exclusive_queue() {
    let mut owner = peer();
    let name = own_queue(&mut owner);
    let mut other = peer();
    other.call(1, method!(confirm.select), method!(confirm.select_ok));
    send_to(&mut other, &name, "from another");
    other.expect(1, method!(basic.ack { delivery_tag: 1 }));
    expect_get(&mut owner, &name, "from another");
}

#[test]
fn declaring_with_another_exclusivity_is_locked() {
    let mut peer = peer();
    let name = unique("exclusivity");
    peer.call(
        1,
        declare(&name).with("durable", true),
        method!(queue.declare_ok),
    );
    let method = declare(&name).with("durable", true).with("exclusive", true);
    check_channel_error_on(&mut peer, method, 405, &locked(&name));
    peer.call(
        1,
        method!(queue.delete { queue: &name }),
        method!(queue.delete_ok),
    );
}

#[test]
fn an_exclusive_queue_counts_as_not_durable() {
    let mut peer = peer();
    let name = unique("exclusive");
    let durable = declare(&name).with("exclusive", true).with("durable", true);
    peer.call(1, durable, method!(queue.declare_ok));
    peer.call(
        1,
        declare(&name).with("exclusive", true),
        method!(queue.declare_ok),
    );
}

#[test]
fn an_exclusive_queue_is_gone_when_its_connection_is_closed() {
    let mut owner = peer();
    let name = own_queue(&mut owner);
    owner.close();
    check_channel_error(passive(&name), 404, &not_found(&name));
}

#[test]
fn an_exclusive_queue_goes_when_its_connection_is_lost() {
    let mut owner = peer();
    let name = own_queue(&mut owner);
    owner.vanish();
    await_existence(&mut peer(), &passive(&name), false);
}

#[test]
fn an_auto_delete_queue_stays_until_a_first_consumer_came_and_went() {
    let mut peer = peer();
    let name = unique("auto-delete");
    peer.call(
        1,
        declare(&name).with("auto_delete", true),
        method!(queue.declare_ok),
    );
    send_to(&mut peer, &name, "waits");
    expect_get(&mut peer, &name, "waits");
    consume(&mut peer, &name, "first");
    consume(&mut peer, &name, "second");
    peer.call(
        1,
        method!(basic.cancel { consumer_tag: "first" }),
        method!(basic.cancel_ok),
    );
    expect_counts(&mut peer, &name, 0, 1);
    peer.call(
        1,
        method!(basic.cancel { consumer_tag: "second" }),
        method!(basic.cancel_ok),
    );
    await_existence(&mut peer, &passive(&name), false);
}

#[test]
fn an_auto_delete_queue_goes_with_the_channel_of_its_last_consumer() {
    let mut peer = peer();
    let name = unique("auto-delete");
    peer.call(
        1,
        declare(&name).with("auto_delete", true),
        method!(queue.declare_ok),
    );
    consume(&mut peer, &name, "only");
    peer.call(1, method!(channel.close), method!(channel.close_ok));
    await_existence(&mut peer, &passive(&name), false);
}

#[test]
fn an_auto_delete_queue_goes_with_the_connection_of_its_last_consumer() {
    let mut owner = peer();
    let name = unique("auto-delete");
    owner.call(
        1,
        declare(&name).with("auto_delete", true),
        method!(queue.declare_ok),
    );
    consume(&mut owner, &name, "only");
    owner.vanish();
    await_existence(&mut peer(), &passive(&name), false);
}

#[test]
fn purge_removes_the_ready_messages_and_leaves_the_unacknowledged() {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    for body in ["held", "b", "c"] {
        send_to(&mut peer, &queue, body);
    }
    let held = expect_get(&mut peer, &queue, "held");
    let purge = method!(queue.purge { queue: &queue });
    peer.call(1, purge, method!(queue.purge_ok { message_count: 2 }));
    let requeue = method!(basic.nack { delivery_tag: held.delivery_tag(), requeue: true });
    peer.send(1, requeue);
    expect_get(&mut peer, &queue, "held");
    expect_empty(&mut peer, &queue);
}

#[test]
fn purging_a_missing_queue_is_not_found() {
    check_channel_error(
        method!(queue.purge { queue: "missing" }),
        404,
        &not_found("missing"),
    );
}

#[test]
fn delete_ok_counts_the_ready_messages() {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    for body in ["held", "b", "c"] {
        send_to(&mut peer, &queue, body);
    }
    expect_get(&mut peer, &queue, "held");
    let delete = method!(queue.delete { queue: &queue });
    peer.call(1, delete, method!(queue.delete_ok { message_count: 2 }));
    check_channel_error_on(&mut peer, passive(&queue), 404, &not_found(&queue));
}

#[test]
fn deleting_a_missing_queue_succeeds() {
    let delete = method!(queue.delete { queue: unique("missing") });
    peer().call(1, delete, method!(queue.delete_ok { message_count: 0 }));
}

#[test]
fn a_queue_with_messages_is_not_deleted_if_empty_is_asked() {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    send_to(&mut peer, &queue, "something");
    let delete = method!(queue.delete { queue: &queue, if_empty: true });
    let text = format!("queue '{queue}' in vhost '/' not empty");
    check_channel_error_on(&mut peer, delete.clone(), 406, &text);
    peer.call(
        1,
        method!(queue.purge { queue: &queue }),
        method!(queue.purge_ok),
    );
    peer.call(1, delete, method!(queue.delete_ok));
}

#[test]
fn a_queue_with_consumers_is_not_deleted_if_unused_is_asked() {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    consume(&mut peer, &queue, "c");
    peer.open_channel(2);
    let delete = method!(queue.delete { queue: &queue, if_unused: true });
    peer.send(2, delete.clone());
    let text = format!("queue '{queue}' in vhost '/' in use");
    peer.expect_channel_close(2, "queue.delete", 406, &text);
    peer.call(
        1,
        method!(basic.cancel { consumer_tag: "c" }),
        method!(basic.cancel_ok),
    );
    peer.call(1, delete, method!(queue.delete_ok));
}

#[test]
fn deleting_a_queue_cancels_its_consumers() {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    consume(&mut peer, &queue, "told");
    peer.open_channel(2);
    peer.send(2, method!(queue.delete { queue: &queue }));
    let mut came = Vec::new();
    for _ in 0..2 {
        let frame = peer.recv();
        came.push(crate::support::peer::describe(&frame));
    }
    came.sort();
    assert!(
        came[0].starts_with("basic.cancel { consumer_tag: \"told\" nowait: true"),
        "{came:?}"
    );
    assert!(came[1].starts_with("queue.delete_ok"), "{came:?}");
}

#[test]
fn nowait_is_not_answered() {
    let mut peer = peer();
    let name = unique("nowait");
    peer.send(
        1,
        declare(&name).with("exclusive", true).with("nowait", true),
    );
    peer.send(
        1,
        method!(queue.bind { queue: &name, exchange: "amq.fanout", nowait: true }),
    );
    peer.send(1, method!(queue.purge { queue: &name, nowait: true }));
    peer.expect_silence(1);
    expect_counts(&mut peer, &name, 0, 0);
    peer.send(1, method!(queue.delete { queue: &name, nowait: true }));
    peer.expect_silence(1);
    check_channel_error_on(&mut peer, passive(&name), 404, &not_found(&name));
}

#[test]
fn nowait_errors_still_close_the_channel() {
    let method = method!(queue.purge { queue: "missing", nowait: true });
    check_channel_error(method, 404, &not_found("missing"));
}

#[test]
fn a_deleted_queue_can_be_declared_anew_and_is_empty() {
    let mut peer = peer();
    let name = unique("again");
    for round in 0..5 {
        let flags = declare(&name).with("durable", round % 2 == 0);
        peer.call(1, flags, method!(queue.declare_ok { message_count: 0 }));
        send_to(&mut peer, &name, "old");
        peer.call(
            1,
            method!(queue.delete { queue: &name }),
            method!(queue.delete_ok { message_count: 1 }),
        );
    }
}
