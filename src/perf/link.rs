//! One connection under load: its socket, its buffers, and the publisher or consumer on it.

use std::io::{self, Write};
use std::net;
use std::os::fd::OwnedFd;

use amq_protocol::frame::AMQPFrame;
use amq_protocol::protocol::{AMQPClass, basic, channel, connection};
use mio::net::TcpStream;

use super::check::{Seen, Sent};
use super::client::Opened;
use super::consumer::Consumer;
use super::error::PerfError;
use super::frame::{self, BODY, Frame, FrameError, HEADER, Input, METHOD};
use super::publisher::Publisher;
use super::stamp::Clock;

/// Size of a consumer's read buffer: deliveries come in bulk. Publishers read confirms only.
const CONSUMER_INPUT_BYTES: usize = 256 << 10;
const PUBLISHER_INPUT_BYTES: usize = 16 << 10;
/// What one connection reads and writes before the others of its thread have their turn.
const READS_PER_TURN_MAX: usize = 4;
const WRITES_PER_TURN_MAX: usize = 2;
/// Nothing more is read while this many bytes of acknowledgements are not written: a client that took deliveries faster
/// than the broker takes their acknowledgements would hold ever more of them, and so would the broker.
const UNWRITTEN_BYTES_MAX: usize = 64 << 10;

/// What a connection is for.
pub(super) enum Role {
    Publisher(Box<Publisher>),
    Consumer(Box<Consumer>),
}

/// One connection under load.
pub(super) struct Link {
    pub(super) stream: TcpStream,
    pub(super) role: Role,
    input: Input,
    control: Control,
    name: String,
    /// What the poller said last, until the socket says otherwise.
    readable: bool,
    writable: bool,
    /// The peer has closed its side: read on until the end of the stream.
    pub(super) ending: bool,
    heartbeat: Option<Heartbeat>,
}

/// Small frames on their way: acknowledgements, heartbeats, answers.
#[derive(Debug, Default)]
struct Control {
    bytes: Vec<u8>,
    written: usize,
}

#[derive(Debug)]
struct Heartbeat {
    interval_ns: u64,
    sent_ns: u64,
    received_ns: u64,
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// There is more to do at once.
    pub(super) again: bool,
    /// There is more to do at this time.
    pub(super) wake_ns: Option<u64>,
}

/// What is left of a connection at the end of a run.
pub(super) struct Remains {
    pub(super) stream: net::TcpStream,
    pub(super) unwritten: Vec<u8>,
    pub(super) sent: Option<Sent>,
    pub(super) seen: Option<Seen>,
}

impl Link {
    /// Takes over an opened connection; `control` is what it says first.
    pub(super) fn new(opened: Opened, role: Role, control: Vec<u8>) -> Result<Self, PerfError> {
        opened.stream.set_nonblocking(true)?;
        let input_bytes = match role {
            Role::Publisher(_) => PUBLISHER_INPUT_BYTES,
            Role::Consumer(_) => CONSUMER_INPUT_BYTES,
        };
        let heartbeat = opened.heartbeat.map(|interval| Heartbeat {
            interval_ns: interval.as_nanos() as u64,
            sent_ns: 0,
            received_ns: 0,
        });
        Ok(Self {
            stream: TcpStream::from_std(opened.stream),
            role,
            input: Input::new(input_bytes, opened.frame_bytes_max, &opened.rest),
            control: Control {
                bytes: control,
                written: 0,
            },
            name: opened.role,
            readable: true,
            writable: true,
            ending: false,
            heartbeat,
        })
    }

    pub(super) fn set_ready(&mut self, readable: bool, writable: bool) {
        self.readable |= readable;
        self.writable |= writable;
    }

    /// Reads, thinks and writes, as far as the socket goes along but not for long.
    pub(super) fn turn(&mut self, clock: Clock) -> Result<Turn, PerfError> {
        let more_input = self.read(clock)?;
        let was_behind = self.control.is_behind();
        let more_output = self.write(clock)?;
        let catches_up = was_behind && !self.control.is_behind();
        let wake_ns = match &self.role {
            Role::Publisher(publisher) if self.writable => publisher.wake_ns(clock.now_ns()),
            Role::Publisher(_) => None,
            Role::Consumer(consumer) => consumer.wake_ns(),
        };
        Ok(Turn {
            again: more_input || more_output || catches_up,
            wake_ns,
        })
    }

    /// Returns whether the socket may hold more that is wanted.
    fn read(&mut self, clock: Clock) -> Result<bool, PerfError> {
        self.take_frames(clock.now_ns())?;
        for _ in 0..READS_PER_TURN_MAX {
            if !self.readable || !self.role.open() || self.control.is_behind() {
                return Ok(false);
            }
            match self.input.fill(&mut self.stream) {
                Ok((0, _)) => return Err(self.lost(io::ErrorKind::UnexpectedEof.into())),
                // A buffer not filled means a socket emptied; the poller tells when that changes.
                Ok((_, filled)) => self.readable = filled || self.ending,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.readable = false;
                    return Ok(false);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.lost(error)),
            }
            let now_ns = clock.now_ns();
            if let Some(heartbeat) = &mut self.heartbeat {
                heartbeat.received_ns = now_ns;
            }
            self.take_frames(now_ns)?;
        }
        Ok(self.readable && self.role.open() && !self.control.is_behind())
    }

    /// Hands all frames that are there to the role, as far as it wants them.
    fn take_frames(&mut self, now_ns: u64) -> Result<(), PerfError> {
        let Self {
            role,
            input,
            control,
            name,
            ..
        } = self;
        role.start_of_input(now_ns);
        loop {
            if !role.open() {
                break;
            }
            let protocol = |error: FrameError| PerfError::Protocol {
                role: name.clone(),
                what: error.to_string(),
            };
            let Some(frame) = input.next().map_err(protocol)? else {
                break;
            };
            if !role.take(&frame, &mut control.bytes).map_err(protocol)? {
                role.take_rare(&frame, &mut control.bytes, name)?;
            }
        }
        role.end_of_input(now_ns, &mut control.bytes);
        Ok(())
    }

    /// Returns whether there is more to write and the socket takes it.
    fn write(&mut self, clock: Clock) -> Result<bool, PerfError> {
        for _ in 0..WRITES_PER_TURN_MAX {
            if !self.writable {
                return Ok(false);
            }
            let Self {
                role,
                control,
                stream,
                ..
            } = self;
            let mid_batch = role.mid_batch();
            let control_first = !mid_batch && !control.is_empty();
            let piece = match role {
                _ if control_first => control.rest(),
                Role::Publisher(publisher) => publisher.outgoing(|| clock.now_ns()),
                Role::Consumer(_) => return Ok(false),
            };
            if piece.is_empty() {
                return Ok(false);
            }
            let wanted = piece.len();
            let written = match stream.write(piece) {
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.lost(error)),
            };
            self.writable = written == wanted;
            match role {
                _ if control_first => control.wrote(written),
                Role::Publisher(publisher) => publisher.wrote(written),
                Role::Consumer(_) => {}
            }
            if written > 0
                && let Some(heartbeat) = &mut self.heartbeat
            {
                heartbeat.sent_ns = clock.now_ns();
            }
        }
        Ok(true)
    }

    /// Sends a heartbeat when one is due; a broker silent for two intervals is lost.
    pub(super) fn tick(&mut self, now_ns: u64) -> Result<(), PerfError> {
        let Some(heartbeat) = &mut self.heartbeat else {
            return Ok(());
        };
        if now_ns.saturating_sub(heartbeat.sent_ns) > heartbeat.interval_ns / 2 {
            heartbeat.sent_ns = now_ns;
            if self.control.is_empty() {
                frame::push(&mut self.control.bytes, &AMQPFrame::Heartbeat);
            }
        }
        // One who does not read on purpose, as a limited consumer, cannot judge.
        let silence_ns = now_ns.saturating_sub(heartbeat.received_ns);
        let since_start = heartbeat.received_ns == 0;
        if !self.readable
            && !since_start
            && silence_ns > 2 * heartbeat.interval_ns + heartbeat.interval_ns / 2
        {
            return Err(self.lost(io::ErrorKind::TimedOut.into()));
        }
        Ok(())
    }

    /// Ends the connection's part in the run.
    pub(super) fn into_remains(self) -> Remains {
        let Self {
            stream,
            role,
            mut control,
            ..
        } = self;
        let stream = net::TcpStream::from(OwnedFd::from(stream));
        match role {
            Role::Publisher(publisher) => {
                let (sent, mut unwritten) = publisher.finish();
                unwritten.extend_from_slice(control.rest());
                Remains {
                    stream,
                    unwritten,
                    sent: Some(sent),
                    seen: None,
                }
            }
            Role::Consumer(mut consumer) => {
                consumer.finish(&mut control.bytes);
                let unwritten = control.rest().to_vec();
                Remains {
                    stream,
                    unwritten,
                    sent: None,
                    seen: consumer.into_seen(),
                }
            }
        }
    }

    fn lost(&self, source: io::Error) -> PerfError {
        PerfError::Lost {
            role: self.name.clone(),
            source,
        }
    }
}

impl Role {
    fn open(&self) -> bool {
        match self {
            Self::Publisher(_) => true,
            Self::Consumer(consumer) => consumer.open(),
        }
    }

    fn mid_batch(&self) -> bool {
        matches!(self, Self::Publisher(publisher) if publisher.mid_batch())
    }

    fn start_of_input(&mut self, now_ns: u64) {
        if let Self::Consumer(consumer) = self {
            consumer.start_of_input(now_ns);
        }
    }

    fn end_of_input(&mut self, now_ns: u64, out: &mut Vec<u8>) {
        match self {
            Self::Publisher(publisher) => publisher.end_of_input(now_ns),
            Self::Consumer(consumer) => consumer.end_of_input(out),
        }
    }

    /// Takes a frame of a message or a confirm; `false` for any other.
    fn take(&mut self, frame: &Frame<'_>, out: &mut Vec<u8>) -> Result<bool, FrameError> {
        match (frame.kind, &mut *self) {
            (METHOD, _) => {
                let (number, arguments) = frame.method()?;
                return match self {
                    Self::Publisher(publisher) => publisher.method(number, arguments),
                    Self::Consumer(consumer) => consumer.method(number, arguments),
                };
            }
            (HEADER, Self::Publisher(publisher)) => publisher.header(frame)?,
            (HEADER, Self::Consumer(consumer)) => consumer.header(frame, out)?,
            (BODY, Self::Publisher(publisher)) => publisher.body(frame.payload)?,
            (BODY, Self::Consumer(consumer)) => consumer.body(frame.payload, out)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Takes a frame that comes once in a while.
    fn take_rare(
        &mut self,
        frame: &Frame<'_>,
        out: &mut Vec<u8>,
        name: &str,
    ) -> Result<(), PerfError> {
        let role = || name.to_owned();
        let unexpected = |what: String| PerfError::Protocol { role: role(), what };
        let method = match frame.decode() {
            Some(AMQPFrame::Method(_, method)) => method,
            Some(AMQPFrame::Heartbeat) => return Ok(()),
            _ => return Err(unexpected("a frame that cannot be read".into())),
        };
        match (method, self) {
            (AMQPClass::Connection(connection::AMQPMethod::Close(close)), _) => {
                let (code, text) = (close.reply_code, close.reply_text.to_string());
                Err(PerfError::ConnectionClosed {
                    role: role(),
                    code,
                    text,
                })
            }
            (AMQPClass::Channel(channel::AMQPMethod::Close(close)), _) => {
                let (code, text) = (close.reply_code, close.reply_text.to_string());
                Err(PerfError::ChannelClosed {
                    role: role(),
                    code,
                    text,
                })
            }
            (AMQPClass::Connection(connection::AMQPMethod::Blocked(_)), role) => {
                role.pause(true);
                Ok(())
            }
            (AMQPClass::Connection(connection::AMQPMethod::Unblocked(_)), role) => {
                role.pause(false);
                Ok(())
            }
            (AMQPClass::Channel(channel::AMQPMethod::Flow(flow)), role) => {
                role.pause(!flow.active);
                let ok = channel::AMQPMethod::FlowOk(channel::FlowOk {
                    active: flow.active,
                });
                frame::push(out, &AMQPFrame::Method(1, AMQPClass::Channel(ok)));
                Ok(())
            }
            (AMQPClass::Basic(basic::AMQPMethod::ConsumeOk(_)), Self::Consumer(consumer)) => {
                consumer.subscribed();
                Ok(())
            }
            (AMQPClass::Basic(basic::AMQPMethod::QosOk(_)), Self::Consumer(_)) => Ok(()),
            (AMQPClass::Basic(basic::AMQPMethod::Cancel(cancel)), Self::Consumer(consumer)) => {
                let queue = consumer.queue_name(cancel.consumer_tag.as_str());
                Err(PerfError::Cancelled {
                    role: role(),
                    queue,
                })
            }
            (method, _) => Err(unexpected(format!("unexpected {method:?}"))),
        }
    }

    fn pause(&mut self, pause: bool) {
        if let Self::Publisher(publisher) = self {
            publisher.pause(pause);
        }
    }
}

impl Control {
    fn is_empty(&self) -> bool {
        self.written == self.bytes.len()
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    /// The broker does not take what is written as fast as it comes.
    fn is_behind(&self) -> bool {
        self.rest().len() > UNWRITTEN_BYTES_MAX
    }

    fn wrote(&mut self, bytes: usize) {
        self.written += bytes;
        if self.is_empty() {
            self.bytes.clear();
            self.written = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::Arc;

    use super::super::args::PerfArgs;
    use super::super::meter::Meter;
    use super::super::settings::Settings;
    use super::*;

    /// basic.deliver with tag `tag` to consumer "0", an empty message.
    fn push_empty_delivery(out: &mut Vec<u8>, tag: u64) {
        out.extend_from_slice(b"\x01\x00\x01\x00\x00\x00\x11\x00\x3c\x00\x3c\x010");
        out.extend_from_slice(&tag.to_be_bytes());
        out.extend_from_slice(b"\x00\x00\x00\xCE");
        out.extend_from_slice(
            b"\x02\x00\x01\x00\x00\x00\x0e\x00\x3c\x00\x00\0\0\0\0\0\0\0\0\0\0\xCE",
        );
    }

    fn consuming_link() -> (Link, net::TcpStream) {
        let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (peer, _) = listener.accept().unwrap();
        let settings = Settings::new(PerfArgs::default()).unwrap();
        let queues = vec![(0, "q".into())];
        let consumer = Consumer::new(
            queues,
            0,
            &settings.consuming,
            false,
            Arc::new(Meter::new()),
        );
        let opened = Opened {
            stream,
            role: "consumer".into(),
            rest: Vec::new(),
            frame_bytes_max: 131_072,
            heartbeat: None,
        };
        let role = Role::Consumer(Box::new(consumer));
        (Link::new(opened, role, Vec::new()).unwrap(), peer)
    }

    #[test]
    fn a_consumer_whose_acknowledgements_nobody_takes_stops_reading_until_somebody_does() {
        let (mut link, mut peer) = consuming_link();
        let clock = Clock::start();
        let mut deliveries = Vec::new();
        (1..=10_000).for_each(|tag| push_empty_delivery(&mut deliveries, tag));
        peer.set_nonblocking(true).unwrap();
        let mut unsent: &[u8] = &[];
        let mut refusals = 0;
        // The peer sends without end and reads nothing: the sockets fill in both directions.
        while refusals < 1000 {
            if unsent.is_empty() {
                unsent = &deliveries;
            }
            match peer.write(unsent) {
                Ok(written) => {
                    unsent = &unsent[written..];
                    refusals = 0;
                }
                Err(_) => refusals += 1,
            }
            link.set_ready(true, true);
            link.turn(clock).unwrap();
            let most = UNWRITTEN_BYTES_MAX + CONSUMER_INPUT_BYTES;
            assert!(
                link.control.rest().len() <= most,
                "{}",
                link.control.rest().len()
            );
        }
        assert!(link.control.is_behind());
        let mut acknowledgements = vec![0; 1 << 20];
        while link.control.is_behind() {
            while peer.read(&mut acknowledgements).is_ok_and(|read| read > 0) {}
            link.set_ready(false, true);
            link.turn(clock).unwrap();
        }
        assert!(
            link.turn(clock).unwrap().again || !link.readable,
            "what arrived meanwhile is read without another word from the poller"
        );
    }
}
