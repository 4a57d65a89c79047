//! The log as messages: each line goes to the topic exchange `amq.rabbitmq.log` of one virtual host, as RabbitMQ
//! publishes them (`rabbit_logger_exchange_h`).
//!
//! The routing key is the level, the body the line. Lines are told where they are logged, under whatever lock that is,
//! and published by the thread of an [`Outlet`]. What that thread logs itself is not published: there would be no end.

use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;

use super::exchange::{Exchange, LOG_EXCHANGE};
use super::outlet::{Notice, Outlet};
use super::vhost::VHost;
use crate::message::field;

/// The thread that publishes.
const THREAD: &str = "log-exchange";

/// The flags of content type, headers and timestamp.
const FLAGS: u16 = 1 << 15 | 1 << 13 | 1 << 6;

const CONTENT_TYPE: &[u8; 10] = b"text/plain";

/// Where the lines of the log go once a broker has taken it.
pub struct LogExchange {
    outlet: Arc<Outlet>,
    target: OnceLock<Target>,
}

struct Target {
    exchange: Weak<Exchange>,
    /// What this node is called.
    node: Arc<str>,
}

impl Default for LogExchange {
    fn default() -> Self {
        Self {
            outlet: Arc::new(Outlet::new(LOG_EXCHANGE)),
            target: OnceLock::new(),
        }
    }
}

impl LogExchange {
    /// From now on lines are published to this exchange of `vhost`; the first call counts.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub(super) fn switch_on(
        &self,
        vhost: &Arc<VHost>,
        exchange: &Arc<Exchange>,
    ) -> std::io::Result<()> {
        self.outlet.open(THREAD, &Arc::downgrade(vhost))?;
        // Once per process.
        let _ = self.target.set(Target {
            exchange: Arc::downgrade(exchange),
            node: vhost.services.node.clone(),
        });
        Ok(())
    }

    /// Publishes a line soon, if somebody listens. Logs nothing and waits for nothing: lines that come faster than they
    /// can be published are lost and counted.
    pub fn put(&self, level: &str, line: &[u8], now_ms: u64) {
        let Some(target) = self.target.get() else {
            return;
        };
        if std::thread::current().name() == Some(THREAD) {
            return;
        }
        let exchange = target.exchange.upgrade();
        if exchange.is_none_or(|exchange| exchange.binding_count() == 0) {
            return;
        }
        self.outlet.put(Notice {
            routing_key: level.to_owned(),
            properties: properties(&target.node, now_ms),
            body: Bytes::copy_from_slice(line),
            persistent: false,
        });
    }

    /// Lines that were lost because they came faster than they could be published.
    pub fn lost(&self) -> u64 {
        self.outlet.lost()
    }
}

fn properties(node: &str, now_ms: u64) -> Vec<u8> {
    let mut headers = Vec::new();
    field::put_name(&mut headers, b"node");
    field::put_long_string(&mut headers, node.as_bytes());
    let mut properties = FLAGS.to_be_bytes().to_vec();
    properties.push(CONTENT_TYPE.len() as u8);
    properties.extend_from_slice(CONTENT_TYPE);
    properties.extend_from_slice(&(headers.len() as u32).to_be_bytes());
    properties.append(&mut headers);
    properties.extend_from_slice(&(now_ms / 1000).to_be_bytes());
    properties
}

#[cfg(test)]
mod tests {
    use amq_protocol::types::FieldTable;

    use super::*;
    use crate::broker::NOBODY;
    use crate::broker::queue::GetOutcome;
    use crate::broker::testing::TestBroker;
    use crate::broker::vhost::{QueueBind, QueueDeclare};
    use crate::message::properties::Properties;

    #[test]
    fn properties_are_those_of_rabbitmq() {
        let bytes = properties("leveret@here", 7_001);
        let properties = Properties::read(&bytes).unwrap();
        assert!(!properties.persistent);
        assert_eq!(properties.timestamp, Some(7));
        let headers = properties.decode_headers().unwrap().unwrap();
        let node = headers
            .inner()
            .get("node")
            .and_then(|node| node.as_long_string());
        assert_eq!(node.unwrap().as_bytes(), b"leveret@here");
    }

    /// What the publishing thread logs, and what is logged before anybody listens, is not told.
    #[test]
    fn the_publishing_thread_is_not_heard() {
        let test = TestBroker::new();
        let log = Arc::new(LogExchange::default());
        log.put("info", b"too early", 0);
        test.broker.switch_log_on("/", &log).unwrap().unwrap();
        log.put("info", b"to nobody", 0);
        let vhost = test.broker.vhost("/").unwrap();
        let visit = test.broker.services.visit();
        let declare = QueueDeclare {
            name: "log".into(),
            server_named: false,
            durable: false,
            exclusive: false,
            auto_delete: false,
            arguments: FieldTable::default(),
            connection: NOBODY,
        };
        let queue = vhost.declare_queue(&visit, declare).unwrap().queue;
        let bind = QueueBind {
            queue: "log".into(),
            exchange: LOG_EXCHANGE.into(),
            routing_key: "#".into(),
            arguments: FieldTable::default(),
            connection: NOBODY,
        };
        vhost.bind_queue(&visit, bind).unwrap();
        drop(visit);
        let own = log.clone();
        let publishing = std::thread::Builder::new().name(THREAD.into());
        let publishing = publishing.spawn(move || own.put("error", b"from within", 0));
        publishing.unwrap().join().unwrap();
        log.put("info", b"heard", 0);
        // They go by in order: with this one all are there.
        while queue.counts().ready == 0 {
            std::thread::yield_now();
        }
        let got = queue.get(&test.broker.services.visit(), true, |delivery, _| {
            delivery.record.routing_key().to_vec()
        });
        assert!(matches!(got, GetOutcome::Message(key) if key == b"info"));
        assert_eq!(queue.counts().ready, 0);
        assert_eq!(log.lost(), 0);
    }
}
