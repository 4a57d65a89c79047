//! Spilled rows that are written for the second time: a few records that stay would keep everything that was spilled
//! around them on the disk.
//!
//! The upkeep thread does it, beside commits: new rows are put first, then they take the place of the old ones in the
//! index, with what was settled meanwhile, then the old ones are deleted. Whoever has just planned to read one of
//! these finds it vanished and plans anew.

use bytes::Bytes;

use super::Shared;
use super::cleaner::oldest;
use super::encode::RowView;
use super::families::{Database, WriteOnce};
use super::fatal;
use super::keys::RowKey;
use super::options::CHUNK_BYTES;
use super::row::{Content, Gather, Partial, Row, Runs};
use super::spill::{forget, put};
use crate::message::record::records;
use crate::message::{QueueId, Seq};

/// Neighbouring spilled rows of a queue that become one.
struct Run {
    queue: QueueId,
    rows: Vec<(RowKey, Option<Partial>)>,
}

/// A row that was written in the place of others.
struct Fresh {
    key: RowKey,
    row: Row,
    runs: Runs,
}

impl Shared {
    /// Writes what is live of the oldest spilled rows, of together about `bytes`, anew.
    pub(super) fn respill(&self, database: &Database, bytes: u64) -> Result<(), rocksdb::Error> {
        for run in self.oldest_spilled(bytes) {
            let mut fresh = Vec::new();
            let left = left_of(database, &run)?;
            for piece in left.map(Content::split).unwrap_or_default() {
                let (key, row) = put(database, self.ids.next_spill(), &piece)?;
                let runs = piece.runs();
                fresh.push(Fresh { key, row, runs });
            }
            forget(database, &self.replace(&run, fresh))?;
        }
        Ok(())
    }

    /// The oldest rows, with those that lie between them in their queues, as far as a chunk holds them.
    fn oldest_spilled(&self, bytes: u64) -> Vec<Run> {
        let index = self.index.read();
        let all = index.queues.iter().flat_map(|(id, queue)| {
            let rows = queue.spilled().iter();
            rows.map(|(first, row)| (row.key(*id, *first), u64::from(row.bytes)))
        });
        let mut keys = oldest(all, bytes);
        keys.sort_unstable_by_key(|key| (key.queue, key.first));
        let mut runs: Vec<Run> = Vec::new();
        let mut room = 0;
        let mut behind = None;
        for key in keys {
            let Some(queue) = index.queues.get(&key.queue) else {
                continue;
            };
            let Some(row) = queue.spilled().get(&key.first) else {
                continue;
            };
            let member = (key, queue.spilled_partial(key.first).cloned());
            let is_neighbour = behind == Some((key.queue, key.first));
            match runs.last_mut() {
                Some(run) if is_neighbour && row.live_bytes() <= room => run.rows.push(member),
                _ => {
                    room = CHUNK_BYTES as u64;
                    runs.push(Run {
                        queue: key.queue,
                        rows: vec![member],
                    });
                }
            }
            room = room.saturating_sub(row.live_bytes());
            let next = queue.spilled().range(key.first + 1..).next();
            behind = next.map(|(first, _)| (key.queue, *first));
        }
        runs
    }

    /// Puts the fresh rows in the place of the old ones, with what was settled since these were read. Answers the rows
    /// that nobody needs.
    fn replace(&self, run: &Run, fresh: Vec<Fresh>) -> Vec<RowKey> {
        let mut index = self.index.write();
        let Some(queue) = index.queues.get_mut(&run.queue) else {
            return fresh.into_iter().map(|fresh| fresh.key).collect();
        };
        let old: Vec<_> = run
            .rows
            .iter()
            .filter_map(|(key, _)| {
                let (row, partial) = queue.remove_spilled(key)?;
                Some((*key, row, partial))
            })
            .collect();
        let is_live = |seq: Seq| {
            let at = old.partition_point(|(key, ..)| key.first <= seq);
            let holder = at.checked_sub(1).and_then(|at| old.get(at));
            holder.is_some_and(|(_, row, partial)| {
                let is_left = |partial: &Partial| partial.is_live(seq);
                seq <= row.last && partial.as_ref().is_none_or(is_left)
            })
        };
        let mut unneeded: Vec<RowKey> = old.iter().map(|(key, ..)| *key).collect();
        let mut added = Vec::new();
        for Fresh { key, mut row, runs } in fresh {
            let mut partial = Partial::new(runs.clone());
            for (first, count) in runs.iter() {
                for seq in (first..first + u64::from(count)).filter(|seq| !is_live(*seq)) {
                    row.live -= partial.settle(seq, seq);
                }
            }
            if row.live == 0 {
                unneeded.push(key);
                continue;
            }
            let partial = (row.live < row.count).then_some(partial);
            queue.insert_spilled(key.first, row, partial);
            added.push(row);
        }
        if queue.is_forgotten() {
            index.queues.remove(&run.queue);
        }
        old.iter().for_each(|(_, row, _)| index.count(row, false));
        added.iter().for_each(|row| index.count(row, true));
        unneeded
    }
}

/// What is live of a run, `None` for nothing. Rows that are gone since it was chosen are passed over.
fn left_of(database: &Database, run: &Run) -> Result<Option<Content>, rocksdb::Error> {
    let mut gather = Gather::default();
    for (key, partial) in &run.rows {
        let Some(value) = database.get(WriteOnce::Spill, key)? else {
            continue;
        };
        let value = Bytes::from(value);
        let Some(view) = RowView::decode(&value) else {
            fatal(&format!("spilled row {key:?} is damaged"));
        };
        let mut bodies = view.bodies.into_iter().peekable();
        for (position, record) in (0..).zip(records(view.records)) {
            let body = bodies.next_if(|(seq, _)| *seq == record.seq());
            let is_settled = |partial: &Partial| partial.is_settled(position);
            if !partial.as_ref().is_some_and(is_settled) {
                gather.add(&record, body.map(|(_, body)| body.shared(&value)));
            }
        }
    }
    Ok(gather.finish(run.queue))
}
