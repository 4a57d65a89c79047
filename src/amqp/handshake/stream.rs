//! Frames from and to a peer that is not trusted yet: one at a time, in a small buffer.

use std::io;
use std::time::{Duration, Instant};

use amq_protocol::protocol::AMQPClass;
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::HandshakeError;
use super::header::HEADER_BYTES;
use crate::amqp::frame::{self, Frame, FrameError};

/// How much is read at a time: a start-ok and what is sent along with it fit.
const READ_BYTES: usize = 1024;

/// The connection during the handshake.
pub(super) struct FrameStream<'s, S> {
    stream: &'s mut S,
    buffer: BytesMut,
    /// When something was sent that the peer has not answered.
    asked: Option<Instant>,
    quickest_answer: Duration,
}

impl<'s, S: AsyncRead + AsyncWrite + Unpin> FrameStream<'s, S> {
    pub(super) fn new(stream: &'s mut S) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
            asked: None,
            quickest_answer: Duration::MAX,
        }
    }

    /// The first bytes of all, which have no frame around them.
    pub(super) async fn read_header(&mut self) -> Result<[u8; HEADER_BYTES], HandshakeError> {
        loop {
            if let Some(header) = self.buffer.first_chunk().copied() {
                self.buffer.advance(HEADER_BYTES);
                return Ok(header);
            }
            match self.fill().await {
                Err(HandshakeError::Closed | HandshakeError::Io(_)) if self.buffer.is_empty() => {
                    return Err(HandshakeError::NoData);
                }
                filled => filled?,
            }
        }
    }

    /// Waits for a frame and shows it to `receive`. The inner error is about its bytes.
    pub(super) async fn read_frame<R>(
        &mut self,
        payload_bytes_max: u32,
        receive: impl FnOnce(Frame<'_>) -> R,
    ) -> Result<Result<R, FrameError>, HandshakeError> {
        loop {
            match frame::cut(&self.buffer, payload_bytes_max) {
                Ok(Some(frame)) => {
                    let wire_bytes = frame.wire_len();
                    let received = receive(frame);
                    self.buffer.advance(wire_bytes);
                    return Ok(Ok(received));
                }
                Ok(None) => self.fill().await?,
                Err(error) => return Ok(Err(error)),
            }
        }
    }

    /// Sends a method on channel 0.
    pub(super) async fn send(&mut self, method: &AMQPClass) -> io::Result<()> {
        let mut frame = Vec::new();
        frame::put_method(&mut frame, 0, method);
        self.send_bytes(&frame).await
    }

    pub(super) async fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.asked = Some(Instant::now());
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// The shortest time from something that was sent to the answer; [`Duration::MAX`] if there was none.
    pub(super) const fn quickest_answer(&self) -> Duration {
        self.quickest_answer
    }

    /// What was read beyond the last frame.
    pub(super) fn into_leftover(self) -> BytesMut {
        // An empty buffer would hold on to its memory.
        if self.buffer.is_empty() {
            return BytesMut::new();
        }
        self.buffer
    }

    async fn fill(&mut self) -> Result<(), HandshakeError> {
        self.buffer.reserve(READ_BYTES);
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            return Err(HandshakeError::Closed);
        }
        if let Some(asked) = self.asked.take() {
            self.quickest_answer = self.quickest_answer.min(asked.elapsed());
        }
        Ok(())
    }
}
