//! One publisher: what it may send now, and what the broker says about what it sent.
//!
//! No socket and no clock here: bytes are fetched with `outgoing`, frames come in by `method`,
//! `header` and `body`.

use std::ops::Range;
use std::sync::Arc;

use roaring::RoaringBitmap;

use super::check::Sent;
use super::confirms::Confirms;
use super::frame::{self, BASIC_ACK, BASIC_NACK, BASIC_RETURN, Frame, FrameError};
use super::image::Image;
use super::limiter::Limiter;
use super::meter::{Latencies, Meter, count};
use super::settings::Publishing;
use super::stamp::Stamp;

/// One publisher's state.
pub(super) struct Publisher {
    image: Image,
    /// Run and number of this publisher; time and sequence are those of the next message.
    next: Stamp,
    sent: u64,
    /// Messages still to send.
    left: u64,
    /// The part of a prepared stretch that the socket has not taken yet.
    outgoing: Range<usize>,
    confirms: Option<Confirms>,
    rate: Option<f64>,
    limiter: Option<Limiter>,
    state: State,
    /// The broker asked for silence, by connection.blocked or by channel.flow.
    paused: bool,
    returning: Returning,
    returned: RoaringBitmap,
    latencies: Latencies,
    meter: Arc<Meter>,
}

/// ```text
/// Waiting -- start --> Sending -- stop, or all sent --> Stopping -- all confirmed --> Done
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Sending,
    Stopping,
    Done,
}

/// Where in a returned message the next frame belongs.
#[derive(Debug)]
enum Returning {
    Nothing,
    Header,
    /// The first body frame, with the stamp in it.
    FirstBody(u64),
    Body(u64),
}

impl Publisher {
    /// Publisher `number` of a run. One whose messages are checked stops at the last sequence
    /// number that a stamp can hold.
    pub(super) fn new(
        image: Image,
        run: u16,
        number: u16,
        publishing: &Publishing,
        check: bool,
        meter: Arc<Meter>,
    ) -> Self {
        let left = publishing.messages.unwrap_or(u64::MAX);
        Self {
            image,
            next: Stamp {
                sent_ns: 0,
                run,
                publisher: number,
                sequence: 0,
            },
            sent: 0,
            left: if check {
                left.min(u32::MAX.into())
            } else {
                left
            },
            outgoing: 0..0,
            confirms: publishing.window.map(Confirms::new),
            rate: publishing.rate,
            limiter: None,
            state: State::Waiting,
            paused: false,
            returning: Returning::Nothing,
            returned: RoaringBitmap::new(),
            latencies: Latencies::default(),
            meter,
        }
    }

    /// Lets the publisher send. With a rate, publishers start spread over one interval: this one
    /// at the given part of it, between 0 and 1.
    pub(super) fn start(&mut self, now_ns: u64, part: f64) {
        self.state = State::Sending;
        self.limiter = self
            .rate
            .map(|rate| Limiter::new(rate, now_ns + (part * 1e9 / rate) as u64));
    }

    /// Sends nothing new any more.
    pub(super) fn stop(&mut self) {
        self.left = 0;
        if self.state == State::Waiting {
            self.state = State::Sending;
        }
        self.advance();
    }

    /// Sends nothing until the broker allows it again.
    pub(super) fn pause(&mut self, pause: bool) {
        if pause && !self.paused {
            count(&self.meter.counters.blocked, 1);
        }
        self.paused = pause;
    }

    /// The bytes to send next: the rest of what was begun, or else new messages as far as window,
    /// rate and count permit.
    pub(super) fn outgoing(&mut self, now_ns: impl Fn() -> u64) -> &[u8] {
        if self.outgoing.is_empty() && self.state == State::Sending && !self.paused {
            self.prepare(now_ns());
        }
        self.image.bytes(self.outgoing.clone())
    }

    fn prepare(&mut self, now_ns: u64) {
        let mut room = self.left;
        if let Some(confirms) = &self.confirms {
            room = room.min(confirms.room());
        }
        if room > 0
            && let Some(limiter) = &mut self.limiter
        {
            room = room.min(limiter.due(now_ns));
        }
        if room == 0 {
            return;
        }
        self.next.sent_ns = now_ns;
        let batch = self.image.prepare(room, self.next);
        self.next.sequence = self.next.sequence.wrapping_add(batch.messages as u32);
        self.sent += batch.messages;
        self.left -= batch.messages;
        self.outgoing = batch.range;
        if let Some(limiter) = &mut self.limiter {
            limiter.take(batch.messages);
        }
        if let Some(confirms) = &mut self.confirms {
            confirms.sent(batch.messages, now_ns);
        }
        count(&self.meter.counters.published, batch.messages);
        count(&self.meter.counters.published_bytes, batch.body_bytes);
    }

    /// The socket took `bytes` of what `outgoing` showed.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.outgoing.start += bytes;
        self.advance();
    }

    /// Whether a message lies half sent, so that no other frame may go out.
    pub(super) fn mid_batch(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// When to try again although nothing arrives: only a rate makes that necessary.
    pub(super) fn wake_ns(&self, now_ns: u64) -> Option<u64> {
        let limiter = self
            .limiter
            .as_ref()
            .filter(|_| self.state == State::Sending && !self.paused)?;
        let open = self
            .confirms
            .as_ref()
            .is_none_or(|confirms| confirms.room() > 0);
        (open && self.outgoing.is_empty()).then(|| limiter.wake_ns(now_ns))
    }

    /// Moves on from one state to the next where that is due.
    fn advance(&mut self) {
        if self.state == State::Sending && self.left == 0 {
            self.state = State::Stopping;
        }
        let settled = self
            .confirms
            .as_ref()
            .is_none_or(|confirms| confirms.settled() == self.sent);
        if self.state == State::Stopping && self.outgoing.is_empty() && settled {
            self.state = State::Done;
            count(&self.meter.counters.publishers_done, 1);
        }
    }

    /// Takes a method if it is one that comes once a message.
    pub(super) fn method(&mut self, number: u32, arguments: &[u8]) -> Result<bool, FrameError> {
        match number {
            BASIC_ACK | BASIC_NACK => self.settled(arguments, number == BASIC_NACK)?,
            BASIC_RETURN => self.returning = Returning::Header,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn settled(&mut self, arguments: &[u8], refused: bool) -> Result<(), FrameError> {
        let (tag, multiple) = frame::settled(arguments)?;
        let confirms = self
            .confirms
            .as_mut()
            .ok_or(FrameError::Unexpected("a confirm"))?;
        let messages = confirms.settle(tag, multiple, refused);
        let messages = messages.ok_or(FrameError::Unexpected(
            "a confirm of what was not outstanding",
        ))?;
        let counters = &self.meter.counters;
        count(
            if refused {
                &counters.nacked
            } else {
                &counters.confirmed
            },
            messages,
        );
        self.advance();
        Ok(())
    }

    pub(super) fn header(&mut self, frame: &Frame<'_>) -> Result<(), FrameError> {
        let Returning::Header = self.returning else {
            return Err(FrameError::Unexpected("a content header"));
        };
        count(&self.meter.counters.returned, 1);
        self.returning = match frame.body_size()? {
            0 => Returning::Nothing,
            size => Returning::FirstBody(size),
        };
        Ok(())
    }

    pub(super) fn body(&mut self, body: &[u8]) -> Result<(), FrameError> {
        let left = match self.returning {
            Returning::FirstBody(left) => {
                self.returned
                    .extend(Stamp::read(body).map(|stamp| stamp.sequence));
                left
            }
            Returning::Body(left) => left,
            _ => return Err(FrameError::Unexpected("a body")),
        };
        self.returning = match left.checked_sub(body.len() as u64) {
            Some(0) => Returning::Nothing,
            Some(left) => Returning::Body(left),
            None => return Err(FrameError::Unexpected("more body than announced")),
        };
        Ok(())
    }

    /// Closes a pass over what arrived at `now_ns`.
    pub(super) fn end_of_input(&mut self, now_ns: u64) {
        if let Some(confirms) = &mut self.confirms {
            confirms.latencies(now_ns, &mut self.latencies);
            self.latencies.hand_over(&self.meter.confirm);
        }
    }

    /// At the end: what has to have arrived, and the bytes that complete a message half sent.
    pub(super) fn finish(self) -> (Sent, Vec<u8>) {
        let rest = self.image.unfinished(&self.outgoing).to_vec();
        let (promised, mut refused) = match self.confirms {
            Some(confirms) => (confirms.settled(), confirms.refused),
            None => (
                self.sent - self.image.unsent(&self.outgoing),
                RoaringBitmap::new(),
            ),
        };
        refused |= self.returned;
        let promised = u32::try_from(promised).unwrap_or(u32::MAX);
        (
            Sent {
                publisher: self.next.publisher,
                promised,
                refused,
            },
            rest,
        )
    }
}
