//! Names of queues and exchanges: what is reserved, what is stripped, and how RabbitMQ writes them in its texts.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// Names with this prefix belong to the broker (AMQP 0-9-1, domain `exchange-name` and `queue-name`).
pub const RESERVED_PREFIX: &str = "amq.";

/// Prefix of the names that the broker generates for queues declared without one.
pub const GENERATED_QUEUE_PREFIX: &str = "amq.gen-";

/// Most bytes of a name or a routing key: they travel as short strings, and in rows of the store behind one byte.
pub const NAME_BYTES_MAX: usize = 255;

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

/// A routing key that did not come as a short string, as a text; `None`: no message can have it, it is too long.
pub fn routing_key(key: &[u8]) -> Option<Cow<'_, str>> {
    let key = String::from_utf8_lossy(key);
    (key.len() <= NAME_BYTES_MAX).then_some(key)
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
    fn a_routing_key_has_to_fit_as_the_text_that_it_becomes() {
        assert_eq!(
            routing_key(&[b'k'; 255]).as_deref(),
            Some(&*"k".repeat(255))
        );
        assert_eq!(routing_key(&[b'k'; 256]), None);
        // Each of these bytes becomes three.
        assert!(routing_key(&[0xff; 85]).is_some() && routing_key(&[0xff; 86]).is_none());
    }

    #[test]
    fn only_the_prefix_with_its_dot_is_reserved() {
        assert!(is_reserved("amq.direct") && is_reserved("amq."));
        assert!(!is_reserved("amqp") && !is_reserved("amq") && !is_reserved("x.amq."));
    }
}
