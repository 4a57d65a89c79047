//! Exchanges that choose one of their bindings, and those that remember messages.

use crate::check::{expect_empty, expect_get, own_queue, peer, unique};
use crate::support::content::Properties;
use crate::support::peer::Peer;
use crate::support::wire::{Table, Value, table};

/// An exchange with queues bound to it; deleted when it goes.
struct Choice {
    peer: Peer,
    exchange: String,
    queues: Vec<String>,
}

impl Drop for Choice {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let delete = method!(exchange.delete { exchange: &self.exchange });
            self.peer.call(1, delete, method!(exchange.delete_ok));
        }
    }
}

impl Choice {
    fn new(kind: &str, arguments: Table, keys: &[&str]) -> Self {
        let mut peer = peer();
        let exchange = unique(kind);
        let declare = method!(exchange.declare { exchange: &exchange, type: kind });
        let declare = declare.with("arguments", arguments);
        peer.call(1, declare, method!(exchange.declare_ok));
        let mut choice = Self {
            peer,
            exchange,
            queues: Vec::new(),
        };
        for key in keys {
            let queue = own_queue(&mut choice.peer);
            choice.bind(&queue, key);
            choice.queues.push(queue);
        }
        choice
    }

    fn bind(&mut self, queue: &str, key: &str) {
        let bind = method!(queue.bind { queue: queue, exchange: &self.exchange, routing_key: key });
        self.peer.call(1, bind, method!(queue.bind_ok));
    }

    /// Publishes 300 messages and counts those of each queue.
    fn spread(&mut self, message: impl Fn(u64) -> (String, Properties)) -> Vec<u64> {
        for number in 0..300 {
            let (key, properties) = message(number);
            let publish =
                method!(basic.publish { exchange: &self.exchange, routing_key: key.as_str() });
            self.peer.publish_with(1, publish, &properties, b"");
        }
        let queues = self.queues.clone();
        let mut purge = |queue: &String| {
            let purge = method!(queue.purge { queue: queue.as_str() });
            let purged = self.peer.call(1, purge, method!(queue.purge_ok));
            purged.number("message_count")
        };
        queues.iter().map(&mut purge).collect()
    }
}

fn key(number: u64) -> (String, Properties) {
    (format!("key-{number}"), Properties::default())
}

#[test]
fn a_consistent_hash_spreads_keys_by_weight() {
    let mut choice = Choice::new("x-consistent-hash", Table::new(), &["1", "3"]);
    let counts = choice.spread(key);
    assert_eq!(counts.iter().sum::<u64>(), 300);
    assert!(counts[0] > 30 && counts[1] > 2 * counts[0], "{counts:?}");
    let same = choice.spread(|_| key(7));
    assert!(same == [300, 0] || same == [0, 300], "{same:?}");
}

#[test]
fn a_consistent_hash_takes_a_header_or_a_property() {
    type Message = fn(u64) -> Properties;
    let cases: [(&str, &str, Message); 4] = [
        ("hash-header", "id", |number| Properties {
            headers: Some(table([("id", Value::I64(number as i64))])),
            ..Properties::default()
        }),
        ("hash-property", "message_id", |number| Properties {
            message_id: Some(number.to_string()),
            ..Properties::default()
        }),
        ("hash-property", "correlation_id", |number| Properties {
            correlation_id: Some(number.to_string()),
            ..Properties::default()
        }),
        ("hash-property", "timestamp", |number| Properties {
            timestamp: Some(number),
            ..Properties::default()
        }),
    ];
    for (argument, value, message) in cases {
        let arguments = table([(argument, value.into())]);
        let mut choice = Choice::new("x-consistent-hash", arguments, &["1", "1"]);
        let counts = choice.spread(|number| ("same".to_owned(), message(number)));
        assert!(
            counts.iter().all(|count| *count > 60),
            "{value}: {counts:?}"
        );
        let without = choice.spread(key);
        assert!(without.contains(&300), "{value}: {without:?}");
    }
}

#[test]
fn a_modulus_hash_spreads_keys_and_a_key_stays() {
    let mut choice = Choice::new("x-modulus-hash", Table::new(), &["", "b", "c"]);
    let counts = choice.spread(key);
    assert!(counts.iter().all(|count| *count > 60), "{counts:?}");
    assert!(choice.spread(|_| key(7)).contains(&300));
}

#[test]
fn random_exchanges_spread_messages_of_one_key() {
    let mut choice = Choice::new("x-random", Table::new(), &["", "b", "c"]);
    let counts = choice.spread(|_| key(7));
    assert_eq!(counts.iter().sum::<u64>(), 300);
    assert!(counts.iter().all(|count| *count > 40), "{counts:?}");
}

#[test]
fn a_new_binding_gets_the_history_oldest_first_and_no_message_twice() {
    let arguments = table([("x-recent-history-length", 2.into())]);
    let mut choice = Choice::new("x-recent-history", arguments, &[""]);
    for body in ["one", "two", "three"] {
        let publish = method!(basic.publish { exchange: &choice.exchange, routing_key: "k" });
        choice.peer.publish(1, publish, body.as_bytes());
    }
    let late = own_queue(&mut choice.peer);
    choice.bind(&late, "any");
    let publish = method!(basic.publish { exchange: &choice.exchange, routing_key: "k" });
    choice.peer.publish(1, publish, b"four");
    for body in ["two", "three", "four"] {
        let message = expect_get(&mut choice.peer, &late, body);
        assert_eq!(message.method.text("routing_key"), "k");
        assert_eq!(message.method.text("exchange"), choice.exchange);
    }
    expect_empty(&mut choice.peer, &late);
}
