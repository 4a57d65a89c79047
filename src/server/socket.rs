//! The options of a client's socket.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, Socket};
use tokio::net::TcpStream;

use crate::config::Config;

/// A client that has answered within this time is near.
const NEAR: Duration = Duration::from_millis(1);

/// What the kernel may hold for a client that is near, in bytes; it counts twice of that, its own overhead included.
/// More would not be in the processor's cache any more when the client reads it, which costs up to a third of all time.
/// 100 MB/s and more pass through it in steps of [`NEAR`].
const NEAR_SEND_BYTES: usize = 128 * 1024;

/// The buffers that every connection of a listener gets. Before it listens: the largest window is said in the first
/// packet.
pub(super) fn set_buffers(listener: &Socket, config: &Config) -> io::Result<()> {
    if let Some(bytes) = config.send_buffer_bytes {
        listener.set_send_buffer_size(bytes as usize)?;
    }
    if let Some(bytes) = config.receive_buffer_bytes {
        listener.set_recv_buffer_size(bytes as usize)?;
    }
    Ok(())
}

/// A client was accepted. Frames are written in batches already: the kernel must not wait for more.
pub(super) fn accepted(stream: &TcpStream) -> io::Result<SocketAddr> {
    stream.set_nodelay(true)?;
    stream.local_addr()
}

/// A client has logged in; its quickest answer took so long.
pub(super) fn logged_in(stream: &TcpStream, quickest_answer: Duration, config: &Config) {
    if config.send_buffer_bytes.is_none()
        && quickest_answer <= NEAR
        && let Err(error) = SockRef::from(stream).set_send_buffer_size(NEAR_SEND_BYTES)
    {
        tracing::debug!(%error, "a send buffer keeps its size");
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await;
        (listener.accept().await.unwrap().0, client.unwrap())
    }

    #[test]
    fn a_listener_has_the_buffers_that_were_asked_for() {
        let socket = Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let config = Config {
            send_buffer_bytes: Some(100_000),
            receive_buffer_bytes: Some(50_000),
            ..Config::default()
        };
        set_buffers(&socket, &config).unwrap();
        assert_eq!(socket.send_buffer_size().unwrap(), 200_000);
        assert_eq!(socket.recv_buffer_size().unwrap(), 100_000);
    }

    #[tokio::test]
    async fn only_a_client_that_is_near_gets_a_small_send_buffer() {
        let size = |stream| SockRef::from(stream).send_buffer_size().unwrap();
        let (stream, _client) = pair().await;
        let before = size(&stream);
        logged_in(&stream, 2 * NEAR, &Config::default());
        assert_eq!(size(&stream), before);
        let said = Config {
            send_buffer_bytes: Some(1_000_000),
            ..Config::default()
        };
        logged_in(&stream, NEAR, &said);
        assert_eq!(size(&stream), before);
        logged_in(&stream, NEAR, &Config::default());
        assert_eq!(size(&stream), 2 * NEAR_SEND_BYTES);
    }
}
