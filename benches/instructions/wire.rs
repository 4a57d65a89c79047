//! A stream in memory: what the client says is copied as from a socket, what the broker says is counted and its end
//! kept.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that one read takes at most, as if they had come in that many.
const READ_BYTES_MAX: usize = 64 * 1024;

/// Bytes that are kept of what was written last: a confirm takes 21.
const KEPT_BYTES: usize = 21;

#[derive(Default)]
struct State {
    said: Bytes,
    reader: Option<Waker>,
    heard_bytes: usize,
    heard_last: Vec<u8>,
    listener: Option<Waker>,
}

/// The client's end.
#[derive(Clone, Default)]
pub(crate) struct Wire {
    state: Arc<Mutex<State>>,
}

/// The broker's end.
pub(crate) struct BrokerEnd {
    state: Arc<Mutex<State>>,
}

impl Wire {
    pub(crate) fn broker_end(&self) -> BrokerEnd {
        BrokerEnd {
            state: self.state.clone(),
        }
    }

    /// Says this; what was said before has been read.
    pub(crate) async fn say(&self, bytes: Bytes) {
        self.until(|state| state.said.is_empty()).await;
        let mut state = self.state.lock();
        state.said = bytes;
        wake(&mut state.reader);
    }

    /// Bytes that the broker has written so far.
    pub(crate) fn heard_bytes(&self) -> usize {
        self.state.lock().heard_bytes
    }

    /// Waits until the broker has written so many bytes.
    pub(crate) async fn hear(&self, bytes: usize) {
        self.until(|state| state.heard_bytes >= bytes).await;
    }

    /// Waits until what the broker wrote last ends like this.
    pub(crate) async fn hear_last(&self, is_it: impl Fn(&[u8]) -> bool) {
        self.until(|state| is_it(&state.heard_last)).await;
    }

    async fn until(&self, is_so: impl Fn(&State) -> bool) {
        std::future::poll_fn(|context| {
            let mut state = self.state.lock();
            if is_so(&state) {
                return Poll::Ready(());
            }
            state.listener = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

fn wake(waiting: &mut Option<Waker>) {
    if let Some(waker) = waiting.take() {
        waker.wake();
    }
}

impl AsyncRead for BrokerEnd {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.state.lock();
        if state.said.is_empty() {
            state.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        let count = state.said.len().min(buffer.remaining()).min(READ_BYTES_MAX);
        buffer.put_slice(&state.said.split_to(count));
        if state.said.is_empty() {
            wake(&mut state.listener);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for BrokerEnd {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.state.lock();
        let count = slices.iter().map(|slice| slice.len()).sum();
        state.heard_bytes += count;
        if let Some(last) = slices.last() {
            state.heard_last = last[last.len().saturating_sub(KEPT_BYTES)..].to_vec();
        }
        wake(&mut state.listener);
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
