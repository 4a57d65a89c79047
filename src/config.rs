//! The settings of one broker: defaults, file and environment, resolved once at the start.
//!
//! A [`Config`] is complete, validated and never changed: [`Config::load`] either returns one or every
//! problem of the file and the environment at once. No part of the broker reads its settings from anywhere
//! else: the `Config` is passed.
//!
//! Precedence, strongest first: command line, environment, file, default. The keys are those of
//! `rabbitmq.conf`; `docs/configuration.md` lists them with meaning, unit and default.

mod deprecated;
mod error;
mod file;
mod load;
mod memory;
mod settings;
mod value;

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub use deprecated::{DeprecatedFeature, DeprecatedFeatures};
pub use error::{ConfigError, ConfigErrors, Origin};
pub use memory::total_memory_bytes;

/// The port of AMQP 0-9-1 without TLS, as registered at IANA.
pub const AMQP_PORT: u16 = 5672;

/// How many seconds a client may read nothing while its outbox is over its hard limit, unless configured otherwise.
const OUTBOX_STALL_SECONDS_MAX: u64 = 60;

/// The smallest `frame_max` a peer may ask for (AMQP 0-9-1, 4.2.3 `frame-min-size`). RabbitMQ refuses
/// less than 8192 since 4.1; Leveret keeps to the specification, as older clients ask for 4096.
pub const FRAME_MAX_BYTES_MIN: u32 = 4096;

/// The largest message body that can be configured: 512 MiB, as in RabbitMQ.
pub const MESSAGE_SIZE_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// All settings of a broker.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Addresses that accept AMQP 0-9-1 connections without TLS; empty for `listeners.tcp = none`.
    /// `[::]` stands for all interfaces with IPv4 as well, also on a host that has no IPv6.
    pub listeners: Vec<SocketAddr>,
    /// The user that the first start on an empty data directory creates.
    pub default_user: String,
    /// The password of `default_user`, in clear text. Never logged: do not log a `Config` either.
    pub default_pass: String,
    /// The virtual host that the first start on an empty data directory creates.
    pub default_vhost: String,
    /// The permissions of `default_user` in `default_vhost`.
    pub default_permissions: DefaultPermissions,
    /// The tags of `default_user`, sorted, for instance `administrator`.
    pub default_user_tags: Vec<String>,
    /// Users that may connect from a loopback address only.
    pub loopback_users: HashSet<String>,
    /// The user that a client with the mechanism ANONYMOUS becomes; `None` switches the mechanism off.
    pub anonymous_login_user: Option<String>,
    /// The heartbeat interval that connection.tune suggests, in seconds; 0 suggests none.
    pub heartbeat_seconds: u16,
    /// The largest frame that connection.tune offers, in bytes, header and end byte included;
    /// 0 stands for no limit.
    pub frame_max_bytes: u32,
    /// The most channels that connection.tune offers for one connection; 0 stands for 65,535.
    pub channel_max: u16,
    /// The largest message body that basic.publish accepts, in bytes.
    pub max_message_size_bytes: u64,
    /// How long a client may take from the connect until connection.open; `Duration::MAX` for ever.
    pub handshake_timeout: Duration,
    /// How long a client may leave the socket full while its outbox is over its hard limit; `Duration::MAX` for ever.
    pub send_timeout: Duration,
    /// What the kernel may hold of what a client has not received, in bytes (`SO_SNDBUF`). `None`: little if the
    /// client is near, whatever the kernel finds right if not.
    pub send_buffer_bytes: Option<u32>,
    /// What the kernel may hold of what a client has sent, in bytes (`SO_RCVBUF`). `None`: whatever it finds right.
    pub receive_buffer_bytes: Option<u32>,
    /// How much of each kind there may be.
    pub node_limits: NodeLimits,
    /// Above this much memory publishers are blocked.
    pub memory_high_watermark: MemoryWatermark,
    /// Below this much free space on the disk of `data_dir` publishers are blocked.
    pub disk_free_limit: DiskFreeLimit,
    /// What is written to the console.
    pub log_level: LogLevel,
    /// What of the log is also published to `amq.rabbitmq.log` of the default virtual host; `None`: there is no such
    /// exchange.
    pub log_exchange_level: Option<LogLevel>,
    /// What is noted in messages as they arrive.
    pub message_interceptors: MessageInterceptors,
    /// The virtual host with the exchange for events; `None`: there are none.
    pub event_exchange_vhost: Option<String>,
    /// Which of RabbitMQ's deprecated features clients may use.
    pub deprecated_features: DeprecatedFeatures,
    /// The `cluster_name` of the server properties; `None` stands for `leveret@` and the host's name.
    pub cluster_name: Option<String>,
    /// The `product` of the server properties. Clients branch on it, hence "RabbitMQ" by default.
    pub server_product: String,
    /// The `version` of the server properties: three numbers as RabbitMQ writes them.
    pub server_version: String,
    /// The type of durable queues that are declared without one: `classic`, `quorum` or `stream`. Virtual hosts can say
    /// otherwise.
    pub default_queue_type: String,
    /// Files with definitions, or directories of such files, that each start imports.
    pub definitions: Vec<PathBuf>,
    /// The directory with everything that the broker stores.
    pub data_dir: PathBuf,
}

/// How much of each kind there may be in one node; `None` for no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeLimits {
    /// Open connections.
    pub connections: Option<u64>,
    /// Open channels of all connections.
    pub channels: Option<u64>,
    /// Consumers of one channel.
    pub consumers_per_channel: Option<u64>,
    /// Virtual hosts.
    pub vhosts: Option<u64>,
    /// Queues in all virtual hosts.
    pub queues: Option<u64>,
    /// Exchanges in all virtual hosts, the predeclared ones included.
    pub exchanges: Option<u64>,
}

/// What is noted in messages as they arrive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MessageInterceptors {
    /// The time: the header `timestamp_in_ms` and the property `timestamp`.
    pub timestamp: Stamp,
    /// This node: the header `x-routed-by`.
    pub routing_node: Stamp,
}

/// Whether something is noted in a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stamp {
    /// Never.
    #[default]
    Off,
    /// Unless the publisher did.
    IfAbsent,
    /// Always.
    Overwrite,
}

impl Stamp {
    /// Whether to note it in a message in which it `is_there`.
    pub fn sets(self, is_there: bool) -> bool {
        match self {
            Self::Off => false,
            Self::IfAbsent => !is_there,
            Self::Overwrite => true,
        }
    }
}

/// The permissions of the default user: one regular expression for each kind of access.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefaultPermissions {
    pub configure: String,
    pub write: String,
    pub read: String,
}

/// When the memory alarm is raised.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MemoryWatermark {
    /// A fraction of the memory that this process may use, cgroup limits included. 0 blocks always.
    Relative(f64),
    /// A number of bytes.
    AbsoluteBytes(u64),
}

/// When the disk alarm is raised.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum DiskFreeLimit {
    /// A multiple of the memory that this process may use.
    Relative(f64),
    /// A number of bytes.
    AbsoluteBytes(u64),
}

/// How much is logged, in RabbitMQ's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    Debug,
    Info,
    Warning,
    Error,
    /// RabbitMQ's level above `error`; Leveret logs its errors at this level too.
    Critical,
    None,
}

/// What this node is called, after its host as in RabbitMQ.
pub fn node_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match host.trim() {
        "" => "leveret@localhost".to_owned(),
        host => format!("leveret@{host}"),
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listeners: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, AMQP_PORT))],
            default_user: "guest".into(),
            default_pass: "guest".into(),
            default_vhost: "/".into(),
            default_permissions: DefaultPermissions::default(),
            default_user_tags: vec!["administrator".into()],
            loopback_users: HashSet::from(["guest".into()]),
            anonymous_login_user: None,
            heartbeat_seconds: 60,
            frame_max_bytes: 131_072,
            channel_max: 2047,
            max_message_size_bytes: 16 * 1024 * 1024,
            handshake_timeout: Duration::from_secs(10),
            send_timeout: Duration::from_secs(OUTBOX_STALL_SECONDS_MAX),
            send_buffer_bytes: None,
            receive_buffer_bytes: None,
            node_limits: NodeLimits::default(),
            memory_high_watermark: MemoryWatermark::Relative(0.6),
            disk_free_limit: DiskFreeLimit::AbsoluteBytes(50_000_000),
            log_level: LogLevel::Info,
            log_exchange_level: None,
            message_interceptors: MessageInterceptors::default(),
            event_exchange_vhost: None,
            deprecated_features: DeprecatedFeatures::default(),
            cluster_name: None,
            server_product: "RabbitMQ".into(),
            server_version: "4.3.5".into(),
            default_queue_type: "classic".into(),
            definitions: Vec::new(),
            data_dir: "data".into(),
        }
    }
}

impl Default for DefaultPermissions {
    fn default() -> Self {
        Self {
            configure: ".*".into(),
            write: ".*".into(),
            read: ".*".into(),
        }
    }
}
