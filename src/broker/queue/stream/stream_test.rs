//! The log and the directory of a stream against a simple model: a list of messages.

use proptest::prelude::*;

use super::directory::{Directory, Limits, Note};
use super::filter::{self, Filter};
use super::log::{Found, Log};
use crate::message::record::{self, Body, NewMessage, RecordRef, SharedBody};
use crate::message::{Epoch, Seq, field};

const LIMITS: Limits = Limits {
    segment_bytes: 6000,
    filter_bytes: 16,
    max_bytes: Some(40_000),
    max_age_ms: Some(400),
};

#[derive(Debug, Clone)]
enum Step {
    /// Messages with bodies of this size and this filter value, if any.
    Publish(Vec<(usize, Option<u8>)>),
    /// The epoch ends and is written; with `true` it is durable, and all before it.
    Commit(bool),
    Evict(usize),
    JoinSmall,
    Retain(u64),
    /// A consumer reads everything from a place on, with a filter or none.
    Read(u16, Option<u8>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let message = (0usize..1500, prop::option::of(0u8..4));
    let step = prop_oneof![
        4 => prop::collection::vec(message, 1..12).prop_map(Step::Publish),
        4 => any::<bool>().prop_map(Step::Commit),
        1 => (0usize..20_000).prop_map(Step::Evict),
        1 => Just(Step::JoinSmall),
        1 => (0u64..200).prop_map(Step::Retain),
        2 => (any::<u16>(), prop::option::of(0u8..4)).prop_map(|(from, filter)| Step::Read(from, filter)),
    ];
    prop::collection::vec(step, 1..120)
}

/// A message as the model knows it.
struct Known {
    seq: Seq,
    body: Vec<u8>,
    value: Option<u8>,
    epoch: Epoch,
    record: Vec<u8>,
}

struct World {
    log: Log,
    directory: Directory,
    /// Every message there ever was.
    known: Vec<Known>,
    epoch: Epoch,
    durable: Epoch,
    now_ms: u64,
    /// What the store was given, up to which seq.
    stored: Seq,
}

fn properties(value: Option<u8>) -> Vec<u8> {
    let Some(value) = value else {
        return vec![0, 0];
    };
    let mut entries = Vec::new();
    field::put_name(&mut entries, b"x-stream-filter-value");
    field::put_long_string(&mut entries, &[value]);
    let mut properties = vec![0x20, 0];
    properties.extend_from_slice(&(entries.len() as u32).to_be_bytes());
    properties.extend_from_slice(&entries);
    properties
}

impl World {
    fn new() -> Self {
        Self {
            log: Log::default(),
            directory: Directory::new(1),
            known: Vec::new(),
            epoch: 1,
            durable: 0,
            now_ms: 1000,
            stored: 0,
        }
    }

    fn publish(&mut self, size: usize, value: Option<u8>) {
        let seq = self.directory.next();
        let body = vec![seq as u8; size];
        let properties = properties(value);
        // The larger ones travel by reference.
        let travels = match size {
            0..1000 => Body::Inline(&body),
            _ => Body::Shared(SharedBody {
                id: 0,
                bytes: body.clone().into(),
            }),
        };
        let message = NewMessage {
            exchange: b"",
            routing_key: b"s",
            properties: &properties,
            annotations: &[],
            body: travels,
            persistent: false,
            priority: 0,
            expiry_ms: 0,
        };
        self.now_ms += 1;
        let bytes = self.log.append(seq, self.now_ms, &message, self.epoch);
        let note = Note {
            seq,
            arrival_ms: self.now_ms,
            bytes: bytes as u64,
            filter_value: filter::value_of(&properties),
        };
        self.directory.add(note, &LIMITS);
        let mut record = Vec::new();
        record::encode(&mut record, seq, self.now_ms, &message);
        self.known.push(Known {
            seq,
            body,
            value,
            epoch: self.epoch,
            record,
        });
    }

    fn commit(&mut self, durable: bool) {
        for piece in self.log.take_unwritten(self.epoch) {
            assert_eq!(
                piece.first,
                self.stored + 1,
                "every message is written, in order"
            );
            assert!(piece.epoch <= self.epoch);
            let seqs: Vec<Seq> = record::records(&piece.records)
                .map(|record| record.seq())
                .collect();
            assert_eq!(seqs, (piece.first..=piece.last).collect::<Vec<_>>());
            self.stored = piece.last;
        }
        assert_eq!(self.stored + 1, self.directory.next());
        if durable {
            self.durable = self.epoch;
        }
        self.epoch += 1;
    }

    /// What the store would answer: some of the stretch, at least one message.
    fn load(&mut self, from: Seq, upto: Seq) {
        let upto = upto.min(from + 6);
        let found = self
            .known
            .iter()
            .filter(|known| (from..=upto).contains(&known.seq));
        let (mut records, mut bodies) = (Vec::new(), Vec::new());
        for known in found {
            assert!(
                known.epoch <= self.durable,
                "only durable messages are loaded"
            );
            records.extend_from_slice(&known.record);
            if RecordRef::parse(&known.record).is_some_and(|record| record.has_external_body()) {
                let bytes = known.body.clone().into();
                bodies.push((known.seq, SharedBody { id: 0, bytes }));
            }
        }
        self.log.install((from, upto), records, bodies, 0);
    }

    /// Reads from `from` to the end of what is durable and compares.
    fn read(&mut self, from: u16, value: Option<u8>) {
        let wanted = value.map(|value| Filter::new([vec![value]], false));
        let first = self.directory.first();
        let span = self.directory.next() - first + 1;
        let start = first + u64::from(from) % span;
        let mut read = Vec::new();
        let mut at = start;
        while at < self.directory.next() {
            if let Some(wanted) = &wanted {
                let skipped = self.directory.skip(at, wanted);
                if skipped > at {
                    at = skipped;
                    continue;
                }
            }
            match self.log.find(at, self.directory.next(), self.durable) {
                Found::Later(epoch) => {
                    assert!(epoch > self.durable);
                    break;
                }
                Found::Cold(upto) => self.load(at, upto),
                Found::Piece(piece) => {
                    assert!(piece.epoch <= self.durable);
                    for record in record::records(&piece.records) {
                        let value = filter::value_of_record(&record);
                        if record.seq() >= at
                            && wanted.as_ref().is_none_or(|wanted| wanted.takes(value))
                        {
                            let body = match piece.body(&record) {
                                Some(body) => body.bytes.to_vec(),
                                None => record.inline_body().to_vec(),
                            };
                            read.push((record.seq(), body));
                        }
                    }
                    at = piece.last + 1;
                }
            }
        }
        let expected: Vec<(Seq, Vec<u8>)> = self
            .known
            .iter()
            .filter(|known| known.seq >= start && known.epoch <= self.durable)
            .filter(|known| value.is_none() || known.value == value)
            .map(|known| (known.seq, known.body.clone()))
            .collect();
        assert_eq!(read, expected);
    }

    fn retain(&mut self, later_ms: u64) {
        self.now_ms += later_ms;
        let first = self.directory.first();
        if let Some((from, upto)) = self.directory.retain(&LIMITS, self.now_ms) {
            assert_eq!(from, first);
            self.log.forget_before(upto + 1);
        }
        let is_empty = self.directory.first() == self.directory.next();
        assert_eq!(is_empty, self.known.is_empty(), "the newest messages stay");
    }

    fn check_memory(&mut self) {
        self.log.evict(usize::MAX, Epoch::MAX, true);
        self.log.take_unwritten(Epoch::MAX);
        self.log.evict(usize::MAX, Epoch::MAX, true);
        self.log.shrink();
        assert!(
            self.log.resident_bytes() < 1024,
            "nothing is counted that is not there"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn readers_see_what_is_durable_in_order_wherever_it_is(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            match step {
                Step::Publish(messages) => {
                    for (size, value) in messages {
                        world.publish(size, value);
                    }
                }
                Step::Commit(durable) => world.commit(durable),
                Step::Evict(excess) => {
                    world.log.evict(excess, world.durable, false);
                }
                Step::JoinSmall => world.log.join_small(world.durable),
                Step::Retain(later_ms) => world.retain(later_ms),
                Step::Read(from, filter) => world.read(from, filter),
            }
        }
        world.commit(true);
        world.read(0, None);
        world.check_memory();
    }
}
