//! The accept loop of one listener, and the limits that hold for all of them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// Connections that have not opened a vhost yet. They take a few KiB each and ten seconds at most; more than this wait
/// in the kernel.
pub(super) const HANDSHAKES_MAX: usize = 16_384;

/// How long no connection is accepted after the system refused one.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// A state of distress is not reported more often than this.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(30);

/// How many connections there may be.
pub(super) struct Limits {
    connections: Arc<Semaphore>,
    connections_max: usize,
    handshakes: Arc<Semaphore>,
}

/// The right of a connection to be there.
pub(super) struct Slot {
    /// Given back when the connection ends.
    pub(super) connection: OwnedSemaphorePermit,
    /// Given back when the handshake ends.
    pub(super) handshake: OwnedSemaphorePermit,
}

impl Limits {
    pub(super) fn new(connections_max: usize) -> Self {
        let connections_max = connections_max.min(Semaphore::MAX_PERMITS);
        Self {
            connections: Arc::new(Semaphore::new(connections_max)),
            connections_max,
            handshakes: Arc::new(Semaphore::new(HANDSHAKES_MAX)),
        }
    }

    async fn slot(&self, complaint: &mut Complaint) -> Slot {
        if self.connections.available_permits() == 0 {
            let limit = self.connections_max;
            complaint.make(|| {
                tracing::warn!(
                    limit,
                    "all connections that are allowed are open: new ones wait"
                )
            });
        } else if self.handshakes.available_permits() == 0 {
            let limit = HANDSHAKES_MAX;
            complaint.make(|| {
                tracing::warn!(
                    limit,
                    "too many connections are in their handshake: new ones wait"
                )
            });
        }
        Slot {
            connection: permit(&self.connections).await,
            handshake: permit(&self.handshakes).await,
        }
    }
}

async fn permit(semaphore: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    semaphore
        .clone()
        .acquire_owned()
        .await
        .expect("the semaphores are never closed")
}

/// Accepts connections and runs `serve` for each as a task, until `stopping` is true. Returns those that still run.
pub(super) async fn accept_until<F>(
    listener: TcpListener,
    limits: Arc<Limits>,
    mut stopping: watch::Receiver<bool>,
    serve: impl Fn(TcpStream, SocketAddr, Slot) -> F,
) -> JoinSet<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    let mut complaint = Complaint::default();
    loop {
        tokio::select! {
            (stream, peer, slot) = accept(&listener, &limits, &mut complaint) => {
                tasks.spawn(serve(stream, peer, slot));
            }
            Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
            _ = stopping.wait_for(|stopping| *stopping) => return tasks,
        }
    }
}

async fn accept(
    listener: &TcpListener,
    limits: &Limits,
    complaint: &mut Complaint,
) -> (TcpStream, SocketAddr, Slot) {
    let slot = limits.slot(complaint).await;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer, slot),
            // That peer has gone again; the next one has nothing to do with it.
            Err(error) if is_about_the_peer(&error) => {}
            Err(error) => {
                complaint
                    .make(|| tracing::error!(%error, "cannot accept connections: new ones wait"));
                sleep(RETRY_PAUSE).await;
            }
        }
    }
}

/// Errors of a connection that accept(2) passes on.
fn is_about_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionReset, HostUnreachable, Interrupted, NetworkDown,
        NetworkUnreachable, TimedOut,
    };
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionReset
            | HostUnreachable
            | Interrupted
            | NetworkDown
            | NetworkUnreachable
            | TimedOut
    ) || error.raw_os_error() == Some(libc::EPROTO)
}

/// One line for a state that may last.
#[derive(Default)]
struct Complaint {
    made: Option<Instant>,
}

impl Complaint {
    fn make(&mut self, log: impl FnOnce()) {
        if self
            .made
            .is_none_or(|made| made.elapsed() >= COMPLAINT_PAUSE)
        {
            self.made = Some(Instant::now());
            log();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn connections_beyond_the_limit_wait_for_one_to_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopping) = watch::channel(false);
        let (accepted, mut order) = mpsc::unbounded_channel();
        let serve = move |mut stream: TcpStream, peer, slot: Slot| {
            let accepted = accepted.clone();
            async move {
                drop(slot.handshake);
                accepted.send(peer).unwrap();
                let _ = stream.read(&mut [0]).await;
                drop(slot.connection);
            }
        };
        let accepting = tokio::spawn(accept_until(
            listener,
            Arc::new(Limits::new(2)),
            stopping,
            serve,
        ));

        let mut connected = Vec::new();
        for _ in 0..3 {
            connected.push(TcpStream::connect(address).await.unwrap());
        }
        let peers: Vec<_> = connected
            .iter()
            .map(|stream| stream.local_addr().unwrap())
            .collect();
        assert_eq!(order.recv().await, Some(peers[0]));
        assert_eq!(order.recv().await, Some(peers[1]));
        assert!(order.try_recv().is_err());
        drop(connected.remove(0));
        assert_eq!(order.recv().await, Some(peers[2]));

        stop.send(true).unwrap();
        let mut tasks = accepting.await.unwrap();
        drop(connected);
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn complaints_are_rare() {
        let mut made = 0;
        let mut complaint = Complaint::default();
        for _ in 0..100 {
            complaint.make(|| made += 1);
            tokio::time::advance(Duration::from_millis(900)).await;
        }
        assert_eq!(made, 3);
    }
}
