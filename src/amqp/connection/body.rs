//! Large body frames are read from the socket straight into their message: copied once less, and what follows them in
//! the read buffer never has to move.

use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::BufMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::{Connection, Phase};
use crate::amqp::channel::Phase as ChannelPhase;
use crate::amqp::content::Partial;
use crate::amqp::error::AmqpError;
use crate::amqp::frame::{self, FrameError};
use crate::message::BODY_SHARED_BYTES_MIN;

/// A body frame that is on its way.
#[derive(Debug)]
pub(super) struct BodyFrame {
    channel: u16,
    /// The message, taken out of its channel.
    message: Box<Partial>,
    /// Octets of the body before this frame.
    start: usize,
    /// Octets of the payload that have not come yet.
    left: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// `bytes` begin with a frame that is not whole. If it is a large piece of a body, what is there goes to its
    /// message and the rest will be read there. Answers how many octets are done: all, or none.
    pub(super) fn begin_body(&mut self, bytes: &[u8]) -> usize {
        let Some((head, payload)) = bytes.split_first_chunk::<{ frame::HEAD_BYTES }>() else {
            return 0;
        };
        let channel = u16::from_be_bytes([head[1], head[2]]);
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        if head[0] != frame::BODY || size < BODY_SHARED_BYTES_MIN || self.phase != Phase::Open {
            return 0;
        }
        let lent = match self.channels.get_mut(&channel) {
            Some(open) if open.phase == ChannelPhase::Open => open.assembly.lend(size),
            _ => None,
        };
        let Some(mut message) = lent else { return 0 };
        let start = message.body.len();
        message.body.extend_from_slice(payload);
        self.body = Some(BodyFrame {
            channel,
            message,
            start,
            left: size - payload.len(),
        });
        self.expects_bodies = true;
        bytes.len()
    }

    /// Part of a body is due.
    pub(super) fn is_in_body(&self) -> bool {
        self.body.as_ref().is_some_and(|body| body.left > 0)
    }

    /// Reads into the body that is due. Ready with 0 at the end of the socket, with `None` when nothing is due.
    pub(super) fn poll_read_body(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Option<usize>>> {
        let Some(body) = self.body.as_mut().filter(|body| body.left > 0) else {
            return Poll::Ready(Ok(None));
        };
        let mut room = (&mut body.message.body).limit(body.left);
        let read = pin!(self.stream.read_buf(&mut room));
        let count = ready!(read.poll(context))?;
        body.left -= count;
        Poll::Ready(Ok(Some(count)))
    }

    /// `bytes` follow the body that is due. Answers how many octets end it; `None` when they have not come.
    pub(super) fn end_body(&mut self, bytes: &[u8]) -> Option<usize> {
        let Some(body) = &self.body else {
            return Some(0);
        };
        let &found = bytes.first().filter(|_| body.left == 0)?;
        let body = self.body.take()?;
        if self.phase != Phase::Open {
            return Some(1);
        }
        if found != frame::FRAME_END {
            let error = FrameError::bad_end(found, frame::BODY, &body.message.body[body.start..]);
            self.close_with(0, &AmqpError::from_frame(&error), (0, 0));
            return Some(bytes.len());
        }
        let complete = match self.channels.get_mut(&body.channel) {
            // The channel may have been closed by the broker meanwhile.
            Some(channel) if channel.phase == ChannelPhase::Open => {
                channel.assembly.resume(body.message)
            }
            _ => None,
        };
        if let Some(message) = complete {
            self.publish_messages(body.channel, &[message.borrow()]);
        }
        Some(1)
    }
}
