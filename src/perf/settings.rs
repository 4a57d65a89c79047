//! The options of a run, checked once; from here on they hold.

use std::path::PathBuf;
use std::time::Duration;

use amq_protocol::types::{AMQPValue, FieldTable, ShortString};
use amq_protocol::uri::{AMQPScheme, AMQPUri};

use super::args::PerfArgs;
use super::error::PerfError;
use super::range::Range;
use super::stamp;
use super::topology::Topology;

const URI_DEFAULT: &str = "amqp://guest:guest@127.0.0.1:5672/%2f";
const FRAME_BYTES_MIN: u32 = 4096;
const FRAME_BYTES_MAX: u32 = 16 << 20;
const THREADS_DEFAULT_MAX: usize = 4;
const CONNECTIONS_MAX: usize = 65_535;

/// A whole run.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) scenario: Option<String>,
    pub(super) target: Target,
    pub(super) threads: usize,
    pub(super) idle_connections: usize,
    pub(super) publishers: usize,
    pub(super) consumers: usize,
    pub(super) publishing: Publishing,
    pub(super) consuming: Consuming,
    pub(super) topology: Topology,
    pub(super) timing: Timing,
    pub(super) check: bool,
    pub(super) broker_pid: Option<u32>,
    pub(super) json: Option<PathBuf>,
    pub(super) plot: Option<PathBuf>,
    pub(super) quiet: bool,
}

/// Where the broker is and what is asked of it at the start of a connection.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) uri: AMQPUri,
    pub(super) heartbeat_seconds: u16,
    pub(super) frame_bytes_max: u32,
}

impl Target {
    /// The same without heartbeats, for connections that nobody looks after while the load runs.
    pub(super) fn without_heartbeat(&self) -> Self {
        Self {
            heartbeat_seconds: 0,
            ..self.clone()
        }
    }
}

/// How one publisher publishes.
#[derive(Clone, Debug)]
pub(super) struct Publishing {
    pub(super) sizes: Vec<usize>,
    /// Most unconfirmed messages; `None` publishes without confirms.
    pub(super) window: Option<u32>,
    pub(super) persistent: bool,
    pub(super) mandatory: bool,
    pub(super) headers: FieldTable,
    /// Headers whose values are drawn for each message.
    pub(super) drawn_headers: Vec<(ShortString, Range)>,
    pub(super) priority: Option<Range>,
    /// In ms.
    pub(super) expiration: Option<Range>,
    pub(super) rate: Option<f64>,
    pub(super) messages: Option<u64>,
}

impl Publishing {
    /// Whether messages differ by more than keys and sizes.
    pub(super) fn is_drawn(&self) -> bool {
        let ranges = self.drawn_headers.iter().map(|(_, range)| range);
        let mut ranges = ranges.chain(&self.priority).chain(&self.expiration);
        ranges.any(|range| range.low < range.high)
    }
}

/// How one consumer consumes.
#[derive(Clone, Debug)]
pub(super) struct Consuming {
    pub(super) auto_ack: bool,
    pub(super) prefetch: u16,
    pub(super) ack_every: u32,
    /// Messages kept unacknowledged on purpose.
    pub(super) hold: Option<usize>,
    pub(super) ack_random: bool,
    pub(super) arguments: FieldTable,
    pub(super) rate: Option<f64>,
    pub(super) messages: Option<u64>,
}

/// When the run starts to count, and when it ends.
#[derive(Debug)]
pub(super) struct Timing {
    pub(super) warm_up: Duration,
    /// Length of the measurement; `None` runs until the messages are through.
    pub(super) measure: Option<Duration>,
    /// Longest silence while a check waits for what is missing.
    pub(super) drain: Duration,
}

impl Settings {
    /// The settings that `args` stand for, or what is wrong with them.
    pub(super) fn new(args: PerfArgs) -> Result<Self, PerfError> {
        let settings = Self {
            target: target(&args)?,
            threads: threads(args.threads),
            idle_connections: args.connections_idle.unwrap_or(0),
            publishers: args.publishers.unwrap_or(1),
            consumers: args.consumers.unwrap_or(1),
            publishing: publishing(&args)?,
            consuming: consuming(&args)?,
            topology: Topology::new(&args)?,
            timing: timing(&args)?,
            check: args.check,
            broker_pid: args.broker_pid,
            scenario: args.scenario,
            json: args.json,
            plot: args.plot,
            quiet: args.quiet,
        };
        settings.check_together()?;
        Ok(settings)
    }

    /// Rules that involve more than one group of options.
    fn check_together(&self) -> Result<(), PerfError> {
        let connections = self.publishers + self.consumers + self.idle_connections;
        if connections > CONNECTIONS_MAX || self.publishers > stamp::PUBLISHERS_MAX {
            return refuse(format!("at most {CONNECTIONS_MAX} connections"));
        }
        if self.publishers + self.consumers + self.idle_connections == 0 {
            return refuse("nothing to do: no publishers, no consumers, no idle connections");
        }
        if self.check
            && self
                .publishing
                .sizes
                .iter()
                .any(|size| *size < stamp::BYTES)
        {
            return refuse(format!(
                "--check needs bodies of {} bytes or more",
                stamp::BYTES
            ));
        }
        if self.check && (self.publishers == 0 || self.consumers == 0) {
            return refuse("--check needs publishers and consumers in the same run");
        }
        if self.check && self.consuming.messages.is_some() {
            return refuse("--check cannot tell what is lost when --consume-messages ends the run");
        }
        Ok(())
    }
}

/// The error for options that make no sense.
pub(super) fn refuse<T>(what: impl Into<String>) -> Result<T, PerfError> {
    Err(PerfError::Option(what.into()))
}

/// A name of at most 255 bytes, as AMQP's short strings are.
pub(super) fn short(name: String) -> Result<ShortString, PerfError> {
    let bytes = name.len();
    ShortString::try_new(name).map_err(|_| {
        PerfError::Option(format!("a name of {bytes} bytes: at most 255 are possible"))
    })
}

/// `KEY=VALUE` options as a table: whole numbers, true and false and decimals get their types.
pub(super) fn table(pairs: &[String]) -> Result<FieldTable, PerfError> {
    let mut table = FieldTable::default();
    for pair in pairs {
        let Some((key, value)) = pair.split_once('=') else {
            return refuse(format!("'{pair}' is not KEY=VALUE"));
        };
        table.insert(short(key.to_owned())?, typed(value));
    }
    Ok(table)
}

fn typed(value: &str) -> AMQPValue {
    if let Ok(number) = value.parse::<i64>() {
        AMQPValue::LongLongInt(number)
    } else if let Ok(truth) = value.parse::<bool>() {
        AMQPValue::Boolean(truth)
    } else if value.starts_with(|c: char| c.is_ascii_digit() || c == '-')
        && let Ok(number) = value.parse::<f64>()
    {
        AMQPValue::Double(number)
    } else {
        AMQPValue::LongString(value.into())
    }
}

fn target(args: &PerfArgs) -> Result<Target, PerfError> {
    let uri = args.uri.as_deref().unwrap_or(URI_DEFAULT);
    let uri: AMQPUri = uri
        .parse()
        .map_err(|why| PerfError::Option(format!("{uri}: {why}")))?;
    if uri.scheme == AMQPScheme::AMQPS {
        return refuse("amqps: TLS is not measured, use amqp://");
    }
    let frame_bytes_max = args.frame_max.unwrap_or(128 << 10);
    if !(FRAME_BYTES_MIN..=FRAME_BYTES_MAX).contains(&frame_bytes_max) {
        return refuse(format!(
            "--frame-max is between {FRAME_BYTES_MIN} and {FRAME_BYTES_MAX}"
        ));
    }
    let heartbeat_seconds = args.heartbeat.unwrap_or(60);
    Ok(Target {
        uri,
        heartbeat_seconds,
        frame_bytes_max,
    })
}

fn threads(wanted: Option<usize>) -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    wanted
        .unwrap_or_else(|| processors.min(THREADS_DEFAULT_MAX))
        .max(1)
}

/// Headers that are the same in every message, and those that are drawn.
type Headers = (FieldTable, Vec<(ShortString, Range)>);

fn headers(pairs: &[String]) -> Result<Headers, PerfError> {
    let (mut same, mut drawn) = (Vec::new(), Vec::new());
    for pair in pairs {
        match pair.split_once('=') {
            Some((key, value)) if value.contains("..") => {
                let range = Range::parse(value, "--header")?;
                drawn.push((short(key.to_owned())?, range));
            }
            _ => same.push(pair.clone()),
        }
    }
    Ok((table(&same)?, drawn))
}

fn publishing(args: &PerfArgs) -> Result<Publishing, PerfError> {
    if args.confirms == Some(0) {
        return refuse("--confirms is the number of messages that may be unconfirmed: at least 1");
    }
    let (headers, drawn_headers) = headers(&args.header)?;
    let range = |text: &Option<String>, option| {
        let text = text.as_deref();
        text.map(|text| Range::parse(text, option)).transpose()
    };
    let priority = range(&args.priority, "--priority")?;
    if priority.is_some_and(|range| range.high > u8::MAX.into()) {
        return refuse("--priority is at most 255");
    }
    Ok(Publishing {
        drawn_headers,
        priority,
        expiration: range(&args.expiration, "--expiration")?,
        sizes: args.size.clone().unwrap_or_else(|| vec![256]),
        window: args.confirms,
        persistent: args.persistent,
        mandatory: args.mandatory,
        headers,
        rate: rate(args.rate, "--rate")?,
        messages: args.messages,
    })
}

fn consuming(args: &PerfArgs) -> Result<Consuming, PerfError> {
    let prefetch = args.prefetch.unwrap_or(0);
    let ack_every = args.ack_every.unwrap_or(1);
    if ack_every == 0 {
        return refuse("--ack-every is at least 1; --auto-ack acknowledges nothing");
    }
    if prefetch > 0 && ack_every > u32::from(prefetch) {
        return refuse(format!(
            "--ack-every {ack_every} never comes with --prefetch {prefetch}"
        ));
    }
    if args.auto_ack && (args.ack_every.is_some() || args.hold_unacked.is_some()) {
        return refuse("--auto-ack leaves nothing to acknowledge");
    }
    if args
        .hold_unacked
        .is_some_and(|hold| prefetch > 0 && hold >= usize::from(prefetch))
    {
        return refuse("--hold-unacked needs a larger --prefetch, or 0 for no limit");
    }
    if args.ack_random && args.hold_unacked.is_none() {
        return refuse("--ack-random needs --hold-unacked: one at a time there is no choice");
    }
    Ok(Consuming {
        auto_ack: args.auto_ack,
        prefetch,
        ack_every,
        hold: args.hold_unacked,
        ack_random: args.ack_random,
        arguments: table(&args.consumer_arg)?,
        rate: rate(args.consumer_rate, "--consumer-rate")?,
        messages: args.consume_messages,
    })
}

fn rate(rate: Option<f64>, option: &str) -> Result<Option<f64>, PerfError> {
    match rate {
        Some(rate) if !(rate.is_finite() && rate > 0.0) => refuse(format!("{option} is above 0")),
        rate => Ok(rate),
    }
}

fn timing(args: &PerfArgs) -> Result<Timing, PerfError> {
    let counted = args.messages.is_some() || args.consume_messages.is_some();
    let measure = args.seconds.or(if counted { None } else { Some(10.0) });
    let warm_up = args.warm_up.unwrap_or(if counted { 0.0 } else { 1.0 });
    let seconds = |seconds: f64| {
        Duration::try_from_secs_f64(seconds)
            .map_err(|_| PerfError::Option(format!("{seconds} is not a number of seconds")))
    };
    Ok(Timing {
        warm_up: seconds(warm_up)?,
        measure: measure.map(seconds).transpose()?,
        drain: seconds(args.drain_seconds.unwrap_or(10.0))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_get_the_type_that_they_look_like() {
        let pairs = [
            "x-max-length=100",
            "x-overflow=reject-publish",
            "x-single=true",
            "f=1.5",
            "s=1.2.3",
        ];
        let table = table(&pairs.map(str::to_owned)).unwrap();
        let values: Vec<_> = pairs
            .iter()
            .map(|pair| table.inner()[pair.split('=').next().unwrap()].clone())
            .collect();
        assert_eq!(
            values,
            [
                AMQPValue::LongLongInt(100),
                AMQPValue::LongString("reject-publish".into()),
                AMQPValue::Boolean(true),
                AMQPValue::Double(1.5),
                AMQPValue::LongString("1.2.3".into()),
            ]
        );
    }

    #[test]
    fn options_that_contradict_each_other_are_refused() {
        let refused = |args: PerfArgs| Settings::new(args).is_err();
        let base = PerfArgs::default;
        assert!(!refused(base()));
        assert!(refused(PerfArgs {
            confirms: Some(0),
            ..base()
        }));
        assert!(refused(PerfArgs {
            prefetch: Some(10),
            ack_every: Some(11),
            ..base()
        }));
        assert!(refused(PerfArgs {
            check: true,
            size: Some(vec![8]),
            ..base()
        }));
        assert!(refused(PerfArgs {
            rate: Some(-1.0),
            ..base()
        }));
        assert!(refused(PerfArgs {
            publishers: Some(0),
            consumers: Some(0),
            ..base()
        }));
        assert!(refused(PerfArgs {
            queue_arg: vec!["x-max-length".into()],
            ..base()
        }));
    }
}
