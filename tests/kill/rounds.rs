//! The kill test: rounds of load, each ended by SIGKILL or by a loss of power.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::checker::{self, Violation};
use crate::consumer::Consumer;
use crate::ledger::{DIRECT_QUEUES, Event, FANOUT_EXCHANGE, Ledger, QUEUES, queue_name};
use crate::publisher::Publisher;
use crate::support::broker::BrokerProcess;
use crate::support::durable_image::{DurableImage, Names};
use crate::support::peer::{Peer, is_end};
use crate::support::random::Random;
use crate::topology::Topology;

/// The broker, and the image of its data if losing power is to be tested.
pub(crate) struct Host {
    pub(crate) broker: BrokerProcess,
    image: Option<DurableImage>,
}

impl Host {
    pub(crate) fn new(names: Option<Names>) -> Self {
        let mut broker = BrokerProcess::prepare(&[]);
        let image = names.map(|names| {
            let image = DurableImage::new(&broker.data_dir(), broker.directory(), names);
            for (name, value) in image.environment() {
                broker.set_env(&name, &value);
            }
            image
        });
        Self { broker, image }
    }

    pub(crate) fn spawn(&mut self) {
        if let Some(image) = &self.image {
            image.begin();
        }
        self.broker.spawn();
    }

    pub(crate) fn boot(&mut self) {
        self.spawn();
        self.broker.await_ready();
    }

    /// Ends the process at once, and its unsynced writes with it if there is an image.
    pub(crate) fn kill(&mut self) {
        self.broker.kill9();
        if let Some(image) = &self.image {
            image.restore();
        }
    }
}

/// The whole test: its clients over all rounds, and what they noted.
struct Story {
    ledger: Ledger,
    topology: Topology,
    publishers: Vec<Publisher>,
    random: Random,
}

impl Story {
    fn new(random: &mut Random) -> Self {
        let ids = 1..=4;
        Self {
            ledger: Ledger::default(),
            topology: Topology::new(random.fork()),
            publishers: ids
                .map(|id| Publisher::new(id, id == 4, random.fork()))
                .collect(),
            random: random.fork(),
        }
    }

    /// Load until a random moment, then the end of the broker, and of all clients with it.
    fn round(&mut self, host: &mut Host) {
        let address = host.broker.address();
        let killed = AtomicBool::new(false);
        let (ledger, killed) = (&self.ledger, &killed);
        let mut seeds = self.random.fork();
        let moment = Duration::from_millis(self.random.between(20, 350));
        let topology = &mut self.topology;
        thread::scope(|scope| {
            for publisher in &mut self.publishers {
                scope.spawn(move || expect_crash(publisher.run(address, ledger)));
            }
            for queue in 0..QUEUES {
                for _ in 0..seeds.between(0, 2) {
                    let random = seeds.fork();
                    scope.spawn(move || {
                        let mut consumer = Consumer {
                            queue,
                            ledger,
                            random,
                        };
                        expect_crash(consumer.run(address));
                    });
                }
            }
            scope.spawn(move || expect_crash(topology.churn(address, killed)));
            thread::sleep(moment);
            assert!(host.broker.is_running(), "the broker ended by itself");
            host.kill();
            killed.store(true, Ordering::Release);
        });
        self.ledger.note(Event::Crashed);
        self.topology.crashed();
    }

    /// The broker comes back, sometimes only after it was killed while it recovered.
    fn recover(&mut self, host: &mut Host) {
        while self.random.chance(25) {
            host.spawn();
            thread::sleep(Duration::from_millis(self.random.between(0, 80)));
            host.kill();
            self.ledger.note(Event::Crashed);
        }
        host.boot();
        self.topology.check(host.broker.address());
    }

    /// Empties every queue, and judges.
    fn finish(mut self, address: SocketAddr) -> Vec<Violation> {
        for queue in 0..QUEUES {
            let consumer = Consumer {
                queue,
                ledger: &self.ledger,
                random: self.random.fork(),
            };
            assert_eq!(
                consumer.drain(address),
                0,
                "{} counts wrong",
                queue_name(queue)
            );
        }
        checker::check(&self.ledger.events())
    }

    /// How many of what happened, so that a run that tested nothing is noticed.
    fn count(&self, which: impl Fn(&Event) -> bool) -> usize {
        self.ledger
            .events()
            .iter()
            .filter(|event| which(event))
            .count()
    }
}

/// A client may end because the broker was killed under it, and for no other reason.
pub(crate) fn expect_crash(result: io::Result<()>) {
    if let Err(error) = result {
        let refused = error.kind() == io::ErrorKind::ConnectionRefused;
        assert!(refused || is_end(&error), "a client met {error}");
    }
}

/// How many violations there are of each kind, and the first few.
fn summary(violations: &[Violation]) -> String {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for violation in violations {
        let shown = format!("{violation:?}");
        let kind = shown.split('(').next().unwrap_or_default();
        *kinds.entry(kind.to_owned()).or_default() += 1;
    }
    format!(
        "{kinds:?}, first {:?}",
        &violations[..violations.len().min(10)]
    )
}

/// Declares what the load works on.
fn declare(address: SocketAddr) {
    let mut peer = Peer::connect(address);
    peer.open_channel(1);
    let declare = method!(exchange.declare {
        exchange: FANOUT_EXCHANGE,
        type: "fanout",
        durable: true,
    });
    peer.call(1, declare, method!(exchange.declare_ok));
    for queue in 0..QUEUES {
        let name = queue_name(queue);
        let declare = method!(queue.declare { queue: &name, durable: true });
        peer.call(1, declare, method!(queue.declare_ok));
        if queue >= DIRECT_QUEUES {
            let bind = method!(queue.bind { queue: &name, exchange: FANOUT_EXCHANGE });
            peer.call(1, bind, method!(queue.bind_ok));
        }
    }
}

/// How often the broker is killed in one test.
pub(crate) fn rounds_or(default: u64) -> u64 {
    let rounds = std::env::var("LEVERET_KILL_ROUNDS").ok();
    rounds.and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[track_caller]
fn check_rounds(names: Option<Names>, rounds_default: u64) {
    let seed = Random::seed_from("LEVERET_TEST_SEED");
    let rounds = rounds_or(rounds_default);
    eprintln!("{rounds} rounds, LEVERET_TEST_SEED={seed}");
    let mut random = Random::new(seed);
    let mut host = Host::new(names);
    host.boot();
    declare(host.broker.address());
    let mut story = Story::new(&mut random);
    story.topology.prepare(host.broker.address());
    for _ in 0..rounds {
        story.round(&mut host);
        story.recover(&mut host);
    }
    let confirmed = story.count(|event| matches!(event, Event::Confirmed(_)));
    let delivered = story.count(|event| matches!(event, Event::Delivered { .. }));
    eprintln!(
        "{confirmed} confirmed, {delivered} delivered, {} events",
        story.ledger.len()
    );
    assert!(confirmed > 0 && delivered > 0, "nothing was tested");
    let violations = story.finish(host.broker.address());
    assert!(violations.is_empty(), "{}", summary(&violations));
}

#[test]
fn every_promise_survives_kill_9() {
    check_rounds(None, 12);
}

#[test]
fn every_promise_survives_a_loss_of_power() {
    check_rounds(Some(Names::Late), 8);
}

#[test]
fn every_promise_survives_a_loss_of_power_on_a_disk_that_keeps_names_first() {
    check_rounds(Some(Names::Early), 8);
}

/// The test of the test: without effective syncs the confirms are lies, and the checker has to
/// find out. Both ways in which a disk may treat names.
#[test]
fn a_broker_that_never_syncs_is_found_out() {
    check_found_out(Names::Late);
    check_found_out(Names::Early);
}

#[track_caller]
fn check_found_out(names: Names) {
    let mut host = Host::new(Some(names));
    host.boot();
    declare(host.broker.address());
    let mut story = Story::new(&mut Random::new(1));
    let image = host.image.as_ref().expect("it was asked for");
    image.ignore_syncs();
    let published = story.publishers[0].run(host.broker.address(), &story.ledger);
    published.expect("nothing has crashed yet");
    let confirmed = story.count(|event| matches!(event, Event::Confirmed(_)));
    assert!(confirmed > 0, "nothing was tested");
    host.kill();
    story.ledger.note(Event::Crashed);
    host.boot();
    let violations = story.finish(host.broker.address());
    let is_loss = |violation: &Violation| matches!(violation, Violation::Lost(..));
    assert!(
        violations.iter().any(is_loss),
        "{names:?}: {confirmed} were confirmed in vain and none is missed"
    );
}
