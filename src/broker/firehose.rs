//! The firehose: a copy of every message that is published to a virtual host or delivered from it, for debugging.
//!
//! While it is on, copies go to the exchange `amq.rabbitmq.trace` of the virtual host, with the routing key
//! `publish.` and the name of the exchange, or `deliver.` and the name of the queue, and RabbitMQ's headers
//! (`rabbit_trace`). What comes from that exchange is not copied again.
//!
//! Whoever publishes or delivers holds locks: copies wait in a list of their own, from which one thread for each traced
//! virtual host publishes them. While it is off, it costs one relaxed load for each batch of messages.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock, Weak};
use std::thread;

use bytes::Bytes;
use parking_lot::Mutex;

use super::exchange::TRACE_EXCHANGE;
use super::vhost::VHost;
use super::vhost::publish::Outgoing;
use crate::message::record::{Body, NewMessage, SharedBody};
use crate::message::{BODY_SHARED_BYTES_MIN, field, properties};

/// Copies that wait take at most this much; beyond it they are lost, and counted.
const FIREHOSE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Copies that are published in one visit.
const VISIT_COPIES_MAX: usize = 64;

/// The firehose of a virtual host.
#[derive(Default)]
pub struct Firehose {
    on: AtomicBool,
    waiting_bytes: AtomicUsize,
    lost: AtomicU64,
    inbox: Mutex<Option<Sender<Copy>>>,
    /// What copies call this node.
    node: OnceLock<String>,
}

/// A message as it is published to the trace exchange.
struct Copy {
    routing_key: String,
    properties: Vec<u8>,
    body: Bytes,
}

impl Copy {
    fn bytes(&self) -> usize {
        self.routing_key.len() + self.properties.len() + self.body.len()
    }
}

impl Firehose {
    /// Whether messages are copied at the moment.
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Copies that were lost because they came faster than they could be published.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Begins to copy messages to the trace exchange of `vhost`.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub(super) fn turn_on(self: &Arc<Self>, vhost: &Weak<VHost>) -> std::io::Result<()> {
        let mut inbox = self.inbox.lock();
        if inbox.is_none() {
            let (sender, copies) = channel();
            let (firehose, vhost) = (Arc::downgrade(self), vhost.clone());
            thread::Builder::new()
                .name("firehose".to_owned())
                .spawn(move || run(&firehose, &vhost, &copies))?;
            *inbox = Some(sender);
        }
        self.on.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Copies no more. What waits is still published.
    pub(super) fn turn_off(&self) {
        self.on.store(false, Ordering::Relaxed);
        *self.inbox.lock() = None;
    }

    fn put(&self, copy: Copy) {
        let inbox = self.inbox.lock();
        let Some(inbox) = &*inbox else {
            return;
        };
        let bytes = copy.bytes();
        if self.waiting_bytes.load(Ordering::Relaxed) + bytes > FIREHOSE_BYTES_MAX {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        // Without a receiver the virtual host is gone.
        let _ = inbox.send(copy);
    }
}

fn run(firehose: &Weak<Firehose>, vhost: &Weak<VHost>, copies: &Receiver<Copy>) {
    while let Ok(first) = copies.recv() {
        let Some(vhost) = vhost.upgrade() else {
            return;
        };
        let mut batch = vec![first];
        batch.extend(copies.try_iter().take(VISIT_COPIES_MAX - 1));
        let bytes = batch.iter().map(Copy::bytes).sum();
        vhost.publish_copies(&batch);
        if let Some(firehose) = firehose.upgrade() {
            firehose.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

impl VHost {
    fn publish_copies(&self, copies: &[Copy]) {
        let Some(exchange) = self.exchange(TRACE_EXCHANGE) else {
            return;
        };
        let visit = self.services.visit();
        let outgoing = copies.iter().map(|copy| {
            let message = NewMessage {
                exchange: TRACE_EXCHANGE.as_bytes(),
                routing_key: copy.routing_key.as_bytes(),
                properties: &copy.properties,
                annotations: &[],
                body: if copy.body.len() < BODY_SHARED_BYTES_MIN {
                    Body::Inline(&copy.body)
                } else {
                    Body::Shared(SharedBody {
                        id: 0,
                        bytes: copy.body.clone(),
                    })
                },
                persistent: false,
                priority: 0,
                expiry_ms: 0,
            };
            let targets = self.route(&exchange, &[&copy.routing_key], &message).queues;
            Outgoing { message, targets }
        });
        let mut crowded = self.deliver(&visit, outgoing.collect());
        drop(visit);
        while !crowded.is_empty() {
            crowded.retain(|queue| queue.pump(&self.services.visit()));
        }
    }
}

/// Where messages are copied from: a channel.
pub struct Tap {
    firehose: Arc<Firehose>,
    vhost: Arc<str>,
    connection: Box<str>,
    channel: u16,
    user: Box<str>,
}

/// A message as its publisher or consumer sees it.
pub struct Traced<'a> {
    /// The exchange that it was published to.
    pub exchange: &'a [u8],
    /// Its routing key; those of CC are found in its properties.
    pub routing_key: &'a [u8],
    /// Its property list.
    pub properties: &'a [u8],
    /// Its body.
    pub body: Bytes,
}

impl Tap {
    /// A tap at a channel. `connection` and `user` are what the copies say of it.
    pub fn new(vhost: &VHost, connection: &str, channel: u16, user: &str) -> Self {
        Self {
            firehose: vhost.firehose.clone(),
            vhost: vhost.name.clone(),
            connection: connection.into(),
            channel,
            user: user.into(),
        }
    }

    /// Whether messages are copied at the moment.
    pub fn is_on(&self) -> bool {
        self.firehose.is_on()
    }

    /// A message was published and goes to these queues.
    pub fn published<'q>(&self, traced: Traced<'_>, queues: impl Iterator<Item = &'q str>) {
        let mut names = Vec::new();
        queues.for_each(|name| field::put_long_string(&mut names, name.as_bytes()));
        let key = format!("publish.{}", String::from_utf8_lossy(traced.exchange));
        self.put(key, traced, |entries| {
            field::put_name(entries, b"routed_queues");
            field::put_array(entries, &names);
        });
    }

    /// A message was delivered from this queue.
    pub fn delivered(&self, traced: Traced<'_>, queue: &str, redelivered: bool) {
        self.put(format!("deliver.{queue}"), traced, |entries| {
            field::put_name(entries, b"redelivered");
            field::put_int(entries, redelivered.into());
        });
    }

    fn put(&self, mut key: String, traced: Traced<'_>, more: impl FnOnce(&mut Vec<u8>)) {
        if traced.exchange == TRACE_EXCHANGE.as_bytes() {
            return;
        }
        let mut end = key.len().min(255);
        while !key.is_char_boundary(end) {
            end -= 1;
        }
        key.truncate(end);
        let mut entries = self.entries(&traced);
        more(&mut entries);
        // The flag of headers, and the table.
        let mut properties = vec![0x20, 0];
        properties.extend_from_slice(&(entries.len() as u32).to_be_bytes());
        properties.append(&mut entries);
        self.firehose.put(Copy {
            routing_key: key,
            properties,
            body: traced.body,
        });
    }

    fn entries(&self, traced: &Traced<'_>) -> Vec<u8> {
        let mut entries = Vec::with_capacity(256);
        let text = |entries: &mut Vec<u8>, name: &[u8], value: &[u8]| {
            field::put_name(entries, name);
            field::put_long_string(entries, value);
        };
        text(&mut entries, b"exchange_name", traced.exchange);
        field::put_name(&mut entries, b"routing_keys");
        field::put_array(&mut entries, &routing_keys(traced));
        field::put_name(&mut entries, b"properties");
        // Properties were checked when they arrived.
        let properties = properties::table(traced.properties).unwrap_or_default();
        field::put_table(&mut entries, &properties);
        let node = self.firehose.node.get_or_init(node);
        text(&mut entries, b"node", node.as_bytes());
        text(&mut entries, b"vhost", self.vhost.as_bytes());
        text(&mut entries, b"connection", self.connection.as_bytes());
        field::put_name(&mut entries, b"channel");
        field::put_int(&mut entries, self.channel.into());
        text(&mut entries, b"user", self.user.as_bytes());
        entries
    }
}

/// Encoded long strings: the message's own key and those of CC. BCC is gone when a message is copied.
fn routing_keys(traced: &Traced<'_>) -> Vec<u8> {
    let mut keys = Vec::new();
    field::put_long_string(&mut keys, traced.routing_key);
    let headers = properties::Properties::read(traced.properties)
        .ok()
        .and_then(|properties| properties.decode_headers().ok().flatten());
    let copies =
        headers.and_then(|headers| super::exchange::sender_selected::keys(&headers, "CC").ok());
    for key in copies.into_iter().flatten() {
        field::put_long_string(&mut keys, key.as_bytes());
    }
    keys
}

/// The name of this node, after its host as in RabbitMQ.
fn node() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match host.trim() {
        "" => "leveret@localhost".to_owned(),
        host => format!("leveret@{host}"),
    }
}

#[cfg(test)]
mod tests {
    use amq_protocol::types::{AMQPValue, FieldTable};

    use super::*;
    use crate::broker::queue::{GetOutcome, Queue};
    use crate::broker::testing::TestBroker;
    use crate::broker::vhost::{QueueBind, QueueDeclare};

    fn watcher(test: &TestBroker, pattern: &str) -> Arc<Queue> {
        let vhost = test.broker.vhost("/").unwrap();
        let visit = test.broker.services.visit();
        let declare = QueueDeclare {
            name: pattern.into(),
            server_named: false,
            durable: false,
            exclusive: false,
            auto_delete: false,
            arguments: FieldTable::default(),
            connection: 1,
        };
        let queue = vhost.declare_queue(&visit, declare).unwrap().queue;
        let bind = QueueBind {
            queue: pattern.into(),
            exchange: TRACE_EXCHANGE.into(),
            routing_key: pattern.into(),
            arguments: FieldTable::default(),
            connection: 1,
        };
        vhost.bind_queue(&visit, bind).unwrap();
        queue
    }

    /// The next copy: its routing key, headers and body. Waits for it, as another thread brings it.
    fn next(test: &TestBroker, queue: &Arc<Queue>) -> (String, FieldTable, Vec<u8>) {
        loop {
            let visit = test.broker.services.visit();
            let got = queue.get(&visit, true, |delivery, _| {
                let record = delivery.record;
                let properties = properties::Properties::read(record.properties()).unwrap();
                (
                    String::from_utf8(record.routing_key().to_vec()).unwrap(),
                    properties.decode_headers().unwrap().unwrap(),
                    delivery.body_bytes().to_vec(),
                )
            });
            drop(visit);
            match got {
                GetOutcome::Message(copy) => return copy,
                _ => thread::yield_now(),
            }
        }
    }

    fn traced<'a>(exchange: &'a str, body: &'a [u8]) -> Traced<'a> {
        Traced {
            exchange: exchange.as_bytes(),
            routing_key: b"key",
            properties: b"\x10\x00\x02",
            body: Bytes::copy_from_slice(body),
        }
    }

    fn turn(test: &TestBroker, on: bool) -> crate::message::Ticket {
        let vhost = test.broker.vhost("/").unwrap();
        let visit = test.broker.services.visit();
        vhost.set_tracing(&visit, on).unwrap()
    }

    fn tap(test: &TestBroker) -> Tap {
        Tap::new(&test.broker.vhost("/").unwrap(), "peer", 3, "guest")
    }

    #[test]
    fn copies_say_what_rabbitmq_says() {
        let test = TestBroker::new();
        let queue = watcher(&test, "#");
        turn(&test, true);
        let tap = tap(&test);
        assert!(tap.is_on());
        tap.published(traced("amq.topic", b"body"), ["q1", "q2"].into_iter());
        tap.delivered(traced("amq.topic", b""), "q1", true);
        let (key, headers, body) = next(&test, &queue);
        assert_eq!(
            (key.as_str(), &body[..]),
            ("publish.amq.topic", &b"body"[..])
        );
        let text = |text: &str| AMQPValue::LongString(text.into());
        let get = |headers: &FieldTable, name: &str| headers.inner().get(name).cloned();
        assert_eq!(get(&headers, "exchange_name"), Some(text("amq.topic")));
        let list = |names: &[&str]| {
            let values: Vec<_> = names.iter().map(|name| text(name)).collect();
            Some(AMQPValue::FieldArray(values.into()))
        };
        assert_eq!(get(&headers, "routing_keys"), list(&["key"]));
        assert_eq!(get(&headers, "routed_queues"), list(&["q1", "q2"]));
        let mut properties = FieldTable::default();
        properties.insert("delivery_mode".into(), AMQPValue::LongInt(2));
        assert_eq!(
            get(&headers, "properties"),
            Some(AMQPValue::FieldTable(properties))
        );
        for (name, value) in [("vhost", "/"), ("connection", "peer"), ("user", "guest")] {
            assert_eq!(get(&headers, name), Some(text(value)));
        }
        assert_eq!(get(&headers, "channel"), Some(AMQPValue::LongInt(3)));
        assert!(get(&headers, "node").is_some());
        let (key, headers, _) = next(&test, &queue);
        assert_eq!(key, "deliver.q1");
        assert_eq!(get(&headers, "redelivered"), Some(AMQPValue::LongInt(1)));
    }

    #[test]
    fn copies_are_not_copied_and_nothing_is_while_it_is_off() {
        let test = TestBroker::new();
        let queue = watcher(&test, "#");
        let tap = tap(&test);
        tap.delivered(traced("x", b"before"), "q", false);
        turn(&test, true);
        tap.delivered(traced(TRACE_EXCHANGE, b"a copy"), "q", false);
        tap.delivered(traced("x", b"while it is on"), "q", false);
        assert_eq!(next(&test, &queue).2, b"while it is on");
        turn(&test, false);
        assert!(!tap.is_on());
        tap.delivered(traced("x", b"after"), "q", false);
        turn(&test, true);
        tap.delivered(traced("x", b"on again"), "q", false);
        assert_eq!(next(&test, &queue).2, b"on again");
        assert_eq!(queue.counts().ready, 0);
    }

    #[test]
    fn the_switch_survives_a_restart() {
        let test = TestBroker::new();
        test.wait(turn(&test, true));
        let test = test.restart();
        assert!(tap(&test).is_on());
        test.wait(turn(&test, false));
        let test = test.restart();
        assert!(!tap(&test).is_on());
    }

    #[test]
    fn what_comes_too_fast_is_lost_and_counted() {
        let firehose = Firehose::default();
        // Nobody takes anything out.
        let (sender, _copies) = channel();
        *firehose.inbox.lock() = Some(sender);
        let copy = || Copy {
            routing_key: String::new(),
            properties: Vec::new(),
            body: Bytes::from(vec![0; FIREHOSE_BYTES_MAX / 2]),
        };
        for _ in 0..3 {
            firehose.put(copy());
        }
        assert_eq!(firehose.lost(), 1);
    }
}
