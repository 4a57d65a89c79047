//! From exchange and routing key to queues, when no channel remembers the route.

use std::sync::Arc;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use leveret::broker::exchange::Exchange;
use leveret::broker::vhost::Router;
use leveret::message::field;
use leveret::message::properties::Rewrite;
use leveret::message::record::NewMessage;

use super::fixture::{BATCH, Fixture, message, random_below};

const BINDINGS: [usize; 3] = [10, 1_000, 100_000];

fn key(number: usize) -> String {
    format!("region-{}.site-{number}.temperature", number % 50)
}

/// The same with the wildcards of a consumer that wants all sensors of a site.
fn pattern(number: usize) -> String {
    format!("region-{}.site-{number}.*", number % 50)
}

/// An exchange of type `kind`, named like it, with `count` bindings to one queue.
fn bound(kind: &str, count: usize) -> (Fixture, Arc<Exchange>) {
    let fixture = Fixture::new();
    fixture.queue("queue", false);
    fixture.exchange(kind, kind);
    for number in 0..count {
        let routing_key = match kind {
            "topic" => pattern(number),
            _ => key(number),
        };
        fixture.bind(kind, "queue", &routing_key, number as i32);
    }
    let exchange = fixture.vhost.exchange_for(kind).unwrap();
    (fixture, exchange)
}

/// Routes keys of all bindings in no order: the memory that the bindings take is what costs.
fn random_keys(bencher: Bencher<'_, '_>, kind: &str, count: usize) {
    let (fixture, exchange) = bound(kind, count);
    let mut next = random_below(count);
    let mut router = Router::default();
    bencher
        .counter(ItemsCount::new(BATCH))
        .with_inputs(|| (0..BATCH).map(|_| key(next())).collect::<Vec<_>>())
        .bench_local_refs(|keys| {
            for key in keys {
                let message = message(b"", false);
                let route = router.route(&fixture.vhost, &exchange, &[key], &message);
                assert_eq!(black_box(route).queues.len(), 1);
            }
        });
}

#[divan::bench(args = BINDINGS)]
fn direct(bencher: Bencher<'_, '_>, bindings: usize) {
    random_keys(bencher, "direct", bindings);
}

#[divan::bench(args = BINDINGS)]
fn topic(bencher: Bencher<'_, '_>, bindings: usize) {
    random_keys(bencher, "topic", bindings);
}

/// One key again and again: everything is in the cache.
#[divan::bench(args = BINDINGS)]
fn topic_same_key(bencher: Bencher<'_, '_>, bindings: usize) {
    let (fixture, exchange) = bound("topic", bindings);
    let key = key(bindings / 2);
    let message = message(b"", false);
    bencher.bench_local(|| fixture.vhost.route(&exchange, &[black_box(&key)], &message));
}

/// Each message takes one of the bindings by the value of a header.
#[divan::bench(args = BINDINGS)]
fn headers(bencher: Bencher<'_, '_>, bindings: usize) {
    let (fixture, exchange) = bound("headers", bindings);
    let mut next = random_below(bindings);
    let mut router = Router::default();
    bencher
        .counter(ItemsCount::new(BATCH))
        .with_inputs(|| {
            let header = |number: usize| {
                let mut value = Vec::new();
                field::put_int(&mut value, number as i32);
                let set_headers = Rewrite {
                    headers: &[(b"n", Some(&value))],
                    ..Rewrite::default()
                };
                set_headers.apply(&[0, 0]).unwrap()
            };
            (0..BATCH).map(|_| header(next())).collect::<Vec<_>>()
        })
        .bench_local_refs(|headers| {
            for properties in headers {
                let message = NewMessage {
                    properties,
                    ..message(b"", false)
                };
                let route = router.route(&fixture.vhost, &exchange, &[""], &message);
                assert_eq!(black_box(route).queues.len(), 1);
            }
        });
}

/// A fanout exchange with that many queues.
#[divan::bench(args = [1, 10, 1_000])]
fn fanout(bencher: Bencher<'_, '_>, queues: usize) {
    let fixture = Fixture::new();
    fixture.exchange("fanout", "fanout");
    for number in 0..queues {
        let name = format!("queue-{number}");
        fixture.queue(&name, false);
        fixture.bind("fanout", &name, "", 0);
    }
    let exchange = fixture.vhost.exchange_for("fanout").unwrap();
    bencher.bench_local(|| {
        let route = fixture
            .vhost
            .route(&exchange, &[black_box("any")], &message(b"", false));
        assert_eq!(route.queues.len(), queues);
    });
}

/// The default exchange finds queues by their names.
#[divan::bench(args = [10, 10_000])]
fn by_queue_name(bencher: Bencher<'_, '_>, queues: usize) {
    let fixture = Fixture::new();
    for number in 0..queues {
        fixture.queue(&format!("queue-{number}"), false);
    }
    let exchange = fixture.vhost.exchange_for("").unwrap();
    let mut next = random_below(queues);
    bencher
        .counter(ItemsCount::new(BATCH))
        .with_inputs(|| {
            let names = (0..BATCH).map(|_| format!("queue-{}", next()));
            names.collect::<Vec<_>>()
        })
        .bench_local_refs(|names| {
            for name in names {
                let route = fixture
                    .vhost
                    .route(&exchange, &[name], &message(b"", false));
                assert_eq!(black_box(route).queues.len(), 1);
            }
        });
}
