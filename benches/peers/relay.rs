//! The floor under every broker's figures: a relay that cuts frames and forwards them, and does
//! nothing else.
//!
//! It answers the handshake, declarations and confirms, routes by queue name (or to every queue
//! bound to an exchange), and turns each publish into a delivery. It keeps nothing: a message for a
//! queue without a consumer is gone, acknowledgements are read and forgotten, prefetch is ignored.
//! What a load generator reaches with it is what the machine, the loopback and the generator allow.
//!
//! Usage: `relay 127.0.0.1:PORT`. It runs until it is killed.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use amq_protocol::frame::{AMQPFrame, WriteContext, gen_frame, parse_frame};
use amq_protocol::protocol::{AMQPClass, basic, channel, confirm, connection, exchange, queue};
use amq_protocol::types::FieldTable;

const INPUT_BYTES: usize = 512 << 10;
const HEAD_BYTES: usize = 7;
const METHOD: u8 = 1;
const HEARTBEAT: u8 = 8;
const BASIC_ACK: [u8; 4] = [0, 60, 0, 80];

/// Queues by name, and the queues bound to each exchange.
#[derive(Default)]
struct Broker {
    queues: Mutex<HashMap<Vec<u8>, Arc<Queue>>>,
    bound: Mutex<HashMap<Vec<u8>, Vec<Arc<Queue>>>>,
}

#[derive(Default)]
struct Queue {
    consumers: Mutex<Vec<Arc<Consumer>>>,
    turn: AtomicU64,
}

struct Consumer {
    socket: Mutex<TcpStream>,
    /// basic.deliver up to the delivery tag: head without size, class, method and consumer tag.
    tag: Vec<u8>,
    next_tag: AtomicU64,
}

/// What one publisher has for one consumer. Only whole messages are written, so that those of
/// several publishers do not mix.
struct Batch {
    consumer: Arc<Consumer>,
    bytes: Vec<u8>,
    /// Length of the messages that are there in full.
    whole: usize,
}

/// One connection's side of the relay.
struct Session {
    broker: Arc<Broker>,
    socket: TcpStream,
    batches: Vec<Batch>,
    /// Indexes of the batches that the message on its way goes to.
    targets: Vec<usize>,
    /// Body bytes of that message still to come; `None` before its header.
    body_left: Option<u64>,
    /// Exchange and routing key of the last publish, as on the wire, and where they led.
    route: (Vec<u8>, Vec<Arc<Queue>>),
    confirming: bool,
    published: u64,
    confirmed: u64,
    consuming: Vec<(Arc<Queue>, Arc<Consumer>)>,
}

fn main() -> io::Result<()> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:5672".into());
    let listener = TcpListener::bind(address)?;
    let broker = Arc::new(Broker::default());
    for socket in listener.incoming() {
        let (socket, broker) = (socket?, broker.clone());
        thread::spawn(move || {
            // A connection ends with an error as often as with connection.close: both are an end.
            let _ = serve(socket, broker);
        });
    }
    Ok(())
}

fn serve(mut socket: TcpStream, broker: Arc<Broker>) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let mut header = [0; 8];
    socket.read_exact(&mut header)?;
    let mut session = Session {
        broker,
        socket: socket.try_clone()?,
        batches: Vec::new(),
        targets: Vec::new(),
        body_left: Some(0),
        route: (vec![0xff], Vec::new()),
        confirming: false,
        published: 0,
        confirmed: 0,
        consuming: Vec::new(),
    };
    session.greet()?;
    let result = session.relay(&mut socket);
    for (queue, consumer) in session.consuming {
        lock(&queue.consumers).retain(|other| !Arc::ptr_eq(other, &consumer));
    }
    result
}

impl Session {
    fn greet(&mut self) -> io::Result<()> {
        let mut properties = FieldTable::default();
        properties.insert(
            "product".into(),
            amq_protocol::types::AMQPValue::LongString("relay".into()),
        );
        self.answer_connection(connection::AMQPMethod::Start(connection::Start {
            version_major: 0,
            version_minor: 9,
            server_properties: properties,
            mechanisms: "PLAIN".into(),
            locales: "en_US".into(),
        }))
    }

    fn relay(&mut self, socket: &mut TcpStream) -> io::Result<()> {
        let mut input = vec![0; INPUT_BYTES];
        let mut end = 0;
        loop {
            let bytes = socket.read(&mut input[end..])?;
            if bytes == 0 {
                return Ok(());
            }
            end += bytes;
            let mut start = 0;
            while let Some(frame) = whole_frame(&input[start..end]) {
                start += frame.len();
                self.frame(frame)?;
            }
            input.copy_within(start..end, 0);
            end -= start;
            self.flush()?;
        }
    }

    fn frame(&mut self, frame: &[u8]) -> io::Result<()> {
        let payload = &frame[HEAD_BYTES..frame.len() - 1];
        match (frame[0], payload) {
            (METHOD, [0, 60, 0, 40, arguments @ ..]) => self.publish(arguments),
            (METHOD, [a, b, c, d, ..]) if [*a, *b, *c, *d] == BASIC_ACK => {}
            (METHOD, _) => return self.method(frame),
            (HEARTBEAT, _) => {}
            _ => self.content(frame, payload),
        }
        Ok(())
    }

    /// Starts a delivery at each consumer that the message goes to.
    fn publish(&mut self, arguments: &[u8]) {
        // Two octets of ticket, then exchange and routing key, then the flags.
        let names = &arguments[2..arguments.len() - 1];
        if self.route.0 != names {
            self.route = (names.to_vec(), self.broker.route(names));
        }
        self.body_left = None;
        self.targets.clear();
        for queue in &self.route.1 {
            let Some(consumer) = queue.next_consumer() else {
                continue;
            };
            let known = self
                .batches
                .iter()
                .position(|batch| Arc::ptr_eq(&batch.consumer, &consumer));
            let at = known.unwrap_or_else(|| {
                self.batches.push(Batch {
                    consumer: consumer.clone(),
                    bytes: Vec::new(),
                    whole: 0,
                });
                self.batches.len() - 1
            });
            self.batches[at].deliver(names);
            self.targets.push(at);
        }
    }

    fn content(&mut self, frame: &[u8], payload: &[u8]) {
        self.body_left = match self.body_left {
            None => Some(
                payload[4..12]
                    .iter()
                    .fold(0, |size, byte| size << 8 | u64::from(*byte)),
            ),
            Some(left) => Some(left - payload.len() as u64),
        };
        for target in &self.targets {
            let batch = &mut self.batches[*target];
            batch.bytes.extend_from_slice(frame);
            if self.body_left == Some(0) {
                batch.whole = batch.bytes.len();
            }
        }
        self.published += u64::from(self.body_left == Some(0));
    }

    /// Writes what is whole and confirms it.
    fn flush(&mut self) -> io::Result<()> {
        for batch in self.batches.iter_mut().filter(|batch| batch.whole > 0) {
            // A consumer that has gone takes its messages with it.
            let _ = lock(&batch.consumer.socket).write_all(&batch.bytes[..batch.whole]);
            batch.bytes.drain(..batch.whole);
            batch.whole = 0;
        }
        if self.confirming && self.published > self.confirmed {
            self.confirmed = self.published;
            let ack = basic::Ack {
                delivery_tag: self.published,
                multiple: true,
            };
            return self.answer(1, AMQPClass::Basic(basic::AMQPMethod::Ack(ack)));
        }
        Ok(())
    }

    fn method(&mut self, frame: &[u8]) -> io::Result<()> {
        let Ok((_, AMQPFrame::Method(number, method))) = parse_frame(frame) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let answer = match method {
            AMQPClass::Connection(method) => return self.connection(method),
            AMQPClass::Channel(channel::AMQPMethod::Open(_)) => {
                AMQPClass::Channel(channel::AMQPMethod::OpenOk(channel::OpenOk {}))
            }
            AMQPClass::Confirm(_) => {
                self.confirming = true;
                AMQPClass::Confirm(confirm::AMQPMethod::SelectOk(confirm::SelectOk {}))
            }
            AMQPClass::Exchange(method) => AMQPClass::Exchange(match method {
                exchange::AMQPMethod::Delete(_) => {
                    exchange::AMQPMethod::DeleteOk(exchange::DeleteOk {})
                }
                _ => exchange::AMQPMethod::DeclareOk(exchange::DeclareOk {}),
            }),
            AMQPClass::Queue(method) => AMQPClass::Queue(self.queue(method)),
            AMQPClass::Basic(method) => AMQPClass::Basic(self.basic(method)?),
            _ => return Err(io::ErrorKind::Unsupported.into()),
        };
        self.answer(number, answer)
    }

    fn connection(&mut self, method: connection::AMQPMethod) -> io::Result<()> {
        use connection::AMQPMethod as Method;
        let answer = match method {
            Method::StartOk(_) => Method::Tune(connection::Tune {
                channel_max: 2047,
                frame_max: 131_072,
                heartbeat: 0,
            }),
            Method::Open(_) => Method::OpenOk(connection::OpenOk {}),
            Method::Close(_) => Method::CloseOk(connection::CloseOk {}),
            _ => return Ok(()),
        };
        self.answer_connection(answer)
    }

    fn queue(&self, method: queue::AMQPMethod) -> queue::AMQPMethod {
        use queue::AMQPMethod as Method;
        match method {
            Method::Declare(declare) => {
                let name = declare.queue;
                lock(&self.broker.queues)
                    .entry(name.as_str().into())
                    .or_default();
                Method::DeclareOk(queue::DeclareOk {
                    queue: name,
                    message_count: 0,
                    consumer_count: 0,
                })
            }
            Method::Bind(bind) => {
                let queue = lock(&self.broker.queues)
                    .entry(bind.queue.as_str().into())
                    .or_default()
                    .clone();
                let mut bound = lock(&self.broker.bound);
                let queues = bound.entry(bind.exchange.as_str().into()).or_default();
                if !queues.iter().any(|other| Arc::ptr_eq(other, &queue)) {
                    queues.push(queue);
                }
                Method::BindOk(queue::BindOk {})
            }
            Method::Delete(delete) => {
                lock(&self.broker.queues).remove(delete.queue.as_str().as_bytes());
                lock(&self.broker.bound).clear();
                Method::DeleteOk(queue::DeleteOk { message_count: 0 })
            }
            Method::Unbind(_) => Method::UnbindOk(queue::UnbindOk {}),
            _ => Method::PurgeOk(queue::PurgeOk { message_count: 0 }),
        }
    }

    fn basic(&mut self, method: basic::AMQPMethod) -> io::Result<basic::AMQPMethod> {
        use basic::AMQPMethod as Method;
        Ok(match method {
            Method::Qos(_) => Method::QosOk(basic::QosOk {}),
            Method::Consume(consume) => {
                let name = consume.queue.as_str().as_bytes();
                let queue = lock(&self.broker.queues)
                    .entry(name.into())
                    .or_default()
                    .clone();
                let mut tag = vec![0, 60, 0, 60, consume.consumer_tag.as_str().len() as u8];
                tag.extend_from_slice(consume.consumer_tag.as_str().as_bytes());
                let socket = Mutex::new(self.socket.try_clone()?);
                let consumer = Arc::new(Consumer {
                    socket,
                    tag,
                    next_tag: AtomicU64::new(1),
                });
                lock(&queue.consumers).push(consumer.clone());
                self.consuming.push((queue, consumer));
                Method::ConsumeOk(basic::ConsumeOk {
                    consumer_tag: consume.consumer_tag,
                })
            }
            _ => return Err(io::ErrorKind::Unsupported.into()),
        })
    }

    fn answer_connection(&mut self, method: connection::AMQPMethod) -> io::Result<()> {
        self.answer(0, AMQPClass::Connection(method))
    }

    fn answer(&mut self, number: u16, method: AMQPClass) -> io::Result<()> {
        let frame = AMQPFrame::Method(number, method);
        let written = gen_frame(&frame)(WriteContext::from(Vec::new()));
        let (bytes, _) = written.map_err(io::Error::other)?.into_inner();
        self.socket.write_all(&bytes)
    }
}

impl Broker {
    /// Where a message with these names goes: exchange and routing key, each a short string.
    fn route(&self, names: &[u8]) -> Vec<Arc<Queue>> {
        let (exchange, key) = names[1..].split_at(usize::from(names[0]));
        if exchange.is_empty() {
            lock(&self.queues)
                .get(&key[1..])
                .into_iter()
                .cloned()
                .collect()
        } else {
            lock(&self.bound).get(exchange).cloned().unwrap_or_default()
        }
    }
}

impl Queue {
    fn next_consumer(&self) -> Option<Arc<Consumer>> {
        let consumers = lock(&self.consumers);
        let turn = match consumers.len() {
            0 => return None,
            1 => 0,
            length => self.turn.fetch_add(1, Ordering::Relaxed) as usize % length,
        };
        consumers.get(turn).cloned()
    }
}

impl Batch {
    /// Appends basic.deliver with the names as they came.
    fn deliver(&mut self, names: &[u8]) {
        let Self {
            consumer, bytes, ..
        } = self;
        let size = (consumer.tag.len() + 9 + names.len()) as u32;
        bytes.extend_from_slice(&[METHOD, 0, 1]);
        bytes.extend_from_slice(&size.to_be_bytes());
        bytes.extend_from_slice(&consumer.tag);
        bytes.extend_from_slice(
            &consumer
                .next_tag
                .fetch_add(1, Ordering::Relaxed)
                .to_be_bytes(),
        );
        bytes.push(0);
        bytes.extend_from_slice(names);
        bytes.push(0xCE);
    }
}

/// The first frame in `bytes`, if it is there in full.
fn whole_frame(bytes: &[u8]) -> Option<&[u8]> {
    let size = bytes
        .get(3..HEAD_BYTES)?
        .iter()
        .fold(0, |size, byte| size << 8 | usize::from(*byte));
    bytes.get(..HEAD_BYTES + size + 1)
}

/// A thread that panicked has left nothing half done that another would mind.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
