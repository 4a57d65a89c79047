//! What can end a run before its time.

use std::io;
use std::path::PathBuf;

/// Why a run could not start or did not end as it should.
#[derive(Debug, thiserror::Error)]
pub(super) enum PerfError {
    /// An option, or a combination of options, makes no sense.
    #[error("{0}")]
    Option(String),
    /// The broker cannot be reached.
    #[error("cannot connect to {address}: {source}")]
    Connect { address: String, source: io::Error },
    /// The socket failed, or the broker closed it without a word.
    #[error("{role}: connection lost: {source}")]
    Lost { role: String, source: io::Error },
    /// The broker closed the connection with a reason.
    #[error("{role}: broker closed the connection: {code} {text}")]
    ConnectionClosed {
        role: String,
        code: u16,
        text: String,
    },
    /// The broker closed the channel with a reason.
    #[error("{role}: broker closed the channel: {code} {text}")]
    ChannelClosed {
        role: String,
        code: u16,
        text: String,
    },
    /// The broker cancelled a consumer, as it does when the queue is deleted.
    #[error("{role}: broker cancelled the consumer of queue '{queue}'")]
    Cancelled { role: String, queue: String },
    /// The broker sent what AMQP 0-9-1 does not allow here.
    #[error("{role}: {what}")]
    Protocol { role: String, what: String },
    /// A result cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    /// The plot cannot be drawn.
    #[error("cannot draw {}: {what}", path.display())]
    Plot { path: PathBuf, what: String },
    /// The operating system refuses threads, timers or sockets.
    #[error("system error: {0}")]
    System(#[from] io::Error),
    /// The process to watch is not there, or may not be read.
    #[error("cannot read process {pid}: {source}")]
    Process { pid: u32, source: io::Error },
}
