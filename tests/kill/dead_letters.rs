//! Dead letters under the kill: messages die by every reason through a chain of two queues while the broker is killed or
//! loses power. Each arrives at the end once, having died once in each queue of its way.

use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use crate::body;
use crate::graves::{Graves, Life, Published};
use crate::ledger::MessageId;
use crate::rounds::{Host, expect_crash, rounds_or};
use crate::support::content::{Message, Properties};
use crate::support::durable_image::Names;
use crate::support::peer::{Login, Peer, decode};
use crate::support::random::Random;
use crate::support::wire::{Table, Value, field, table};

const DEAD_EXCHANGE: &str = "kill.dead";
const LATE_EXCHANGE: &str = "kill.late";
/// Letters of the first queues die here once more.
const MIDDLE: &str = "kill.middle";
/// Nothing dies here.
const END: &str = "kill.end";
const LENGTH_MAX: u64 = 30;
const DELAY_MS_MAX: u64 = 80;
/// What a publisher sends in a round at most.
const MESSAGES_MAX: u64 = 400;

/// The ways to [`MIDDLE`]; the index is the id of the publisher.
const WAYS: [Way; 4] = [
    Way::Expired,
    Way::Rejected,
    Way::Crowded,
    // Not a death: a delayed message arrives in one commit in the same manner.
    Way::Delayed,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Expired,
    Rejected,
    Crowded,
    Delayed,
}

impl Way {
    /// Where it dies first, and of what.
    const fn first_death(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Expired => Some(("kill.expiring", "expired")),
            Self::Rejected => Some(("kill.rejecting", "rejected")),
            Self::Crowded => Some(("kill.crowded", "maxlen")),
            Self::Delayed => None,
        }
    }

    fn arguments(self) -> Table {
        let mut arguments = table([
            ("x-dead-letter-exchange", DEAD_EXCHANGE.into()),
            ("x-dead-letter-routing-key", MIDDLE.into()),
        ]);
        match self {
            Self::Expired => arguments.extend(table([("x-message-ttl", 40.into())])),
            Self::Crowded => {
                let limit = Value::I64(LENGTH_MAX as i64);
                arguments.extend(table([("x-max-length", limit)]));
            }
            Self::Rejected | Self::Delayed => {}
        }
        arguments
    }
}

fn declare(address: SocketAddr) {
    let mut peer = open(address).expect("the broker is there");
    let declare =
        method!(exchange.declare { exchange: DEAD_EXCHANGE, type: "direct", durable: true });
    peer.call(1, declare, method!(exchange.declare_ok));
    let declare = method!(exchange.declare {
        exchange: LATE_EXCHANGE,
        type: "x-delayed-message",
        durable: true,
        arguments: table([("x-delayed-type", "fanout".into())]),
    });
    peer.call(1, declare, method!(exchange.declare_ok));
    let chained = table([
        ("x-message-ttl", 25.into()),
        ("x-max-length", 60.into()),
        ("x-dead-letter-exchange", "".into()),
        ("x-dead-letter-routing-key", END.into()),
    ]);
    let ways = WAYS.into_iter();
    let mut queues: Vec<(&str, Table)> = ways
        .filter_map(|way| Some((way.first_death()?.0, way.arguments())))
        .collect();
    queues.extend([(MIDDLE, chained), (END, Table::new())]);
    for (queue, arguments) in queues {
        let declare = method!(queue.declare { queue: queue, durable: true, arguments: arguments });
        peer.call(1, declare, method!(queue.declare_ok));
    }
    for exchange in [DEAD_EXCHANGE, LATE_EXCHANGE] {
        let bind = method!(queue.bind { queue: MIDDLE, exchange: exchange, routing_key: MIDDLE });
        peer.call(1, bind, method!(queue.bind_ok));
    }
}

fn open(address: SocketAddr) -> io::Result<Peer> {
    let mut peer = Peer::try_connect(address, &Login::default())?;
    peer.try_send(1, method!(channel.open))?;
    peer.await_method(1, "channel.open_ok")?;
    Ok(peer)
}

/// Publishes in bursts and waits for the confirms of each.
fn publish(address: SocketAddr, published: &mut Published, random: &mut Random) -> io::Result<()> {
    let mut peer = open(address)?;
    peer.try_send(1, method!(confirm.select))?;
    peer.await_method(1, "confirm.select_ok")?;
    let before = published.sent;
    while published.sent < before + MESSAGES_MAX {
        let burst = random.between(1, 50);
        for _ in 0..burst {
            let delay_ms = random.between(0, DELAY_MS_MAX);
            send(&mut peer, published, random, delay_ms)?;
        }
        await_confirms(&mut peer, published, before, burst)?;
    }
    Ok(())
}

fn send(
    peer: &mut Peer,
    published: &mut Published,
    random: &mut Random,
    delay_ms: u64,
) -> io::Result<()> {
    published.sent += 1;
    let message = MessageId {
        publisher: published.id,
        number: published.sent,
    };
    let length = match random.between(0, 49) {
        0 => random.between(16_000, 70_000),
        _ => random.between(24, 400),
    };
    let mut properties = Properties::persistent();
    let publish = match WAYS[published.id as usize].first_death() {
        Some((queue, _)) => method!(basic.publish { routing_key: queue }),
        None => {
            let delay = Value::I64(delay_ms as i64);
            properties.headers = Some(table([("x-delay", delay)]));
            method!(basic.publish { exchange: LATE_EXCHANGE })
        }
    };
    let body = body::build(message, length as usize);
    peer.try_publish(1, publish, &properties, &body)
}

/// Takes the confirms of this many messages. `before` were sent before this channel was opened.
fn await_confirms(
    peer: &mut Peer,
    published: &mut Published,
    before: u64,
    mut open: u64,
) -> io::Result<()> {
    while open > 0 {
        let ack = peer.await_method(1, "basic.ack")?;
        let last = before + ack.number("delivery_tag");
        let first = match ack.bit("multiple") {
            true => published.sent - open + 1,
            false => last,
        };
        for number in first..=last {
            assert!(published.confirmed.insert(number), "{ack:?} comes twice");
            open -= 1;
        }
    }
    Ok(())
}

/// Rejects, singly or many at once, until the broker dies.
fn reject(address: SocketAddr, random: &mut Random) -> io::Result<()> {
    let mut peer = open(address)?;
    let (queue, _) = Way::Rejected.first_death().expect("it dies there");
    peer.try_send(1, method!(basic.qos { prefetch_count: 50 }))?;
    peer.await_method(1, "basic.qos_ok")?;
    peer.try_send(1, method!(basic.consume { queue: queue }))?;
    peer.await_method(1, "basic.consume_ok")?;
    loop {
        let delivery = peer.await_method(1, "basic.deliver")?;
        let tag = peer.try_content(delivery)?.delivery_tag();
        if tag % 50 == 0 || random.chance(20) {
            peer.try_send(1, method!(basic.nack { delivery_tag: tag, multiple: true }))?;
        } else if random.chance(30) {
            peer.try_send(1, method!(basic.reject { delivery_tag: tag }))?;
        }
    }
}

/// Takes letters at the end of the chain and acknowledges them, until the broker dies.
fn collect(address: SocketAddr, life: &mut Life, random: &mut Random) -> io::Result<()> {
    let mut peer = open(address)?;
    // A crash may have left it, and to declare what is there waits for nothing.
    peer.try_send(1, method!(queue.delete { queue: "kill.barrier" }))?;
    peer.await_method(1, "queue.delete_ok")?;
    loop {
        for _ in 0..random.between(1, 40) {
            match get(&mut peer, END, false)? {
                Some(message) => life.arrived.push(identify(&message)),
                None => break,
            }
        }
        life.acknowledged = life.arrived.len();
        peer.try_send(1, method!(basic.ack { delivery_tag: 0, multiple: true }))?;
        // A new durable thing: its declare-ok waits for the disk, and so for the acknowledgements before it.
        peer.try_send(
            1,
            method!(queue.declare { queue: "kill.barrier", durable: true }),
        )?;
        peer.await_method(1, "queue.declare_ok")?;
        life.gone = life.arrived.len();
        peer.try_send(1, method!(queue.delete { queue: "kill.barrier" }))?;
        peer.await_method(1, "queue.delete_ok")?;
    }
}

fn get(peer: &mut Peer, queue: &str, no_ack: bool) -> io::Result<Option<Message>> {
    peer.try_send(1, method!(basic.get { queue: queue, no_ack: no_ack }))?;
    let frame = peer.try_recv()?;
    let method = decode(&frame).expect("a method answers");
    match method.name() {
        "basic.get_ok" => peer.try_content(method).map(Some),
        "basic.get_empty" => Ok(None),
        _ => panic!("{method:?}"),
    }
}

/// Who a letter is. It has died once in each queue of its way and nowhere else.
fn identify(message: &Message) -> MessageId {
    let id = body::read(&message.body).expect("the body is whole");
    let headers = message.properties.headers.as_ref();
    let deaths = headers.and_then(|headers| field(headers, "x-death"));
    let Some(Value::Array(deaths)) = deaths else {
        panic!("{id:?} never died: {headers:?}");
    };
    let mut found = Vec::new();
    for death in deaths {
        let Value::Table(death) = death else {
            panic!("a death is a table: {death:?}");
        };
        assert_eq!(field(death, "count"), Some(&Value::I64(1)), "{death:?}");
        found.push((text(death, "queue"), text(death, "reason")));
    }
    let middle = found.remove(0);
    assert_eq!(middle.0, MIDDLE);
    assert!(["expired", "maxlen"].contains(&&*middle.1), "{middle:?}");
    let way = WAYS[id.publisher as usize].first_death();
    let way = way.map(|(queue, reason)| (queue.to_owned(), reason.to_owned()));
    assert_eq!(found, Vec::from_iter(way), "the way of {id:?}");
    id
}

fn text(table: &Table, key: &str) -> String {
    match field(table, key) {
        Some(Value::Text(text)) => String::from_utf8_lossy(text).into_owned(),
        other => panic!("{key} is {other:?}"),
    }
}

/// All clients over all rounds.
struct Story {
    published: Vec<Published>,
    graves: Graves,
    arrived: usize,
    random: Random,
}

impl Story {
    fn new(random: Random) -> Self {
        let ids = 0..WAYS.len() as u32;
        Self {
            published: ids
                .map(|id| Published {
                    id,
                    ..Published::default()
                })
                .collect(),
            graves: Graves::default(),
            arrived: 0,
            random,
        }
    }

    /// Load until a random moment, then the end of the broker; sometimes another while it recovers.
    fn round(&mut self, host: &mut Host) {
        let address = host.broker.address();
        let moment = Duration::from_millis(self.random.between(20, 350));
        let mut life = Life::default();
        thread::scope(|scope| {
            for published in &mut self.published {
                let mut random = self.random.fork();
                scope.spawn(move || expect_crash(publish(address, published, &mut random)));
            }
            let mut random = self.random.fork();
            scope.spawn(move || expect_crash(reject(address, &mut random)));
            let (mut random, life) = (self.random.fork(), &mut life);
            scope.spawn(move || expect_crash(collect(address, life, &mut random)));
            thread::sleep(moment);
            assert!(host.broker.is_running(), "the broker ended by itself");
            host.kill();
        });
        self.arrived += life.arrived.len();
        self.graves.crashed(&life, &self.published);
        while self.random.chance(25) {
            host.spawn();
            thread::sleep(Duration::from_millis(self.random.between(0, 80)));
            host.kill();
        }
        host.boot();
    }

    /// Sends everything to the end of the chain and judges.
    fn finish(mut self, address: SocketAddr) {
        let mut peer = open(address).expect("the broker is there");
        let mut last = Vec::new();
        peer.call(1, method!(confirm.select), method!(confirm.select_ok));
        let mut tags = 0;
        for published in &mut self.published {
            // These stay in the limited queue and push all others out.
            let count = match WAYS[published.id as usize] {
                Way::Crowded => LENGTH_MAX + 1,
                _ => 1,
            };
            last.push(MessageId {
                publisher: published.id,
                number: published.sent + 1,
            });
            for _ in 0..count {
                let delay_ms = 2 * DELAY_MS_MAX;
                let sent = send(&mut peer, published, &mut self.random, delay_ms);
                sent.expect("the broker is there");
            }
            tags += count;
        }
        while peer.expect(1, method!(basic.ack)).number("delivery_tag") < tags {}
        let mut rejected = open(address).expect("the broker is there");
        let (queue, _) = Way::Rejected.first_death().expect("it dies there");
        while get(&mut rejected, queue, false)
            .expect("an answer")
            .is_some()
        {}
        rejected.send(1, method!(basic.nack { delivery_tag: 0, multiple: true }));
        let life = drain(address, last);
        self.arrived += life.arrived.len();
        self.expect_emptied(address);
        let confirmed: usize = self.published.iter().map(|all| all.confirmed.len()).sum();
        eprintln!("{confirmed} confirmed, {} arrived", self.arrived);
        for published in &self.published {
            assert!(!published.confirmed.is_empty(), "nothing was tested");
        }
        let violations = self.graves.finish(&life, &self.published);
        let shown = &violations[..violations.len().min(10)];
        assert_eq!(violations, [], "{}: {shown:?}", violations.len());
    }

    /// What remains are the messages that pushed the others out of the limited queue.
    fn expect_emptied(&self, address: SocketAddr) {
        let mut peer = open(address).expect("the broker is there");
        let firsts = WAYS
            .into_iter()
            .filter_map(|way| Some((way.first_death()?.0, way)));
        let mut queues: Vec<_> = firsts
            .map(|(queue, way)| (queue, if way == Way::Crowded { LENGTH_MAX } else { 0 }))
            .collect();
        queues.extend([(MIDDLE, 0), (END, 0)]);
        for (queue, count) in queues {
            let delete = method!(queue.delete { queue: queue });
            let deleted = peer.call(1, delete, method!(queue.delete_ok));
            assert_eq!(deleted.number("message_count"), count, "{queue}");
        }
    }
}

/// Takes all out of the end of the chain, until the `last` of every publisher came: letters keep their order.
fn drain(address: SocketAddr, mut last: Vec<MessageId>) -> Life {
    let mut peer = open(address).expect("the broker is there");
    let consume = method!(basic.consume { queue: END, no_ack: true });
    peer.call(1, consume, method!(basic.consume_ok));
    let mut life = Life::default();
    while !last.is_empty() {
        let message = identify(&peer.expect_message(1, method!(basic.deliver)));
        last.retain(|awaited| *awaited != message);
        life.arrived.push(message);
    }
    peer.expect_silence(1);
    life.acknowledged = life.arrived.len();
    life.gone = life.arrived.len();
    life
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
fn dead_letters_are_neither_lost_nor_doubled_by_kill_9() {
    check_rounds(None, 8);
}

#[test]
fn dead_letters_are_neither_lost_nor_doubled_by_a_loss_of_power() {
    check_rounds(Some(Names::Late), 8);
}
