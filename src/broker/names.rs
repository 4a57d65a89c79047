//! Names of queues and exchanges: what is reserved, what is stripped, and how RabbitMQ writes them in its texts.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// Names with this prefix belong to the broker (AMQP 0-9-1, domain `exchange-name` and `queue-name`).
pub const RESERVED_PREFIX: &str = "amq.";

/// Prefix of the names that the broker generates for queues declared without one.
pub const GENERATED_QUEUE_PREFIX: &str = "amq.gen-";

/// The exchange that every virtual host has and every queue is bound to under its own name.
pub const DEFAULT_EXCHANGE: &str = "";

/// The kinds of things that have a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourceKind {
    /// A queue.
    Queue,
    /// An exchange.
    Exchange,
}

impl fmt::Display for ResourceKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Queue => "queue",
            Self::Exchange => "exchange",
        })
    }
}

/// A named thing as RabbitMQ writes it: `queue 'q' in vhost '/'`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Queue or exchange.
    pub kind: ResourceKind,
    /// Its name, up to 255 bytes.
    pub name: Arc<str>,
    /// The virtual host that it is in.
    pub vhost: Arc<str>,
}

impl Resource {
    /// The queue `name` in `vhost`.
    pub fn queue(vhost: &Arc<str>, name: &str) -> Self {
        Self {
            kind: ResourceKind::Queue,
            name: name.into(),
            vhost: vhost.clone(),
        }
    }

    /// The exchange `name` in `vhost`.
    pub fn exchange(vhost: &Arc<str>, name: &str) -> Self {
        Self {
            kind: ResourceKind::Exchange,
            name: name.into(),
            vhost: vhost.clone(),
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} '{}' in vhost '{}'",
            self.kind, self.name, self.vhost
        )
    }
}

/// Whether only the broker may create `name`.
pub fn is_reserved(name: &str) -> bool {
    name.starts_with(RESERVED_PREFIX)
}

/// The name as RabbitMQ takes it from declare, delete and bind methods: CR and LF are stripped, not refused.
/// Publish, get, consume and purge look names up as they come.
pub fn strip_cr_lf(name: &str) -> Cow<'_, str> {
    if name.contains(['\r', '\n']) {
        Cow::Owned(name.replace(['\r', '\n'], ""))
    } else {
        Cow::Borrowed(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_written_as_rabbitmq_writes_them() {
        let vhost: Arc<str> = "/".into();
        assert_eq!(
            Resource::queue(&vhost, "q").to_string(),
            "queue 'q' in vhost '/'"
        );
        assert_eq!(
            Resource::exchange(&vhost, "").to_string(),
            "exchange '' in vhost '/'"
        );
    }

    #[test]
    fn carriage_returns_and_line_feeds_are_stripped() {
        assert_eq!(strip_cr_lf("a\r\nb\n"), "ab");
        assert!(matches!(strip_cr_lf("plain"), Cow::Borrowed("plain")));
    }

    #[test]
    fn only_the_prefix_with_its_dot_is_reserved() {
        assert!(is_reserved("amq.direct") && is_reserved("amq."));
        assert!(!is_reserved("amqp") && !is_reserved("amq") && !is_reserved("x.amq."));
    }
}
