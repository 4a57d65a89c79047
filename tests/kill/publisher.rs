//! Publishers: with confirms or in transactions, until the broker dies under them.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use crate::body;
use crate::ledger::{DIRECT_QUEUES, Event, FANOUT_EXCHANGE, Ledger, MessageId, Route, queue_name};
use crate::support::content::Properties;
use crate::support::method::Method;
use crate::support::peer::{Login, METHOD, Peer};
use crate::support::random::Random;

/// How many messages a publisher sends in one round at most.
const MESSAGES_MAX: u64 = 2500;

/// One publisher over all rounds; its numbers go on after every crash.
pub(crate) struct Publisher {
    pub(crate) id: u32,
    pub(crate) transactional: bool,
    pub(crate) next_number: u64,
    pub(crate) random: Random,
}

impl Publisher {
    pub(crate) fn new(id: u32, transactional: bool, random: Random) -> Self {
        Self {
            id,
            transactional,
            next_number: 1,
            random,
        }
    }

    /// Publishes until the limit of the round or the end of the broker, whichever comes first.
    pub(crate) fn run(&mut self, address: SocketAddr, ledger: &Ledger) -> io::Result<()> {
        if self.transactional {
            self.run_transactions(address, ledger)
        } else {
            self.run_confirms(address, ledger)
        }
    }

    fn open(address: SocketAddr, mode: Method, mode_ok: &str) -> io::Result<Peer> {
        let mut peer = Peer::try_connect(address, &Login::default())?;
        peer.try_send(1, method!(channel.open))?;
        peer.await_method(1, "channel.open_ok")?;
        peer.try_send(1, mode)?;
        peer.await_method(1, mode_ok)?;
        Ok(peer)
    }

    fn run_confirms(&mut self, address: SocketAddr, ledger: &Ledger) -> io::Result<()> {
        let mut peer = Self::open(address, method!(confirm.select), "confirm.select_ok")?;
        let window = self.random.between(1, 300) as usize;
        let mut open = BTreeMap::new();
        let mut delivery_tag = 0;
        while delivery_tag < MESSAGES_MAX || !open.is_empty() {
            if delivery_tag < MESSAGES_MAX && open.len() < window {
                for message in self.send_batch(&mut peer, ledger)? {
                    delivery_tag += 1;
                    open.insert(delivery_tag, message);
                }
            }
            while open.len() >= window || delivery_tag >= MESSAGES_MAX && !open.is_empty() {
                settle(&mut peer, &mut open, ledger)?;
            }
        }
        Ok(())
    }

    fn run_transactions(&mut self, address: SocketAddr, ledger: &Ledger) -> io::Result<()> {
        let mut peer = Self::open(address, method!(tx.select), "tx.select_ok")?;
        for _ in 0..MESSAGES_MAX / 10 {
            let messages = self.send_batch(&mut peer, ledger)?;
            if self.random.chance(85) {
                peer.try_send(1, method!(tx.commit))?;
                peer.await_method(1, "tx.commit_ok")?;
                ledger.note_all(messages.into_iter().map(Event::Confirmed));
            } else {
                peer.try_send(1, method!(tx.rollback))?;
                peer.await_method(1, "tx.rollback_ok")?;
                ledger.note_all(messages.into_iter().map(Event::RolledBack));
            }
        }
        Ok(())
    }

    /// Notes and then publishes a few messages.
    fn send_batch(&mut self, peer: &mut Peer, ledger: &Ledger) -> io::Result<Vec<MessageId>> {
        let mut messages = Vec::new();
        for _ in 0..self.random.between(1, 20) {
            let message = MessageId {
                publisher: self.id,
                number: self.next_number,
            };
            self.next_number += 1;
            let route = match self.random.between(0, 4) as usize {
                queue if queue < DIRECT_QUEUES => Route::Direct(queue),
                _ => Route::Fanout,
            };
            let persistent = !self.random.chance(10);
            ledger.note(Event::Sent {
                message,
                route,
                persistent,
            });
            self.send(peer, message, route, persistent)?;
            messages.push(message);
        }
        Ok(messages)
    }

    fn send(
        &mut self,
        peer: &mut Peer,
        message: MessageId,
        route: Route,
        persistent: bool,
    ) -> io::Result<()> {
        let length = match self.random.between(0, 199) {
            0 => self.random.between(100_000, 300_000),
            1..6 => self.random.between(16_000, 70_000),
            _ => self.random.between(24, 400),
        };
        let properties = Properties {
            delivery_mode: Some(if persistent { 2 } else { 1 }),
            ..Properties::default()
        };
        let publish = match route {
            Route::Direct(queue) | Route::To(queue) => {
                method!(basic.publish { routing_key: queue_name(queue) })
            }
            Route::Fanout => method!(basic.publish { exchange: FANOUT_EXCHANGE }),
        };
        let body = body::build(message, length as usize);
        peer.try_publish(1, publish, &properties, &body)
    }
}

/// Takes one frame off the connection and settles what it confirms.
fn settle(peer: &mut Peer, open: &mut BTreeMap<u64, MessageId>, ledger: &Ledger) -> io::Result<()> {
    let frame = peer.try_recv()?;
    let method = match frame.kind {
        METHOD => Method::decode(&frame.payload)?,
        _ => return Err(io::Error::other("content on a publisher's connection")),
    };
    match method.name() {
        // Blocked publishers wait for their confirms like all others.
        "connection.blocked" | "connection.unblocked" => return Ok(()),
        "basic.ack" | "basic.nack" => {}
        other => panic!("{other} on a publisher's connection"),
    }
    let tag = method.number("delivery_tag");
    let settled = if method.bit("multiple") {
        let later = open.split_off(&(tag + 1));
        std::mem::replace(open, later)
    } else {
        open.remove_entry(&tag).into_iter().collect()
    };
    assert!(!settled.is_empty(), "{method:?} settles nothing");
    if method.name() == "basic.ack" {
        ledger.note_all(settled.into_values().map(Event::Confirmed));
    }
    Ok(())
}
