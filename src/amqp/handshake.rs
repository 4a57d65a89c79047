//! From the accepted socket to an open connection: protocol header, login, tuning, connection.open
//! (AMQP 0-9-1 section 2.2.4, with the rules of RabbitMQ's reader).
//!
//! A peer is not trusted until it has logged in. Until then it gets little memory, little time, and for a
//! mistake no answer: after a delay its connection ends, as RabbitMQ does it. Each handshake that fails
//! leaves one line in the log.

mod header;
mod state;
mod stream;
#[cfg(test)]
mod tests;
mod violation;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use amq_protocol::protocol::AMQPClass;
use amq_protocol::protocol::connection::{AMQPMethod, Start};
use amq_protocol::types::{AMQPValue, FieldTable};
use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{sleep, timeout};

use super::connection::Limits;
use super::frame::Frame;
use super::session::Capabilities;
use crate::auth::{Auth, LoginError, Mechanism, User};
use crate::broker::admission::{Admission, AdmissionRefused};
use crate::config::Config;
pub use header::ForeignProtocol;
pub use state::Stage;
use state::{State, Step};
use stream::FrameStream;
pub use violation::{ReplyCode, Violation};

/// How long a peer that failed is kept waiting before its connection ends, and how long one that was
/// told why may take to answer. RabbitMQ's `SILENT_CLOSE_DELAY`: it slows down the guessing of passwords.
pub const SILENT_CLOSE_DELAY: Duration = Duration::from_secs(3);

/// See [`crate::broker::Broker::admit`].
pub type Admit<'a> = dyn Fn(&User, &str) -> Result<Admission, AdmissionRefused> + Sync + 'a;

/// See [`crate::amqp::events::tell_login`].
pub type LoggedIn<'a> = dyn Fn(Mechanism, &Result<User, LoginError>) + Sync + 'a;

/// What a handshake needs to know about the broker and the peer.
pub struct HandshakeContext<'a> {
    pub config: &'a Config,
    pub auth: &'a Auth,
    /// See [`crate::amqp::server_properties`].
    pub server_properties: &'a FieldTable,
    /// Hears of each attempt to log in.
    pub logged_in: &'a LoggedIn<'a>,
    /// Lets a user into a virtual host, or says why not.
    pub admit: &'a Admit<'a>,
    pub peer: SocketAddr,
    /// The address that the peer connected to.
    pub local: SocketAddr,
}

impl HandshakeContext<'_> {
    /// Also for an IPv4 address that came in on an IPv6 listener.
    fn peer_is_loopback(&self) -> bool {
        self.peer.ip().to_canonical().is_loopback()
    }
}

/// An open connection, as both sides agreed on it.
#[derive(Debug)]
pub struct Negotiated {
    pub user: User,
    pub mechanism: Mechanism,
    pub vhost: Arc<str>,
    /// The right to be there.
    pub admission: Admission,
    /// What the tuning came to. The frame size is never 0: where both sides want no limit it is enough for
    /// the largest message.
    pub limits: Limits,
    pub capabilities: Capabilities,
    pub client_properties: FieldTable,
    /// `127.0.0.1:50000 -> 127.0.0.1:5672`, as RabbitMQ names connections.
    pub name: String,
    /// The shortest time from something that the peer was sent to its answer: it is no farther than that.
    pub quickest_answer: Duration,
    /// What the peer has sent behind connection.open.
    pub leftover: BytesMut,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The peer connected and went without a byte, as health checks of load balancers do.
    #[error("connection closed with no data received")]
    NoData,
    #[error("client unexpectedly closed TCP connection")]
    Closed,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no connection.open within the handshake timeout")]
    Timeout,
    #[error("{0}")]
    Foreign(ForeignProtocol),
    #[error("{0}")]
    Violation(#[from] Violation),
}

/// Does the handshake with a peer that was just accepted. Takes at most `handshake_timeout` and
/// [`SILENT_CLOSE_DELAY`]; the caller closes the socket after an error.
///
/// # Errors
/// The peer is not let in. It knows and the log does.
pub async fn handshake<S>(
    stream: &mut S,
    context: &HandshakeContext<'_>,
) -> Result<Negotiated, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut frames = FrameStream::new(stream);
    let mut stage = Stage::Header;
    let opened = timeout(
        context.config.handshake_timeout,
        negotiate(&mut frames, &mut stage, context),
    );
    match opened.await.unwrap_or(Err(HandshakeError::Timeout)) {
        Ok(mut negotiated) => {
            negotiated.quickest_answer = frames.quickest_answer();
            negotiated.leftover = frames.into_leftover();
            log_success(&negotiated);
            Ok(negotiated)
        }
        Err(error) => {
            log_failure(&error, stage, context);
            // Whatever goes wrong now is a consequence of what was logged.
            let _ = timeout(SILENT_CLOSE_DELAY, part(&mut frames, &error)).await;
            Err(error)
        }
    }
}

async fn negotiate<S: AsyncRead + AsyncWrite + Unpin>(
    frames: &mut FrameStream<'_, S>,
    stage: &mut Stage,
    context: &HandshakeContext<'_>,
) -> Result<Negotiated, HandshakeError> {
    let header = frames.read_header().await?;
    let version = header::read(header).map_err(HandshakeError::Foreign)?;
    let mechanisms = context.auth.mechanisms().iter();
    let mechanisms: Vec<_> = mechanisms
        .map(|mechanism| Mechanism::name(*mechanism))
        .collect();
    let start = Start {
        version_major: version.major,
        version_minor: version.minor,
        server_properties: context.server_properties.clone(),
        mechanisms: mechanisms.join(" ").into(),
        locales: "en_US".into(),
    };
    frames
        .send(&AMQPClass::Connection(AMQPMethod::Start(start)))
        .await?;

    let mut state = State::Starting;
    loop {
        *stage = state.stage();
        let payload_bytes_max = state.payload_bytes_max();
        let receive = |frame: Frame<'_>| state.receive(frame, context);
        let step = frames
            .read_frame(payload_bytes_max, receive)
            .await?
            .map_err(|error| Violation::framing(*stage, &error))??;
        match step {
            Step::Next {
                state: next,
                answer,
            } => {
                state = next;
                if let Some(answer) = answer {
                    frames.send(&answer).await?;
                }
            }
            Step::Opened {
                client,
                limits,
                vhost,
                admission,
                answer,
            } => {
                frames.send(&answer).await?;
                return Ok(Negotiated {
                    user: client.user,
                    mechanism: client.mechanism,
                    vhost,
                    admission,
                    limits,
                    capabilities: client.capabilities,
                    client_properties: client.properties,
                    name: format!("{} -> {}", context.peer, context.local),
                    quickest_answer: Duration::MAX,
                    leftover: BytesMut::new(),
                });
            }
        }
    }
}

/// The last that a peer which failed gets. Its caller sets the time limit.
async fn part<S: AsyncRead + AsyncWrite + Unpin>(
    frames: &mut FrameStream<'_, S>,
    error: &HandshakeError,
) -> Result<(), HandshakeError> {
    match error {
        HandshakeError::Foreign(foreign) => Ok(frames.send_bytes(&foreign.answer()).await?),
        HandshakeError::Violation(violation) => {
            if violation.is_answered {
                frames.send(&violation.close()).await?;
            }
            if !violation.is_answered || !violation.is_in_sync {
                // Nothing more is read, the delay passes.
                sleep(SILENT_CLOSE_DELAY).await;
                return Ok(());
            }
            wait_for_close_ok(frames).await
        }
        HandshakeError::NoData
        | HandshakeError::Closed
        | HandshakeError::Io(_)
        | HandshakeError::Timeout => Ok(()),
    }
}

/// The peer may still send what it had begun; only its close-ok counts (AMQP 0-9-1 section 2.2.4).
async fn wait_for_close_ok<S: AsyncRead + AsyncWrite + Unpin>(
    frames: &mut FrameStream<'_, S>,
) -> Result<(), HandshakeError> {
    const CLOSE_OK: &[u8] = &[0, 10, 0, 51];
    const PAYLOAD_BYTES_MAX: u32 = 8192;
    loop {
        let is_close_ok = |frame: Frame<'_>| frame.channel == 0 && frame.payload == CLOSE_OK;
        match frames.read_frame(PAYLOAD_BYTES_MAX, is_close_ok).await? {
            Ok(false) => {}
            Ok(true) => return Ok(()),
            Err(_) => {
                sleep(SILENT_CLOSE_DELAY).await;
                return Ok(());
            }
        }
    }
}

fn log_success(negotiated: &Negotiated) {
    let name = match negotiated.client_properties.inner().get("connection_name") {
        Some(AMQPValue::LongString(given)) => format!("{} - {given}", negotiated.name),
        _ => negotiated.name.clone(),
    };
    tracing::info!(
        "connection {}: user '{}' authenticated and granted access to vhost '{}'",
        Printable(&name),
        Printable(negotiated.user.name()),
        Printable(&negotiated.vhost)
    );
}

fn log_failure(error: &HandshakeError, stage: Stage, context: &HandshakeContext<'_>) {
    let line = format!(
        "closing AMQP connection {} -> {} (state: {}): {error}",
        context.peer,
        context.local,
        stage.name()
    );
    let line = Printable(&line);
    match error {
        HandshakeError::NoData => tracing::debug!("{line}"),
        // Health checks leave after connection.start.
        HandshakeError::Closed if stage == Stage::Starting => tracing::debug!("{line}"),
        HandshakeError::Closed | HandshakeError::Io(_) => tracing::warn!("{line}"),
        HandshakeError::Timeout | HandshakeError::Foreign(_) | HandshakeError::Violation(_) => {
            tracing::error!("{line}");
        }
    }
}

/// Text that a peer had its hand in, kept on one line of the log.
struct Printable<'a>(&'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            if character.is_control() {
                write!(formatter, "{}", character.escape_default())?;
            } else {
                write!(formatter, "{character}")?;
            }
        }
        Ok(())
    }
}
