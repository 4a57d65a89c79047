//! Configure, write and read permissions, for a user who has them for some names only.
//!
//! Against another broker they run where `LEVERET_TEST_RESTRICTED_ADDR` names one whose default
//! user has the same permissions.

use std::net::SocketAddr;
use std::sync::OnceLock;

use crate::check::{since_4, unique};
use crate::support::broker::{self, BrokerProcess};
use crate::support::method::Method;
use crate::support::peer::Peer;
use crate::support::wire::table;

/// What the default user may do: names with `open` everything, with `c`, `w`, `r` one thing each.
const CONFIG: &[&str] = &[
    "default_permissions.configure = ^(open|c-)",
    "default_permissions.write = ^(open|w-|amq.default|amq.direct)",
    "default_permissions.read = ^(open|r-|amq.fanout)",
];

fn restricted() -> Option<Peer> {
    static SHARED: OnceLock<Option<(SocketAddr, Option<BrokerProcess>)>> = OnceLock::new();
    let shared = SHARED.get_or_init(|| match broker::is_foreign() {
        true => broker::foreign("LEVERET_TEST_RESTRICTED_ADDR").map(|address| (address, None)),
        false => {
            let broker = BrokerProcess::start_with(CONFIG);
            Some((broker.address(), Some(broker)))
        }
    });
    let (address, _) = shared.as_ref()?;
    let mut peer = Peer::connect(*address);
    peer.open_channel(1);
    Some(peer)
}

/// The restricted user is refused, with the channel closed.
#[track_caller]
fn check_refused(method: Method, access: &str, kind: &str, name: &str) {
    let Some(mut peer) = restricted() else { return };
    let cause = method.name();
    if cause == "basic.publish" {
        peer.publish(1, method, b"");
    } else {
        peer.send(1, method);
    }
    peer.expect_channel_close(1, cause, 403, &refusal(access, kind, name));
}

/// The text of a refusal; 3.10 does not name the kind of access.
fn refusal(access: &str, kind: &str, name: &str) -> String {
    let access = since_4(format!("{access} "), String::new());
    format!("{access}access to {kind} '{name}' in vhost '/' refused for user 'guest'")
}

/// A queue that exists for the restricted user to stumble over.
fn with_queue(name: &str, test: impl FnOnce(&mut Peer)) {
    let Some(mut peer) = restricted() else { return };
    let declare = method!(queue.declare { queue: name, exclusive: true });
    peer.call(1, declare, method!(queue.declare_ok));
    test(&mut peer);
}

#[test]
fn declaring_a_queue_wants_configure() {
    check_refused(
        method!(queue.declare { queue: "w-q" }),
        "configure",
        "queue",
        "w-q",
    );
}

#[test]
fn declaring_an_exchange_wants_configure() {
    let declare = method!(exchange.declare { exchange: "r-x", type: "fanout" });
    check_refused(declare, "configure", "exchange", "r-x");
}

#[test]
fn deleting_wants_configure() {
    check_refused(
        method!(queue.delete { queue: "w-q" }),
        "configure",
        "queue",
        "w-q",
    );
    check_refused(
        method!(exchange.delete { exchange: "w-x" }),
        "configure",
        "exchange",
        "w-x",
    );
}

#[test]
fn publishing_wants_write_on_the_exchange() {
    check_refused(
        method!(basic.publish { exchange: "amq.topic" }),
        "write",
        "exchange",
        "amq.topic",
    );
}

#[test]
fn the_default_exchange_is_checked_by_its_own_name() {
    let Some(mut peer) = restricted() else { return };
    peer.publish(1, method!(basic.publish { routing_key: "anywhere" }), b"");
    peer.expect_silence(1);
}

#[test]
fn getting_consuming_and_purging_want_read() {
    let name = unique("c-q");
    for read in [
        method!(basic.get { queue: &name }),
        method!(basic.consume { queue: &name }),
        method!(queue.purge { queue: &name }),
    ] {
        with_queue(&name, |peer| {
            let cause = read.name();
            peer.send(1, read.clone());
            peer.expect_channel_close(1, cause, 403, &refusal("read", "queue", &name));
            peer.open_channel(1);
            peer.call(
                1,
                method!(queue.delete { queue: &name }),
                method!(queue.delete_ok),
            );
        });
    }
}

#[test]
fn binding_wants_write_on_the_queue_and_read_on_the_exchange() {
    let name = unique("c-q");
    with_queue(&name, |peer| {
        peer.send(
            1,
            method!(queue.bind { queue: &name, exchange: "amq.fanout" }),
        );
        let text = refusal("write", "queue", &name);
        peer.expect_channel_close(1, "queue.bind", 403, &text);
    });
    let name = unique("open");
    with_queue(&name, |peer| {
        peer.send(
            1,
            method!(queue.bind { queue: &name, exchange: "amq.direct" }),
        );
        let text = refusal("read", "exchange", "amq.direct");
        peer.expect_channel_close(1, "queue.bind", 403, &text);
    });
}

#[test]
fn binding_exchanges_wants_write_on_the_destination_and_read_on_the_source() {
    let bind =
        |destination, source| method!(exchange.bind { destination: destination, source: source });
    check_refused(
        bind("amq.topic", "amq.fanout"),
        "write",
        "exchange",
        "amq.topic",
    );
    check_refused(
        bind("amq.direct", "amq.topic"),
        "read",
        "exchange",
        "amq.topic",
    );
}

#[test]
fn a_dead_letter_exchange_wants_write_on_it_and_read_on_the_queue() {
    let declare = |queue: &str, exchange: &str| {
        method!(queue.declare {
            queue: queue,
            exclusive: true,
            arguments: table([("x-dead-letter-exchange", exchange.into())]),
        })
    };
    check_refused(
        declare("open-q", "amq.topic"),
        "write",
        "exchange",
        "amq.topic",
    );
    check_refused(declare("c-q", "amq.direct"), "read", "queue", "c-q");
}

#[test]
fn an_alternate_exchange_wants_write_on_it_and_read_on_the_exchange() {
    let declare = |exchange: &str, alternate: &str| {
        method!(exchange.declare {
            exchange: exchange,
            type: "fanout",
            arguments: table([("alternate-exchange", alternate.into())]),
        })
    };
    check_refused(
        declare("open-x", "amq.topic"),
        "write",
        "exchange",
        "amq.topic",
    );
    check_refused(declare("c-x", "amq.direct"), "read", "exchange", "c-x");
}

#[test]
fn what_is_permitted_works() {
    let name = unique("open");
    with_queue(&name, |peer| {
        peer.call(
            1,
            method!(queue.bind { queue: &name, exchange: "amq.fanout" }),
            method!(queue.bind_ok),
        );
        peer.publish(1, method!(basic.publish { routing_key: &name }), b"allowed");
        peer.send(1, method!(basic.get { queue: &name }));
        assert_eq!(
            peer.expect_message(1, method!(basic.get_ok)).text(),
            "allowed"
        );
    });
}
