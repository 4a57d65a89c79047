//! A queue as the store sees it, and what tests do with a store.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use crate::message::op::{Counts, Op, Settle, Slice};
use crate::message::ranges::RangeSet;
use crate::message::record::{self, Body, NewMessage, SharedBody, records};
use crate::message::{Epoch, QueueId, Seq, Ticket};
use crate::store::{Recovered, RecoveredQueue, Source, Store, StoreOptions, Visit};

/// Options for tests: no ballast, everything else as in production.
pub(super) fn options(dir: &Path) -> StoreOptions {
    StoreOptions {
        ballast_bytes: 0,
        ..StoreOptions::new(dir)
    }
}

pub(super) fn open(dir: &Path) -> (Store, Recovered) {
    Store::open(options(dir)).unwrap()
}

/// Waits for a ticket without a runtime of the caller's.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

pub(super) fn wait(store: &Store, ticket: Ticket) {
    block_on(store.wait(ticket));
}

pub(super) fn close(store: Store) {
    block_on(store.close());
}

/// A copy of the files as they are: what a killed process leaves. Taken again when RocksDB worked meanwhile.
pub(super) fn copy_dir(from: &Path, to: &Path) {
    loop {
        let before = files(from);
        let _ = std::fs::remove_dir_all(to);
        let copied = before.iter().all(|(path, _)| {
            let target = to.join(path.strip_prefix(from).unwrap());
            std::fs::create_dir_all(target.parent().unwrap()).unwrap();
            std::fs::copy(path, target).is_ok()
        });
        if copied && files(from) == before {
            return;
        }
    }
}

/// All files below a folder with their sizes.
fn files(dir: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => found.extend(files(&entry.path())),
            Ok(metadata) => found.push((entry.path(), metadata.len())),
            Err(_) => {}
        }
    }
    found.sort();
    found
}

#[derive(Default)]
struct Changes {
    epoch: Epoch,
    appended: BTreeMap<Seq, (Vec<u8>, Option<SharedBody>)>,
    settled: RangeSet,
    delivered_upto: Seq,
    counts: BTreeMap<Seq, Counts>,
}

struct State {
    next_seq: Seq,
    pending: Option<Changes>,
    cut: Option<Changes>,
}

/// A queue that keeps nothing but what the store has to be told.
pub(super) struct FakeQueue {
    pub(super) id: QueueId,
    /// Leave out what is settled before it is gathered.
    elide: bool,
    state: Mutex<State>,
}

impl FakeQueue {
    pub(super) fn new(store: &Store) -> Arc<Self> {
        Self::recovered(store.next_queue_id(), None, true)
    }

    /// A queue that has everything written, settled or not.
    pub(super) fn without_elision(store: &Store) -> Arc<Self> {
        Self::recovered(store.next_queue_id(), None, false)
    }

    pub(super) fn recovered(
        id: QueueId,
        recovered: Option<&RecoveredQueue>,
        elide: bool,
    ) -> Arc<Self> {
        let next_seq = recovered.map_or(1, |queue| queue.next_seq);
        Arc::new(Self {
            id,
            elide,
            state: Mutex::new(State {
                next_seq,
                pending: None,
                cut: None,
            }),
        })
    }

    pub(super) fn next_seq(&self) -> Seq {
        self.state.lock().next_seq
    }

    /// Uses up seqs, as messages do that are consumed before they are gathered.
    pub(super) fn skip(&self, seqs: u64) {
        self.state.lock().next_seq += seqs;
    }

    /// Adds a small message.
    pub(super) fn publish(self: &Arc<Self>, visit: &Visit<'_>, body: &[u8]) -> Seq {
        self.publish_body(visit, Body::Inline(body))
    }

    /// Adds a message with a body of its own kind.
    pub(super) fn publish_body(self: &Arc<Self>, visit: &Visit<'_>, body: Body<'_>) -> Seq {
        visit.add_pending(body.len());
        self.change(visit, |state| {
            let seq = state.next_seq;
            state.next_seq += 1;
            let mut record = Vec::new();
            let shared = match &body {
                Body::Inline(_) => None,
                Body::Shared(shared) => Some(shared.clone()),
            };
            let message = NewMessage {
                exchange: b"e",
                routing_key: b"k",
                properties: &[0, 0],
                annotations: b"",
                body: body.clone(),
                persistent: true,
                priority: 0,
                expiry_ms: 0,
            };
            record::encode(&mut record, seq, visit.now_ms(), &message);
            let pending = state.pending.as_mut().unwrap();
            pending.appended.insert(seq, (record, shared));
            seq
        })
    }

    /// Uses up a seq for a message that is not persistent.
    pub(super) fn publish_transient(self: &Arc<Self>, visit: &Visit<'_>) -> Seq {
        self.change(visit, |state| {
            state.next_seq += 1;
            state.next_seq - 1
        })
    }

    pub(super) fn settle(self: &Arc<Self>, visit: &Visit<'_>, first: Seq, last: Seq) {
        self.change(visit, |state| {
            state
                .pending
                .as_mut()
                .unwrap()
                .settled
                .insert_range(first, last);
            if self.elide {
                for changes in [state.pending.as_mut(), state.cut.as_mut()]
                    .into_iter()
                    .flatten()
                {
                    changes
                        .appended
                        .retain(|seq, _| !(first..=last).contains(seq));
                }
            }
        });
    }

    pub(super) fn deliver(self: &Arc<Self>, visit: &Visit<'_>, upto: Seq) {
        self.change(visit, |state| {
            state.pending.as_mut().unwrap().delivered_upto = upto
        });
    }

    /// A message came back for the `times`th time.
    pub(super) fn came_back(self: &Arc<Self>, visit: &Visit<'_>, seq: Seq, times: u32) {
        let counts = Counts {
            delivered: times,
            acquired: times + 1,
        };
        self.change(visit, |state| {
            state.pending.as_mut().unwrap().counts.insert(seq, counts);
        });
    }

    fn change<T>(self: &Arc<Self>, visit: &Visit<'_>, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        if state
            .pending
            .as_ref()
            .is_none_or(|pending| pending.epoch < visit.epoch())
        {
            if let Some(pending) = state.pending.take() {
                assert!(state.cut.is_none(), "a cut is gathered before the next");
                state.cut = Some(pending);
            }
            state.pending = Some(Changes {
                epoch: visit.epoch(),
                ..Changes::default()
            });
            visit.mark_dirty(Arc::clone(self) as Arc<dyn Source>);
        }
        change(&mut state)
    }
}

impl Source for FakeQueue {
    fn gather(&self, epoch: Epoch, ops: &mut Vec<Op>) {
        let mut state = self.state.lock();
        let changes = match state.cut.take() {
            Some(cut) => cut,
            None if state
                .pending
                .as_ref()
                .is_some_and(|pending| pending.epoch <= epoch) =>
            {
                state.pending.take().unwrap()
            }
            None => return,
        };
        let next_seq = state.next_seq;
        drop(state);
        let seqs: Vec<Seq> = changes.appended.keys().copied().collect();
        if let (Some(first), Some(last)) = (seqs.first(), seqs.last()) {
            let mut all = BytesMut::new();
            let mut bodies = Vec::new();
            for (seq, (record, body)) in changes.appended {
                all.extend_from_slice(&record);
                bodies.extend(body.map(|body| (seq, body)));
            }
            let (first, last) = (*first, *last);
            ops.push(Op::Append(Slice {
                queue: self.id,
                first,
                last,
                count: seqs.len() as u32,
                records: all.freeze(),
                bodies,
            }));
        }
        let ranges: Vec<_> = changes.settled.iter().collect();
        let counts: Vec<_> = changes.counts.into_iter().collect();
        if !ranges.is_empty() || !counts.is_empty() || changes.delivered_upto > 0 {
            ops.push(Op::Settle(Settle {
                queue: self.id,
                ranges,
                next_seq,
                delivered_upto: changes.delivered_upto,
                counts,
            }));
        }
    }
}

/// Everything that is live in a queue: seq and body.
pub(super) fn load_all(store: &Store, queue: QueueId, upto: Seq) -> Vec<(Seq, Bytes)> {
    let mut found = Vec::new();
    let mut from = 1;
    while from <= upto {
        let loaded = store.load(queue, from, upto).unwrap();
        assert!(loaded.covered_upto >= from && loaded.covered_upto <= upto);
        let mut bodies = loaded.bodies.into_iter().peekable();
        for record in records(&loaded.records) {
            let body = match bodies.next_if(|(seq, _)| *seq == record.seq()) {
                Some((_, body)) => body.bytes,
                None => Bytes::copy_from_slice(record.inline_body()),
            };
            assert_eq!(body.len(), record.body_len());
            assert!((from..=loaded.covered_upto).contains(&record.seq()));
            found.push((record.seq(), body));
        }
        assert!(bodies.next().is_none(), "every body belongs to a record");
        from = loaded.covered_upto + 1;
    }
    assert!(
        found.windows(2).all(|pair| pair[0].0 < pair[1].0),
        "seqs rise"
    );
    found
}

/// The seqs of everything that is live in a queue.
pub(super) fn live_seqs(store: &Store, queue: QueueId, upto: Seq) -> Vec<Seq> {
    load_all(store, queue, upto)
        .into_iter()
        .map(|(seq, _)| seq)
        .collect()
}

/// One visit, and the wait for its epoch.
pub(super) fn commit(store: &Store, work: impl FnOnce(&Visit<'_>)) {
    let ticket = {
        let visit = store.visit(1_000);
        work(&visit);
        visit.ticket()
    };
    wait(store, ticket);
}

/// Everything that was done so far is durable.
pub(super) fn barrier(store: &Store) {
    commit(store, |_| {});
}
