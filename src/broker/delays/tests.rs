//! Waiting messages as the broker's own interface shows them: counted, listed, removed, over restarts.

use amq_protocol::types::{AMQPValue, FieldTable};

use super::*;
use crate::broker::due::LIMITS;
use crate::broker::exchange::Exchange;
use crate::broker::testing::{TestBroker, message};
use crate::broker::vhost::ExchangeDeclare;
use crate::message::properties::Rewrite;
use crate::message::{Ticket, field};

const HOUR_MS: i32 = 3_600_000;

fn declare(test: &TestBroker) -> Ticket {
    let mut arguments = FieldTable::default();
    arguments.insert(
        "x-delayed-type".into(),
        AMQPValue::LongString("fanout".into()),
    );
    let declare = ExchangeDeclare {
        name: "later".into(),
        kind: "x-delayed-message".into(),
        durable: true,
        auto_delete: false,
        internal: false,
        arguments,
        connection: crate::broker::NOBODY,
    };
    let vhost = test.broker.vhost("/").unwrap();
    let visit = test.broker.services.visit();
    vhost.declare_exchange(&visit, declare).unwrap()
}

fn exchange(test: &TestBroker) -> Arc<Exchange> {
    test.broker.vhost("/").unwrap().exchange("later").unwrap()
}

/// Publishes messages that wait for hours, each for a second longer than the one before or, from the end on, shorter.
fn publish(test: &TestBroker, count: i32, persistent: bool) {
    let vhost = test.broker.vhost("/").unwrap();
    let exchange = exchange(test);
    let numbers: Vec<i32> = (0..count).collect();
    for numbers in numbers.chunks(VISIT_MESSAGES_MAX) {
        let visit = test.broker.services.visit();
        for number in numbers {
            let mut value = Vec::new();
            field::put_int(&mut value, HOUR_MS + (count - number) * 1_000);
            let rewrite = Rewrite {
                headers: &[(b"x-delay", Some(&value))],
                ..Rewrite::default()
            };
            let properties = rewrite.apply(&[0, 0]).unwrap();
            let key = number.to_string();
            let message = NewMessage {
                properties: &properties,
                persistent,
                ..message("later", &key)
            };
            let route = vhost.route(&exchange, &[&key], &message);
            assert!(route.is_delayed() && route.is_empty() && !route.cacheable);
            route.hold(&visit, &message);
        }
    }
    wait(test);
}

/// Everything done so far is durable.
fn wait(test: &TestBroker) {
    let ticket = test.broker.services.visit().ticket();
    test.wait(ticket);
}

/// The routing keys of everything that waits, listed in pages.
fn list(delays: &Delays) -> Vec<(DueKey, u32)> {
    let mut from = DueKey { time_ms: 0, seq: 0 };
    let mut all = Vec::new();
    loop {
        let page = delays.list(from, 700).unwrap();
        let Some(last) = page.last() else { return all };
        from = DueKey {
            seq: last.key.seq + 1,
            ..last.key
        };
        all.extend(
            page.iter()
                .map(|pending| (pending.key, pending.routing_key.parse().unwrap())),
        );
    }
}

#[test]
fn what_waits_is_counted_listed_and_removed_one_by_one() {
    let test = TestBroker::new();
    test.wait(declare(&test));
    const COUNT: u32 = 6_000;
    publish(&test, COUNT as i32, true);
    let exchange_before = exchange(&test);
    let delays = exchange_before.delays().unwrap();
    assert_eq!(delays.len(), u64::from(COUNT));
    let listed = list(delays);
    let keys: Vec<u32> = listed.iter().map(|(_, key)| *key).collect();
    assert_eq!(
        keys,
        (0..COUNT).rev().collect::<Vec<_>>(),
        "the earliest first"
    );
    for place in [0, 1, 3_000, COUNT - 1] {
        let key = listed[place as usize].0;
        assert_eq!(delays.remove(key), Ok(true), "place {place}");
        assert_eq!(delays.remove(key), Ok(false), "place {place}");
    }
    assert_eq!(delays.remove(DueKey { time_ms: 5, seq: 5 }), Ok(false));
    assert_eq!(delays.len(), u64::from(COUNT) - 4);
    let left: Vec<_> = list(delays).into_iter().map(|(_, key)| key).collect();
    assert_eq!(left.len(), COUNT as usize - 4);
    wait(&test);
    drop(exchange_before);
    let test = test.restart();
    let exchange = exchange(&test);
    let delays = exchange.delays().unwrap();
    assert_eq!(delays.len(), u64::from(COUNT) - 4);
    assert_eq!(
        list(delays)
            .into_iter()
            .map(|(_, key)| key)
            .collect::<Vec<_>>(),
        left
    );
}

#[test]
fn transient_messages_are_listed_among_the_others_and_gone_after_a_restart() {
    let test = TestBroker::new();
    test.wait(declare(&test));
    publish(&test, 30, true);
    publish(&test, 20, false);
    let exchange_before = exchange(&test);
    let delays = exchange_before.delays().unwrap();
    assert_eq!((delays.len(), list(delays).len()), (50, 50));
    // Both sides are listed page by page in one order.
    let from = DueKey { time_ms: 0, seq: 0 };
    let page: Vec<_> = delays.list(from, 7).unwrap();
    let page: Vec<_> = page.iter().map(|pending| pending.key).collect();
    let all: Vec<_> = list(delays).into_iter().map(|(key, _)| key).collect();
    assert_eq!(page, all[..7]);
    assert!(all.is_sorted());
    let first = list(delays)[0].0;
    assert_eq!(delays.remove(first), Ok(true));
    assert_eq!((delays.len(), list(delays).len()), (49, 49));
    drop(exchange_before);
    let test = test.restart();
    let exchange_after = exchange(&test);
    let delays = exchange_after.delays().unwrap();
    assert!((29..=30).contains(&delays.len()) && list(delays).len() as u64 == delays.len());
    let vhost = test.broker.vhost("/").unwrap();
    let deleted = {
        let visit = test.broker.services.visit();
        vhost
            .delete_exchange(&visit, "later", false, crate::broker::NOBODY)
            .unwrap()
    };
    test.wait(deleted);
    assert_eq!(test.broker.services.store.statistics().due, 0);
}

#[test]
fn memory_does_not_grow_with_what_waits_transient_or_not() {
    let test = TestBroker::new();
    test.wait(declare(&test));
    for persistent in [true, false] {
        publish(&test, 12_000, persistent);
    }
    // The index hears of what is durable with the next message.
    publish(&test, 1, true);
    let exchange = exchange(&test);
    let delays = exchange.delays().unwrap();
    assert_eq!(delays.len(), 24_001);
    let resident = delays.state.lock().waiting.resident();
    assert!(resident <= 2 * LIMITS.near_max + 1, "{resident} in memory");
}
