//! Direct reply-to: replies that go straight to a consumer, through no queue.
//!
//! A client consumes from the pseudo-queue [`REPLY_TO`] and gets a token. Requests that it publishes carry the token in
//! their reply-to, and what is published to the default exchange with that as its key goes to the consumer at once, or
//! nowhere. Nothing is stored.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::RwLock;

use crate::message::record::NewMessage;

/// The pseudo-queue.
pub const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// A routing key with this prefix and a token leads to a consumer.
const TOKEN_PREFIX: &str = "amq.rabbitmq.reply-to.";

/// Where the replies to one channel go. Implemented by the protocol.
pub trait ReplySink: std::fmt::Debug + Send + Sync {
    /// Takes a reply. One that finds no room is lost: nobody waits for a client that does not read.
    fn reply(&self, message: &NewMessage<'_>);

    /// True once the consumer is gone: what remembers the way to it must forget it.
    fn is_ended(&self) -> bool;
}

/// The reply consumers of a virtual host.
#[derive(Default)]
pub struct ReplyConsumers {
    by_address: RwLock<HashMap<Arc<str>, Weak<dyn ReplySink>>>,
}

impl ReplyConsumers {
    /// Registers a consumer under an unguessable `token` and answers its address, which replies carry as their routing
    /// key. It ends with [`Self::remove`], or at the latest with its sink.
    pub fn add(&self, token: &str, sink: &Arc<dyn ReplySink>) -> Arc<str> {
        let address: Arc<str> = format!("{TOKEN_PREFIX}{token}").into();
        let sink = Arc::downgrade(sink);
        self.by_address.write().insert(address.clone(), sink);
        address
    }

    /// The consumer at `address` is gone.
    pub fn remove(&self, address: &str) {
        self.by_address.write().remove(address);
    }

    /// The consumer at `address`.
    pub fn find(&self, address: &str) -> Option<Arc<dyn ReplySink>> {
        if !address.starts_with(TOKEN_PREFIX) {
            return None;
        }
        self.by_address.read().get(address)?.upgrade()
    }

    /// Whether `name` is the pseudo-queue, or stands for a consumer that is there: a declaration of it is answered
    /// without a queue.
    pub fn exists(&self, name: &str) -> bool {
        name == REPLY_TO || self.find(name).is_some()
    }
}

/// Whether `name` belongs to direct reply-to: there is never a queue of that name.
pub fn is_reply_name(name: &str) -> bool {
    name == REPLY_TO || name.starts_with(TOKEN_PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Nobody;

    impl ReplySink for Nobody {
        fn reply(&self, _message: &NewMessage<'_>) {}

        fn is_ended(&self) -> bool {
            false
        }
    }

    #[test]
    fn a_consumer_is_found_by_its_address_until_it_goes() {
        let consumers = ReplyConsumers::default();
        let sink: Arc<dyn ReplySink> = Arc::new(Nobody);
        let address = consumers.add("token", &sink);
        assert_eq!(&*address, "amq.rabbitmq.reply-to.token");
        assert!(consumers.find(&address).is_some() && consumers.exists(&address));
        assert!(consumers.find("token").is_none());
        consumers.remove(&address);
        assert!(consumers.find(&address).is_none());
        let address = consumers.add("token", &sink);
        drop(sink);
        assert!(consumers.find(&address).is_none(), "gone with its sink");
    }

    #[test]
    fn the_pseudo_queue_is_always_there_and_other_names_are_not_its() {
        let consumers = ReplyConsumers::default();
        assert!(consumers.exists(REPLY_TO) && consumers.find(REPLY_TO).is_none());
        for name in ["amq.rabbitmq.reply-to.", "amq.rabbitmq.reply-to.x"] {
            assert!(!consumers.exists(name) && is_reply_name(name));
        }
        assert!(!is_reply_name("amq.rabbitmq.reply-tox"));
    }
}
