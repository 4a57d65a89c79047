//! A full disk: publishers are blocked, consumers go on, and all resumes by itself.

use std::time::Duration;

use crate::support::broker::BrokerProcess;
use crate::support::content::Properties;
use crate::support::durable_image::{DurableImage, Names};
use crate::support::peer::{Frame, METHOD, PATIENCE, Peer, decode};

const QUEUE: &str = "full";
const BODY_BYTES: usize = 4096;

/// A broker on a disk whose size the test sets.
struct SmallDisk {
    broker: BrokerProcess,
    disk: DurableImage,
}

impl SmallDisk {
    fn start() -> Self {
        let mut broker = BrokerProcess::prepare(&[]);
        let disk = DurableImage::new(&broker.data_dir(), broker.directory(), Names::Late);
        for (name, value) in disk.environment() {
            broker.set_env(&name, &value);
        }
        disk.begin();
        broker.boot();
        Self { broker, disk }
    }

    /// Leaves this many bytes free.
    fn leave_free(&self, bytes: u64) {
        self.disk.set_limit(self.disk.used() + bytes);
    }

    fn lift_limit(&self) {
        self.disk.set_limit(0);
    }

    fn restart(&mut self) {
        self.broker.kill9();
        self.disk.restore();
        self.disk.begin();
        self.broker.boot();
    }

    fn peer(&self) -> Peer {
        let mut peer = self.broker.connect();
        peer.open_channel(1);
        peer
    }
}

/// A publisher with confirms that notices when it is blocked.
struct Publisher {
    peer: Peer,
    published: u64,
    confirmed: u64,
    blocked: bool,
}

impl Publisher {
    fn new(disk: &SmallDisk) -> Self {
        let mut peer = disk.peer();
        let declare = method!(queue.declare { queue: QUEUE, durable: true });
        peer.call(1, declare, method!(queue.declare_ok));
        peer.call(1, method!(confirm.select), method!(confirm.select_ok));
        Self {
            peer,
            published: 0,
            confirmed: 0,
            blocked: false,
        }
    }

    fn publish(&mut self) {
        self.published += 1;
        let publish = method!(basic.publish { routing_key: QUEUE });
        let body = vec![b'f'; BODY_BYTES];
        self.peer
            .publish_with(1, publish, &Properties::persistent(), &body);
    }

    /// Takes in one method: a confirm, or news about blocking.
    fn take(&mut self) {
        let frame = self.peer.recv();
        self.take_frame(&frame);
    }

    /// Takes in what has come, without waiting for more.
    fn take_what_came(&mut self) {
        let stream = self.peer.stream();
        let instant = Duration::from_millis(1);
        stream
            .set_read_timeout(Some(instant))
            .expect("1 ms is legal");
        while let Ok(frame) = self.peer.try_recv() {
            self.take_frame(&frame);
        }
        let stream = self.peer.stream();
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("10 s are legal");
    }

    fn take_frame(&mut self, frame: &Frame) {
        assert_eq!(frame.kind, METHOD);
        let method = decode(frame).expect("a method");
        match method.name() {
            "connection.blocked" => {
                let reason = method.text("reason");
                assert!(reason.contains("disk"), "{reason}");
                self.blocked = true;
            }
            "connection.unblocked" => self.blocked = false,
            "basic.ack" => self.confirmed = method.number("delivery_tag"),
            _ => panic!("{method:?}"),
        }
    }

    /// Publishes until the broker says that it is blocked, which it says to those who publish:
    /// confirms that the full disk holds up must not be waited for.
    fn publish_until_blocked(&mut self) {
        while !self.blocked {
            self.publish();
            self.take_what_came();
        }
    }

    /// Waits until it is not blocked and all that was published is confirmed.
    fn finish(&mut self) {
        while self.blocked || self.confirmed < self.published {
            self.take();
        }
    }
}

#[test]
fn publishers_are_blocked_acknowledgements_go_on_and_all_resumes() {
    let small = SmallDisk::start();
    let mut publisher = Publisher::new(&small);
    for _ in 0..100 {
        publisher.publish();
    }
    publisher.finish();
    small.leave_free(1 << 20);
    publisher.publish_until_blocked();

    let mut consumer = small.peer();
    for tag in 1..=100_u64 {
        consumer.send(1, method!(basic.get { queue: QUEUE }));
        consumer.expect_message(1, method!(basic.get_ok { delivery_tag: tag }));
        consumer.send(1, method!(basic.ack { delivery_tag: tag }));
    }
    consumer.expect_silence(1);

    small.lift_limit();
    publisher.finish();
    publisher.publish();
    publisher.finish();
    consumer.call(1, method!(channel.close), method!(channel.close_ok));
    consumer.open_channel(1);
    let left = publisher.published - 100;
    let passive = method!(queue.declare { queue: QUEUE, passive: true });
    consumer.call(
        1,
        passive,
        method!(queue.declare_ok { message_count: left }),
    );
}

#[test]
fn a_broker_starts_on_a_full_disk_and_has_what_it_confirmed() {
    let mut small = SmallDisk::start();
    let mut publisher = Publisher::new(&small);
    for _ in 0..200 {
        publisher.publish();
    }
    publisher.finish();
    small.leave_free(1 << 20);
    publisher.publish_until_blocked();
    let confirmed = publisher.confirmed;
    let published = publisher.published;

    small.restart();
    let mut consumer = small.peer();
    let passive = method!(queue.declare { queue: QUEUE, passive: true });
    let declared = consumer.call(1, passive, method!(queue.declare_ok));
    let count = declared.number("message_count");
    assert!(
        (confirmed..=published).contains(&count),
        "{count} of {confirmed} to {published}"
    );
    let mut second = Publisher::new(&small);
    second.publish_until_blocked();

    small.lift_limit();
    second.finish();
    small.restart();
    let mut consumer = small.peer();
    let passive = method!(queue.declare { queue: QUEUE, passive: true });
    let all = count + second.published;
    consumer.call(1, passive, method!(queue.declare_ok { message_count: all }));
}

#[test]
fn a_disk_without_a_single_byte_left_loses_nothing() {
    let mut small = SmallDisk::start();
    let mut publisher = Publisher::new(&small);
    publisher.publish();
    publisher.finish();
    small.leave_free(1 << 20);
    publisher.publish_until_blocked();
    // Whatever reserve the broker has given up is taken too.
    small.leave_free(0);
    let mut other = small.peer();
    other.send(1, method!(basic.get { queue: QUEUE }));
    other.expect_message(1, method!(basic.get_ok));
    small.lift_limit();
    publisher.finish();
    let published = publisher.published;
    small.restart();
    let mut consumer = small.peer();
    let passive = method!(queue.declare { queue: QUEUE, passive: true });
    consumer.call(
        1,
        passive,
        method!(queue.declare_ok { message_count: published }),
    );
}
