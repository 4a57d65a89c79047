//! A whole broker on a free port of the loopback address, met by raw sockets.

mod firehose;
mod update_secret;

use std::path::Path;

use amq_protocol::protocol::connection::{AMQPMethod, Close, CloseOk, Open, StartOk, TuneOk};
use amq_protocol::protocol::{AMQPClass, parse_class};
use amq_protocol::types::{AMQPValue, FieldTable};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::amqp::frame;
use crate::broker::Broker;
use crate::config::DefaultPermissions;

fn config(data_dir: &Path) -> Config {
    Config {
        listeners: vec!["127.0.0.1:0".parse().unwrap()],
        data_dir: data_dir.to_owned(),
        ..Config::default()
    }
}

fn options(config: &Config) -> StoreOptions {
    StoreOptions {
        ballast_bytes: 0,
        ..StoreOptions::new(&config.data_dir)
    }
}

/// A running broker.
struct Running {
    address: SocketAddr,
    broker: Arc<Broker>,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

impl Running {
    async fn start(data_dir: &Path) -> Self {
        Self::start_with(config(data_dir)).await
    }

    async fn start_with(config: Config) -> Self {
        let options = options(&config);
        let server = Server::start(config, options).await.unwrap();
        let address = server.addresses()[0];
        let broker = Arc::clone(&server.shared.broker);
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(server.run_until(async { stopped.await.unwrap() }));
        Self {
            address,
            broker,
            stop,
            server,
        }
    }

    async fn connect(&self) -> Client {
        Client {
            stream: TcpStream::connect(self.address).await.unwrap(),
        }
    }

    async fn stop(self) {
        drop(self.broker);
        self.stop.send(()).unwrap();
        self.server.await.unwrap();
    }
}

struct Client {
    stream: TcpStream,
}

impl Client {
    async fn send(&mut self, method: AMQPMethod) {
        self.send_on(0, AMQPClass::Connection(method)).await;
    }

    async fn send_on(&mut self, channel: u16, method: AMQPClass) {
        let mut bytes = Vec::new();
        frame::put_method(&mut bytes, channel, &method);
        self.stream.write_all(&bytes).await.unwrap();
    }

    async fn receive(&mut self) -> AMQPMethod {
        match self.receive_any().await {
            AMQPClass::Connection(method) => method,
            other => panic!("{other:?}"),
        }
    }

    async fn receive_any(&mut self) -> AMQPClass {
        let mut head = [0; 7];
        self.stream.read_exact(&mut head).await.unwrap();
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
        let mut payload = vec![0; size as usize + 1];
        self.stream.read_exact(&mut payload).await.unwrap();
        parse_class(&payload[..]).unwrap().1
    }

    async fn is_at_end(&mut self) -> bool {
        matches!(self.stream.read(&mut [0]).await, Ok(0) | Err(_))
    }

    /// Logs in and opens the default vhost.
    async fn open(mut self, user: &str, password: &str) -> Self {
        self.stream
            .write_all(b"AMQP\x00\x00\x09\x01")
            .await
            .unwrap();
        assert!(matches!(self.receive().await, AMQPMethod::Start(_)));
        self.send(AMQPMethod::StartOk(StartOk {
            mechanism: "PLAIN".into(),
            response: format!("\0{user}\0{password}").into(),
            client_properties: client_properties(),
            ..StartOk::default()
        }))
        .await;
        assert!(matches!(self.receive().await, AMQPMethod::Tune(_)));
        self.send(AMQPMethod::TuneOk(TuneOk {
            channel_max: 10,
            frame_max: 4096,
            heartbeat: 0,
        }))
        .await;
        self.send(AMQPMethod::Open(Open {
            virtual_host: "/".into(),
        }))
        .await;
        assert!(matches!(self.receive().await, AMQPMethod::OpenOk(_)));
        self
    }
}

/// Wants to hear of cancelled consumers.
fn client_properties() -> FieldTable {
    let mut capabilities = FieldTable::default();
    let wanted = "consumer_cancel_notify".into();
    capabilities.insert(wanted, AMQPValue::Boolean(true));
    let mut properties = FieldTable::default();
    let capabilities = AMQPValue::FieldTable(capabilities);
    properties.insert("capabilities".into(), capabilities);
    properties
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_is_opened_and_closed() {
    let data = tempfile::tempdir().unwrap();
    let broker = Running::start(data.path()).await;
    let mut client = broker.connect().await.open("guest", "guest").await;
    let reply_text = "bye".into();
    client
        .send(AMQPMethod::Close(Close {
            reply_code: 200,
            reply_text,
            class_id: 0,
            method_id: 0,
        }))
        .await;
    assert!(matches!(client.receive().await, AMQPMethod::CloseOk(_)));
    assert!(client.is_at_end().await);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_closes_connections_with_320() {
    let data = tempfile::tempdir().unwrap();
    let broker = Running::start(data.path()).await;
    let mut open = broker.connect().await.open("guest", "guest").await;
    let mut in_handshake = broker.connect().await;
    in_handshake
        .stream
        .write_all(b"AMQP\x00\x00\x09\x01")
        .await
        .unwrap();
    assert!(matches!(in_handshake.receive().await, AMQPMethod::Start(_)));
    let address = broker.address;
    let stopping = tokio::spawn(broker.stop());

    let AMQPMethod::Close(close) = open.receive().await else {
        panic!("not connection.close")
    };
    assert_eq!(close.reply_code, 320);
    let expected = "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'";
    assert_eq!(close.reply_text.to_string(), expected);
    assert!(in_handshake.is_at_end().await);
    open.send(AMQPMethod::CloseOk(CloseOk {})).await;
    assert!(open.is_at_end().await);
    stopping.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_answer_does_not_hold_up_the_stop() {
    let data = tempfile::tempdir().unwrap();
    let broker = Running::start(data.path()).await;
    let mut silent = broker.connect().await.open("guest", "guest").await;
    broker.stop().await;
    assert!(matches!(silent.receive().await, AMQPMethod::Close(_)));
    assert!(silent.is_at_end().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_default_user_is_created_once() {
    let data = tempfile::tempdir().unwrap();
    let first = Config {
        default_user: "app".into(),
        default_pass: "secret".into(),
        ..config(data.path())
    };
    let broker = Running::start_with(first).await;
    broker.connect().await.open("app", "secret").await;
    broker.stop().await;

    // Other defaults come too late.
    let broker = Running::start(data.path()).await;
    broker.connect().await.open("app", "secret").await;
    let server = broker.server.is_finished();
    assert!(!server);
    let mut refused = broker.connect().await;
    refused
        .stream
        .write_all(b"AMQP\x00\x00\x09\x01")
        .await
        .unwrap();
    refused.receive().await;
    let response = "\0guest\0guest".into();
    let start_ok = StartOk {
        mechanism: "PLAIN".into(),
        response,
        ..StartOk::default()
    };
    refused.send(AMQPMethod::StartOk(start_ok)).await;
    assert!(refused.is_at_end().await);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_do_nothing_disturb_nobody() {
    const IDLE: usize = 1500;
    let data = tempfile::tempdir().unwrap();
    let broker = Running::start(data.path()).await;
    let mut idle = Vec::new();
    for _ in 0..IDLE {
        idle.push(broker.connect().await);
    }
    broker.connect().await.open("guest", "guest").await;
    drop(idle);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_cannot_succeed_says_why() {
    let data = tempfile::tempdir().unwrap();
    let broker = Running::start(data.path()).await;
    let other = tempfile::tempdir().unwrap();
    let taken = Config {
        listeners: vec![broker.address],
        ..config(other.path())
    };
    let shared = config(data.path());
    let file = other.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let no_directory = config(&file.join("data"));
    let no_pattern = Config {
        default_permissions: DefaultPermissions {
            read: "(".into(),
            ..DefaultPermissions::default()
        },
        ..config(&other.path().join("new"))
    };
    for (config, expected) in [
        (taken, format!("cannot listen on {}: ", broker.address)),
        (
            shared,
            format!("data directory {} is in use", data.path().display()),
        ),
        (no_directory, "cannot create the data directory".into()),
        (
            no_pattern,
            "cannot create the default user: invalid read pattern '('".into(),
        ),
    ] {
        let options = options(&config);
        let error = Server::start(config, options)
            .await
            .err()
            .unwrap()
            .to_string();
        assert!(error.starts_with(&expected), "{error}");
    }
    broker.stop().await;
}
