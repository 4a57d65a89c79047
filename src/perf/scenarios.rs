//! Named loads: each is a line of options, so that what a scenario does can be read and typed.

use std::io::{self, Write};

use clap::Parser;

use super::args::PerfArgs;
use super::error::PerfError;

/// A named load.
pub(super) struct Scenario {
    pub(super) name: &'static str,
    /// What the load shows, in a few words.
    about: &'static str,
    /// The options it stands for, separated by single spaces.
    options: &'static str,
}

#[rustfmt::skip]
const SCENARIOS: &[Scenario] = &[
    Scenario { name: "transient-16-autoack", about: "the shortest path: 16 B, 1 to 1, auto-ack",
        options: "--size 16 --auto-ack" },
    Scenario { name: "transient-16-publish", about: "16 B, published only",
        options: "--size 16 --consumers 0" },
    Scenario { name: "transient-1k-acks", about: "1 KiB, 1 to 1, acknowledged",
        options: "--size 1024 --prefetch 2000 --ack-every 200" },
    Scenario { name: "durable-16-confirms", about: "16 B, persistent, wide windows",
        options: "--size 16 --durable --persistent --confirms 20000 --prefetch 10000 --ack-every 2000" },
    Scenario { name: "durable-1k-confirms", about: "1 KiB, persistent, confirmed and acknowledged",
        options: "--size 1024 --durable --persistent --confirms 2000 --prefetch 2000 --ack-every 200" },
    Scenario { name: "durable-1k-publish", about: "1 KiB, persistent, confirmed, published only",
        options: "--size 1024 --durable --persistent --confirms 2000 --consumers 0" },
    Scenario { name: "durable-64k-confirms", about: "64 KiB, persistent, confirmed and acknowledged",
        options: "--size 65536 --durable --persistent --confirms 50 --prefetch 50 --ack-every 10" },
    Scenario { name: "durable-128-single", about: "128 B, persistent, one confirm at a time",
        options: "--size 128 --durable --persistent --confirms 1 --consumers 0" },
    Scenario { name: "fanout-10", about: "256 B to 10 queues at once, auto-ack",
        options: "--size 256 --exchange-type fanout --queue-count 10 --consumers 10 --auto-ack" },
    Scenario { name: "many-20", about: "20 publishers, 20 queues, 20 consumers, 256 B",
        options: "--size 256 --publishers 20 --consumers 20 --queue-count 20 --prefetch 500 --ack-every 50" },
    Scenario { name: "latency-5k", about: "latency at 5,000 a second, 256 B, auto-ack",
        options: "--size 256 --rate 5000 --auto-ack" },
    Scenario { name: "latency-2k-durable", about: "latency at 2,000 a second, persistent, confirmed, each acknowledged",
        options: "--size 256 --rate 2000 --durable --persistent --confirms 2000 --prefetch 100 \
            --ack-every 1" },
    Scenario { name: "deep-1k-fill", about: "10 million of 1 KiB into one durable queue, kept",
        options: "--queue deep --size 1024 --durable --persistent --confirms 2000 --consumers 0 \
            --messages 10000000 --keep" },
    Scenario { name: "deep-1k-flow", about: "head and tail of the deep queue at once",
        options: "--queue deep --size 1024 --durable --persistent --confirms 2000 --prefetch 2000 \
            --ack-every 200 --keep" },
    Scenario { name: "deep-1k-drain", about: "consume the deep queue",
        options: "--queue deep --durable --publishers 0 --prefetch 2000 --ack-every 200 \
            --consume-messages 10000000" },
    Scenario { name: "deep-16-fill", about: "100 million of 16 B into one durable queue, kept",
        options: "--queue deep16 --size 16 --durable --persistent --confirms 20000 --consumers 0 \
            --messages 100000000 --keep" },
    Scenario { name: "wide-queues", about: "10,000 queues, 1 publisher and 1 consumer for all",
        options: "--queue-count 10000 --size 256 --confirms 10000 --prefetch 0 --auto-ack" },
    Scenario { name: "wide-connections", about: "10,000 idle connections beside a light load",
        options: "--connections-idle 10000 --size 256 --rate 1000 --auto-ack" },
    Scenario { name: "publishers-1", about: "one publisher to one queue, 100,000 unconfirmed at most",
        options: "--size 256 --confirms 100000 --auto-ack" },
    Scenario { name: "publishers-1000", about: "1,000 publishers to one queue, 100 unconfirmed each",
        options: "--publishers 1000 --size 256 --confirms 100 --auto-ack" },
    Scenario { name: "topic-10", about: "one topic exchange with 10 bindings",
        options: "--exchange-type topic --routing-key perf.%b.x --binding-key perf.%b.* --bindings 10 \
            --size 256 --auto-ack" },
    Scenario { name: "topic-100k", about: "one topic exchange with 100,000 bindings",
        options: "--exchange-type topic --routing-key perf.%b.x --binding-key perf.%b.* --bindings 100000 \
            --size 256 --auto-ack" },
    Scenario { name: "topic-100k-churn", about: "the same while 1,000 bindings a second come and go",
        options: "--exchange-type topic --routing-key perf.%b.x --binding-key perf.%b.* --bindings 100000 \
            --size 256 --auto-ack --binding-churn 1000" },
    Scenario { name: "unacked-1m-random", about: "a million unacknowledged messages, acknowledged at random",
        options: "--size 256 --durable --prefetch 0 --hold-unacked 1000000 --ack-random --warm-up 10" },
    Scenario { name: "expiry-in-order-fill", about: "10 million that expire in the order of arrival, kept",
        options: "--queue expiring --size 64 --durable --persistent --confirms 20000 --consumers 0 \
            --messages 10000000 --expiration 180000 --keep" },
    Scenario { name: "expiry-random-fill", about: "10 million that expire in any order, kept",
        options: "--queue expiring --size 64 --durable --persistent --confirms 20000 --consumers 0 \
            --messages 10000000 --expiration 180000..360000 --keep" },
    Scenario { name: "delayed-fill", about: "10 million delayed messages, due in any order, kept",
        options: "--queue delayed --exchange delayed --exchange-type x-delayed-message \
            --exchange-arg x-delayed-type=direct --size 64 --durable --persistent --confirms 20000 \
            --consumers 0 --messages 10000000 --header x-delay=180000..360000 --keep" },
    Scenario { name: "delayed-drain", about: "consume what was delayed",
        options: "--queue delayed --durable --publishers 0 --prefetch 10000 --ack-every 1000 \
            --consume-messages 10000000 --predeclared" },
    Scenario { name: "priority-1", about: "256 B, 1 to 1, one level of priority",
        options: "--size 256 --confirms 5000 --prefetch 500 --ack-every 50" },
    Scenario { name: "priority-10", about: "the same with ten levels",
        options: "--size 256 --confirms 5000 --prefetch 500 --ack-every 50 --queue-arg x-max-priority=10 \
            --priority 0..9" },
    Scenario { name: "stream-1k-fill", about: "10 million of 1 KiB into a stream, kept",
        options: "--queue stream --queue-arg x-queue-type=stream --size 1024 --durable --persistent \
            --confirms 2000 --consumers 0 --messages 10000000 --keep" },
    Scenario { name: "stream-1k-replay-drain", about: "read the stream from its beginning",
        options: "--queue stream --queue-arg x-queue-type=stream --durable --publishers 0 \
            --consumer-arg x-stream-offset=first --prefetch 2000 --ack-every 200 \
            --consume-messages 10000000 --keep" },
    Scenario { name: "groups-10", about: "message groups: 10 keys, 4 consumers",
        options: "--size 256 --consumers 4 --confirms 5000 --prefetch 100 --ack-every 1 \
            --queue-arg x-message-group=group --header group=0..9" },
    Scenario { name: "groups-100k", about: "message groups: 100,000 keys, 4 consumers",
        options: "--size 256 --consumers 4 --confirms 5000 --prefetch 100 --ack-every 1 \
            --queue-arg x-message-group=group --header group=0..99999" },
];

#[derive(Parser)]
struct ScenarioLine {
    #[command(flatten)]
    args: PerfArgs,
}

impl Scenario {
    /// The scenario's options as if they had been typed.
    fn args(&self) -> PerfArgs {
        let words = std::iter::once(self.name).chain(self.options.split(' '));
        // The table above is fixed, and a test parses every line of it.
        ScenarioLine::try_parse_from(words)
            .expect("scenario options parse")
            .args
    }
}

/// `args` with the options of the scenario that they name, if they name one.
pub(super) fn resolve(args: PerfArgs) -> Result<PerfArgs, PerfError> {
    let Some(name) = args.scenario.as_deref() else {
        return Ok(args);
    };
    let scenario = SCENARIOS.iter().find(|scenario| scenario.name == name);
    let scenario = scenario
        .ok_or_else(|| PerfError::Option(format!("no scenario '{name}': see --list-scenarios")))?;
    Ok(args.over(scenario.args()))
}

/// Prints the table of scenarios.
pub(super) fn list(out: &mut impl Write) -> io::Result<()> {
    for Scenario {
        name,
        about,
        options,
    } in SCENARIOS
    {
        writeln!(out, "{name}\n    {about}\n    {options}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::settings::Settings;
    use super::*;

    #[test]
    fn every_scenario_is_a_valid_load() {
        for scenario in SCENARIOS {
            let settings = Settings::new(scenario.args());
            assert!(settings.is_ok(), "{}: {:?}", scenario.name, settings.err());
        }
    }

    #[test]
    fn an_option_given_beside_a_scenario_wins() {
        let words = [
            "perf",
            "--scenario",
            "durable-1k-confirms",
            "--confirms",
            "7",
        ];
        let args = resolve(ScenarioLine::try_parse_from(words).unwrap().args).unwrap();
        assert_eq!(args.confirms, Some(7));
        assert_eq!(args.size, Some(vec![1024]));
        assert!(args.persistent);
    }

    #[test]
    fn an_unknown_scenario_is_an_error() {
        let args = PerfArgs {
            scenario: Some("nope".into()),
            ..PerfArgs::default()
        };
        assert!(matches!(resolve(args), Err(PerfError::Option(_))));
    }
}
