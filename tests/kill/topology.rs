//! Exchanges, queues and bindings that come and go under the kill: what was promised is there,
//! what was deleted is gone.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::method::Method;
use crate::support::peer::{Login, Peer, decode};
use crate::support::random::Random;

const THINGS_PER_KIND: u64 = 12;
const EXCHANGE: &str = "churn.exchange";
const SINK: &str = "churn.sink";

/// Something that can be declared and deleted by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Thing {
    Queue(u64),
    TransientQueue(u64),
    Exchange(u64),
    TransientExchange(u64),
    /// Of the sink to the exchange, by a key of its own.
    Binding(u64),
}

/// What a client may rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Existence {
    There,
    Gone,
    /// It was asked for, and the answer never came.
    Unknown,
}

impl Thing {
    fn any(random: &mut Random) -> Self {
        let number = random.between(1, THINGS_PER_KIND);
        match random.between(0, 4) {
            0 => Self::Queue(number),
            1 => Self::TransientQueue(number),
            2 => Self::Exchange(number),
            3 => Self::TransientExchange(number),
            _ => Self::Binding(number),
        }
    }

    const fn is_durable(self) -> bool {
        !matches!(self, Self::TransientQueue(_) | Self::TransientExchange(_))
    }

    fn name(self) -> String {
        match self {
            Self::Queue(number) => format!("churn.queue.{number}"),
            Self::TransientQueue(number) => format!("churn.transient.{number}"),
            Self::Exchange(number) => format!("churn.exchange.{number}"),
            Self::TransientExchange(number) => format!("churn.transient-exchange.{number}"),
            Self::Binding(number) => format!("key.{number}"),
        }
    }

    fn create(self) -> (Method, &'static str) {
        let (name, durable) = (self.name(), self.is_durable());
        match self {
            Self::Queue(_) | Self::TransientQueue(_) => (
                method!(queue.declare { queue: name, durable: durable }),
                "queue.declare_ok",
            ),
            Self::Exchange(_) | Self::TransientExchange(_) => (
                method!(exchange.declare { exchange: name, type: "topic", durable: durable }),
                "exchange.declare_ok",
            ),
            Self::Binding(_) => (
                method!(queue.bind { queue: SINK, exchange: EXCHANGE, routing_key: name }),
                "queue.bind_ok",
            ),
        }
    }

    fn remove(self) -> (Method, &'static str) {
        let name = self.name();
        match self {
            Self::Queue(_) | Self::TransientQueue(_) => {
                (method!(queue.delete { queue: name }), "queue.delete_ok")
            }
            Self::Exchange(_) | Self::TransientExchange(_) => (
                method!(exchange.delete { exchange: name }),
                "exchange.delete_ok",
            ),
            Self::Binding(_) => (
                method!(queue.unbind { queue: SINK, exchange: EXCHANGE, routing_key: name }),
                "queue.unbind_ok",
            ),
        }
    }

    /// Looks whether it is there; channel 1 is open again afterwards.
    fn exists(self, peer: &mut Peer) -> bool {
        let name = self.name();
        match self {
            Self::Queue(_) | Self::TransientQueue(_) => {
                peer.send(1, method!(queue.declare { queue: name, passive: true }));
            }
            Self::Exchange(_) | Self::TransientExchange(_) => {
                peer.send(
                    1,
                    method!(exchange.declare { exchange: name, passive: true }),
                );
            }
            Self::Binding(_) => return self.routes(peer),
        }
        let answer = decode(&peer.recv()).expect("a method answers");
        if answer.name() == "channel.close" {
            assert_eq!(answer.number("reply_code"), 404, "{answer:?}");
            peer.send(1, method!(channel.close_ok));
            peer.open_channel(1);
            return false;
        }
        true
    }

    /// A mandatory message by its key comes back if the binding is not there.
    fn routes(self, peer: &mut Peer) -> bool {
        let publish = method!(basic.publish {
            exchange: EXCHANGE,
            routing_key: self.name(),
            mandatory: true,
        });
        peer.publish(1, publish, b"");
        peer.send(1, method!(basic.qos));
        let answer = decode(&peer.recv()).expect("a method answers");
        if answer.name() == "basic.qos_ok" {
            return true;
        }
        let returned = peer.try_content(answer).expect("a returned message");
        assert_eq!(returned.method.name(), "basic.return");
        peer.expect(1, method!(basic.qos_ok));
        false
    }
}

/// All things and what is known of them.
pub(crate) struct Topology {
    things: BTreeMap<Thing, Existence>,
    random: Random,
}

impl Topology {
    pub(crate) fn new(random: Random) -> Self {
        Self {
            things: BTreeMap::new(),
            random,
        }
    }

    /// Declares the exchange and the queue that the bindings connect.
    pub(crate) fn prepare(&self, address: SocketAddr) {
        let mut peer = Peer::connect(address);
        peer.open_channel(1);
        let declare = method!(exchange.declare {
            exchange: EXCHANGE,
            type: "direct",
            durable: true,
        });
        peer.call(1, declare, method!(exchange.declare_ok));
        let declare = method!(queue.declare { queue: SINK, durable: true });
        peer.call(1, declare, method!(queue.declare_ok));
    }

    /// Declares and deletes at random until the broker dies.
    pub(crate) fn churn(&mut self, address: SocketAddr, killed: &AtomicBool) -> io::Result<()> {
        let mut peer = Peer::try_connect(address, &Login::default())?;
        peer.try_send(1, method!(channel.open))?;
        peer.await_method(1, "channel.open_ok")?;
        while !killed.load(Ordering::Acquire) {
            let thing = Thing::any(&mut self.random);
            let create = self.random.chance(55);
            let (method, answer) = if create {
                thing.create()
            } else {
                thing.remove()
            };
            self.things.insert(thing, Existence::Unknown);
            peer.try_send(1, method)?;
            peer.await_method(1, answer)?;
            let existence = if create {
                Existence::There
            } else {
                Existence::Gone
            };
            self.things.insert(thing, existence);
        }
        Ok(())
    }

    /// What is not durable is gone.
    pub(crate) fn crashed(&mut self) {
        for (thing, existence) in &mut self.things {
            if !thing.is_durable() {
                *existence = Existence::Gone;
            }
        }
    }

    /// Compares with the broker, and takes over what was unknown.
    pub(crate) fn check(&mut self, address: SocketAddr) {
        let mut peer = Peer::connect(address);
        peer.open_channel(1);
        for (thing, existence) in &mut self.things {
            let found = match thing.exists(&mut peer) {
                true => Existence::There,
                false => Existence::Gone,
            };
            if *existence == Existence::Unknown {
                *existence = found;
            }
            assert_eq!(found, *existence, "{thing:?} after a crash");
        }
        peer.call(
            1,
            method!(queue.purge { queue: SINK }),
            method!(queue.purge_ok),
        );
    }
}
