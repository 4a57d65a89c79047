//! What idle things cost: resident memory of the broker's process over thousands of them, and ten thousand connections
//! at once.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::check::{expect_get, own_queue, send_to};
use crate::support::broker::{self, BrokerProcess};
use crate::support::content::Properties;
use crate::support::peer::{PROTOCOL_HEADER, Peer};

/// docs/limits.md.
const IDLE_QUEUE_BYTES_MAX: usize = 2 * 1024;
const IDLE_CONSUMER_BYTES_MAX: usize = 1024;
const IDLE_CONNECTION_BYTES_MAX: usize = 16 * 1024;

const QUEUES: usize = 20_000;
/// Queues that get a consumer in the end.
const CONSUMERS: usize = 4000;

const CONNECTIONS: usize = 10_000;

/// Connections that greet, or not even that, and then say nothing more.
const SILENT: usize = 1000;

/// Files that a process needs beside its connections.
const OTHER_FILES: usize = 1000;

/// Threads that open connections.
const OPENERS: usize = 8;

/// How long memory that was freed may take to go back to the system.
const PATIENCE: Duration = Duration::from_secs(30);

/// A broker that gives freed memory back to the system at once, so that its resident memory says what it uses.
fn thrifty() -> BrokerProcess {
    let mut broker = BrokerProcess::prepare(&["log.console.level = error"]);
    broker.set_env("MALLOC_CONF", "dirty_decay_ms:0,muzzy_decay_ms:0");
    broker.boot();
    broker
}

fn resident_bytes(broker: &BrokerProcess) -> usize {
    let path = format!("/proc/{}/status", broker.process_id());
    let status = fs::read_to_string(path).expect("the broker runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next());
    1024 * kibibytes.map_or(0, |text| text.parse().expect("a number"))
}

/// Waits until the resident memory is at most `bytes_max`, as long as patience lasts. Answers what it came to.
fn settle(broker: &BrokerProcess, bytes_max: usize) -> usize {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let bytes = resident_bytes(broker);
        if bytes <= bytes_max || Instant::now() > deadline {
            return bytes;
        }
        thread::sleep(Duration::from_millis(500));
    }
}

/// Many things in a row, with an answer from the broker after every few hundred.
fn for_each(
    peer: &mut Peer,
    numbers: std::ops::Range<usize>,
    mut act: impl FnMut(&mut Peer, &str),
) {
    for number in numbers {
        act(peer, &format!("idle.queue.{number}"));
        if (number + 1).is_multiple_of(500) {
            peer.call(1, method!(basic.qos), method!(basic.qos_ok));
        }
    }
    peer.call(1, method!(basic.qos), method!(basic.qos_ok));
}

/// Durable queues, each bound once, that a persistent message has passed.
fn fill(broker: &BrokerProcess, numbers: std::ops::Range<usize>) {
    let mut peer = broker.connect();
    peer.open_channel(1);
    for_each(&mut peer, numbers.clone(), |peer, name| {
        peer.send(
            1,
            method!(queue.declare { queue: name, durable: true, nowait: true }),
        );
        let bind = method!(queue.bind {
            queue: name,
            exchange: "amq.topic",
            routing_key: name,
            nowait: true,
        });
        peer.send(1, bind);
    });
    for_each(&mut peer, numbers.clone(), |peer, name| {
        let publish = method!(basic.publish { exchange: "amq.topic", routing_key: name });
        peer.publish_with(1, publish, &Properties::persistent(), &[0; 100]);
    });
    pass(&mut peer, numbers);
    peer.close();
}

/// Takes one message out of each queue.
fn pass(peer: &mut Peer, numbers: std::ops::Range<usize>) {
    for start in numbers.clone().step_by(500) {
        let part = start..(start + 500).min(numbers.end);
        for number in part.clone() {
            let name = format!("idle.queue.{number}");
            peer.send(1, method!(basic.get { queue: name, no_ack: true }));
        }
        for _ in part {
            peer.expect_message(1, method!(basic.get_ok));
        }
    }
}

/// The store keeps what was written last in memory, up to a limit of its own: a restart leaves most of that out of the
/// account. Then every queue is used once more.
fn used_after_restart(broker: &mut BrokerProcess, queues: usize) {
    broker.ask_to_stop();
    broker.await_end();
    broker.boot();
    let mut peer = broker.connect();
    peer.open_channel(1);
    for_each(&mut peer, 0..queues, |peer, name| {
        let publish = method!(basic.publish { exchange: "amq.topic", routing_key: name });
        peer.publish_with(1, publish, &Properties::persistent(), &[0; 100]);
    });
    pass(&mut peer, 0..queues);
    peer.close();
}

/// A consumer on each of the first [`CONSUMERS`] queues, over a few connections: each waits for the disk.
fn consume_all(broker: &BrokerProcess) -> Vec<Peer> {
    let consume = |opener: usize| {
        let mut peer = broker.connect();
        peer.open_channel(1);
        for number in (opener..CONSUMERS).step_by(OPENERS) {
            let name = format!("idle.queue.{number}");
            let consume = method!(basic.consume { queue: name, consumer_tag: number.to_string(), nowait: true });
            peer.send(1, consume);
        }
        peer.call(1, method!(basic.qos), method!(basic.qos_ok));
        peer
    };
    thread::scope(|scope| {
        let consumers: Vec<_> = (0..OPENERS)
            .map(|opener| scope.spawn(move || consume(opener)))
            .collect();
        let peers = consumers
            .into_iter()
            .map(|consumer| consumer.join().expect("consumers are accepted"));
        peers.collect()
    })
}

#[test]
fn a_durable_queue_that_was_used_and_is_empty_takes_at_most_two_kibibytes() {
    if broker::is_foreign() {
        return;
    }
    let mut broker = thrifty();
    // Twice as many against once as many: what does not grow with the queues is left out of the account.
    fill(&broker, 0..QUEUES);
    used_after_restart(&mut broker, QUEUES);
    thread::sleep(Duration::from_secs(5));
    let once = resident_bytes(&broker);
    fill(&broker, QUEUES..2 * QUEUES);
    used_after_restart(&mut broker, 2 * QUEUES);
    let twice = settle(&broker, once + QUEUES * IDLE_QUEUE_BYTES_MAX);
    let each = twice.saturating_sub(once) / QUEUES;
    eprintln!(
        "an idle queue takes {each} bytes ({once} resident with {QUEUES} queues, {twice} with twice as many)"
    );
    assert!(each <= IDLE_QUEUE_BYTES_MAX, "{each} bytes");

    let before = resident_bytes(&broker);
    let consumers = consume_all(&broker);
    let after = settle(&broker, before + CONSUMERS * IDLE_CONSUMER_BYTES_MAX);
    let each = after.saturating_sub(before) / CONSUMERS;
    eprintln!("an idle consumer takes {each} bytes");
    assert!(each <= IDLE_CONSUMER_BYTES_MAX, "{each} bytes");
    drop(consumers);
}

/// Lets this process open as many files as it may. Answers how many connections that leaves.
fn connections_possible() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("a process may have what it may have");
    let files = limit.maximum.unwrap_or(u64::MAX);
    usize::try_from(files)
        .unwrap_or(usize::MAX)
        .saturating_sub(OTHER_FILES)
}

fn connect_many(address: SocketAddr, count: usize) -> Vec<Peer> {
    thread::scope(|scope| {
        let opener = || {
            (0..count / OPENERS)
                .map(|_| Peer::connect(address))
                .collect::<Vec<_>>()
        };
        let openers: Vec<_> = (0..OPENERS).map(|_| scope.spawn(opener)).collect();
        let peers = openers
            .into_iter()
            .map(|opener| opener.join().expect("connections are accepted"));
        peers.flatten().collect()
    })
}

fn connect_silent(address: SocketAddr, number: usize) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("the broker listens");
    if number.is_multiple_of(2) {
        stream
            .write_all(PROTOCOL_HEADER)
            .expect("eight bytes can be sent");
    }
    stream
}

#[test]
fn ten_thousand_idle_connections_take_at_most_sixteen_kibibytes_each() {
    if broker::is_foreign() {
        return;
    }
    let count = CONNECTIONS.min(connections_possible().saturating_sub(SILENT));
    if count < CONNECTIONS {
        eprintln!(
            "only {count} connections: raise the limit of open files (ulimit -Hn) for {CONNECTIONS}"
        );
    }
    assert!(count >= CONNECTIONS / 10, "too few files may be open");
    let broker = thrifty();
    let mut witness = broker.connect();
    witness.open_channel(1);
    let queue = own_queue(&mut witness);
    let before = resident_bytes(&broker);
    let silent: Vec<_> = (0..SILENT)
        .map(|number| connect_silent(broker.address(), number))
        .collect();
    let open = connect_many(broker.address(), count);
    send_to(&mut witness, &queue, "quick");
    expect_get(&mut witness, &queue, "quick");
    let after = settle(&broker, before + open.len() * IDLE_CONNECTION_BYTES_MAX);
    let each = after.saturating_sub(before) / open.len();
    eprintln!(
        "an idle connection takes {each} bytes ({} open, {SILENT} in their handshake)",
        open.len()
    );
    assert!(each <= IDLE_CONNECTION_BYTES_MAX, "{each} bytes");
    drop(silent);
    for mut peer in open.into_iter().step_by(1000) {
        peer.open_channel(1);
        peer.close();
    }
    send_to(&mut witness, &queue, "still quick");
    expect_get(&mut witness, &queue, "still quick");
}
