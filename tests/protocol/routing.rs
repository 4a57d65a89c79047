//! Which messages an exchange passes on: tables of patterns and keys, arguments and headers.

use crate::check::{check_channel_error_on, own_queue, peer, unique};
use crate::support::content::Properties;
use crate::support::method::Method;
use crate::support::peer::Peer;
use crate::support::wire::{Table, Value, table};

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

fn exchange(kind: &str) -> Route {
    let mut peer = peer();
    let exchange = unique(kind);
    let declare = method!(exchange.declare { exchange: &exchange, type: kind });
    peer.call(1, declare, method!(exchange.declare_ok));
    let queue = own_queue(&mut peer);
    Route {
        peer,
        exchange,
        queue,
    }
}

impl Route {
    fn binding(&self, key: &str) -> Method {
        method!(queue.bind { queue: &self.queue, exchange: &self.exchange, routing_key: key })
    }

    fn bind(&mut self, key: &str, arguments: Table) {
        let bind = self.binding(key).with("arguments", arguments);
        self.peer.call(1, bind, method!(queue.bind_ok));
    }

    fn unbind(&mut self, key: &str) {
        let unbind = method!(queue.unbind {
            queue: &self.queue,
            exchange: &self.exchange,
            routing_key: key,
        });
        self.peer.call(1, unbind, method!(queue.unbind_ok));
    }

    /// Publishes, and says whether the queue got it.
    fn routes(&mut self, key: &str, headers: Option<Table>) -> bool {
        let publish = method!(basic.publish { exchange: &self.exchange, routing_key: key });
        let properties = Properties {
            headers,
            ..Properties::default()
        };
        self.peer.publish_with(1, publish, &properties, b"?");
        self.peer
            .send(1, method!(queue.purge { queue: &self.queue }));
        let purged = self.peer.expect(1, method!(queue.purge_ok));
        match purged.number("message_count") {
            0 => false,
            1 => true,
            more => panic!("{more} copies of one message"),
        }
    }
}

#[test]
fn direct_compares_the_whole_key() {
    let mut route = exchange("direct");
    route.bind("a.b", Table::new());
    for (key, expected) in [
        ("a.b", true),
        ("a", false),
        ("a.b.c", false),
        ("", false),
        ("A.B", false),
    ] {
        assert_eq!(route.routes(key, None), expected, "{key}");
    }
}

#[test]
fn fanout_ignores_the_key() {
    let mut route = exchange("fanout");
    route.bind("ignored", Table::new());
    for key in ["", "ignored", "other"] {
        assert!(route.routes(key, None), "{key}");
    }
}

#[test]
fn topic_matches_words() {
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("a.b", &["a.b"], &["a", "a.b.c", "a.c", ""]),
        ("*", &["a", "x"], &["a.b", "a."]),
        ("#", &["", "a", "a.b", "a..b"], &[]),
        ("a.*", &["a.b", "a."], &["a", "a.b.c", "b.a"]),
        ("a.#", &["a", "a.b", "a.b.c", "a."], &["b", "ab", "b.a"]),
        ("#.b", &["b", "a.b", "a.c.b"], &["b.a", "ab"]),
        ("a.#.b", &["a.b", "a.x.b", "a.x.y.b"], &["a", "a.b.c", "b"]),
        ("*.*", &["a.b", "."], &["a", "a.b.c"]),
        ("#.a.#", &["a", "x.a", "a.x", "x.a.y"], &["", "b", "aa"]),
        ("a.*.#", &["a.b", "a.b.c"], &["a", "b.a"]),
        ("", &[""], &["a"]),
        ("a..b", &["a..b"], &["a.b", "a.x.b"]),
        ("*#", &["*#"], &["a", "a.b"]),
    ];
    for (pattern, matching, others) in cases {
        let mut route = exchange("topic");
        route.bind(pattern, Table::new());
        for key in *matching {
            assert!(route.routes(key, None), "{pattern} has to match {key:?}");
        }
        for key in *others {
            assert!(!route.routes(key, None), "{pattern} must not match {key:?}");
        }
    }
}

#[test]
fn topic_forgets_what_is_unbound() {
    let mut route = exchange("topic");
    for pattern in ["a.*", "a.#", "a.b"] {
        route.bind(pattern, Table::new());
    }
    for pattern in ["a.b", "a.#"] {
        route.unbind(pattern);
        assert!(route.routes("a.b", None), "after {pattern}");
    }
    route.unbind("a.*");
    assert!(!route.routes("a.b", None));
}

/// One binding of a headers exchange against one message.
#[track_caller]
fn check_headers(arguments: Table, headers: Option<Table>, expected: bool) {
    let mut route = exchange("headers");
    let shown = format!("{arguments:?} against {headers:?}");
    route.bind("", arguments);
    assert_eq!(route.routes("", headers), expected, "{shown}");
}

#[test]
fn headers_all_wants_every_argument() {
    for match_all in [vec![("x-match".to_owned(), "all".into())], vec![]] {
        let arguments = |extra: Table| [match_all.clone(), extra].concat();
        let two = arguments(table([("a", 1.into()), ("b", "two".into())]));
        check_headers(
            two.clone(),
            Some(table([
                ("b", "two".into()),
                ("a", 1.into()),
                ("c", 3.into()),
            ])),
            true,
        );
        check_headers(two.clone(), Some(table([("a", 1.into())])), false);
        check_headers(
            two.clone(),
            Some(table([("a", 1.into()), ("b", "three".into())])),
            false,
        );
        check_headers(two, None, false);
    }
}

#[test]
fn headers_any_wants_one_argument() {
    let any = table([
        ("x-match", "any".into()),
        ("a", 1.into()),
        ("b", "two".into()),
    ]);
    check_headers(any.clone(), Some(table([("a", 1.into())])), true);
    check_headers(
        any.clone(),
        Some(table([("b", "two".into()), ("a", 2.into())])),
        true,
    );
    check_headers(any.clone(), Some(table([("a", 2.into())])), false);
    check_headers(any, None, false);
}

#[test]
fn a_void_argument_asks_for_presence() {
    let presence = table([("a", Value::Void)]);
    check_headers(
        presence.clone(),
        Some(table([("a", "anything".into())])),
        true,
    );
    check_headers(presence, Some(table([("b", 1.into())])), false);
}

#[test]
fn keys_that_start_with_x_are_skipped_unless_asked_for() {
    let skipped = table([("x-match", "all".into()), ("x-other", 1.into())]);
    check_headers(skipped, Some(table([("a", 1.into())])), true);
}

#[test]
fn headers_with_x_compares_keys_that_start_with_x() {
    let all = table([("x-match", "all-with-x".into()), ("x-other", 1.into())]);
    check_headers(all.clone(), Some(table([("x-other", 1.into())])), true);
    check_headers(all, Some(table([("a", 1.into())])), false);
    let any = table([
        ("x-match", "any-with-x".into()),
        ("x-other", 1.into()),
        ("a", 2.into()),
    ]);
    check_headers(any.clone(), Some(table([("x-other", 1.into())])), true);
    check_headers(any, Some(table([("a", 1.into())])), false);
}

#[test]
fn a_wrong_x_match_is_refused() {
    let mut route = exchange("headers");
    let bind = route
        .binding("")
        .with("arguments", table([("x-match", "some".into())]));
    let text = "Invalid x-match field value <<\"some\">>; \
                expected all, any, all-with-x, or any-with-x";
    check_channel_error_on(&mut route.peer, bind, 406, text);
}

#[test]
fn headers_compare_type_and_value() {
    check_headers(
        table([("a", "1".into())]),
        Some(table([("a", 1.into())])),
        false,
    );
    check_headers(
        table([("a", Value::I64(1))]),
        Some(table([("a", Value::I32(1))])),
        true,
    );
    check_headers(
        table([("a", true.into())]),
        Some(table([("a", true.into())])),
        true,
    );
}
