//! Message groups: messages with the same value of a header are delivered in order and one at a time, while different
//! groups go to different consumers in parallel.
//!
//! A group is **busy** while one of its messages is with a consumer. Dispatch sets its further messages aside when it
//! comes to them (they are `blocked`, see `Lane::block`), at most [`BLOCKED_MAX`] in all: so far it looks ahead past
//! busy groups. When the group is idle again the first of those is **released**: it is ready, at its place.
//!
//! The order within a group is that of the queue ([`Place`]): by precedence, then what came back to a queue that
//! returns in order, then by arrival.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::lane::lane_of;
use crate::message::Seq;
use crate::message::properties::{Properties, header};
use crate::message::record::RecordRef;

/// How many messages of busy groups dispatch passes over. Named in docs/message-groups.md.
pub(super) const BLOCKED_MAX: usize = 10_000;

/// Where a message stands in its queue: the smaller goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    lane: Reverse<u16>,
    turn: i64,
    seq: Seq,
}

impl Place {
    /// `turn`: of a message that came back to a queue that returns in order.
    pub(super) fn new(seq: Seq, turn: Option<i64>) -> Self {
        Self {
            lane: Reverse(lane_of(seq)),
            turn: turn.unwrap_or(i64::MAX),
            seq,
        }
    }
}

/// Whether a message may go now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission<'a> {
    /// Yes: tell [`Groups::granted`] if it does. With its group, if it has one.
    Granted(Option<&'a [u8]>),
    /// Later: it is set aside.
    Blocked,
    /// Too many are set aside already.
    Full,
}

#[derive(Debug, Default)]
struct Group {
    /// With a consumer.
    busy_with: Option<Seq>,
    /// Ready, and in line for their turn.
    released: BTreeSet<Place>,
    blocked: BTreeSet<Place>,
}

impl Group {
    /// What is to be released of an idle group: the first one, unless that is ready already.
    fn next(&mut self) -> Option<Place> {
        let next = *self.blocked.first()?;
        let is_next =
            self.busy_with.is_none() && self.released.first().is_none_or(|first| next < *first);
        is_next.then(|| {
            self.blocked.remove(&next);
            self.released.insert(next);
            next
        })
    }

    fn is_idle(&self) -> bool {
        self.busy_with.is_none() && self.released.is_empty() && self.blocked.is_empty()
    }
}

/// What the group of a message knows it as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Busy,
    Released(Place),
    Blocked(Place),
}

/// The groups of a queue that have something in flight.
#[derive(Debug)]
pub(super) struct Groups {
    header: Arc<str>,
    groups: HashMap<Box<[u8]>, Group>,
    /// The messages that groups know.
    members: HashMap<Seq, (Box<[u8]>, Role)>,
    blocked: usize,
}

impl Groups {
    pub(super) fn new(header: Arc<str>) -> Self {
        Self {
            header,
            groups: HashMap::new(),
            members: HashMap::new(),
            blocked: 0,
        }
    }

    /// Asks for a message whose turn it is. One without a group always may go.
    pub(super) fn admit<'a>(&mut self, record: RecordRef<'a>, place: Place) -> Admission<'a> {
        let Some(key) = group_key(record, &self.header) else {
            return Admission::Granted(None);
        };
        let Some(group) = self.groups.get_mut(key) else {
            return Admission::Granted(Some(key));
        };
        // Of an idle group the one before those that are set aside is ready, unless it has expired a moment ago.
        let is_overtaking = group.blocked.first().is_some_and(|first| *first < place);
        if group.busy_with.is_none() && !is_overtaking {
            return Admission::Granted(Some(key));
        }
        if self.blocked >= BLOCKED_MAX {
            return Admission::Full;
        }
        self.blocked += 1;
        group.released.remove(&place);
        group.blocked.insert(place);
        self.members
            .insert(place.seq, (key.into(), Role::Blocked(place)));
        Admission::Blocked
    }

    /// The message goes: its group is busy with it.
    pub(super) fn granted(&mut self, key: &[u8], place: Place) {
        if !self.groups.contains_key(key) {
            self.groups.insert(key.into(), Group::default());
        }
        if let Some(group) = self.groups.get_mut(key) {
            group.released.remove(&place);
            group.busy_with = Some(place.seq);
        }
        self.members.insert(place.seq, (key.into(), Role::Busy));
    }

    /// A message that was with a consumer is ready again, at `place`. Answers one that is to be released because it
    /// stands before it.
    pub(super) fn came_back(&mut self, place: Place) -> Option<Seq> {
        let (key, role) = self.members.get_mut(&place.seq)?;
        let group = self.groups.get_mut(key)?;
        if *role != Role::Busy {
            return None;
        }
        *role = Role::Released(place);
        group.busy_with = None;
        group.released.insert(place);
        let next = group.next();
        self.release(next)
    }

    /// A message is gone. Answers the one of its group that is to be released.
    pub(super) fn finished(&mut self, seq: Seq) -> Option<Seq> {
        let (key, role) = self.members.remove(&seq)?;
        let group = self.groups.get_mut(&key)?;
        match role {
            Role::Busy => group.busy_with = None,
            Role::Released(place) => drop(group.released.remove(&place)),
            Role::Blocked(place) => {
                self.blocked -= usize::from(group.blocked.remove(&place));
            }
        }
        let next = group.next();
        if group.is_idle() {
            self.groups.remove(&key);
        }
        self.release(next)
    }

    fn release(&mut self, next: Option<Place>) -> Option<Seq> {
        let place = next?;
        self.blocked -= 1;
        if let Some((_, role)) = self.members.get_mut(&place.seq) {
            *role = Role::Released(place);
        }
        Some(place.seq)
    }

    /// Forgets messages that are gone, of which none makes room for another: the queue was purged.
    pub(super) fn retain(&mut self, is_there: impl Fn(Seq) -> bool) {
        let gone: Vec<Seq> = self.members.keys().copied().collect();
        for seq in gone.into_iter().filter(|seq| !is_there(*seq)) {
            self.finished(seq);
        }
    }
}

/// The encoded value of the header, with its type: the number 1 and the text "1" are different groups.
fn group_key<'a>(record: RecordRef<'a>, name: &str) -> Option<&'a [u8]> {
    let headers = Properties::read(record.properties()).ok()?.headers?;
    header(headers, name.as_bytes())
}
