//! Exchanges that drop messages which were published before.

use crate::check::{check_channel_error_on, expect_empty, expect_get, own_queue, peer, unique};
use crate::support::content::Properties;
use crate::support::peer::Peer;
use crate::support::wire::{Table, Value, table};

/// An exchange with a queue bound to it under the key `k`.
struct Route {
    peer: Peer,
    exchange: String,
    queue: String,
}

impl Drop for Route {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let delete = method!(exchange.delete { exchange: &self.exchange });
            self.peer.call(1, delete, method!(exchange.delete_ok));
        }
    }
}

impl Route {
    fn new(kind: &str, arguments: Table) -> Self {
        let mut peer = peer();
        let exchange = unique(kind);
        let declare = method!(exchange.declare { exchange: &exchange, type: kind });
        let declare = declare.with("arguments", arguments);
        peer.call(1, declare, method!(exchange.declare_ok));
        let queue = own_queue(&mut peer);
        let mut route = Self {
            peer,
            exchange,
            queue: queue.clone(),
        };
        route.bind(&queue);
        route
    }

    fn bind(&mut self, queue: &str) {
        let bind = method!(queue.bind { queue: queue, exchange: &self.exchange, routing_key: "k" });
        self.peer.call(1, bind, method!(queue.bind_ok));
    }

    fn publish(&mut self, key: &str, headers: Table, body: &str) {
        let publish = method!(basic.publish {
            exchange: &self.exchange,
            routing_key: key,
            mandatory: true,
        });
        let properties = Properties {
            headers: Some(headers),
            ..Properties::default()
        };
        self.peer
            .publish_with(1, publish, &properties, body.as_bytes());
    }

    /// The queue has to hold these bodies and nothing else; it is empty afterwards.
    #[track_caller]
    fn expect(&mut self, bodies: &[&str]) {
        for body in bodies {
            expect_get(&mut self.peer, &self.queue, body);
        }
        expect_empty(&mut self.peer, &self.queue);
    }
}

fn on() -> Table {
    table([("x-message-deduplication", Value::Bool(true))])
}

fn id(value: impl Into<Value>) -> Table {
    table([("x-deduplication-header", value.into())])
}

#[test]
fn a_message_that_comes_again_is_dropped_whatever_the_type_of_the_exchange() {
    for kind in ["direct", "topic", "fanout"] {
        let mut route = Route::new(kind, on());
        for (value, body) in [("a", "1"), ("a", "2"), ("b", "3"), ("a", "4"), ("b", "5")] {
            route.publish("k", id(value), body);
        }
        route.expect(&["1", "3"]);
        route.publish("k", id("a"), "later");
        route.expect(&[]);
    }
}

#[test]
fn messages_without_the_header_are_never_duplicates() {
    let mut route = Route::new("direct", on());
    for body in ["1", "2"] {
        route.publish("k", Table::new(), body);
        route.publish("k", table([("another", 1.into())]), body);
    }
    route.expect(&["1", "1", "2", "2"]);
}

#[test]
fn an_exchange_without_the_argument_does_not_look() {
    let mut route = Route::new("direct", Table::new());
    for body in ["1", "2"] {
        route.publish("k", id("a"), body);
    }
    route.expect(&["1", "2"]);
}

#[test]
fn the_header_can_have_another_name() {
    let mut arguments = on();
    arguments.extend(table([("x-deduplication-header", "order".into())]));
    let mut route = Route::new("direct", arguments);
    for body in ["1", "2"] {
        route.publish("k", table([("order", 7.into())]), body);
    }
    route.publish("k", table([("order", Value::I64(7))]), "3");
    route.publish("k", table([("order", "7".into())]), "4");
    route.expect(&["1", "4"]);
}

#[test]
fn the_type_of_the_plugin_is_a_fanout_exchange_with_a_size() {
    let size = table([("x-cache-size", 2.into())]);
    let mut route = Route::new("x-message-deduplication", size);
    for (value, body) in [(1, "1"), (1, "2"), (2, "3"), (3, "4"), (2, "5"), (1, "6")] {
        route.publish("any", id(value), body);
        // Within one batch of publishes nothing is forgotten.
        let passive = method!(queue.declare { queue: &route.queue, passive: true });
        route.peer.call(1, passive, method!(queue.declare_ok));
    }
    // The third id took the place of the first.
    route.expect(&["1", "3", "4", "6"]);
    let declare = method!(exchange.declare {
        exchange: "never declared",
        type: "x-message-deduplication",
    });
    let text = "Missing or invalid argument, 'x-cache-size' must be an integer greater than 0";
    check_channel_error_on(&mut peer(), declare, 406, text);
}

#[test]
fn a_duplicate_is_confirmed_and_not_returned() {
    let mut route = Route::new("direct", on());
    let select = method!(confirm.select);
    route.peer.call(1, select, method!(confirm.select_ok));
    for number in 1..=2 {
        route.publish("k", id("a"), "m");
        let ack = method!(basic.ack { delivery_tag: number, multiple: false });
        route.peer.expect(1, ack);
    }
    route.expect(&["m"]);
}

#[test]
fn what_reached_no_queue_can_be_published_again() {
    let mut route = Route::new("direct", on());
    route.publish("nowhere", id("a"), "1");
    let returned = route.peer.expect_message(1, method!(basic.return));
    assert_eq!(returned.text(), "1");
    route.publish("k", id("a"), "2");
    route.publish("k", id("a"), "3");
    route.expect(&["2"]);
}

#[test]
fn what_a_queue_refused_can_be_published_again() {
    let mut route = Route::new("direct", on());
    let full = unique("full");
    let arguments = table([
        ("x-max-length", 1.into()),
        ("x-overflow", "reject-publish".into()),
    ]);
    let declare = method!(queue.declare { queue: full.as_str(), exclusive: true });
    let declare = declare.with("arguments", arguments);
    route.peer.call(1, declare, method!(queue.declare_ok));
    let publish = method!(basic.publish { routing_key: full.as_str() });
    route.peer.publish(1, publish, b"in the way");
    let unbind = method!(queue.unbind {
        queue: &route.queue,
        exchange: &route.exchange,
        routing_key: "k",
    });
    route.peer.call(1, unbind, method!(queue.unbind_ok));
    route.bind(&full);
    let select = method!(confirm.select);
    route.peer.call(1, select, method!(confirm.select_ok));
    route.publish("k", id("a"), "refused");
    route
        .peer
        .expect(1, method!(basic.nack { delivery_tag: 1 }));
    expect_get(&mut route.peer, &full, "in the way");
    route.publish("k", id("a"), "again");
    route.peer.expect(1, method!(basic.ack { delivery_tag: 2 }));
    expect_get(&mut route.peer, &full, "again");
    route.publish("k", id("a"), "and again");
    route.peer.expect(1, method!(basic.ack { delivery_tag: 3 }));
    expect_empty(&mut route.peer, &full);
}

#[test]
fn a_message_is_forgotten_after_its_time() {
    let mut arguments = on();
    arguments.extend(table([("x-cache-ttl", 3_600_000.into())]));
    let mut route = Route::new("direct", arguments);
    let mut short = id("short");
    short.extend(table([("x-cache-ttl", 1.into())]));
    route.publish("k", id("long"), "1");
    route.publish("k", short.clone(), "2");
    // A millisecond or more later: the broker's clock decides, so ask until it has passed.
    let mut copies = 0;
    while copies < 2 {
        route.publish("k", short.clone(), "2");
        route
            .peer
            .send(1, method!(queue.purge { queue: &route.queue }));
        let purged = route.peer.expect(1, method!(queue.purge_ok));
        copies += purged.number("message_count").min(2);
    }
    route.publish("k", id("long"), "3");
    route.expect(&[]);
}

#[test]
fn a_transaction_is_looked_at_when_it_is_committed() {
    let mut route = Route::new("direct", on());
    route
        .peer
        .call(1, method!(tx.select), method!(tx.select_ok));
    route.publish("k", id("a"), "undone");
    route
        .peer
        .call(1, method!(tx.rollback), method!(tx.rollback_ok));
    for body in ["1", "2"] {
        route.publish("k", id("a"), body);
    }
    route
        .peer
        .call(1, method!(tx.commit), method!(tx.commit_ok));
    route.expect(&["1"]);
}

#[test]
fn a_new_exchange_of_the_name_remembers_nothing() {
    let mut route = Route::new("direct", on());
    route.publish("k", id("a"), "1");
    let delete = method!(exchange.delete { exchange: &route.exchange });
    route.peer.call(1, delete, method!(exchange.delete_ok));
    let declare = method!(exchange.declare { exchange: &route.exchange, type: "direct" });
    let declare = declare.with("arguments", on());
    route.peer.call(1, declare, method!(exchange.declare_ok));
    let queue = route.queue.clone();
    route.bind(&queue);
    route.publish("k", id("a"), "2");
    route.expect(&["1", "2"]);
}
