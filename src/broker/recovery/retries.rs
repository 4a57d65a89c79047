//! Which messages waited for their retry when the broker stopped, read page by page. Until when stays in the store.

use std::collections::BTreeMap;

use super::RecoverError;
use crate::broker::due::DueKey;
use crate::broker::queue::RecoveredRetries;
use crate::broker::queue::due_rows::{body_bytes, remove};
use crate::message::op::Op;
use crate::message::record::records;
use crate::message::{QueueId, Seq, base_id, lane_id};
use crate::store::{RecoveredDue, Store};

/// Waiting messages that are read at once.
const COUNT_MAX: usize = 4_096;
const BYTES_MAX: usize = 1024 * 1024;

/// Reads the rows of `owner`, which are those of a lane, whose messages below `written_before` were there for long.
/// What removes rows of messages that are gone is added to `ops`.
pub(super) fn read(
    store: &Store,
    (owner, lane): (QueueId, u16),
    rows: RecoveredDue,
    written_before: Seq,
    ops: &mut Vec<Op>,
) -> Result<RecoveredRetries, RecoverError> {
    let mut found = RecoveredRetries {
        lane,
        rows,
        ..RecoveredRetries::default()
    };
    // A row without a size was written while its message was only in the store: that may be a transient one, which
    // did not survive. One that came at the very end may have been settled before it was written, in an epoch that is
    // lost: then it is gone, and its row is not.
    let mut unsure = BTreeMap::new();
    let mut from = (rows.earliest_ms, 0);
    loop {
        let page = store.due(owner, from, COUNT_MAX, BYTES_MAX)?;
        for entry in &page.entries {
            from = (entry.time_ms, entry.seq + 1);
            let bytes = body_bytes(&entry.record);
            if bytes == 0 || entry.seq >= written_before {
                unsure.insert(entry.seq, entry.time_ms);
            } else {
                found.seqs.insert(entry.seq);
                found.bytes += bytes;
            }
        }
        if !page.more || page.entries.is_empty() {
            break;
        }
    }
    look_up(
        store,
        lane_id(base_id(owner), lane),
        &mut unsure,
        &mut found,
    )?;
    for (seq, time_ms) in unsure {
        let key = DueKey { time_ms, seq };
        ops.push(remove(owner, key));
        found.gone.push(key);
    }
    Ok(found)
}

/// Takes those out of `unsure` that are there.
fn look_up(
    store: &Store,
    lane: QueueId,
    unsure: &mut BTreeMap<Seq, u64>,
    found: &mut RecoveredRetries,
) -> Result<(), RecoverError> {
    let Some((last, _)) = unsure.last_key_value() else {
        return Ok(());
    };
    let (last, mut from) = (*last, 0);
    while let Some((seq, _)) = unsure.range(from..).next() {
        let first = *seq;
        let loaded = store.load(lane, first, last)?;
        for record in records(&loaded.records) {
            let seq = record.seq();
            if unsure.remove(&seq).is_some() {
                found.seqs.insert(seq);
                found.bytes += record.body_len() as u64;
            }
        }
        from = loaded.covered_upto.max(first) + 1;
    }
    Ok(())
}
