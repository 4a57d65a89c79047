//! A thread that drives some of the connections: a poller, and a turn for each that has work.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use mio::{Events, Interest, Poll, Token, Waker};
use parking_lot::Mutex;

use super::alarm::Alarm;
use super::error::PerfError;
use super::link::{Link, Remains, Role};
use super::stamp::Clock;

const EVENTS_MAX: usize = 1024;
/// Turns between two looks at the sockets: a thousand publishers must not keep a consumer waiting.
const TURNS_MAX: usize = 32;
/// Heartbeats are looked after at this interval.
const TICK_NS: u64 = 1_000_000_000;
const ALARM: Token = Token(usize::MAX);
const WAKE: Token = Token(usize::MAX - 1);

/// How far the run has got. It only goes forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Phase {
    /// Consumers subscribe.
    Subscribe,
    /// Publishers publish.
    Publish,
    /// Publishers wait for confirms, consumers for what is left.
    Drain,
    /// All threads end.
    Stop,
}

/// What the threads and the reporter share.
pub(super) struct Shared {
    phase: AtomicU8,
    pub(super) clock: Clock,
    wakers: Mutex<Vec<Waker>>,
    /// What went wrong; the first entry ended the run.
    errors: Mutex<Vec<PerfError>>,
}

impl Shared {
    pub(super) fn new(clock: Clock) -> Self {
        let phase = AtomicU8::new(Phase::Subscribe as u8);
        Self {
            phase,
            clock,
            wakers: Mutex::new(Vec::new()),
            errors: Mutex::new(Vec::new()),
        }
    }

    fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Subscribe,
            1 => Phase::Publish,
            2 => Phase::Drain,
            _ => Phase::Stop,
        }
    }

    /// Moves on to `phase` and wakes all threads. A poller that cannot be woken has ended.
    pub(super) fn enter(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
        for waker in self.wakers.lock().iter() {
            let _ = waker.wake();
        }
    }

    fn fail(&self, error: PerfError) {
        self.errors.lock().push(error);
    }

    pub(super) fn failed(&self) -> bool {
        !self.errors.lock().is_empty()
    }

    pub(super) fn take_errors(&self) -> Vec<PerfError> {
        std::mem::take(&mut *self.errors.lock())
    }
}

/// A thread's connections and what wakes them.
pub(super) struct Worker {
    poll: Poll,
    alarm: Alarm,
    /// A connection that failed leaves its place empty.
    links: Vec<Option<Link>>,
    /// Connections that have work now, those of consumers in front; each at most once.
    runnable: VecDeque<usize>,
    queued: Vec<bool>,
    /// When connections have work later, the soonest first. Only the entry that agrees with
    /// `wakes` counts.
    timers: BinaryHeap<Reverse<(u64, usize)>>,
    wakes: Vec<Option<u64>>,
    phase: Phase,
    shared: Arc<Shared>,
}

impl Worker {
    pub(super) fn new(links: Vec<Link>, shared: Arc<Shared>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let alarm = Alarm::new(poll.registry(), ALARM)?;
        let mut links: Vec<_> = links.into_iter().map(Some).collect();
        for (number, link) in links.iter_mut().enumerate() {
            if let Some(link) = link {
                let interest = Interest::READABLE | Interest::WRITABLE;
                poll.registry()
                    .register(&mut link.stream, Token(number), interest)?;
            }
        }
        shared
            .wakers
            .lock()
            .push(Waker::new(poll.registry(), WAKE)?);
        Ok(Self {
            poll,
            alarm,
            runnable: (0..links.len()).collect(),
            queued: vec![true; links.len()],
            wakes: vec![None; links.len()],
            links,
            timers: BinaryHeap::new(),
            phase: Phase::Subscribe,
            shared,
        })
    }

    /// Drives the connections until the run stops.
    pub(super) fn run(mut self) -> Vec<Remains> {
        if let Err(error) = self.drive() {
            self.shared.fail(error.into());
        }
        self.links
            .into_iter()
            .flatten()
            .map(Link::into_remains)
            .collect()
    }

    fn drive(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut tick_ns = TICK_NS;
        loop {
            let phase = self.shared.phase();
            if phase != self.phase {
                self.enter(phase);
            }
            if phase == Phase::Stop {
                return Ok(());
            }
            self.wait(&mut events, tick_ns)?;
            let now_ns = self.shared.clock.now_ns();
            self.expire(now_ns);
            if now_ns >= tick_ns {
                tick_ns = now_ns + TICK_NS;
                self.each(|link| link.tick(now_ns));
                (0..self.links.len()).for_each(|number| self.enqueue(number));
            }
            for _ in 0..self.runnable.len().min(TURNS_MAX) {
                if let Some(number) = self.runnable.pop_front() {
                    self.queued[number] = false;
                    self.turn(number);
                }
            }
        }
    }

    /// Waits for sockets, timers and the reporter; not at all while there is work.
    fn wait(&mut self, events: &mut Events, tick_ns: u64) -> io::Result<()> {
        let timeout = if self.runnable.is_empty() {
            let next_ns = self
                .timers
                .peek()
                .map_or(tick_ns, |Reverse((wake_ns, _))| *wake_ns);
            self.alarm
                .set(next_ns.min(tick_ns), self.shared.clock.now_ns())?
        } else {
            Some(Duration::ZERO)
        };
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            polled => polled?,
        }
        for event in events.iter() {
            let number = event.token().0;
            if let Some(Some(link)) = self.links.get_mut(number) {
                link.set_ready(event.is_readable(), event.is_writable());
                link.ending |= event.is_read_closed() || event.is_error();
                self.enqueue(number);
            }
        }
        Ok(())
    }

    fn expire(&mut self, now_ns: u64) {
        while let Some(Reverse((wake_ns, number))) = self.timers.peek().copied()
            && wake_ns <= now_ns
        {
            self.timers.pop();
            if self.wakes[number] == Some(wake_ns) {
                self.wakes[number] = None;
                self.enqueue(number);
            }
        }
    }

    fn enqueue(&mut self, number: usize) {
        if std::mem::replace(&mut self.queued[number], true) {
            return;
        }
        match &self.links[number] {
            Some(link) if matches!(link.role, Role::Consumer(_)) => {
                self.runnable.push_front(number)
            }
            _ => self.runnable.push_back(number),
        }
    }

    fn turn(&mut self, number: usize) {
        let Some(link) = &mut self.links[number] else {
            return;
        };
        match link.turn(self.shared.clock) {
            Ok(turn) => {
                if turn.again {
                    self.enqueue(number);
                }
                if let Some(wake_ns) = turn.wake_ns
                    && self.wakes[number] != Some(wake_ns)
                {
                    self.wakes[number] = Some(wake_ns);
                    self.timers.push(Reverse((wake_ns, number)));
                }
            }
            Err(error) => self.drop_link(number, error),
        }
    }

    fn drop_link(&mut self, number: usize, error: PerfError) {
        self.links[number] = None;
        self.shared.fail(error);
    }

    fn each(&mut self, mut act: impl FnMut(&mut Link) -> Result<(), PerfError>) {
        for number in 0..self.links.len() {
            if let Some(link) = &mut self.links[number]
                && let Err(error) = act(link)
            {
                self.drop_link(number, error);
            }
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        let now_ns = self.shared.clock.now_ns();
        let publishers = self.links.len().max(1) as f64;
        let mut place = 0.0;
        self.each(|link| {
            if let Role::Publisher(publisher) = &mut link.role {
                match phase {
                    Phase::Subscribe => {}
                    Phase::Publish => publisher.start(now_ns, place / publishers),
                    Phase::Drain | Phase::Stop => publisher.stop(),
                }
                place += 1.0;
            }
            Ok(())
        });
        (0..self.links.len()).for_each(|number| self.enqueue(number));
    }
}
