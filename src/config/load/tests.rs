//! Whole configurations, as a user writes them.

use std::time::Duration;

use super::*;
use crate::config::LogLevel;

/// Loads `text` as a file with `variables` as the environment.
fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("leveret.conf");
    std::fs::write(&path, text).expect("the file is written");
    let env = |name: &str| {
        variables
            .iter()
            .find(|(variable, _)| *variable == name)
            .map(|(_, value)| (*value).to_owned())
    };
    Config::load(Some(&path), &env).map_err(|ConfigErrors(errors)| {
        let prefix = format!("{}/", directory.path().display());
        errors
            .iter()
            .map(|error| error.to_string().replace(&prefix, ""))
            .collect()
    })
}

fn check(text: &str, expected: Config) {
    assert_eq!(load(text, &[]), Ok(expected), "{text}");
}

fn check_errors(text: &str, variables: &[(&str, &str)], expected: &[&str]) {
    assert_eq!(
        load(text, variables).map(|_| ()),
        Err(expected.iter().map(|e| (*e).to_owned()).collect()),
        "{text}"
    );
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn names<T: FromIterator<String>>(names: &[&str]) -> T {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn nothing_given_is_the_default() {
    check("", Config::default());
    assert_eq!(Config::load(None, &|_: &str| None), Ok(Config::default()));
    assert_eq!(Config::default().listeners, [address("127.0.0.1:5672")]);
}

#[test]
fn each_key_sets_its_field() {
    let text = r"
        listeners.tcp.default = 5673
        listeners.tcp.2 = 127.0.0.1:5674
        default_user = alice
        default_pass = 's#cret '
        default_vhost = orders
        default_permissions.configure = ^$
        default_permissions.write = ^w
        default_permissions.read = ^r
        default_user_tags.monitoring = true
        default_user_tags.administrator = false
        loopback_users.bob = true
        loopback_users.some\.user = true
        loopback_users.guest = false
        anonymous_login_user = carol
        heartbeat = 30
        frame_max = 8192
        channel_max = 100
        max_message_size = 1000
        handshake_timeout = 5000
        tcp_listen_options.send_timeout = 15000
        tcp_listen_options.sndbuf = 196608
        tcp_listen_options.recbuf = 65536
        vm_memory_high_watermark.absolute = 2GiB
        disk_free_limit.relative = 1.5
        log.console.level = warning
        cluster_name = rabbit@here
        product.name = Leveret
        product.version = 4.2.0
        default_queue_type = quorum
        load_definitions = defs.json
        definitions.import_backend = local_filesystem
        definitions.local.path = more
        deprecated_features.permit.transient_nonexcl_queues = false
        connection_max = 1
        channel_max_per_node = 2
        consumer_max_per_channel = infinity
        vhost_max = 4
        cluster_queue_limit = 5
        cluster_exchange_limit = 6
        message_interceptors.incoming.set_header_timestamp.overwrite = true
        message_interceptors.incoming.set_header_routing_node.overwrite = false
        event_exchange.vhost = events
        log.exchange = true
        log.exchange.level = error
        event_exchange.protocol = amqp_0_9_1
    ";
    let expected = Config {
        listeners: vec![address("[::]:5673"), address("127.0.0.1:5674")],
        default_user: "alice".into(),
        default_pass: "s#cret ".into(),
        default_vhost: "orders".into(),
        default_permissions: DefaultPermissions {
            configure: "^$".into(),
            write: "^w".into(),
            read: "^r".into(),
        },
        default_user_tags: names(&["monitoring"]),
        loopback_users: names(&["bob", "some.user"]),
        anonymous_login_user: Some("carol".into()),
        heartbeat_seconds: 30,
        frame_max_bytes: 8192,
        channel_max: 100,
        max_message_size_bytes: 1000,
        handshake_timeout: Duration::from_secs(5),
        send_timeout: Duration::from_secs(15),
        send_buffer_bytes: Some(196_608),
        receive_buffer_bytes: Some(65_536),
        memory_high_watermark: MemoryWatermark::AbsoluteBytes(2 << 30),
        disk_free_limit: DiskFreeLimit::Relative(1.5),
        log_level: LogLevel::Warning,
        log_exchange_level: Some(LogLevel::Error),
        node_limits: NodeLimits {
            connections: Some(1),
            channels: Some(2),
            consumers_per_channel: None,
            vhosts: Some(4),
            queues: Some(5),
            exchanges: Some(6),
        },
        message_interceptors: MessageInterceptors {
            timestamp: Stamp::Overwrite,
            routing_node: Stamp::IfAbsent,
        },
        event_exchange_vhost: Some("events".into()),
        deprecated_features: [("transient_nonexcl_queues".into(), false)]
            .into_iter()
            .collect(),
        cluster_name: Some("rabbit@here".into()),
        server_product: "Leveret".into(),
        server_version: "4.2.0".into(),
        default_queue_type: "quorum".into(),
        definitions: vec!["defs.json".into(), "more".into()],
        data_dir: "data".into(),
    };
    check(text, expected);
}

#[test]
fn the_other_way_to_give_a_limit_or_none_at_all() {
    let text = "
        listeners.tcp = none
        loopback_users = none
        loopback_users.guest = false
        vm_memory_high_watermark.relative = 0.4
        disk_free_limit.absolute = 1GB
    ";
    let expected = Config {
        listeners: vec![],
        loopback_users: HashSet::new(),
        memory_high_watermark: MemoryWatermark::Relative(0.4),
        disk_free_limit: DiskFreeLimit::AbsoluteBytes(1_000_000_000),
        ..Config::default()
    };
    check(text, expected);
}

#[test]
fn all_problems_are_reported_with_their_place() {
    check_errors(
        "hearbeat = 5\nchannel_max = 70000\nframe_max\n\nlisteners.tcp.x = nowhere:5672\n\
         ssl_options.verify = verify_peer",
        &[("RABBITMQ_NODE_PORT", "amqp")],
        &[
            "leveret.conf:1: hearbeat: expected a known key, perhaps 'heartbeat', found an unknown one",
            "leveret.conf:2: channel_max: expected a whole number from 0 to 65535, found '70000'",
            "leveret.conf:3: frame_max: expected a line of the form 'key = value', found no '='",
            "leveret.conf:5: listeners.tcp.x: expected a port, or an IP address and a port as in \
             '127.0.0.1:5672', '[::1]:5672' or ':::5672', found 'nowhere:5672'",
            "leveret.conf:6: ssl_options.verify: expected a known key (docs/configuration.md lists them), \
             found an unknown one",
            "environment variable RABBITMQ_NODE_PORT: RABBITMQ_NODE_PORT: expected a port from 1 to 65535, \
             found 'amqp'",
        ],
    );
}

#[test]
fn a_key_twice_is_refused_unless_it_says_the_same() {
    check(
        "heartbeat = 5\nheartbeat = 5",
        Config {
            heartbeat_seconds: 5,
            ..Config::default()
        },
    );
    check_errors(
        "heartbeat = 5\nheartbeat = 6",
        &[],
        &[
            "leveret.conf:2: heartbeat: expected one value (the first is at leveret.conf:1), found another value",
        ],
    );
}

#[test]
fn settings_that_exclude_each_other_are_refused() {
    check_errors(
        "vm_memory_high_watermark.relative = 0.5\nvm_memory_high_watermark.absolute = 1GB",
        &[],
        &[
            "leveret.conf:2: vm_memory_high_watermark.absolute: expected no such setting beside \
           'vm_memory_high_watermark.relative' (at leveret.conf:1), found both",
        ],
    );
    check_errors(
        "listeners.tcp = none\nlisteners.tcp.default = 5672",
        &[],
        &[
            "leveret.conf:2: listeners.tcp.default: expected no such setting beside 'listeners.tcp' \
           (at leveret.conf:1), found both",
        ],
    );
    check_errors(
        "loopback_users.guest = true\nloopback_users = none",
        &[],
        &[
            "leveret.conf:1: loopback_users.guest: expected no such setting beside 'loopback_users' \
           (at leveret.conf:2), found both",
        ],
    );
    check_errors(
        "listeners.tcp.b = 127.0.0.1:5672\nlisteners.tcp.a = 127.0.0.1:5672",
        &[],
        &[
            "leveret.conf:2: listeners.tcp.a: expected no such setting beside 'listeners.tcp.b' \
           (at leveret.conf:1), found both",
        ],
    );
}

#[test]
fn the_environment_overrides_the_file() {
    let variables = [
        ("RABBITMQ_DEFAULT_USER", "alice"),
        ("RABBITMQ_DEFAULT_PASS", "s#cret"),
        ("RABBITMQ_DEFAULT_VHOST", ""),
        ("RABBITMQ_NODE_PORT", "5673"),
        ("LEVERET_DATA_DIR", "/var/lib/leveret"),
    ];
    let config = load(
        "default_user = bob\ndefault_vhost = orders\nlisteners.tcp.1 = 127.0.0.2:1",
        &variables,
    );
    let expected = Config {
        default_user: "alice".into(),
        default_pass: "s#cret".into(),
        default_vhost: "orders".into(),
        listeners: vec![address("127.0.0.2:5673")],
        data_dir: "/var/lib/leveret".into(),
        ..Config::default()
    };
    assert_eq!(config, Ok(expected));
}

#[test]
fn a_port_from_the_environment_needs_one_listener() {
    check_errors(
        "listeners.tcp.1 = 127.0.0.1:1\nlisteners.tcp.2 = 127.0.0.1:2",
        &[("RABBITMQ_NODE_PORT", "5673")],
        &[
            "environment variable RABBITMQ_NODE_PORT: RABBITMQ_NODE_PORT: expected exactly one TCP listener \
           to give this port, found 2",
        ],
    );
}

#[test]
fn a_secret_may_come_from_a_file() {
    let secret = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(&secret, "s3cret\n").expect("the file is written");
    let path = secret.path().to_str().expect("a path in UTF-8");
    let config = load("", &[("RABBITMQ_DEFAULT_PASS_FILE", path)]).expect("a configuration");
    assert_eq!(config.default_pass, "s3cret");
    check_errors(
        "",
        &[
            ("RABBITMQ_DEFAULT_PASS_FILE", path),
            ("RABBITMQ_DEFAULT_PASS", "x"),
        ],
        &[
            "environment variable RABBITMQ_DEFAULT_PASS_FILE: default_pass: expected no such variable beside \
           RABBITMQ_DEFAULT_PASS, found both",
        ],
    );
    check_errors(
        "",
        &[("RABBITMQ_DEFAULT_USER_FILE", "/nonexistent/user")],
        &[
            "environment variable RABBITMQ_DEFAULT_USER_FILE: default_user: expected the path of a readable \
           text file, found '/nonexistent/user': No such file or directory (os error 2)",
        ],
    );
}

#[test]
fn passwords_are_not_repeated_in_errors() {
    let errors = load(
        "default_pass = encrypted:c2VjcmV0\ndefault_pass = other",
        &[],
    )
    .expect_err("two errors");
    assert_eq!(errors.len(), 2);
    assert!(
        errors
            .iter()
            .all(|error| !error.contains("c2VjcmV0") && !error.contains("other'")),
        "{errors:?}"
    );
}

#[test]
fn the_container_listens_on_all_interfaces_for_everybody() {
    let expected = Config {
        listeners: vec![address("0.0.0.0:5672")],
        loopback_users: HashSet::new(),
        ..Config::default()
    };
    check(include_str!("../../../config/container.conf"), expected);
}

#[test]
fn a_missing_file_stops_the_start() {
    let missing = Path::new("/nonexistent/leveret.conf");
    let error = "/nonexistent/leveret.conf: configuration file: expected a readable text file, \
                 found No such file or directory (os error 2)";
    let by_argument = Config::load(Some(missing), &|_: &str| None).expect_err("no such file");
    assert_eq!(by_argument.to_string(), error);
    let env = |name: &str| (name == "LEVERET_CONFIG").then(|| missing.display().to_string());
    let by_variable = Config::load(None, &env).expect_err("no such file");
    assert_eq!(by_variable.to_string(), error);
}

/// The sample shows each key, with its default where there is one.
mod sample {
    use super::*;

    const SAMPLE: &str = include_str!("../../../config/leveret.conf");
    const DOCUMENTATION: &str = include_str!("../../../docs/configuration.md");

    /// `# key = value` is a setting that is commented out, `## text` is text. Where the sample shows
    /// alternatives that exclude each other, the second is marked `# or: key = value`.
    fn uncommented() -> impl Iterator<Item = (&'static str, bool)> {
        SAMPLE.lines().filter_map(|line| {
            let line = line.strip_prefix("# ")?;
            let alternative = line.strip_prefix("or: ");
            Some((alternative.unwrap_or(line), alternative.is_some()))
        })
    }

    #[test]
    fn the_sample_as_it_stands_is_the_default() {
        check(SAMPLE, Config::default());
    }

    #[test]
    fn the_sample_with_all_settings_uncommented_is_the_default() {
        let lines: Vec<&str> = uncommented()
            .filter(|(_, alternative)| !alternative)
            .map(|(line, _)| line)
            .collect();
        assert!(lines.len() > 15, "the sample has lost its settings");
        check(
            &lines.join("\n"),
            Config {
                cluster_name: Some("leveret@localhost".into()),
                deprecated_features: ["transient_nonexcl_queues", "global_qos"]
                    .map(|name| (name.into(), true))
                    .into_iter()
                    .collect(),
                ..Config::default()
            },
        );
    }

    #[test]
    fn each_alternative_of_the_sample_is_accepted() {
        let alternatives: Vec<&str> = uncommented()
            .filter(|(_, alternative)| *alternative)
            .map(|(line, _)| line)
            .collect();
        assert!(
            alternatives.len() > 3,
            "the sample has lost its alternatives"
        );
        for line in alternatives {
            assert!(load(line, &[]).is_ok(), "{line}: {:?}", load(line, &[]));
        }
    }

    /// Every key and prefix that the loader asks for stands in the sample and in the documentation.
    #[test]
    fn every_key_is_in_the_sample_and_documented() {
        let mut settings = Settings::new(Vec::new(), Vec::new());
        resolve(&mut settings, &|_: &str| None);
        for key in settings.known().filter(|key| *key != "RABBITMQ_NODE_PORT") {
            assert!(
                uncommented().any(|(line, _)| line.starts_with(key)),
                "{key} is not in config/leveret.conf"
            );
            assert!(
                DOCUMENTATION.contains(&format!("`{key}")),
                "{key} is not in docs/configuration.md"
            );
        }
        let variables = FIRST_START_VARIABLES
            .iter()
            .flat_map(|(variable, file, _)| [*variable, *file]);
        for variable in
            variables.chain(["RABBITMQ_NODE_PORT", "LEVERET_CONFIG", "LEVERET_DATA_DIR"])
        {
            assert!(
                DOCUMENTATION.contains(variable),
                "{variable} is not in docs/configuration.md"
            );
        }
    }
}
