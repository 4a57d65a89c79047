//! What happens next on a connection.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Buf;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep_until};

use super::{Connection, Pause, Phase};
use crate::amqp::frame::OVERHEAD_BYTES;
use crate::amqp::outbox::OUTBOX_HARD_BYTES_MAX;
use crate::store::Waiter;

/// Slices that one write hands to the kernel.
const WRITE_SLICES_MAX: usize = 32;

/// What is read at once where a large body is expected behind a method and a header: the body itself is better read
/// straight into its message.
pub(super) const BODY_HEAD_READ_BYTES: usize = 4 * 1024;

/// Something that the connection has to react to.
pub(super) enum Event {
    /// So many bytes arrived.
    Input(usize),
    /// Somebody called the outbox's waker, or enough was written for stalled consumers to go on.
    Woken,
    /// Half a heartbeat interval passed.
    Tick,
    /// Everything is written and the connection is done.
    Flushed,
    /// The client has read nothing for too long.
    Stalled,
    /// The client did not finish closing in time.
    TimedOut,
    /// The client closed its side.
    Ended,
    /// The socket broke.
    Failed(io::Error),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(super) async fn next_event(&mut self) -> Event {
        match self.phase {
            Phase::Open => {
                let times = [self.stall_deadline(), self.pause_end(), self.pace_end()];
                let Some(next) = times.into_iter().flatten().min() else {
                    return std::future::poll_fn(|context| self.poll_event(context)).await;
                };
                match self.event_until(next).await {
                    Event::TimedOut if self.is_stalled() => Event::Stalled,
                    Event::TimedOut => Event::Woken,
                    event => event,
                }
            }
            Phase::Closing { deadline }
            | Phase::Flushing { deadline }
            | Phase::Lingering { deadline } => self.event_until(deadline).await,
        }
    }

    /// When the client counts as stalled unless something can be written before. `None`: its outbox is not full.
    fn stall_deadline(&mut self) -> Option<Instant> {
        if self.session.outbox.queued_bytes() < OUTBOX_HARD_BYTES_MAX {
            self.stalled_since = None;
            return None;
        }
        let since = *self.stalled_since.get_or_insert_with(Instant::now);
        since.checked_add(self.session.config.send_timeout)
    }

    /// When a pause is over that nothing else ends.
    const fn pause_end(&self) -> Option<Instant> {
        match &self.pause {
            Some(Pause::Backlog { until } | Pause::Rate { until, .. }) => Some(*until),
            _ => None,
        }
    }

    /// When consumers go on that were too fast.
    fn pace_end(&self) -> Option<Instant> {
        let paced_ms = self.session.outbox.paced_ms()?;
        Instant::now().checked_add(Duration::from_millis(paced_ms))
    }

    fn is_stalled(&mut self) -> bool {
        let deadline = self.stall_deadline();
        deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    async fn event_until(&mut self, deadline: Instant) -> Event {
        tokio::select! {
            biased;
            event = std::future::poll_fn(|context| self.poll_event(context)) => event,
            () = sleep_until(deadline) => Event::TimedOut,
        }
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        self.session.outbox.register(context.waker());
        // The flag is cleared before the buffer is taken: what comes later sets it again.
        let woken = self.session.outbox.take_wake();
        match self.poll_write(context) {
            Poll::Ready(Err(error)) => return Poll::Ready(Event::Failed(error)),
            Poll::Ready(Ok(())) if matches!(self.phase, Phase::Flushing { .. }) => {
                return Poll::Ready(Event::Flushed);
            }
            _ => {}
        }
        if woken {
            return Poll::Ready(Event::Woken);
        }
        if let Some(ticks) = &mut self.ticks
            && ticks.poll_tick(context).is_ready()
        {
            return Poll::Ready(Event::Tick);
        }
        if !self.reads() {
            return Poll::Pending;
        }
        match ready!(self.poll_read(context)) {
            Ok(0) => Poll::Ready(Event::Ended),
            Ok(count) => Poll::Ready(Event::Input(count)),
            Err(error) => Poll::Ready(Event::Failed(error)),
        }
    }

    /// Ready when nothing is left to write.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.writing.is_empty() {
                self.writing = self.session.outbox.take_buffer();
                if self.writing.is_empty() {
                    return Pin::new(&mut self.stream).poll_flush(context);
                }
            }
            let mut slices = [IoSlice::new(&[]); WRITE_SLICES_MAX];
            let count = self.writing.chunks_vectored(&mut slices);
            let stream = Pin::new(&mut self.stream);
            let written = match ready!(stream.poll_write_vectored(context, &slices[..count])) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(written) => written,
                Err(error) => return Poll::Ready(Err(error)),
            };
            self.heartbeat.sent = true;
            self.stalled_since = None;
            self.writing.advance(written);
            if self.session.outbox.written(written) {
                let stalled = self.session.outbox.take_stalled();
                if stalled.is_empty() {
                    // They wait for the pace: when that is over is found out anew.
                    self.session.outbox.wake();
                }
                self.session.resume(stalled);
            }
        }
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let body = match ready!(self.poll_read_body(context))? {
            None => 0,
            Some(0) => return Poll::Ready(Ok(0)),
            Some(count) if self.is_in_body() => return Poll::Ready(Ok(count)),
            Some(count) => count,
        };
        // The end octet of the frame, and with it what comes next.
        match self.poll_read_buffer(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(count)) if body + count == 0 => Poll::Ready(Ok(0)),
            Poll::Pending if body == 0 => Poll::Pending,
            Poll::Pending => Poll::Ready(Ok(body)),
            Poll::Ready(Ok(count)) => Poll::Ready(Ok(body + count)),
        }
    }

    fn poll_read_buffer(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let frame_bytes = self.limits.frame_max_bytes as usize + OVERHEAD_BYTES;
        let mut room = self.read.room(frame_bytes);
        if self.expects_bodies {
            let count = room.len().min(BODY_HEAD_READ_BYTES);
            room = &mut room[..count];
        }
        let mut buffer = ReadBuf::new(room);
        let polled = Pin::new(&mut self.stream).poll_read(context, &mut buffer);
        let count = buffer.filled().len();
        match polled {
            Poll::Pending => {
                self.read.settle();
                Poll::Pending
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => {
                self.read.filled(count);
                Poll::Ready(Ok(count))
            }
        }
    }
}
