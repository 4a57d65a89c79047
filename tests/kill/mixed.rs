//! Everything that makes messages wait, die, come back or go first, at once: retries with back-off, priorities, delays,
//! dead letters, deduplication and a stream, under one broker that is killed or loses power at random moments.
//!
//! Each [`Way`] ends in a queue of its own, from which consumers acknowledge, give back, leave and come again; the checker
//! judges as for plain queues, but not the order, which here is not that of publishing. The stream is read once at the
//! end: all that was confirmed is there, once, in the order of publishing.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use crate::body;
use crate::checker;
use crate::consumer::Consumer;
use crate::ledger::{Event, Ledger, MessageId, QUEUES, Queue, Route, queue_name};
use crate::rounds::{Host, expect_crash, rounds_or};
use crate::support::content::Properties;
use crate::support::durable_image::Names;
use crate::support::peer::{Login, Peer};
use crate::support::random::Random;
use crate::support::wire::{Table, Value, field, table};

const ONCE: &str = "kill.mixed.once";
const LATE: &str = "kill.mixed.late";
/// Messages expire here, and are letters then.
const DYING: &str = "kill.mixed.dying";
const STREAM: &str = "kill.mixed.stream";
const WAIT_MS_MAX: u64 = 80;
/// What a publisher sends in a round at most.
const BURSTS_MAX: u64 = 40;
/// How often the ends are emptied until all that waited must have come: a loaded machine is late.
const DRAINS_MAX: u32 = 600;

/// The index of each is that of its queue, from [`QUEUES`] on, and its publisher's.
const WAYS: [Way; 6] = [
    Way::Retry,
    Way::Priority,
    Way::Once,
    Way::Late,
    Way::Letter,
    Way::Stream,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// What comes back waits, longer each time.
    Retry,
    /// Five levels.
    Priority,
    /// Through an exchange that remembers: what is in doubt, and some that is not, is published again.
    Once,
    /// Through an exchange that delays.
    Late,
    /// Expires, and arrives as a dead letter.
    Letter,
    Stream,
}

impl Way {
    fn queue(self) -> Queue {
        let place = WAYS.iter().position(|way| *way == self);
        QUEUES + place.expect("it is listed")
    }

    fn arguments(self) -> Table {
        match self {
            Self::Retry => table([
                ("x-delayed-retry-type", "all".into()),
                ("x-delayed-retry-min", Value::I64(10)),
                ("x-delayed-retry-max", Value::I64(WAIT_MS_MAX as i64)),
            ]),
            Self::Priority => table([("x-max-priority", Value::I64(5))]),
            Self::Stream => table([("x-queue-type", "stream".into())]),
            Self::Once | Self::Late | Self::Letter => Table::new(),
        }
    }
}

fn declare(address: SocketAddr) {
    let mut peer = open(address).expect("the broker is there");
    let mut queues: Vec<(String, Table)> = WAYS
        .into_iter()
        .map(|way| (queue_name(way.queue()), way.arguments()))
        .collect();
    let dying = table([
        ("x-message-ttl", 25.into()),
        ("x-dead-letter-exchange", "".into()),
        (
            "x-dead-letter-routing-key",
            (&*queue_name(Way::Letter.queue())).into(),
        ),
    ]);
    queues.push((DYING.to_owned(), dying));
    for (queue, arguments) in queues {
        let declare = method!(queue.declare { queue: &queue, durable: true, arguments: arguments });
        peer.call(1, declare, method!(queue.declare_ok));
    }
    let exchanges = [
        (
            ONCE,
            "fanout",
            ("x-message-deduplication", Value::Bool(true)),
            Way::Once,
        ),
        (
            LATE,
            "x-delayed-message",
            ("x-delayed-type", "fanout".into()),
            Way::Late,
        ),
    ];
    for (exchange, kind, argument, way) in exchanges {
        let declare = method!(exchange.declare { exchange: exchange, type: kind, durable: true });
        let declare = declare.with("arguments", table([argument]));
        peer.call(1, declare, method!(exchange.declare_ok));
        let bind = method!(queue.bind { queue: queue_name(way.queue()), exchange: exchange });
        peer.call(1, bind, method!(queue.bind_ok));
    }
}

fn open(address: SocketAddr) -> io::Result<Peer> {
    let mut peer = Peer::try_connect(address, &Login::default())?;
    peer.try_send(1, method!(channel.open))?;
    peer.await_method(1, "channel.open_ok")?;
    Ok(peer)
}

/// The publisher of a way over all rounds.
struct Publisher {
    way: Way,
    next_number: u64,
    /// Sent, and not confirmed when the broker died.
    doubtful: Vec<u64>,
    random: Random,
}

impl Publisher {
    fn message(&self, number: u64) -> MessageId {
        MessageId {
            publisher: self.way.queue() as u32,
            number,
        }
    }

    fn sent(&self, number: u64) -> Event {
        Event::Sent {
            message: self.message(number),
            route: Route::To(self.way.queue()),
            persistent: true,
        }
    }

    /// Publishes in bursts and waits for the confirms of each.
    fn run(&mut self, address: SocketAddr, ledger: &Ledger, bursts: u64) -> io::Result<()> {
        let mut peer = open(address)?;
        peer.try_send(1, method!(confirm.select))?;
        peer.await_method(1, "confirm.select_ok")?;
        let mut tag = 0;
        if self.way != Way::Once {
            // Elsewhere a repetition would be another message.
            self.doubtful.clear();
        }
        ledger.note_all(self.doubtful.iter().map(|number| self.sent(*number)));
        for _ in 0..bursts {
            for _ in 0..self.random.between(1, 40) {
                let number = self.next_number;
                self.next_number += 1;
                ledger.note(self.sent(number));
                self.doubtful.push(number);
                if self.way == Way::Once && self.random.chance(20) {
                    self.doubtful.push(number);
                }
            }
            for number in self.doubtful.clone() {
                self.send(&mut peer, number)?;
            }
            // Confirms come in the order of publishing.
            let mut confirmed = tag;
            tag += self.doubtful.len() as u64;
            while confirmed < tag {
                let last = peer.await_method(1, "basic.ack")?.number("delivery_tag");
                let done = self.doubtful.drain(..(last - confirmed) as usize);
                let publisher = self.way.queue() as u32;
                let done = done.map(|number| MessageId { publisher, number });
                ledger.note_all(done.map(Event::Confirmed));
                confirmed = last;
            }
        }
        Ok(())
    }

    fn send(&mut self, peer: &mut Peer, number: u64) -> io::Result<()> {
        let length = match self.random.between(0, 49) {
            0 => self.random.between(16_000, 70_000),
            _ => self.random.between(24, 400),
        };
        // The same message has the same body.
        let length = if self.way == Way::Once { 100 } else { length };
        let mut properties = Properties::persistent();
        let queue = queue_name(self.way.queue());
        let publish = match self.way {
            Way::Retry | Way::Stream => method!(basic.publish { routing_key: &queue }),
            Way::Priority => {
                properties.priority = Some(self.random.between(0, 5) as u8);
                method!(basic.publish { routing_key: &queue })
            }
            Way::Once => {
                let known_by = Value::I64(number as i64);
                properties.headers = Some(table([("x-deduplication-header", known_by)]));
                method!(basic.publish { exchange: ONCE })
            }
            Way::Late => {
                let delay_ms = Value::I64(self.random.between(0, WAIT_MS_MAX) as i64);
                properties.headers = Some(table([("x-delay", delay_ms)]));
                method!(basic.publish { exchange: LATE })
            }
            Way::Letter => method!(basic.publish { routing_key: DYING }),
        };
        let body = body::build(self.message(number), length as usize);
        peer.try_publish(1, publish, &properties, &body)
    }
}

/// Reads the stream under a tag that the broker remembers, and acknowledges, until the broker dies. Nothing is passed
/// over: each life begins at the latest behind the last acknowledgement.
fn follow(address: SocketAddr, next: &mut u64) -> io::Result<()> {
    let mut peer = open(address)?;
    peer.try_send(1, method!(basic.qos { prefetch_count: 50 }))?;
    peer.await_method(1, "basic.qos_ok")?;
    let arguments = table([
        ("x-stream-offset", "first".into()),
        ("x-stream-automatic-offset-tracking", Value::Bool(true)),
    ]);
    let queue = queue_name(Way::Stream.queue());
    let consume = method!(basic.consume { queue: &queue, consumer_tag: STREAM });
    peer.try_send(1, consume.with("arguments", arguments))?;
    peer.await_method(1, "basic.consume_ok")?;
    let mut expected = None;
    loop {
        let delivery = peer.await_method(1, "basic.deliver")?;
        let message = peer.try_content(delivery)?;
        let headers = message.properties.headers.as_ref();
        let offset = headers.and_then(|headers| field(headers, "x-stream-offset"));
        let Some(&Value::I64(offset)) = offset else {
            panic!("no offset: {headers:?}");
        };
        let offset = offset as u64;
        match expected {
            None => assert!(offset <= *next, "{next} was passed over: {offset}"),
            Some(expected) => assert_eq!(offset, expected),
        }
        expected = Some(offset + 1);
        let tag = message.delivery_tag();
        if tag % 10 == 0 {
            peer.try_send(1, method!(basic.ack { delivery_tag: tag, multiple: true }))?;
            *next = (*next).max(offset + 1);
        }
    }
}

/// All clients over all rounds.
struct Story {
    ledger: Ledger,
    publishers: Vec<Publisher>,
    /// The offset that a tracked consumer must not pass over.
    next_offset: u64,
    random: Random,
}

impl Story {
    fn new(mut random: Random) -> Self {
        let publishers = WAYS.map(|way| Publisher {
            way,
            next_number: 1,
            doubtful: Vec::new(),
            random: random.fork(),
        });
        Self {
            ledger: Ledger::default(),
            publishers: publishers.into(),
            next_offset: 0,
            random,
        }
    }

    /// Load until a random moment, then the end of the broker; sometimes another while it recovers.
    fn round(&mut self, host: &mut Host) {
        let address = host.broker.address();
        let moment = Duration::from_millis(self.random.between(20, 350));
        let ledger = &self.ledger;
        let next_offset = &mut self.next_offset;
        thread::scope(|scope| {
            for publisher in &mut self.publishers {
                scope.spawn(move || expect_crash(publisher.run(address, ledger, BURSTS_MAX)));
            }
            for way in WAYS.into_iter().filter(|way| *way != Way::Stream) {
                for _ in 0..self.random.between(0, 2) {
                    let random = self.random.fork();
                    let queue = way.queue();
                    scope.spawn(move || {
                        let mut consumer = Consumer {
                            queue,
                            ledger,
                            random,
                        };
                        expect_crash(consumer.run(address));
                    });
                }
            }
            scope.spawn(move || expect_crash(follow(address, next_offset)));
            thread::sleep(moment);
            assert!(host.broker.is_running(), "the broker ended by itself");
            host.kill();
        });
        self.ledger.note(Event::Crashed);
        while self.random.chance(25) {
            host.spawn();
            thread::sleep(Duration::from_millis(self.random.between(0, 80)));
            host.kill();
            self.ledger.note(Event::Crashed);
        }
        host.boot();
    }

    /// Confirmed messages that nobody has acknowledged yet, but for those of the stream.
    fn missing(&self) -> BTreeSet<MessageId> {
        let events = self.ledger.events();
        let confirmed = events.iter().filter_map(|event| match *event {
            Event::Confirmed(message) => Some(message),
            _ => None,
        });
        let mut missing: BTreeSet<MessageId> = confirmed
            .filter(|message| message.publisher as usize != Way::Stream.queue())
            .collect();
        for event in &events {
            // Often before the confirm.
            if let Event::Acknowledged { message, .. } = event {
                missing.remove(message);
            }
        }
        missing
    }

    /// Empties the queues until nothing is missing, reads the stream, and judges.
    fn finish(mut self, address: SocketAddr) {
        for publisher in &mut self.publishers {
            // What a slow machine has left in doubt, and something that is not.
            let published = publisher.run(address, &self.ledger, 2);
            published.expect("nothing crashes any more");
        }
        for _ in 0..DRAINS_MAX {
            for way in WAYS.into_iter().filter(|way| *way != Way::Stream) {
                let consumer = Consumer {
                    queue: way.queue(),
                    ledger: &self.ledger,
                    random: self.random.fork(),
                };
                consumer.drain(address);
            }
            if self.missing().is_empty() {
                break;
            }
            thread::sleep(Duration::from_millis(50));
        }
        self.read_stream(address);
        let events = self.ledger.events();
        let confirmed = events
            .iter()
            .filter(|event| matches!(event, Event::Confirmed(_)))
            .count();
        eprintln!("{confirmed} confirmed, {} events", events.len());
        for way in WAYS {
            let is_own = |message: &MessageId| message.publisher as usize == way.queue();
            let tested = events
                .iter()
                .any(|event| matches!(event, Event::Confirmed(message) if is_own(message)));
            assert!(tested, "{way:?} was not tested");
        }
        let violations = checker::check(&events);
        let shown = &violations[..violations.len().min(10)];
        assert_eq!(violations, [], "{}: {shown:?}", violations.len());
    }

    /// Each message of the stream counts as consumed once; their numbers rise.
    fn read_stream(&self, address: SocketAddr) {
        let mut peer = open(address).expect("the broker is there");
        let queue = queue_name(Way::Stream.queue());
        let passive = method!(queue.declare { queue: &queue, passive: true });
        let declared = peer.call(1, passive, method!(queue.declare_ok));
        let qos = method!(basic.qos { prefetch_count: 60_000 });
        peer.call(1, qos, method!(basic.qos_ok));
        let consume = method!(basic.consume { queue: &queue, consumer_tag: "reader" });
        let consume = consume.with("arguments", table([("x-stream-offset", "first".into())]));
        peer.call(1, consume, method!(basic.consume_ok));
        let mut last = 0;
        for _ in 0..declared.number("message_count") {
            let message = peer.expect_message(1, method!(basic.deliver));
            let message = body::read(&message.body).expect("the body is whole");
            assert!(message.number > last, "{message:?} after {last}");
            last = message.number;
            let queue = Way::Stream.queue();
            self.ledger.note_all([
                Event::Delivered {
                    queue,
                    message: Some(message),
                    session: 0,
                    redelivered: false,
                },
                Event::Acknowledged { queue, message },
            ]);
        }
    }
}

#[track_caller]
fn check_rounds(names: Option<Names>, rounds_default: u64) {
    let rounds = rounds_or(rounds_default);
    let seed = Random::seed_from("LEVERET_TEST_SEED");
    eprintln!("{rounds} rounds, LEVERET_TEST_SEED={seed}");
    let mut host = Host::new(names);
    host.boot();
    declare(host.broker.address());
    let mut story = Story::new(Random::new(seed));
    for _ in 0..rounds {
        story.round(&mut host);
    }
    story.finish(host.broker.address());
}

#[test]
fn retries_delays_priorities_letters_and_streams_survive_kill_9_together() {
    check_rounds(None, 8);
}

#[test]
fn retries_delays_priorities_letters_and_streams_survive_a_loss_of_power_together() {
    check_rounds(Some(Names::Late), 8);
}
