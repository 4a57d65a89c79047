//! Consumers: they acknowledge, return, hold, leave and come again, until the broker dies.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::body;
use crate::ledger::{Event, Ledger, MessageId, Queue, Session, queue_name};
use crate::support::content::Message;
use crate::support::method::Method;
use crate::support::peer::{Login, METHOD, Peer};
use crate::support::random::Random;

/// One consumer of a queue over one round: a row of sessions.
pub(crate) struct Consumer<'a> {
    pub(crate) queue: Queue,
    pub(crate) ledger: &'a Ledger,
    pub(crate) random: Random,
}

/// What a session holds unacknowledged, oldest first.
type Held = Vec<(u64, MessageId)>;

impl Consumer<'_> {
    /// Goes from session to session until the broker dies.
    pub(crate) fn run(&mut self, address: SocketAddr) -> io::Result<()> {
        loop {
            self.connection(address)?;
        }
    }

    /// One connection with a few sessions on it.
    fn connection(&mut self, address: SocketAddr) -> io::Result<()> {
        let mut peer = Peer::try_connect(address, &Login::default())?;
        for _ in 0..self.random.between(1, 3) {
            let session = next_session();
            peer.try_send(1, method!(channel.open))?;
            peer.await_method(1, "channel.open_ok")?;
            if self.random.chance(20) {
                self.get_some(&mut peer, session)?;
            } else {
                self.consume_some(&mut peer, session)?;
            }
            self.ledger.note(Event::Ended(session));
            if self.random.chance(30) {
                // Acknowledgements on their way may be lost with the socket: they have to have
                // arrived, or they come back for a reason that the ledger does not know.
                call(&mut peer, method!(basic.qos), "basic.qos_ok")?;
                peer.vanish();
                return Ok(());
            }
            call(&mut peer, method!(channel.close), "channel.close_ok")?;
        }
        Ok(())
    }

    fn consume_some(&mut self, peer: &mut Peer, session: Session) -> io::Result<()> {
        let prefetch = self.random.between(1, 100);
        peer.try_send(1, method!(basic.qos { prefetch_count: prefetch }))?;
        peer.await_method(1, "basic.qos_ok")?;
        peer.try_send(1, method!(basic.consume { queue: queue_name(self.queue) }))?;
        peer.await_method(1, "basic.consume_ok")?;
        let mut held = Held::new();
        for _ in 0..self.random.between(20, 2000) {
            let method = peer.await_method(1, "basic.deliver")?;
            let message = peer.try_content(method)?;
            if let Some(message) = self.note_delivery(session, &message) {
                held.push(message);
            }
            self.decide(peer, &mut held, prefetch as usize)?;
        }
        Ok(())
    }

    fn get_some(&mut self, peer: &mut Peer, session: Session) -> io::Result<()> {
        let mut held = Held::new();
        for _ in 0..self.random.between(5, 100) {
            peer.try_send(1, method!(basic.get { queue: queue_name(self.queue) }))?;
            let frame = peer.try_recv()?;
            let method = match frame.kind {
                METHOD => Method::decode(&frame.payload)?,
                _ => return Err(io::Error::other("content without a method")),
            };
            if method.name() == "basic.get_empty" {
                continue;
            }
            let message = peer.try_content(method)?;
            if let Some(message) = self.note_delivery(session, &message) {
                held.push(message);
            }
            self.decide(peer, &mut held, 50)?;
        }
        Ok(())
    }

    fn note_delivery(&self, session: Session, message: &Message) -> Option<(u64, MessageId)> {
        let read = body::read(&message.body);
        self.ledger.note(Event::Delivered {
            queue: self.queue,
            message: read,
            session,
            redelivered: message.redelivered(),
        });
        Some((message.delivery_tag(), read?))
    }

    /// Does something about what is held, or nothing yet.
    fn decide(&mut self, peer: &mut Peer, held: &mut Held, held_max: usize) -> io::Result<()> {
        let choice = self.random.between(0, 99);
        let Some(&(last, _)) = held.last() else {
            return Ok(());
        };
        match choice {
            0..50 => {
                let index = (self.random.next() % held.len() as u64) as usize;
                let (tag, message) = held.remove(index);
                self.note_acknowledged(&[(tag, message)]);
                peer.try_send(1, method!(basic.ack { delivery_tag: tag }))
            }
            50..56 => {
                let index = (self.random.next() % held.len() as u64) as usize;
                let (tag, message) = held.remove(index);
                self.note_requeued(&[(tag, message)]);
                let method = if choice.is_multiple_of(2) {
                    method!(basic.nack { delivery_tag: tag, requeue: true })
                } else {
                    method!(basic.reject { delivery_tag: tag, requeue: true })
                };
                peer.try_send(1, method)
            }
            56..58 => {
                self.note_requeued(held);
                held.clear();
                let nack =
                    method!(basic.nack { delivery_tag: last, multiple: true, requeue: true });
                peer.try_send(1, nack)
            }
            _ if choice < 70 || held.len() >= held_max => {
                self.note_acknowledged(held);
                held.clear();
                peer.try_send(1, method!(basic.ack { delivery_tag: last, multiple: true }))
            }
            _ => Ok(()),
        }
    }

    fn note_acknowledged(&self, held: &[(u64, MessageId)]) {
        let queue = self.queue;
        let events = held.iter();
        self.ledger
            .note_all(events.map(|&(_, message)| Event::Acknowledged { queue, message }));
    }

    fn note_requeued(&self, held: &[(u64, MessageId)]) {
        let queue = self.queue;
        let events = held.iter();
        self.ledger
            .note_all(events.map(|&(_, message)| Event::Requeued { queue, message }));
    }

    /// Takes and acknowledges all that is left in the queue, alone with it. Says how many
    /// messages the queue still claims to have.
    pub(crate) fn drain(&self, address: SocketAddr) -> u64 {
        let session = next_session();
        self.ledger.note(Event::Draining(session));
        let mut peer = Peer::connect(address);
        peer.open_channel(1);
        let queue = queue_name(self.queue);
        let passive = method!(queue.declare { queue: &queue, passive: true });
        let declared = peer.call(1, passive.clone(), method!(queue.declare_ok));
        let count = declared.number("message_count");
        let consume = method!(basic.consume { queue: &queue, consumer_tag: "drain" });
        peer.call(1, consume, method!(basic.consume_ok));
        for _ in 0..count {
            let message = peer.expect_message(1, method!(basic.deliver));
            self.note_drained(session, &message);
        }
        // More may have come into the queue, or have been due.
        let cancelled = self.cancel(&mut peer, session);
        cancelled.expect("nothing crashes any more");
        peer.send(1, method!(basic.ack { delivery_tag: 0, multiple: true }));
        self.ledger.note(Event::Ended(session));
        peer.call(1, method!(channel.close), method!(channel.close_ok));
        peer.open_channel(1);
        let left = peer.call(1, passive, method!(queue.declare_ok));
        left.number("message_count")
    }

    /// Notes as drained what was on its way when the consumer was cancelled.
    fn cancel(&self, peer: &mut Peer, session: Session) -> io::Result<()> {
        peer.try_send(1, method!(basic.cancel { consumer_tag: "drain" }))?;
        loop {
            let frame = peer.try_recv()?;
            let method = match frame.kind {
                METHOD => Method::decode(&frame.payload)?,
                _ => return Err(io::Error::other("content without a method")),
            };
            if method.name() == "basic.cancel_ok" {
                return Ok(());
            }
            let message = peer.try_content(method)?;
            self.note_drained(session, &message);
        }
    }

    fn note_drained(&self, session: Session, message: &Message) {
        if let Some(delivery) = self.note_delivery(session, message) {
            self.note_acknowledged(&[delivery]);
        }
    }
}

/// Asks on channel 1 and waits for the answer; deliveries that come before it are dropped unseen.
fn call(peer: &mut Peer, method: Method, answer: &str) -> io::Result<()> {
    peer.try_send(1, method)?;
    loop {
        let frame = peer.try_recv()?;
        if frame.kind == METHOD && Method::decode(&frame.payload)?.name() == answer {
            return Ok(());
        }
    }
}

fn next_session() -> Session {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
