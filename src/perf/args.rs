//! The options of `leveret perf` as they are typed. Nothing is checked here: `settings` does that.

use std::path::PathBuf;

use clap::Args;

// An option left out is `None`, so that a scenario can supply it.
/// Load a broker, measure it, and check what it delivers.
#[derive(Args, Clone, Debug, Default)]
#[command(args_override_self = true)]
pub struct PerfArgs {
    /// A named load: the options of that scenario, which any option given here overrides
    #[arg(long, value_name = "NAME", help_heading = "Scenarios")]
    pub scenario: Option<String>,
    /// Print the scenarios with the options that each stands for, and exit
    #[arg(long, help_heading = "Scenarios")]
    pub list_scenarios: bool,

    /// Broker to load: amqp://user:password@host:port/vhost [default: guest on this host, vhost /]
    #[arg(long, value_name = "URI", help_heading = "Connection")]
    pub uri: Option<String>,
    /// Heartbeat interval in seconds that is asked for, 0 for none [default: 60]
    #[arg(long, value_name = "SECONDS", help_heading = "Connection")]
    pub heartbeat: Option<u16>,
    /// Largest frame in bytes that is asked for [default: 131072]
    #[arg(long, value_name = "BYTES", help_heading = "Connection")]
    pub frame_max: Option<u32>,
    /// Threads that drive the connections [default: processors, at most 4]
    #[arg(long, value_name = "N", help_heading = "Connection")]
    pub threads: Option<usize>,
    /// Open N more connections that do nothing, and say what each costs the broker
    #[arg(long, value_name = "N", help_heading = "Connection")]
    pub connections_idle: Option<usize>,

    /// Publishers, each on its own connection [default: 1]
    #[arg(long, short = 'x', value_name = "N", help_heading = "Load")]
    pub publishers: Option<usize>,
    /// Consumers, each on its own connection [default: 1]
    #[arg(long, short = 'y', value_name = "N", help_heading = "Load")]
    pub consumers: Option<usize>,
    /// Body size in bytes; several sizes, separated by commas, are sent in turn [default: 256]
    #[arg(
        long,
        short = 's',
        value_name = "BYTES",
        value_delimiter = ',',
        help_heading = "Load"
    )]
    pub size: Option<Vec<usize>>,
    /// Seconds to measure, after the warm-up [default: 10, or no limit with a message count]
    #[arg(long, short = 'z', value_name = "SECONDS", help_heading = "Load")]
    pub seconds: Option<f64>,
    /// Seconds that run before the measurement starts [default: 1, or 0 with a message count]
    #[arg(long, value_name = "SECONDS", help_heading = "Load")]
    pub warm_up: Option<f64>,
    /// Messages that each publisher sends before it stops
    #[arg(long, short = 'C', value_name = "N", help_heading = "Load")]
    pub messages: Option<u64>,
    /// Messages that each consumer takes before it stops
    #[arg(long, short = 'D', value_name = "N", help_heading = "Load")]
    pub consume_messages: Option<u64>,
    /// Messages per second of each publisher [default: no limit]
    #[arg(long, short = 'r', value_name = "N", help_heading = "Load")]
    pub rate: Option<f64>,
    /// Messages per second of each consumer [default: no limit]
    #[arg(long, short = 'R', value_name = "N", help_heading = "Load")]
    pub consumer_rate: Option<f64>,

    /// Publisher confirms with at most N messages unconfirmed; 1 waits for each confirm
    #[arg(long, short = 'c', value_name = "N", help_heading = "Publishing")]
    pub confirms: Option<u32>,
    /// Persistent messages (delivery mode 2)
    #[arg(long, help_heading = "Publishing")]
    pub persistent: bool,
    /// Set the mandatory flag: what cannot be routed is returned, and counted
    #[arg(long, help_heading = "Publishing")]
    pub mandatory: bool,
    /// A header of each message; with LOW..HIGH as its value a whole number, drawn for each message (repeatable)
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Publishing")]
    pub header: Vec<String>,
    /// Priority of each message; LOW..HIGH draws one for each
    #[arg(long, value_name = "N", help_heading = "Publishing")]
    pub priority: Option<String>,
    /// Milliseconds after which each message expires; LOW..HIGH draws them for each
    #[arg(long, value_name = "MS", help_heading = "Publishing")]
    pub expiration: Option<String>,

    /// Acknowledge nothing: the broker takes a delivery as acknowledged
    #[arg(long, short = 'a', help_heading = "Consuming")]
    pub auto_ack: bool,
    /// Unacknowledged messages that a consumer may hold, 0 for no limit [default: 0]
    #[arg(long, short = 'q', value_name = "N", help_heading = "Consuming")]
    pub prefetch: Option<u16>,
    /// Acknowledge every N messages, with multiple=true when N > 1 [default: 1]
    #[arg(long, short = 'A', value_name = "N", help_heading = "Consuming")]
    pub ack_every: Option<u32>,
    /// Keep N messages unacknowledged, and acknowledge one more for each delivery beyond them
    #[arg(long, value_name = "N", help_heading = "Consuming")]
    pub hold_unacked: Option<usize>,
    /// Acknowledge the held messages in random order
    #[arg(long, help_heading = "Consuming")]
    pub ack_random: bool,
    /// An argument of basic.consume (repeatable)
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Consuming")]
    pub consumer_arg: Vec<String>,

    /// Queue name [default: perf]
    #[arg(long, short = 'u', value_name = "NAME", help_heading = "Topology")]
    pub queue: Option<String>,
    /// Name of each of several queues, %d standing for its number from 1 [default: perf-%d]
    #[arg(long, value_name = "PATTERN", help_heading = "Topology")]
    pub queue_pattern: Option<String>,
    /// Number of queues [default: 1]
    #[arg(long, value_name = "N", help_heading = "Topology")]
    pub queue_count: Option<usize>,
    /// Durable queues and exchange
    #[arg(long, help_heading = "Topology")]
    pub durable: bool,
    /// An argument of queue.declare, as in x-max-length=100 (repeatable)
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Topology")]
    pub queue_arg: Vec<String>,
    /// Exchange to publish to [default: the default exchange, or perf when a type is given]
    #[arg(long, short = 'e', value_name = "NAME", help_heading = "Topology")]
    pub exchange: Option<String>,
    /// Exchange type: direct, fanout, topic, headers, or a plugin's [default: direct]
    #[arg(long, short = 't', value_name = "TYPE", help_heading = "Topology")]
    pub exchange_type: Option<String>,
    /// An argument of exchange.declare (repeatable)
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Topology")]
    pub exchange_arg: Vec<String>,
    /// Routing key; %d stands for the queue's number, %b for the binding's [default: the queue's name]
    #[arg(long, short = 'k', value_name = "PATTERN", help_heading = "Topology")]
    pub routing_key: Option<String>,
    /// Binding key, with the same patterns [default: the routing key]
    #[arg(long, value_name = "PATTERN", help_heading = "Topology")]
    pub binding_key: Option<String>,
    /// Bindings of each queue; publishers use the key of each in turn [default: 1]
    #[arg(long, value_name = "N", help_heading = "Topology")]
    pub bindings: Option<usize>,
    /// An argument of queue.bind (repeatable)
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Topology")]
    pub binding_arg: Vec<String>,
    /// Bindings made and removed again per second while the load runs
    #[arg(long, value_name = "N", help_heading = "Topology")]
    pub binding_churn: Option<f64>,
    /// Declare nothing: queues, exchange and bindings are there already
    #[arg(long, short = 'p', help_heading = "Topology")]
    pub predeclared: bool,
    /// Purge the queues before the start
    #[arg(long, help_heading = "Topology")]
    pub purge: bool,
    /// Keep what was declared; without this queues and exchange are deleted at the end
    #[arg(long, help_heading = "Topology")]
    pub keep: bool,

    /// Check for lost, duplicated and reordered messages; exit with 3 if there are any
    #[arg(long, help_heading = "Checks and reports")]
    pub check: bool,
    /// Seconds without a delivery after which a check gives up on what is missing [default: 10]
    #[arg(long, value_name = "SECONDS", help_heading = "Checks and reports")]
    pub drain_seconds: Option<f64>,
    /// Report CPU time and memory of the broker with this process id, its children included
    #[arg(long, value_name = "PID", help_heading = "Checks and reports")]
    pub broker_pid: Option<u32>,
    /// Write the summary as JSON, to FILE or to the standard output
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true,
          default_missing_value = "-", help_heading = "Checks and reports")]
    pub json: Option<PathBuf>,
    /// Draw rates and latencies over time
    #[arg(long, value_name = "FILE.svg", help_heading = "Checks and reports")]
    pub plot: Option<PathBuf>,
    /// No line per second
    #[arg(long, help_heading = "Checks and reports")]
    pub quiet: bool,
}

impl PerfArgs {
    /// These options where they are given, `base` where they are not. Flags and lists add up.
    pub(super) fn over(self, base: Self) -> Self {
        macro_rules! merge {
            (option: $($option:ident)*; flag: $($flag:ident)*; list: $($list:ident)*) => {
                Self {
                    $($option: self.$option.or(base.$option),)*
                    $($flag: self.$flag || base.$flag,)*
                    $($list: [base.$list, self.$list].concat(),)*
                }
            };
        }
        merge! {
            option: scenario uri heartbeat frame_max threads connections_idle publishers consumers
                size seconds warm_up messages consume_messages rate consumer_rate confirms priority expiration
                prefetch
                ack_every hold_unacked queue queue_pattern queue_count exchange exchange_type
                routing_key binding_key bindings binding_churn drain_seconds broker_pid json plot;
            flag: list_scenarios persistent mandatory auto_ack ack_random durable predeclared purge
                keep check quiet;
            list: header consumer_arg queue_arg exchange_arg binding_arg
        }
    }
}
