//! Random work against a map: whatever is appended, settled, moved, deleted, sealed, cleaned, closed and reopened, what
//! is live is what the map says.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::support::*;
use crate::message::op::Op;
use crate::message::record::{Body, SharedBody};
use crate::message::{QueueId, Seq};
use crate::store::{Store, StoreOptions, Visit};

#[derive(Debug, Clone)]
enum Step {
    /// Publish so many messages of so many bytes to a queue, every nth of them transient.
    Publish {
        queue: usize,
        count: u8,
        bytes: usize,
        transient_every: u8,
    },
    /// Publish one large body to all queues.
    Fanout {
        bytes: usize,
    },
    /// Publish a large body to one queue.
    Large {
        queue: usize,
        bytes: usize,
    },
    /// Settle a part of what is live, from that share of it on, every nth.
    Settle {
        queue: usize,
        from: u8,
        count: u8,
        every: u8,
    },
    /// Move the first live message to the next queue.
    Move {
        queue: usize,
    },
    Deliver {
        queue: usize,
    },
    /// Some live messages come back, from that share of them on, every nth.
    ComeBack {
        queue: usize,
        from: u8,
        count: u8,
        every: u8,
    },
    Delete {
        queue: usize,
    },
    Purge {
        queue: usize,
    },
    Commit,
    Reopen,
    /// Go on with a copy of the files, as after a kill.
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let queue = 0..QUEUES;
    prop_oneof![
        8 => (queue.clone(), 1..40u8, prop_oneof![Just(10usize), Just(700), Just(9_000)], 0..4u8)
            .prop_map(|(queue, count, bytes, transient_every)| Step::Publish { queue, count, bytes, transient_every }),
        1 => (16_384..40_000usize).prop_map(|bytes| Step::Fanout { bytes }),
        1 => (queue.clone(), prop_oneof![16_384..100_000usize, 1_048_000..1_600_000usize])
            .prop_map(|(queue, bytes)| Step::Large { queue, bytes }),
        8 => (queue.clone(), any::<u8>(), 1..60u8, 1..5u8)
            .prop_map(|(queue, from, count, every)| Step::Settle { queue, from, count, every }),
        2 => queue.clone().prop_map(|queue| Step::Move { queue }),
        1 => queue.clone().prop_map(|queue| Step::Deliver { queue }),
        4 => (queue.clone(), any::<u8>(), 1..90u8, 1..5u8)
            .prop_map(|(queue, from, count, every)| Step::ComeBack { queue, from, count, every }),
        1 => queue.clone().prop_map(|queue| Step::Delete { queue }),
        1 => queue.prop_map(|queue| Step::Purge { queue }),
        10 => Just(Step::Commit),
        1 => Just(Step::Reopen),
        1 => Just(Step::Crash),
    ]
}

const QUEUES: usize = 3;

struct World {
    dir: tempfile::TempDir,
    store: Option<Store>,
    queues: Vec<Arc<FakeQueue>>,
    live: Vec<BTreeMap<Seq, Vec<u8>>>,
    delivered: Vec<Seq>,
    /// How often live messages came back.
    times: Vec<BTreeMap<Seq, u32>>,
    elide: bool,
    small: bool,
    stamp: u8,
}

impl World {
    fn new(elide: bool, small: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(world_options(dir.path(), small)).unwrap();
        let queues = (0..QUEUES).map(|_| declare(&store, elide)).collect();
        let live = vec![BTreeMap::new(); QUEUES];
        Self {
            dir,
            store: Some(store),
            queues,
            live,
            delivered: vec![0; QUEUES],
            times: vec![BTreeMap::new(); QUEUES],
            elide,
            small,
            stamp: 0,
        }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn body(&mut self, bytes: usize) -> Vec<u8> {
        self.stamp = self.stamp.wrapping_add(1);
        vec![self.stamp; bytes]
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Publish {
                queue,
                count,
                bytes,
                transient_every,
            } => {
                let bodies: Vec<_> = (0..count).map(|_| self.body(bytes)).collect();
                let visit = self.store.as_ref().unwrap().visit(1);
                for (number, body) in bodies.into_iter().enumerate() {
                    if transient_every > 1 && number % usize::from(transient_every) == 1 {
                        self.queues[queue].publish_transient(&visit);
                    } else {
                        let seq = self.queues[queue].publish(&visit, &body);
                        self.live[queue].insert(seq, body);
                    }
                }
            }
            Step::Fanout { bytes } => {
                let body = self.body(bytes);
                let shared = SharedBody {
                    id: self.store().next_body_id(),
                    bytes: body.clone().into(),
                };
                let visit = self.store.as_ref().unwrap().visit(1);
                for (queue, live) in self.queues.iter().zip(&mut self.live) {
                    live.insert(
                        queue.publish_body(&visit, Body::Shared(shared.clone())),
                        body.clone(),
                    );
                }
            }
            Step::Large { queue, bytes } => {
                let body = self.body(bytes);
                let shared = SharedBody {
                    id: 0,
                    bytes: body.clone().into(),
                };
                let visit = self.store.as_ref().unwrap().visit(1);
                let seq = self.queues[queue].publish_body(&visit, Body::Shared(shared));
                self.live[queue].insert(seq, body);
            }
            Step::Settle {
                queue,
                from,
                count,
                every,
            } => {
                let seqs = self.choose(queue, from, count, every);
                self.settle(queue, &seqs);
            }
            Step::ComeBack {
                queue,
                from,
                count,
                every,
            } => {
                let seqs = self.choose(queue, from, count, every);
                let visit = self.store.as_ref().unwrap().visit(1);
                for seq in seqs {
                    let times = self.times[queue].entry(seq).or_default();
                    *times += 1;
                    self.queues[queue].came_back(&visit, seq, *times);
                }
            }
            Step::Purge { queue } => {
                let (Some(first), Some(last)) = (
                    self.live[queue].keys().next(),
                    self.live[queue].keys().last(),
                ) else {
                    return;
                };
                let visit = self.store.as_ref().unwrap().visit(1);
                self.queues[queue].settle(&visit, *first, *last);
                drop(visit);
                self.live[queue].clear();
            }
            Step::Move { queue } => self.move_first(queue),
            Step::Deliver { queue } => {
                self.delivered[queue] = self.queues[queue].next_seq();
                self.queues[queue].deliver(
                    &self.store.as_ref().unwrap().visit(1),
                    self.delivered[queue],
                );
            }
            Step::Delete { queue } => self.delete(queue),
            Step::Commit => self.commit(),
            Step::Reopen => {
                self.commit();
                close(self.store.take().unwrap());
                let path = self.dir.path().to_path_buf();
                self.reopen(&path);
            }
            Step::Crash => {
                self.commit();
                let copy = tempfile::tempdir().unwrap();
                copy_dir(self.dir.path(), copy.path());
                close(self.store.take().unwrap());
                self.dir = copy;
                let path = self.dir.path().to_path_buf();
                self.reopen(&path);
            }
        }
    }

    fn choose(&self, queue: usize, from: u8, count: u8, every: u8) -> Vec<Seq> {
        let live = &self.live[queue];
        let start = live.len() * usize::from(from) / 256;
        let chosen = live.keys().skip(start).step_by(every.into());
        chosen.take(count.into()).copied().collect()
    }

    fn settle(&mut self, queue: usize, seqs: &[Seq]) {
        let visit = self.store.as_ref().unwrap().visit(1);
        for seq in seqs {
            self.queues[queue].settle(&visit, *seq, *seq);
            self.live[queue].remove(seq);
        }
    }

    /// As a dead letter: the large body keeps its id. Records are looked up at the model, as the broker has them in
    /// memory.
    fn move_first(&mut self, queue: usize) {
        self.commit();
        let Some((seq, body)) = self.live[queue].pop_first() else {
            return;
        };
        let loaded = self.store().load(self.queues[queue].id, seq, seq).unwrap();
        let target = (queue + 1) % QUEUES;
        let visit = self.store.as_ref().unwrap().visit(1);
        let arrived = match loaded.bodies.first() {
            Some((_, shared)) => {
                self.queues[target].publish_body(&visit, Body::Shared(shared.clone()))
            }
            None => self.queues[target].publish(&visit, &body),
        };
        self.queues[queue].settle(&visit, seq, seq);
        drop(visit);
        self.live[target].insert(arrived, body);
    }

    fn delete(&mut self, queue: usize) {
        let id: QueueId = self.queues[queue].id;
        {
            let visit: Visit<'_> = self.store.as_ref().unwrap().visit(1);
            visit.push(Op::QueueDeleted { queue: id });
        }
        self.commit();
        assert!(live_seqs(self.store(), id, 1 << 40).is_empty());
        self.queues[queue] = declare(self.store(), self.elide);
        self.live[queue].clear();
        self.delivered[queue] = 0;
        self.times[queue].clear();
    }

    fn commit(&self) {
        barrier(self.store());
    }

    fn reopen(&mut self, path: &Path) {
        let (store, recovered) = Store::open(world_options(path, self.small)).unwrap();
        for (number, queue) in self.queues.iter_mut().enumerate() {
            let found = recovered.queues.get(&queue.id);
            let live = &self.live[number];
            let found_or_empty = found
                .map(|found| (found.live_count, found.live_bytes))
                .unwrap_or_default();
            let bytes: usize = live.values().map(Vec::len).sum();
            assert_eq!(found_or_empty, (live.len() as u64, bytes as u64));
            self.times[number].retain(|seq, _| live.contains_key(seq));
            let counts = found.map(|found| &found.counts).into_iter().flatten();
            let times: BTreeMap<_, _> = counts
                .filter(|(seq, _)| live.contains_key(seq))
                .map(|(seq, counts)| {
                    assert_eq!(counts.acquired, counts.delivered + 1);
                    (*seq, counts.delivered)
                })
                .collect();
            assert_eq!(times, self.times[number]);
            if let Some(found) = found {
                assert_eq!(
                    found.first_live,
                    live.keys().next().copied().unwrap_or(found.next_seq)
                );
                assert!(live.keys().last().is_none_or(|last| found.next_seq > *last));
                // Where there is nothing more to deliver, the mark need not move.
                let delivered = live.range(..self.delivered[number]).next_back();
                assert!(delivered.is_none_or(|(last, _)| *last < found.delivered_upto));
            }
            if found.is_none() {
                // Nothing of it is on disk: its seqs begin anew, and what was said of them is void.
                self.delivered[number] = 0;
            }
            *queue = FakeQueue::recovered(queue.id, found, self.elide);
        }
        self.store = Some(store);
    }

    fn check(&self) {
        self.commit();
        for (queue, live) in self.queues.iter().zip(&self.live) {
            let found = load_all(self.store(), queue.id, queue.next_seq());
            assert_eq!(found.len(), live.len());
            for ((seq, body), (expected_seq, expected)) in found.iter().zip(live) {
                assert_eq!(seq, expected_seq);
                assert!(body == expected, "the body of {seq} is another");
            }
        }
    }
}

/// A queue that is known from its topology row on, as the broker's durable queues are.
fn declare(store: &Store, elide: bool) -> Arc<FakeQueue> {
    let queue = FakeQueue::recovered(store.next_queue_id(), None, elide);
    commit(store, |visit| {
        visit.push(Op::PutState {
            key: queue.id.to_be_bytes().to_vec(),
            value: vec![],
        });
    });
    queue
}

fn world_options(dir: &Path, small: bool) -> StoreOptions {
    let options = options(dir);
    if small {
        return StoreOptions {
            tail_bytes_max: 64 * 1024,
            blob_slack_bytes: 64 * 1024,
            ..options
        };
    }
    options
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 60, ..ProptestConfig::default() })]

    #[test]
    fn what_is_live_is_what_the_model_says(steps in prop::collection::vec(step(), 10..120), elide: bool, small: bool) {
        let mut world = World::new(elide, small);
        for step in steps {
            world.run(step);
        }
        world.check();
        world.run(Step::Reopen);
        world.check();
        close(world.store.take().unwrap());
    }
}
