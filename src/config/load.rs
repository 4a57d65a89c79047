//! From file and environment to a [`Config`].

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::error::{ConfigError, ConfigErrors, Origin};
use super::file::{self, Entry};
use super::settings::{Given, Settings};
use super::value::{self, Kind};
use super::{
    Config, DefaultPermissions, DiskFreeLimit, LogLevel, MemoryWatermark, MessageInterceptors,
    NodeLimits, Stamp,
};

impl Config {
    /// The settings of the file at `path`, or else of the one that the variable `LEVERET_CONFIG` names,
    /// or else the defaults; changed by the environment, which `env` looks up. An empty variable is as
    /// good as none.
    ///
    /// # Errors
    /// All that is wrong with the file and the environment: nothing is skipped or guessed.
    pub fn load(
        path: Option<&Path>,
        env: &impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigErrors> {
        let env = &|name: &str| env(name).filter(|value| !value.is_empty());
        let path = path
            .map(Path::to_owned)
            .or_else(|| env("LEVERET_CONFIG").map(PathBuf::from));
        let (entries, errors) = path.map_or_else(Default::default, |path| read(&path, env));
        let mut settings = Settings::new(entries, errors);
        for (variable, file_variable, key) in FIRST_START_VARIABLES {
            override_from_environment(&mut settings, variable, file_variable, key, env);
        }
        let config = resolve(&mut settings, env);
        settings.finish()?;
        Ok(config)
    }
}

/// The variables of RabbitMQ's container image, each with one that names a file with the value (for
/// secrets that are mounted), and the key that both override.
const FIRST_START_VARIABLES: [(&str, &str, &str); 3] = [
    (
        "RABBITMQ_DEFAULT_USER",
        "RABBITMQ_DEFAULT_USER_FILE",
        "default_user",
    ),
    (
        "RABBITMQ_DEFAULT_PASS",
        "RABBITMQ_DEFAULT_PASS_FILE",
        "default_pass",
    ),
    (
        "RABBITMQ_DEFAULT_VHOST",
        "RABBITMQ_DEFAULT_VHOST_FILE",
        "default_vhost",
    ),
];

fn read(path: &Path, env: &impl Fn(&str) -> Option<String>) -> (Vec<Entry>, Vec<ConfigError>) {
    match std::fs::read_to_string(path) {
        Ok(text) => file::parse(path, &text, env),
        Err(error) => {
            let unreadable = ConfigError {
                origin: Origin::File(path.to_owned()),
                key: "configuration file".to_owned(),
                expected: "a readable text file".to_owned(),
                found: error.to_string(),
            };
            (Vec::new(), vec![unreadable])
        }
    }
}

fn override_from_environment(
    settings: &mut Settings,
    variable: &'static str,
    file_variable: &'static str,
    key: &'static str,
    env: &impl Fn(&str) -> Option<String>,
) {
    let Some(path) = env(file_variable) else {
        if let Some(value) = env(variable) {
            settings.put(key, variable, value);
        }
        return;
    };
    let origin = Origin::Variable(file_variable);
    if env(variable).is_some() {
        let expected = format!("no such variable beside {variable}");
        return settings.refuse(origin, key.to_owned(), expected, "both".to_owned());
    }
    match std::fs::read_to_string(&path) {
        Ok(text) => settings.put(
            key,
            file_variable,
            text.trim_end_matches(['\r', '\n']).to_owned(),
        ),
        Err(error) => {
            let expected = "the path of a readable text file".to_owned();
            settings.refuse(
                origin,
                key.to_owned(),
                expected,
                format!("'{path}': {error}"),
            );
        }
    }
}

/// What is absent or wrong has its default here; what is wrong is remembered by `settings`.
fn resolve(settings: &mut Settings, env: &impl Fn(&str) -> Option<String>) -> Config {
    let default = Config::default();
    Config {
        listeners: listeners(settings, env, default.listeners),
        default_user: settings
            .take("default_user", &value::NAME)
            .unwrap_or(default.default_user),
        default_pass: settings
            .take("default_pass", &value::PASSWORD)
            .unwrap_or(default.default_pass),
        default_vhost: settings
            .take("default_vhost", &value::NAME)
            .unwrap_or(default.default_vhost),
        default_permissions: default_permissions(settings, default.default_permissions),
        default_user_tags: default_user_tags(settings, default.default_user_tags),
        loopback_users: loopback_users(settings, default.loopback_users),
        anonymous_login_user: settings
            .take("anonymous_login_user", &value::OPTIONAL_NAME)
            .unwrap_or(default.anonymous_login_user),
        heartbeat_seconds: settings
            .take("heartbeat", &value::HEARTBEAT)
            .unwrap_or(default.heartbeat_seconds),
        frame_max_bytes: settings
            .take("frame_max", &value::FRAME_MAX)
            .unwrap_or(default.frame_max_bytes),
        channel_max: settings
            .take("channel_max", &value::CHANNEL_MAX)
            .unwrap_or(default.channel_max),
        max_message_size_bytes: settings
            .take("max_message_size", &value::MESSAGE_SIZE)
            .unwrap_or(default.max_message_size_bytes),
        handshake_timeout: settings
            .take("handshake_timeout", &value::TIMEOUT)
            .unwrap_or(default.handshake_timeout),
        send_timeout: settings
            .take("tcp_listen_options.send_timeout", &value::TIMEOUT)
            .unwrap_or(default.send_timeout),
        send_buffer_bytes: settings.take("tcp_listen_options.sndbuf", &value::SOCKET_BUFFER),
        receive_buffer_bytes: settings.take("tcp_listen_options.recbuf", &value::SOCKET_BUFFER),
        node_limits: node_limits(settings),
        memory_high_watermark: memory_high_watermark(settings)
            .unwrap_or(default.memory_high_watermark),
        disk_free_limit: disk_free_limit(settings).unwrap_or(default.disk_free_limit),
        log_level: settings
            .take("log.console.level", &value::LOG_LEVEL)
            .unwrap_or(default.log_level),
        log_exchange_level: log_exchange_level(settings),
        message_interceptors: MessageInterceptors {
            timestamp: stamp(
                settings,
                "message_interceptors.incoming.set_header_timestamp.overwrite",
            ),
            routing_node: stamp(
                settings,
                "message_interceptors.incoming.set_header_routing_node.overwrite",
            ),
        },
        event_exchange_vhost: event_exchange_vhost(settings),
        deprecated_features: by_name(
            settings.take_all("deprecated_features.permit.", &value::BOOLEAN),
        )
        .collect(),
        cluster_name: settings
            .take("cluster_name", &value::NAME)
            .or(default.cluster_name),
        server_product: settings
            .take("product.name", &value::NAME)
            .unwrap_or(default.server_product),
        server_version: settings
            .take("product.version", &value::VERSION)
            .unwrap_or(default.server_version),
        default_queue_type: settings
            .take("default_queue_type", &value::QUEUE_TYPE)
            .unwrap_or(default.default_queue_type),
        definitions: definitions(settings),
        data_dir: env("LEVERET_DATA_DIR").map_or(default.data_dir, PathBuf::from),
    }
}

fn listeners(
    settings: &mut Settings,
    env: &impl Fn(&str) -> Option<String>,
    default: Vec<SocketAddr>,
) -> Vec<SocketAddr> {
    let none = settings.take_given("listeners.tcp", &value::NONE);
    let given = settings.take_all("listeners.tcp.", &value::LISTENER);
    let mut listeners = match (none, given.is_empty()) {
        (Some(_), true) => Vec::new(),
        (None, true) => default,
        (Some(none), false) => {
            given
                .into_iter()
                .for_each(|listener| settings.contradiction(&none, listener));
            Vec::new()
        }
        (None, false) => different_addresses(settings, given),
    };
    let variable = "RABBITMQ_NODE_PORT";
    if let Some(port) = env(variable) {
        settings.put(variable, variable, port);
    }
    if let Some(port) = settings.take_given(variable, &value::PORT) {
        match listeners.as_mut_slice() {
            [listener] => listener.set_port(port.value),
            several => {
                let found = format!("{}", several.len());
                settings.refuse_given(port, "exactly one TCP listener to give this port", found);
            }
        }
    }
    listeners
}

fn different_addresses(settings: &mut Settings, given: Vec<Given<SocketAddr>>) -> Vec<SocketAddr> {
    let mut different: Vec<Given<SocketAddr>> = Vec::new();
    for listener in given {
        match different.iter().find(|other| other.value == listener.value) {
            Some(first) => settings.contradiction(first, listener),
            None => different.push(listener),
        }
    }
    different
        .into_iter()
        .map(|listener| listener.value)
        .collect()
}

fn default_permissions(settings: &mut Settings, default: DefaultPermissions) -> DefaultPermissions {
    let mut pattern = |key, default| settings.take(key, &value::PATTERN).unwrap_or(default);
    DefaultPermissions {
        configure: pattern("default_permissions.configure", default.configure),
        write: pattern("default_permissions.write", default.write),
        read: pattern("default_permissions.read", default.read),
    }
}

/// As in RabbitMQ, the tags that are given replace the default ones.
fn default_user_tags(settings: &mut Settings, default: Vec<String>) -> Vec<String> {
    let given = settings.take_all("default_user_tags.", &value::BOOLEAN);
    if given.is_empty() {
        return default;
    }
    let mut tags: Vec<String> = by_name(given)
        .filter(|(_, wanted)| *wanted)
        .map(|(tag, _)| tag)
        .collect();
    tags.sort();
    tags
}

/// As in RabbitMQ, the users that are given replace the default one.
fn loopback_users(settings: &mut Settings, default: HashSet<String>) -> HashSet<String> {
    let none = settings.take_given("loopback_users", &value::NONE);
    let given = settings.take_all("loopback_users.", &value::BOOLEAN);
    if none.is_none() && given.is_empty() {
        return default;
    }
    let (limited, _): (Vec<_>, Vec<_>) = given.into_iter().partition(|user| user.value);
    match none {
        None => by_name(limited).map(|(user, _)| user).collect(),
        Some(none) => {
            limited
                .into_iter()
                .for_each(|user| settings.contradiction(&none, user));
            HashSet::new()
        }
    }
}

/// As in RabbitMQ the level alone does not turn it on.
fn log_exchange_level(settings: &mut Settings) -> Option<LogLevel> {
    let is_on = settings.take("log.exchange", &value::BOOLEAN);
    let level = settings.take("log.exchange.level", &value::LOG_LEVEL);
    is_on
        .unwrap_or(false)
        .then_some(level.unwrap_or(LogLevel::Info))
}

/// RabbitMQ has a plugin to enable beside the keys.
fn event_exchange_vhost(settings: &mut Settings) -> Option<String> {
    // There is only one: it is checked, and says nothing.
    let _ = settings.take("event_exchange.protocol", &value::AMQP_0_9_1);
    settings.take("event_exchange.vhost", &value::NAME)
}

/// As in RabbitMQ the key alone turns it on, whatever it says of what is there already.
fn stamp(settings: &mut Settings, key: &'static str) -> Stamp {
    match settings.take(key, &value::BOOLEAN) {
        None => Stamp::Off,
        Some(false) => Stamp::IfAbsent,
        Some(true) => Stamp::Overwrite,
    }
}

fn node_limits(settings: &mut Settings) -> NodeLimits {
    let mut limit = |key| settings.take(key, &value::LIMIT).flatten();
    NodeLimits {
        connections: limit("connection_max"),
        channels: limit("channel_max_per_node"),
        consumers_per_channel: limit("consumer_max_per_channel"),
        vhosts: limit("vhost_max"),
        queues: limit("cluster_queue_limit"),
        exchanges: limit("cluster_exchange_limit"),
    }
}

fn memory_high_watermark(settings: &mut Settings) -> Option<MemoryWatermark> {
    let relative = ("vm_memory_high_watermark.relative", &value::MEMORY_FRACTION);
    let absolute = ("vm_memory_high_watermark.absolute", &value::BYTES);
    either(
        settings,
        relative,
        MemoryWatermark::Relative,
        absolute,
        MemoryWatermark::AbsoluteBytes,
    )
}

fn disk_free_limit(settings: &mut Settings) -> Option<DiskFreeLimit> {
    let relative = ("disk_free_limit.relative", &value::MEMORY_MULTIPLE);
    let absolute = ("disk_free_limit.absolute", &value::BYTES);
    either(
        settings,
        relative,
        DiskFreeLimit::Relative,
        absolute,
        DiskFreeLimit::AbsoluteBytes,
    )
}

/// RabbitMQ's old and new way to name them; both count.
fn definitions(settings: &mut Settings) -> Vec<PathBuf> {
    // There is only one: it is checked, and says nothing.
    let _ = settings.take("definitions.import_backend", &value::LOCAL_FILESYSTEM);
    let path = settings.take("definitions.local.path", &value::PATH);
    let classic = ["load_definitions", "management.load_definitions"];
    let classic = classic.map(|key| settings.take(key, &value::PATH));
    classic.into_iter().chain([path]).flatten().collect()
}

/// A limit is given as a share of the memory or in bytes, not both.
fn either<T>(
    settings: &mut Settings,
    (relative_key, relative_kind): (&'static str, &Kind<f64>),
    relative: fn(f64) -> T,
    (absolute_key, absolute_kind): (&'static str, &Kind<u64>),
    absolute: fn(u64) -> T,
) -> Option<T> {
    let share = settings.take_given(relative_key, relative_kind);
    let bytes = settings.take_given(absolute_key, absolute_kind);
    match (share, bytes) {
        (Some(share), Some(bytes)) => {
            settings.contradiction(&share, bytes);
            None
        }
        (Some(share), None) => Some(relative(share.value)),
        (None, Some(bytes)) => Some(absolute(bytes.value)),
        (None, None) => None,
    }
}

fn by_name<T>(given: Vec<Given<T>>) -> impl Iterator<Item = (String, T)> {
    given.into_iter().map(|given| (given.name, given.value))
}

#[cfg(test)]
mod tests;
