//! What may happen to a stream and its readers.

use serde_json::json;

use super::super::clients::Clients;
use super::super::ledger::{Checked, promise, violated};
use super::super::message::Labels;
use super::book::{Message, Reader};
use super::{TAGS, World};
use crate::broker::policy::{Policy, PolicyKind};
use crate::broker::queue::{Filter, Published, ReaderSpec, StartAt};
use crate::message::BODY_SHARED_BYTES_MIN;
use crate::message::record::{Body, NewMessage, SharedBody};

const READERS_MAX: usize = 5;

const POLICY: &str = "policy";

const VALUES: [&str; 3] = ["a", "b", "c"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    // Clients.
    Publish,
    Attach,
    Activate,
    Cancel,
    Drain,
    Settle,
    GoOn,
    PauseOrResume,
    SetPolicy,
    ClearPolicy,
    // What the broker's threads do.
    Timers,
    Load,
    Relieve,
    Store,
    Upkeep,
    Flush,
    // The world.
    TimePasses,
    LosePower,
    Restart,
}

impl Step {
    pub(super) const CHOICES: &[(usize, Self)] = &[
        (60, Self::Publish),
        (15, Self::Attach),
        (15, Self::Activate),
        (6, Self::Cancel),
        (30, Self::Drain),
        (60, Self::Settle),
        (60, Self::GoOn),
        (4, Self::PauseOrResume),
        (2, Self::SetPolicy),
        (2, Self::ClearPolicy),
        (20, Self::Timers),
        (40, Self::Load),
        (10, Self::Relieve),
        (150, Self::Store),
        (3, Self::Upkeep),
        (2, Self::Flush),
        (30, Self::TimePasses),
        (4, Self::LosePower),
        (2, Self::Restart),
    ];

    /// What is left to do when no client does anything but to read.
    pub(super) const OF_THREADS: &[Self] = &[
        Self::Timers,
        Self::Load,
        Self::GoOn,
        Self::Relieve,
        Self::Store,
    ];
}

impl World {
    /// Does it. True: there was something to do.
    pub(super) fn take(&mut self, step: Step) -> Checked<bool> {
        match step {
            Step::Publish => self.publish(),
            Step::Attach => self.attach(),
            Step::Activate => Ok(self.activate()),
            Step::Cancel => Ok(self.cancel()),
            Step::Drain => Ok(self.drain()),
            Step::Settle => Ok(self.settle()),
            Step::GoOn => Ok(self.go_on()),
            Step::PauseOrResume => {
                self.pause(!self.stream().is_paused());
                Ok(true)
            }
            Step::SetPolicy => Ok(self.set_policy()),
            Step::ClearPolicy => {
                let cleared = self.machine().vhost.delete_policy(PolicyKind::User, POLICY);
                Ok(cleared.is_ok())
            }
            Step::Timers => Ok(self.machine().call_due() > 0),
            Step::Load => {
                let machine = self.machine.as_ref().expect("it is running");
                Ok(machine.load_step(&mut self.chance))
            }
            Step::Relieve => {
                self.machine().relieve();
                Ok(false)
            }
            Step::Store => Ok(self.store_step()),
            Step::Upkeep => {
                self.machine.as_mut().expect("it is running").store.upkeep();
                Ok(false)
            }
            Step::Flush => {
                if self.disk.is_durable(self.folder.path()) {
                    self.machine().store.flush();
                    self.disk.log_changed(self.folder.path());
                }
                Ok(false)
            }
            Step::TimePasses => {
                self.clock.advance(self.chance.between(1, 200));
                Ok(true)
            }
            Step::LosePower => self.lose_power().map(|()| true),
            Step::Restart => {
                self.restart();
                Ok(true)
            }
        }
    }

    fn publish(&mut self) -> Checked<bool> {
        let stream = self.stream();
        let machine = self.machine.as_ref().expect("it is running");
        let visit = machine.visit();
        for _ in 0..self.chance.between(1, 6) {
            self.book.last_number += 1;
            let number = self.book.last_number;
            let labels = Labels {
                number,
                persistent: self.chance.percent(50),
                value: (self.chance.percent(60)).then(|| VALUES[self.chance.below(3)]),
                body_bytes: match self.chance.below(30) {
                    0 => 20_000,
                    1..4 => 1_500,
                    bytes => bytes * 7,
                },
                ..Labels::default()
            };
            let (properties, body) = (labels.properties(), labels.body());
            let body = match body.len() >= BODY_SHARED_BYTES_MIN {
                true => Body::Shared(SharedBody {
                    id: 0,
                    bytes: body.clone().into(),
                }),
                false => Body::Inline(&body),
            };
            let message = NewMessage {
                properties: &properties,
                persistent: labels.persistent,
                body,
                ..crate::broker::testing::message("", "s")
            };
            let published = stream.publish(&visit, std::iter::once(&message));
            let Published::Accepted { ticket, .. } = published else {
                violated!("the stream is gone");
            };
            promise!(ticket == visit.ticket(), "{number} is confirmed too early");
            self.book.messages.push(Message {
                number,
                arrival_ms: visit.now_ms(),
                value: labels.value,
                epoch: visit.epoch(),
            });
        }
        Ok(true)
    }

    fn attach(&mut self) -> Checked<bool> {
        if self.readers.len() >= READERS_MAX {
            return Ok(false);
        }
        let taken: Vec<_> = self.readers.values().filter_map(|one| one.tag).collect();
        let free: Vec<_> = TAGS
            .into_iter()
            .filter(|tag| !taken.contains(tag))
            .collect();
        let tag = match self.chance.percent(40) {
            true => self.chance.one_of(&free).copied(),
            false => None,
        };
        let wants = match tag {
            Some("all") => None,
            Some(_) => Some((vec!["a"], false)),
            None if self.chance.percent(50) => {
                let values = VALUES.into_iter().filter(|_| self.chance.percent(40));
                let values: Vec<_> = values.collect();
                Some((values, self.chance.percent(30)))
            }
            None => None,
        };
        let now_ms = self.now_ms();
        let (first, end) = (self.book.first, self.book.count());
        let chance = &mut self.chance;
        let time_ms = now_ms - chance.between(0, 1_500);
        let (mut start, mut next, mut since_ms) = match chance.below(6) {
            0 => (StartAt::First, first, 0),
            1 => (StartAt::Last, end.saturating_sub(1).max(first), 0),
            2 => (StartAt::Next, end, 0),
            3 => {
                let offset = chance.between(0, end + 5);
                (StartAt::Offset(offset), offset, 0)
            }
            4 => (StartAt::Time(time_ms), 0, time_ms),
            _ => (StartAt::Age(now_ms - time_ms), 0, time_ms),
        };
        let mut candidates = Vec::new();
        if let Some(tag) = tag {
            (start, next, since_ms) = (StartAt::First, first, 0);
            match self.positions.get(tag) {
                Some(position) => next = *position,
                // What the disk remembers of it nobody knows.
                None => candidates.extend(self.ever.get(tag).into_iter().flatten()),
            }
        }
        candidates.push(next);
        if let Some(tag) = tag {
            // It is remembered from where it begins.
            self.ever.entry(tag).or_default().insert(next);
            if candidates.len() == 1 {
                self.positions.insert(tag, next);
            }
        }
        let prefetch = self.chance.between(1, 6) as u32;
        let room = self.chance.below(10);
        let stream = self.stream();
        let outbox = self.clients.outbox(stream.spec.id, true, room);
        let filter = wants.as_ref().map(|(values, others): &(Vec<&str>, bool)| {
            let values = values.iter().map(|value| value.as_bytes().to_vec());
            Filter::new(values, *others)
        });
        let spec = ReaderSpec {
            sink: outbox.clone(),
            prefetch,
            start,
            filter,
            track: tag.map(Into::into),
        };
        let attached = stream.attach(&self.machine().visit(), spec);
        let Ok(id) = attached else {
            violated!("nobody may read: {attached:?}");
        };
        let reader = Reader {
            id,
            outbox: outbox.clone(),
            prefetch,
            has_begun: false,
            wants,
            since_ms,
            tag,
            next: candidates,
            held: Default::default(),
        };
        self.readers.insert(Clients::number_of(&outbox), reader);
        Ok(true)
    }

    fn any_reader(&mut self) -> Option<usize> {
        let numbers: Vec<usize> = self.readers.keys().copied().collect();
        self.chance.one_of(&numbers).copied()
    }

    fn activate(&mut self) -> bool {
        let waiting = self.readers.values_mut().find(|one| !one.has_begun);
        let Some(reader) = waiting else { return false };
        reader.has_begun = true;
        let id = reader.id;
        let stream = self.stream();
        stream.activate(&self.machine().visit(), id);
        true
    }

    fn cancel(&mut self) -> bool {
        let Some(number) = self.any_reader() else {
            return false;
        };
        let reader = self.readers.remove(&number).expect("it is there");
        self.stream().cancel(&self.machine().visit(), reader.id);
        true
    }

    /// An outbox is written to its socket.
    fn drain(&mut self) -> bool {
        let Some(number) = self.any_reader() else {
            return false;
        };
        let room = self.chance.between(1, 8) as usize;
        let outbox = self.readers[&number].outbox.clone();
        if outbox.drain(room) {
            self.resume(number);
        }
        true
    }

    fn settle(&mut self) -> bool {
        let Some(number) = self.any_reader() else {
            return false;
        };
        let reader = self.readers.get_mut(&number).expect("it is there");
        let held: Vec<u64> = reader.held.iter().copied().collect();
        if held.is_empty() {
            return false;
        }
        let count = self.chance.between(1, held.len() as u64) as usize;
        let from = self.chance.below(held.len() - count + 1);
        let seqs: Vec<u64> = held[from..from + count].iter().map(|at| at + 1).collect();
        for offset in &held[from..from + count] {
            reader.held.remove(offset);
        }
        let position = reader.held.first().copied().unwrap_or(reader.next[0]);
        if let Some(tag) = reader.tag {
            self.positions.insert(tag, position);
            self.ever.entry(tag).or_default().insert(position);
        }
        let id = reader.id;
        let stream = self.stream();
        stream.settle(&self.machine().visit(), id, &seqs);
        true
    }

    pub(super) fn pause(&self, paused: bool) {
        let done = self.machine().vhost.pause_queue("s", paused);
        done.unwrap_or_else(|error| panic!("{error}"));
    }

    /// The stream keeps less than before, or something else.
    fn set_policy(&mut self) -> bool {
        let definition = match self.chance.percent(50) {
            true => {
                self.has_max_bytes = true;
                json!({ "max-length-bytes": self.chance.between(1_000, 30_000) })
            }
            false => {
                self.max_age_ms = Some(1_000);
                json!({ "max-age": "1s" })
            }
        };
        let source = json!({ "pattern": "", "definition": definition, "apply-to": "streams" });
        let source = source.as_object().expect("it is one");
        let policy = Policy::parse(PolicyKind::User, POLICY, source);
        let policy = policy.unwrap_or_else(|refused| panic!("{refused}"));
        let set = self.machine().vhost.set_policy(PolicyKind::User, policy);
        set.unwrap_or_else(|error| panic!("{error}"));
        true
    }

    /// Connections come to those that were woken.
    fn go_on(&self) -> bool {
        let woken = self.readers.iter();
        let woken: Vec<usize> = woken
            .filter(|(_, reader)| reader.outbox.take_wake())
            .map(|(number, _)| *number)
            .collect();
        for number in &woken {
            self.resume(*number);
        }
        !woken.is_empty()
    }

    fn resume(&self, number: usize) {
        let id = self.readers[&number].id;
        let stream = self.stream();
        while stream.resume(&self.machine().visit(), id) {}
    }
}
