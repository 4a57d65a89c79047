//! How a piece that was read back becomes chunks: as many as it takes for the table of each to be in proportion to what
//! it holds. A restart skips a million seqs, and messages that are settled at random leave gaps of any width.

use super::chunk::Chunk;
use crate::message::Seq;
use crate::message::record::{SharedBody, records};

/// Seqs without a record that a chunk may have in a row: 4 bytes each.
const GAP_MAX: Seq = 256;

/// Records that are close to each other.
struct Run {
    first: Seq,
    last: Seq,
    /// Where they are in the piece.
    start: usize,
    end: usize,
}

/// The chunks for the records of `from..=upto`, by rising seq. Those for which `is_gone` holds are left out.
pub(super) fn chunks(
    (from, upto): (Seq, Seq),
    piece: Vec<u8>,
    bodies: Vec<(Seq, SharedBody)>,
    is_gone: impl Fn(Seq) -> bool,
) -> Vec<Chunk> {
    let runs = runs(&piece, |seq| (from..=upto).contains(&seq) && !is_gone(seq));
    if let [run] = &runs[..] {
        let chunk = Chunk::from_records(run.first, run.last, piece, bodies, is_gone);
        return vec![chunk];
    }
    let chunk = |run: &Run| {
        let own = bodies
            .iter()
            .filter(|(seq, _)| (run.first..=run.last).contains(seq));
        let records = piece[run.start..run.end].to_vec();
        Chunk::from_records(
            run.first,
            run.last,
            records,
            own.cloned().collect(),
            &is_gone,
        )
    };
    runs.iter().map(chunk).collect()
}

fn runs(piece: &[u8], is_wanted: impl Fn(Seq) -> bool) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut start = 0;
    for record in records(piece) {
        let (seq, end) = (record.seq(), start + record.encoded_len());
        if is_wanted(seq) {
            match runs.last_mut() {
                Some(run) if seq - run.last <= GAP_MAX => (run.last, run.end) = (seq, end),
                _ => runs.push(Run {
                    first: seq,
                    last: seq,
                    start,
                    end,
                }),
            }
        }
        start = end;
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::super::log::{Keep, Log, Lookup, Next};
    use super::*;
    use crate::message::record::{Body, NewMessage, encode};

    fn piece(seqs: &[Seq]) -> Vec<u8> {
        let message = NewMessage {
            exchange: b"",
            routing_key: b"q",
            properties: &[0, 0],
            annotations: &[],
            body: Body::Inline(b"body"),
            persistent: true,
            priority: 0,
            expiry_ms: 0,
        };
        let mut records = Vec::new();
        for seq in seqs {
            encode(&mut records, *seq, 1, &message);
        }
        records
    }

    fn found(log: &Log) -> Vec<Seq> {
        let mut found = Vec::new();
        let stopped = log.scan(0, |record, _| {
            found.push(record.seq());
            true
        });
        assert_eq!(stopped, Next::End);
        found
    }

    #[test]
    fn a_piece_takes_memory_for_what_it_holds_and_not_for_what_it_spans() {
        let last = 1 << 20;
        let seqs = [1, 2, 300, 10_000, 10_256, 999_999];
        let mut log = Log::cold(1, last, seqs.len() as u64);
        assert!(log.install(1, last - 1, piece(&seqs), Vec::new()));
        assert_eq!(found(&log), seqs);
        assert!(!log.has_cold_from(0));
        assert!(log.resident_bytes() < 8 * 1024, "{}", log.resident_bytes());
        assert!(matches!(log.lookup(2), Lookup::Found(..)));
        assert!(matches!(log.lookup(5_000), Lookup::Gone));
    }

    #[test]
    fn what_was_evicted_in_pieces_comes_back_as_one_stretch() {
        let last = 1 << 20;
        let seqs = [5, 6, 9_000, 700_000];
        let mut log = Log::cold(1, last, seqs.len() as u64);
        assert!(log.install(1, last - 1, piece(&seqs), Vec::new()));
        let keep = Keep {
            next: 700_000,
            leaves: None,
        };
        log.evict(keep, 1, usize::MAX);
        assert_eq!(log.cold_end(5), Some(9_000));
        assert!(log.install(5, 9_000, piece(&seqs), Vec::new()));
        assert_eq!(found(&log), seqs);
    }

    #[test]
    fn what_is_gone_or_elsewhere_is_left_out() {
        let all = piece(&[1, 2, 3, 2_000, 2_001, 9_000]);
        let chunks = chunks((2, 2_001), all, Vec::new(), |seq| seq == 2_000);
        let spans: Vec<_> = chunks
            .iter()
            .map(|chunk| (chunk.first(), chunk.end(), chunk.live()))
            .collect();
        assert_eq!(spans, [(2, 4, 2), (2_001, 2_002, 1)]);
    }
}
