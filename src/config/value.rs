//! The kinds of values that settings have: what each accepts and how that is said.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use fancy_regex::Regex;

use super::{FRAME_MAX_BYTES_MIN, LogLevel, MESSAGE_SIZE_BYTES_MAX};

/// How the value of a setting is read. `expected` completes "expected ..." in an error.
pub(super) struct Kind<T> {
    pub(super) expected: &'static str,
    pub(super) parse: fn(&str) -> Option<T>,
}

pub(super) const BOOLEAN: Kind<bool> = Kind {
    expected: "'true' or 'false'",
    parse: |text| text.parse().ok(),
};

pub(super) const NONE: Kind<()> = Kind {
    expected: "'none'",
    parse: |text| (text == "none").then_some(()),
};

/// Names travel as AMQP short strings.
pub(super) const NAME: Kind<String> = Kind {
    expected: "a name of 1 to 255 bytes",
    parse: |text| (1..=255).contains(&text.len()).then(|| text.to_owned()),
};

pub(super) const OPTIONAL_NAME: Kind<Option<String>> = Kind {
    expected: "a name of 1 to 255 bytes, or 'none'",
    parse: |text| {
        if text == "none" {
            Some(None)
        } else {
            (NAME.parse)(text).map(Some)
        }
    },
};

/// RabbitMQ can also decrypt `encrypted:...`; taken literally it would be a password nobody knows.
pub(super) const PASSWORD: Kind<String> = Kind {
    expected: "a password in clear text (encrypted values are not supported)",
    parse: |text| (!text.starts_with("encrypted:")).then(|| text.to_owned()),
};

pub(super) const QUEUE_TYPE: Kind<String> = Kind {
    expected: "classic, quorum or stream",
    parse: |text| matches!(text, "classic" | "quorum" | "stream").then(|| text.to_owned()),
};

pub(super) const PATH: Kind<PathBuf> = Kind {
    expected: "the path of a file or directory",
    parse: |text| Some(text.into()),
};

pub(super) const LOCAL_FILESYSTEM: Kind<()> = Kind {
    expected: "'local_filesystem' (definitions are imported from files only)",
    parse: |text| matches!(text, "local_filesystem" | "local").then_some(()),
};

pub(super) const AMQP_0_9_1: Kind<()> = Kind {
    expected: "'amqp_0_9_1' (there is no other protocol)",
    parse: |text| (text == "amqp_0_9_1").then_some(()),
};

pub(super) const PATTERN: Kind<String> = Kind {
    expected: "a regular expression",
    parse: |text| Regex::new(text).is_ok().then(|| text.to_owned()),
};

pub(super) const PORT: Kind<u16> = Kind {
    expected: "a port from 1 to 65535",
    parse: |text| text.parse().ok().filter(|port| *port != 0),
};

pub(super) const LISTENER: Kind<SocketAddr> = Kind {
    expected: "a port, or an IP address and a port as in '127.0.0.1:5672', '[::1]:5672' or ':::5672'",
    parse: listener,
};

pub(super) const HEARTBEAT: Kind<u16> = Kind {
    expected: "a whole number of seconds from 0 to 65535",
    parse: |text| text.parse().ok(),
};

pub(super) const FRAME_MAX: Kind<u32> = Kind {
    expected: "0, or a number of bytes from 4096 to 2147483647",
    parse: |text| {
        let bytes = u32::try_from(binary_bytes(text)?).ok()?;
        (bytes == 0 || (FRAME_MAX_BYTES_MIN..=i32::MAX as u32).contains(&bytes)).then_some(bytes)
    },
};

pub(super) const CHANNEL_MAX: Kind<u16> = Kind {
    expected: "a whole number from 0 to 65535",
    parse: |text| text.parse().ok(),
};

pub(super) const MESSAGE_SIZE: Kind<u64> = Kind {
    expected: "a whole number of bytes from 1 to 536870912",
    parse: |text| {
        text.parse()
            .ok()
            .filter(|bytes| (1..=MESSAGE_SIZE_BYTES_MAX).contains(bytes))
    },
};

pub(super) const SOCKET_BUFFER: Kind<u32> = Kind {
    expected: "a whole number of bytes from 1 to 1073741823",
    // The kernel doubles it.
    parse: |text| {
        text.parse()
            .ok()
            .filter(|bytes| (1..1 << 30).contains(bytes))
    },
};

pub(super) const LIMIT: Kind<Option<u64>> = Kind {
    expected: "a whole number, or 'infinity'",
    parse: |text| match text {
        "infinity" => Some(None),
        _ => text.parse().ok().map(Some),
    },
};

pub(super) const TIMEOUT: Kind<Duration> = Kind {
    expected: "a whole number of milliseconds from 1, or 'infinity'",
    parse: |text| match text {
        "infinity" => Some(Duration::MAX),
        _ => text
            .parse()
            .ok()
            .filter(|ms| *ms > 0)
            .map(Duration::from_millis),
    },
};

pub(super) const BYTES: Kind<u64> = Kind {
    expected: "a number of bytes, alone or with a unit such as MB (1000^2) or MiB (1024^2)",
    parse: bytes,
};

pub(super) const MEMORY_FRACTION: Kind<f64> = Kind {
    expected: "a fraction of the memory from 0 to 1, as in 0.6",
    parse: |text| number(text).filter(|fraction| *fraction <= 1.0),
};

pub(super) const MEMORY_MULTIPLE: Kind<f64> = Kind {
    expected: "a multiple of the memory, as in 1.5",
    parse: number,
};

pub(super) const LOG_LEVEL: Kind<LogLevel> = Kind {
    expected: "debug, info, notice, warning, error, critical, alert, emergency or none",
    parse: |text| match text {
        "debug" => Some(LogLevel::Debug),
        "info" => Some(LogLevel::Info),
        // Levels that RabbitMQ has and this broker never logs at stand for the next one above.
        "notice" | "warning" => Some(LogLevel::Warning),
        "error" => Some(LogLevel::Error),
        "critical" | "alert" | "emergency" => Some(LogLevel::Critical),
        "none" => Some(LogLevel::None),
        _ => None,
    },
};

/// Version numbers are compared by clients, which split them at the dots.
pub(super) const VERSION: Kind<String> = Kind {
    expected: "a version of three numbers, as in 4.3.5",
    parse: |text| {
        let numbers: Vec<&str> = text.split('.').collect();
        let valid =
            numbers.len() == 3 && numbers.iter().all(|number| number.parse::<u16>().is_ok());
        valid.then(|| text.to_owned())
    },
};

/// A port alone listens on all interfaces. `[::]` accepts IPv4 too, as RabbitMQ's `:::5672` does.
fn listener(text: &str) -> Option<SocketAddr> {
    if let Some(port) = (PORT.parse)(text) {
        return Some(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
    }
    let (address, port) = text.rsplit_once(':')?;
    let address = address
        .strip_prefix('[')
        .and_then(|inner| inner.strip_suffix(']'))
        .unwrap_or(address);
    Some(SocketAddr::new(
        address.parse::<IpAddr>().ok()?,
        (PORT.parse)(port)?,
    ))
}

/// Sizes as RabbitMQ reads those of memory and disk: K, M, ... and KB, MB, ... are powers of 1000,
/// Ki, Mi, ... and KiB, MiB, ... powers of 1024.
fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = split_unit(text);
    let unit = unit.to_ascii_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let (base, prefix) = match unit.strip_suffix('i') {
        Some(prefix) if !prefix.is_empty() => (1024_u64, prefix),
        _ => (1000, unit),
    };
    // A lone "b" is no unit of RabbitMQ's.
    let exponent = match prefix {
        "" if unit.len() == text.len() - number.len() => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    number
        .parse::<u64>()
        .ok()?
        .checked_mul(base.checked_pow(exponent)?)
}

/// Sizes as RabbitMQ reads `frame_max`: KB, MB and GB are powers of 1024 there.
fn binary_bytes(text: &str) -> Option<u64> {
    let (number, unit) = split_unit(text);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" => 0,
        "kb" => 10,
        "mb" => 20,
        "gb" => 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

fn split_unit(text: &str) -> (&str, &str) {
    text.split_at(
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len()),
    )
}

fn number(text: &str) -> Option<f64> {
    text.parse::<f64>()
        .ok()
        .filter(|number| number.is_finite() && *number >= 0.0)
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use super::*;

    fn check<T: PartialEq + Debug>(kind: &Kind<T>, cases: &[(&str, Option<T>)]) {
        for (text, expected) in cases {
            assert_eq!((kind.parse)(text), *expected, "{text}");
        }
    }

    #[test]
    fn listeners_are_ports_or_addresses_with_ports() {
        let address = |text: &str| Some(text.parse().expect("an address"));
        check(
            &LISTENER,
            &[
                ("5672", address("[::]:5672")),
                ("127.0.0.1:5672", address("127.0.0.1:5672")),
                ("0.0.0.0:1", address("0.0.0.0:1")),
                (":::5672", address("[::]:5672")),
                ("::1:5672", address("[::1]:5672")),
                ("[::1]:5672", address("[::1]:5672")),
                ("localhost:5672", None),
                ("127.0.0.1", None),
                ("0", None),
                ("65536", None),
                ("127.0.0.1:0", None),
                ("-1", None),
                ("", None),
            ],
        );
    }

    #[test]
    fn sizes_have_decimal_and_binary_units() {
        check(
            &BYTES,
            &[
                ("0", Some(0)),
                ("1048576", Some(1_048_576)),
                ("512MB", Some(512_000_000)),
                ("512M", Some(512_000_000)),
                ("512MiB", Some(512 << 20)),
                ("512Mi", Some(512 << 20)),
                ("2gib", Some(2 << 30)),
                ("1kB", Some(1000)),
                ("1KIB", Some(1024)),
                ("3TB", Some(3_000_000_000_000)),
                ("1b", None),
                ("1ib", None),
                ("MB", None),
                ("1.5GB", None),
                ("-1", None),
                ("1 MB", None),
                ("99999999PiB", None),
            ],
        );
    }

    #[test]
    fn frame_max_is_zero_or_at_least_the_minimum_of_the_protocol() {
        check(
            &FRAME_MAX,
            &[
                ("0", Some(0)),
                ("4096", Some(4096)),
                ("128KB", Some(131_072)),
                ("131072", Some(131_072)),
                ("4095", None),
                ("4GB", None),
                ("128KiB", None),
                ("many", None),
            ],
        );
    }

    #[test]
    fn limits_are_kept_at_their_ends() {
        check(
            &MESSAGE_SIZE,
            &[
                ("1", Some(1)),
                ("536870912", Some(536_870_912)),
                ("536870913", None),
                ("0", None),
            ],
        );
        check(
            &HEARTBEAT,
            &[
                ("0", Some(0)),
                ("65535", Some(65_535)),
                ("65536", None),
                ("5s", None),
            ],
        );
        check(
            &CHANNEL_MAX,
            &[("0", Some(0)), ("65535", Some(65_535)), ("65536", None)],
        );
        check(
            &MEMORY_FRACTION,
            &[
                ("0", Some(0.0)),
                ("0.4", Some(0.4)),
                ("1", Some(1.0)),
                ("1.1", None),
                ("-0.1", None),
                ("NaN", None),
            ],
        );
        check(
            &MEMORY_MULTIPLE,
            &[("1.5", Some(1.5)), ("inf", None), ("", None)],
        );
    }

    #[test]
    fn timeouts_are_milliseconds() {
        check(
            &TIMEOUT,
            &[
                ("10000", Some(Duration::from_secs(10))),
                ("infinity", Some(Duration::MAX)),
                ("0", None),
                ("10s", None),
            ],
        );
    }

    #[test]
    fn names_patterns_and_versions_are_checked() {
        check(
            &NAME,
            &[
                ("guest", Some("guest".to_owned())),
                ("", None),
                (&"x".repeat(256), None),
            ],
        );
        check(
            &OPTIONAL_NAME,
            &[
                ("none", Some(None)),
                ("guest", Some(Some("guest".to_owned()))),
            ],
        );
        check(
            &PATTERN,
            &[("^amq\\.", Some("^amq\\.".to_owned())), ("(", None)],
        );
        check(
            &VERSION,
            &[
                ("4.3.5", Some("4.3.5".to_owned())),
                ("4.3", None),
                ("4.3.x", None),
                ("4.3.5.1", None),
            ],
        );
        check(
            &PASSWORD,
            &[("a b", Some("a b".to_owned())), ("encrypted:abc", None)],
        );
    }
}
