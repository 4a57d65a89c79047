//! Acknowledgements of one consumer: in groups, late, or at random.

use super::frame::push_ack;
use super::settings::Consuming;

/// What is to be acknowledged, and when.
#[derive(Debug)]
pub(super) enum Acks {
    /// All up to the last one, whenever `every` have gathered.
    Groups { every: u32, waiting: u32, last: u64 },
    /// One for each delivery beyond the first `hold`.
    Held {
        hold: usize,
        tags: Vec<u64>,
        random: bool,
        state: u64,
        oldest: usize,
    },
}

impl Acks {
    pub(super) fn new(consuming: &Consuming) -> Self {
        match consuming.hold {
            None => Self::Groups {
                every: consuming.ack_every,
                waiting: 0,
                last: 0,
            },
            Some(hold) => Self::Held {
                hold,
                tags: Vec::with_capacity(hold + 1),
                random: consuming.ack_random,
                state: 0x2545_F491_4F6C_DD1D,
                oldest: 0,
            },
        }
    }

    /// Notes a delivery and writes the acknowledgement that it makes due.
    pub(super) fn delivered(&mut self, tag: u64, out: &mut Vec<u8>) {
        match self {
            Self::Groups {
                every,
                waiting,
                last,
            } => {
                *waiting += 1;
                *last = tag;
                if waiting == every {
                    push_ack(out, tag, *every > 1);
                    *waiting = 0;
                }
            }
            Self::Held { hold, tags, .. } if tags.len() < *hold => tags.push(tag),
            Self::Held {
                tags,
                random,
                state,
                oldest,
                ..
            } => {
                // With nothing held the delivery itself is the one to acknowledge.
                let chosen = if *random {
                    next(state) % tags.len().max(1)
                } else {
                    *oldest
                };
                let due = tags
                    .get_mut(chosen)
                    .map_or(tag, |held| std::mem::replace(held, tag));
                *oldest = (chosen + 1) % tags.len().max(1);
                push_ack(out, due, false);
            }
        }
    }

    /// Acknowledges a group that is not full. What is held is held until the connection closes.
    pub(super) fn flush(&mut self, out: &mut Vec<u8>) {
        if let Self::Groups {
            waiting: waiting @ 1..,
            last,
            ..
        } = self
        {
            push_ack(out, *last, true);
            *waiting = 0;
        }
    }
}

/// Marsaglia's xorshift: any sequence that jumps about will do.
fn next(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state as usize
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::args::PerfArgs;
    use super::super::frame;
    use super::super::settings::Settings;
    use super::*;

    /// (tag, multiple) of each acknowledgement for `deliveries`.
    fn acks(args: PerfArgs, deliveries: u64, flush: bool) -> Vec<(u64, bool)> {
        let mut acks = Acks::new(&Settings::new(args).unwrap().consuming);
        let mut out = Vec::new();
        (1..=deliveries).for_each(|tag| acks.delivered(tag, &mut out));
        if flush {
            acks.flush(&mut out);
        }
        let mut settled = Vec::new();
        let mut rest = out.as_slice();
        while let Some(cut) = frame::cut(rest, 4096).unwrap() {
            settled.push(frame::settled(cut.method().unwrap().1).unwrap());
            rest = &rest[cut.whole.len()..];
        }
        settled
    }

    fn groups(every: u32) -> PerfArgs {
        PerfArgs {
            ack_every: Some(every),
            ..PerfArgs::default()
        }
    }

    fn held(hold: usize, random: bool) -> PerfArgs {
        PerfArgs {
            hold_unacked: Some(hold),
            ack_random: random,
            ..PerfArgs::default()
        }
    }

    #[test]
    fn groups_are_acknowledged_by_their_last() {
        assert_eq!(acks(groups(3), 7, false), [(3, true), (6, true)]);
        assert_eq!(acks(groups(3), 7, true), [(3, true), (6, true), (7, true)]);
        assert_eq!(acks(groups(3), 6, true), [(3, true), (6, true)]);
        assert_eq!(acks(groups(1), 2, true), [(1, false), (2, false)]);
    }

    #[test]
    fn held_messages_leave_in_order_or_at_random_but_once() {
        assert_eq!(
            acks(held(2, false), 5, true),
            [(1, false), (2, false), (3, false)]
        );
        assert_eq!(acks(held(0, true), 2, true), [(1, false), (2, false)]);
        let random = acks(held(100, true), 1100, true);
        let tags: BTreeSet<u64> = random.iter().map(|(tag, _)| *tag).collect();
        assert_eq!((random.len(), tags.len()), (1000, 1000));
        assert!(
            random.windows(2).any(|pair| pair[0] > pair[1]),
            "not at random"
        );
    }
}
