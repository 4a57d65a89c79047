//! An open connection: one task that reads, writes and answers wake-ups.
//!
//! - [`events`]: what can happen next, polled in one place.
//! - [`input`]: frames in, methods to channels. [`body`]: large body frames, straight into their message.
//! - [`closing`]: the ways a connection ends.
//! - [`secret`]: what connection.update-secret changes.
//!
//! Everything between two events is synchronous. What a method waits for is a [`Pause`]: nothing more is read until it
//! is over, while deliveries, confirms and heartbeats go on.
//!
//! ```text
//!  Open --client's close--> Flushing --written--> Lingering --client's end, or time--> gone
//!  Open --connection error, broker's close--> Closing --close-ok, close or time--> Flushing --> ...
//!  any  --socket error, missed heartbeats--> gone
//! ```

mod body;
mod closing;
mod events;
mod input;
mod secret;

use std::sync::Arc;
use std::time::Duration;

use amq_protocol::protocol::{AMQPClass, connection};
use hashbrown::HashMap;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use self::body::BodyFrame;
use self::events::Event;
use super::channel::{Channel, Wait};
use super::frame;
use super::outbox::OUTBOX_HARD_BYTES_MAX;
use super::outbox::buffer::WriteBuffer;
use super::read_buffer::ReadBuffer;
use super::session::{Connections, Session};
use crate::message::{Epoch, Ticket};
use crate::rate::Throttle;
use crate::store::Waiter;

/// How long the client may take to answer connection.close.
const CLOSE_OK_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a connection ended whose client let [`Config::send_timeout`](crate::config::Config) pass with a full outbox.
const STALLED: &str = "client reads nothing of what waits for it";

/// A read of this size or more means that the client sends faster than it is served.
const BUSY_READ_BYTES: usize = 32 * 1024;

/// How long a publisher that consumes too waits at most after a read while its queues have a backlog: its own
/// acknowledgements may be what these wait for.
const BACKLOG_PAUSE_OF_CONSUMERS: Duration = Duration::from_millis(1);

/// How long a client may take to end its socket after the closing handshake.
const LINGER_TIMEOUT: Duration = Duration::from_secs(1);

/// What was agreed on in the handshake, for the running connection.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Largest frame in either direction, bytes.
    pub frame_max_bytes: u32,
    /// Highest channel number.
    pub channel_max: u16,
    /// Heartbeat interval, 0 for none.
    pub heartbeat_seconds: u16,
}

/// Why nothing is read at the moment.
enum Pause {
    /// A method waits for the disk or for a cold queue.
    Channel { channel: u16, wait: Wait },
    /// Too much is appended and not durable.
    StoreRoom { epoch: Epoch },
    /// Resident chunks are far over their budget.
    QueueMemory { round: u64 },
    /// An alarm is on and this connection has published.
    Alarm,
    /// Consumers are behind: they get a little time, whatever they do with it.
    Backlog { until: Instant },
    /// It is faster than these allow: asked again then.
    Rate {
        owed: Vec<Arc<Throttle>>,
        until: Instant,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// connection.close was sent; everything but close and close-ok is ignored.
    Closing {
        deadline: Instant,
    },
    /// The last frames are on their way out.
    Flushing {
        deadline: Instant,
    },
    /// All is said. As in RabbitMQ it is for the client to end the socket; some take its end for an error otherwise.
    Lingering {
        deadline: Instant,
    },
}

/// A connection after its handshake.
pub struct Connection<S> {
    stream: S,
    session: Arc<Session>,
    limits: Limits,
    phase: Phase,
    read: ReadBuffer,
    /// A body frame whose end has not come; then `read` is empty, or begins with the frame's end octet.
    body: Option<BodyFrame>,
    /// The messages that come are large: read little ahead of a body.
    expects_bodies: bool,
    writing: WriteBuffer,
    channels: HashMap<u16, Channel>,
    pause: Option<Pause>,
    /// connection.blocked was sent.
    told_blocked: bool,
    /// Asked the store to wake this task at that position.
    subscribed: Ticket,
    /// A thread that waits for the disk leaves others to serve the other connections.
    may_commit: bool,
    /// Of the input that is being handled.
    has_only_published: bool,
    ticks: Option<Interval>,
    heartbeat: Heartbeat,
    /// Since when nothing could be written while the outbox is over its hard limit.
    stalled_since: Option<Instant>,
}

/// Heartbeats: one is sent when nothing was for half the interval; the peer is given up after two silent ones.
#[derive(Debug, Default)]
struct Heartbeat {
    sent: bool,
    received: bool,
    odd: bool,
    missed: u8,
}

/// Runs a connection until it ends, and leaves nothing behind.
pub async fn serve<S>(
    stream: S,
    session: Arc<Session>,
    limits: Limits,
    leftover: &[u8],
    connections: &Connections,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    connections.opened(session.id, &session.outbox);
    let mut connection = Connection::new(stream, session.clone(), limits, leftover);
    let reason = connection.run().await;
    connection.terminate();
    connections.closed(session.id);
    let (peer, id) = (&session.peer, session.id);
    if reason == STALLED {
        tracing::warn!(%peer, connection = id, reason, "closed connection");
    } else {
        tracing::info!(%peer, connection = id, reason, "closed connection");
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    fn new(stream: S, session: Arc<Session>, limits: Limits, leftover: &[u8]) -> Self {
        let ticks = (limits.heartbeat_seconds > 0).then(|| {
            let period = Duration::from_millis(u64::from(limits.heartbeat_seconds) * 500);
            let mut ticks = interval_at(Instant::now() + period, period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        });
        Self {
            stream,
            session,
            limits,
            phase: Phase::Open,
            read: ReadBuffer::with(leftover),
            body: None,
            expects_bodies: false,
            writing: WriteBuffer::default(),
            channels: HashMap::new(),
            pause: None,
            told_blocked: false,
            subscribed: Ticket::IMMEDIATE,
            may_commit: Handle::current().metrics().num_workers() > 1,
            has_only_published: true,
            ticks,
            heartbeat: Heartbeat::default(),
            stalled_since: None,
        }
    }

    /// Answers why the connection ended, for the log.
    async fn run(&mut self) -> &'static str {
        self.input();
        loop {
            match self.next_event().await {
                Event::Input(count) => {
                    self.heartbeat.received = true;
                    self.input();
                    self.give_consumers_time();
                    // A publisher that could go on for ever lets the others have their turn.
                    if count >= BUSY_READ_BYTES {
                        tokio::task::yield_now().await;
                    }
                }
                Event::Woken => self.woken(),
                Event::Tick => {
                    if self.tick().is_none() {
                        return "missed heartbeats from client";
                    }
                }
                Event::Flushed => {
                    let deadline = Instant::now() + LINGER_TIMEOUT;
                    self.phase = Phase::Lingering { deadline };
                }
                Event::TimedOut | Event::Ended | Event::Failed(_)
                    if matches!(self.phase, Phase::Lingering { .. }) =>
                {
                    return "closed";
                }
                Event::Stalled => return STALLED,
                Event::TimedOut => return "client did not finish closing in time",
                Event::Ended => return "client closed the socket",
                Event::Failed(error) => {
                    tracing::debug!(peer = %self.session.peer, %error, "socket error");
                    return "socket error";
                }
            }
        }
    }

    /// Slows a publisher down while the consumers of its queues are behind: what they take from memory need not be
    /// written and read back. It is never stopped by them.
    fn give_consumers_time(&mut self) {
        let (mut pause_ms, mut consumes) = (0, false);
        for channel in self.channels.values_mut() {
            pause_ms = channel.take_backlog_pause_ms().max(pause_ms);
            consumes |= channel.has_consumers();
        }
        if pause_ms > 0 && self.pause.is_none() && self.phase == Phase::Open {
            let mut pause = Duration::from_millis(pause_ms);
            if consumes {
                pause = pause.min(BACKLOG_PAUSE_OF_CONSUMERS);
            }
            self.pause = Some(Pause::Backlog {
                until: Instant::now() + pause,
            });
        }
    }

    /// Whether input is wanted at the moment.
    fn reads(&self) -> bool {
        self.pause.is_none()
            && !matches!(self.phase, Phase::Flushing { .. })
            && self.session.outbox.queued_bytes() < OUTBOX_HARD_BYTES_MAX
    }

    /// Somebody has something for this connection, or what it waits for may be over.
    fn woken(&mut self) {
        if let Some(explanation) = self.session.outbox.take_close_request() {
            self.close_forced(&explanation);
        }
        for cancelled in self.session.outbox.take_cancelled() {
            let outcome = match self.channels.get_mut(&cancelled.channel) {
                Some(channel) => channel.consumer_cancelled(&self.session, &cancelled),
                None => Ok(()),
            };
            if let Err(error) = outcome {
                self.close_channel(cancelled.channel, &error, (0, 0));
            }
        }
        self.session.resume(self.session.outbox.take_stalled());
        self.release_confirms();
        self.unpause();
    }

    fn owes_confirms(&self) -> bool {
        let mut channels = self.channels.values();
        channels.any(|channel| channel.owed_ticket().is_some())
    }

    /// Sends confirms whose epoch is durable and asks to be woken for the next.
    fn release_confirms(&mut self) {
        let mut next: Option<Ticket> = None;
        for channel in self.channels.values_mut() {
            if channel.owed_ticket().is_none() {
                continue;
            }
            channel.release_confirms(&self.session);
            if let Some(ticket) = channel.owed_ticket()
                && next.is_none_or(|earliest| ticket.position < earliest.position)
            {
                next = Some(ticket);
            }
        }
        if let Some(ticket) = next {
            self.wake_when_durable(ticket);
        }
    }

    fn wake_when_durable(&mut self, ticket: Ticket) {
        let store = &self.session.broker.services.store;
        // One subscription is enough: the earliest that is still to come.
        if self.subscribed == ticket && !store.is_durable(ticket) {
            return;
        }
        self.subscribed = ticket;
        store.subscribe(ticket, self.waiter());
    }

    fn waiter(&self) -> Arc<dyn Waiter> {
        self.session.outbox.clone()
    }

    /// Goes on reading if what was waited for is over. A pause that goes on is registered already with what ends it.
    fn unpause(&mut self) {
        let Some(pause) = self.pause.take() else {
            return;
        };
        let services = &self.session.broker.services;
        let goes_on = match &pause {
            Pause::Channel { wait, .. } => match wait {
                Wait::Durable { ticket, .. }
                | Wait::Consume { ticket, .. }
                | Wait::Mark { ticket, .. } => !services.store.is_durable(*ticket),
                Wait::Loading {
                    queue, loads_done, ..
                } => queue.loads_done() == *loads_done && queue.is_loading(),
            },
            Pause::StoreRoom { epoch } => services.store.durable() < *epoch,
            Pause::QueueMemory { round } => services.memory.round() == *round,
            Pause::Alarm => services.alarms.is_raised(),
            Pause::Backlog { until } | Pause::Rate { until, .. } => Instant::now() < *until,
        };
        if goes_on {
            self.pause = Some(pause);
            return;
        }
        match pause {
            Pause::Channel { channel, wait } => self.waited(channel, wait),
            Pause::StoreRoom { .. } if !services.store.has_room() => self.wait_for_store_room(),
            Pause::QueueMemory { .. } if services.memory.is_far_over() => self.wait_for_memory(),
            Pause::Rate { owed, .. } => self.wait_for_rate(owed),
            Pause::Alarm if std::mem::take(&mut self.told_blocked) => {
                let unblocked = connection::AMQPMethod::Unblocked(connection::Unblocked {});
                let unblocked = AMQPClass::Connection(unblocked);
                self.session.outbox.send(0, &unblocked);
            }
            _ => {}
        }
        if self.pause.is_none() {
            self.input();
        }
    }

    /// The method that a channel waited with can be finished.
    fn waited(&mut self, channel: u16, wait: Wait) {
        match wait {
            Wait::Durable { reply, .. } => {
                if let Some(reply) = reply {
                    self.session.outbox.send(channel, &reply);
                }
            }
            Wait::Consume { start, .. } => {
                if let Some(channel) = self.channels.get(&channel) {
                    channel.start_consumer(&self.session, start);
                }
            }
            // Only basic.get waits for these.
            Wait::Loading { method, .. } | Wait::Mark { method, .. } => {
                self.method(channel, *method, (60, 70));
            }
        }
    }

    /// Reads nothing more until what a method waits for is there.
    fn wait_for_method(&mut self, channel: u16, mut wait: Wait) {
        let waiter = self.waiter();
        match &mut wait {
            Wait::Durable { ticket, .. }
            | Wait::Consume { ticket, .. }
            | Wait::Mark { ticket, .. } => {
                let store = &self.session.broker.services.store;
                store.subscribe(*ticket, waiter);
            }
            Wait::Loading {
                queue, loads_done, ..
            } => match queue.when_loaded(waiter) {
                Some(so_far) => *loads_done = so_far,
                // It came in the meantime.
                None => self.session.outbox.wake(),
            },
        }
        self.pause = Some(Pause::Channel { channel, wait });
    }

    /// Reads nothing more until less is appended and not durable: the next epoch may make room.
    fn wait_for_store_room(&mut self) {
        let store = &self.session.broker.services.store;
        let epoch = store.durable() + 1;
        store.subscribe(Ticket::local(epoch), self.waiter());
        self.pause = Some(Pause::StoreRoom { epoch });
    }

    /// Reads nothing more until eviction has caught up.
    fn wait_for_memory(&mut self) {
        let round = self.session.broker.services.memory.when_room(self.waiter());
        self.pause = Some(Pause::QueueMemory { round });
    }

    /// Reads nothing more until the alarm is over.
    fn wait_for_alarm(&mut self) {
        self.pause = Some(Pause::Alarm);
        let alarms = &self.session.broker.services.alarms;
        alarms.when_cleared(self.waiter());
    }

    /// Reads nothing more until these rates allow it. They are asked again in a second at the latest: others may have
    /// been faster, and limits change.
    fn wait_for_rate(&mut self, owed: Vec<Arc<Throttle>>) {
        let now_ms = self.session.broker.services.now_ms();
        let waits = owed.iter().map(|throttle| throttle.wait_ms(now_ms));
        let wait_ms = waits.max().unwrap_or(0);
        if wait_ms > 0 {
            let until = Instant::now() + Duration::from_millis(wait_ms);
            self.pause = Some(Pause::Rate { owed, until });
        }
    }

    /// What a channel did may have been more than rates allow.
    fn hold_to_rates(&mut self, channel: u16) {
        if self.pause.is_none()
            && let Some(channel) = self.channels.get_mut(&channel)
            && channel.owes_any()
        {
            let owed = channel.take_owed();
            self.wait_for_rate(owed);
        }
    }

    /// Half a heartbeat interval has passed. `None`: the peer is silent for too long.
    fn tick(&mut self) -> Option<()> {
        if !std::mem::take(&mut self.heartbeat.sent) && self.phase == Phase::Open {
            frame::put_heartbeat(self.session.outbox.lock().buffer.bytes_mut());
        }
        self.heartbeat.odd = !self.heartbeat.odd;
        if self.heartbeat.odd {
            return Some(());
        }
        // A connection that is not read cannot show that it lives (semantics row 69).
        if std::mem::take(&mut self.heartbeat.received) || !self.reads() {
            self.heartbeat.missed = 0;
        } else {
            self.heartbeat.missed += 1;
        }
        (self.heartbeat.missed < 2).then_some(())
    }
}
