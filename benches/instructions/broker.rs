//! A broker in a temporary directory, and connections to it that begin after their handshake.

use std::sync::Arc;

use amq_protocol::protocol::{AMQPClass, channel};
use leveret::amqp::connection::{self, Limits};
use leveret::amqp::frame;
use leveret::amqp::outbox::{Outbox, Pace};
use leveret::amqp::session::{Capabilities, Connections, Session};
use leveret::auth::Mechanism;
use leveret::broker::Broker as Leveret;
use leveret::config::Config;
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::support;
use super::wire::Wire;

/// Largest frame that was agreed on, in bytes.
pub(crate) const FRAME_BYTES_MAX: u32 = 131_072;

/// A broker, its runtime and its open connections.
pub(crate) struct Broker {
    pub(crate) runtime: Runtime,
    leveret: Arc<Leveret>,
    config: Arc<Config>,
    connections: Arc<Connections>,
    _dir: TempDir,
}

impl Broker {
    pub(crate) fn start() -> Self {
        let dir = TempDir::new().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let config = Config::default();
        let leveret = support::open(&dir, &config);
        Self {
            runtime,
            leveret,
            config: Arc::new(config),
            connections: Arc::default(),
            _dir: dir,
        }
    }

    /// A connection with channel 1 open.
    pub(crate) fn connect(&self) -> Wire {
        let wire = Wire::default();
        let login = format!(
            "\0{}\0{}",
            self.config.default_user, self.config.default_pass
        );
        let auth = &self.leveret.auth;
        let user = auth.authenticate(Mechanism::Plain, login.as_bytes(), true);
        let vhost = self.leveret.vhost(&self.config.default_vhost).unwrap();
        let user = user.unwrap();
        let throttles = [auth.rates(&user), vhost.rates().clone()];
        let outbox = Outbox::new(FRAME_BYTES_MAX);
        outbox.pace(Pace {
            throttles: throttles.each_ref().map(|rates| rates.consume.clone()),
            clock: self.leveret.services.clock.clone(),
        });
        let session = Session {
            id: self.connections.next_id(),
            peer: "memory".into(),
            name: "nobody -> nowhere".to_owned(),
            broker: self.leveret.clone(),
            vhost,
            admission: Mutex::default(),
            user: Mutex::new(Arc::new(user)),
            throttles,
            outbox,
            config: self.config.clone(),
            capabilities: Capabilities::default(),
        };
        let limits = Limits {
            frame_max_bytes: FRAME_BYTES_MAX,
            channel_max: 0,
            heartbeat_seconds: 0,
        };
        let (stream, connections) = (wire.broker_end(), self.connections.clone());
        self.runtime.spawn(async move {
            connection::serve(stream, Arc::new(session), limits, &[], &connections).await;
        });
        let open = channel::AMQPMethod::Open(channel::Open {});
        self.call(&wire, AMQPClass::Channel(open));
        wire
    }

    /// Sends a method and waits for its answer.
    pub(crate) fn call(&self, wire: &Wire, method: AMQPClass) {
        let mut bytes = Vec::new();
        frame::put_method(&mut bytes, 1, &method);
        let heard = wire.heard_bytes();
        self.runtime.block_on(async {
            wire.say(bytes.into()).await;
            wire.hear(heard + 1).await;
        });
    }

    /// Closes the store; RocksDB must not be open when the process ends.
    pub(crate) fn stop(self) {
        self.runtime.block_on(self.leveret.services.store.close());
    }
}
