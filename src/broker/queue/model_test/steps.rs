//! What happens to a queue: random steps, and settings for it.

use amq_protocol::types::{AMQPValue, FieldTable};
use proptest::prelude::*;

use super::world::{GETTER, World};
use crate::broker::arguments::{ConsumerChoice, Overflow};
use crate::broker::deduplication::QueueSettings;
use crate::broker::queue::settings::{DeadLetter, Settings};
use crate::broker::queue::state::Return;
use crate::message::field;

/// What the headers of a message say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Labels {
    pub(super) group: Option<u8>,
    pub(super) id: Option<u8>,
}

/// Encoded properties: none, or headers.
pub(super) fn properties(labels: Labels) -> Vec<u8> {
    let mut table = Vec::new();
    let headers = [
        (&b"group"[..], labels.group),
        (b"x-deduplication-header", labels.id),
    ];
    for (name, value) in headers {
        if let Some(value) = value {
            field::put_name(&mut table, name);
            field::put_long(&mut table, value.into());
        }
    }
    if table.is_empty() {
        return vec![0, 0];
    }
    let mut properties = vec![0x20, 0];
    properties.extend((table.len() as u32).to_be_bytes());
    properties.extend(table);
    properties
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Finish {
    Ack,
    Discard,
    Requeue(Return),
}

#[derive(Debug, Clone)]
pub(super) enum Step {
    Append {
        count: u8,
        size: usize,
        priority: u8,
        ttl_ms: Option<u64>,
        labels: Labels,
    },
    Consume {
        no_ack: bool,
        prefetch: u32,
        priority: i32,
    },
    Cancel(usize),
    Refuse(usize, bool),
    Get(bool),
    Finish {
        holder: usize,
        every: usize,
        how: Finish,
    },
    Tick(u64),
    Bury(usize),
    Evict,
    Purge,
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let ttl = prop_oneof![3 => Just(None), 3 => (0u64..300).prop_map(Some)];
    let group = prop_oneof![1 => Just(None), 4 => (0u8..4).prop_map(Some)];
    let id = prop_oneof![2 => Just(None), 3 => (0u8..12).prop_map(Some)];
    let labels = (group, id).prop_map(|(group, id)| Labels { group, id });
    let how = prop_oneof![
        Just(Finish::Ack),
        Just(Finish::Discard),
        Just(Finish::Requeue(Return::Released)),
        Just(Finish::Requeue(Return::Failed)),
    ];
    prop_oneof![
        6 => (1u8..20, prop_oneof![Just(10usize), Just(3_000)], 0u8..6, ttl, labels).prop_map(
            |(count, size, priority, ttl_ms, labels)| Step::Append { count, size, priority, ttl_ms, labels }
        ),
        2 => (any::<bool>(), 0u32..8, -1i32..2)
            .prop_map(|(no_ack, prefetch, priority)| Step::Consume { no_ack, prefetch, priority }),
        1 => (0usize..4).prop_map(Step::Cancel),
        1 => (0usize..4, any::<bool>()).prop_map(|(holder, refuses)| Step::Refuse(holder, refuses)),
        2 => any::<bool>().prop_map(Step::Get),
        5 => (0usize..5, 1usize..4, how)
            .prop_map(|(holder, every, how)| Step::Finish { holder, every, how }),
        3 => (1u64..200).prop_map(Step::Tick),
        2 => (1usize..40).prop_map(Step::Bury),
        2 => Just(Step::Evict),
        1 => Just(Step::Purge),
    ]
}

pub(super) fn settings() -> impl Strategy<Value = Settings> {
    let overflow = prop_oneof![
        2 => Just(Overflow::DropHead),
        1 => Just(Overflow::RejectPublish),
        1 => Just(Overflow::RejectPublishDeadLetter),
    ];
    let switches = (
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
    );
    let limits = (
        prop::option::of(0u64..400),
        prop::option::weighted(0.4, 0u64..60),
        prop::option::weighted(0.2, 0u64..20_000),
        prop::option::of(0u32..3),
        overflow,
    );
    let choice = prop_oneof![
        Just(ConsumerChoice::RoundRobin),
        Just(ConsumerChoice::LeastLoaded)
    ];
    let deduplication = prop_oneof![2 => Just(None), 1 => Just(Some(false)), 1 => Just(Some(true))];
    (switches, limits, choice, deduplication).prop_map(
        |(switches, limits, consumer_choice, is_cache)| {
            let (has_dead_letter, has_priorities, is_single, in_order, has_groups) = switches;
            let (message_ttl_ms, max_length, max_length_bytes, delivery_limit, overflow) = limits;
            Settings {
                message_ttl_ms,
                max_length,
                max_length_bytes,
                overflow,
                delivery_limit,
                dead_letter: has_dead_letter.then(|| DeadLetter {
                    exchange: "".into(),
                    routing_key: None,
                }),
                max_priority: if has_priorities { 3 } else { 0 },
                single_active_consumer: is_single,
                consumer_choice,
                returns_in_order: in_order,
                counts_deliveries: delivery_limit.is_some(),
                message_group: has_groups.then(|| "group".into()),
                deduplication: is_cache.and_then(rules),
                ..Settings::default()
            }
        },
    )
}

pub(super) const CACHE_SIZE: usize = 7;
pub(super) const CACHE_TTL_MS: u64 = 400;

pub(super) fn rules(is_cache: bool) -> Option<QueueSettings> {
    let mut arguments = FieldTable::default();
    arguments.insert("x-message-deduplication".into(), AMQPValue::Boolean(true));
    if is_cache {
        let size = AMQPValue::LongInt(CACHE_SIZE as i32);
        arguments.insert("x-cache-size".into(), size);
        let ttl_ms = AMQPValue::LongInt(CACHE_TTL_MS as i32);
        arguments.insert("x-cache-ttl".into(), ttl_ms);
    }
    QueueSettings::from_arguments(&arguments)
}

pub(super) fn run(world: &mut World, step: Step) {
    match step {
        Step::Append {
            count,
            size,
            priority,
            ttl_ms,
            labels: Labels { group, id },
        } => {
            // Without the setting the header means nothing.
            let group = group.filter(|_| world.settings.message_group.is_some());
            for number in 0..count {
                let id = id.map(|id| (id + number) % 12);
                world.append(size, priority, ttl_ms, Labels { group, id });
            }
        }
        Step::Consume {
            no_ack,
            prefetch,
            priority,
        } => world.consume(no_ack, prefetch, priority),
        Step::Cancel(holder) => world.cancel(holder),
        Step::Refuse(holder, refuses) => world.refuse(holder, refuses),
        Step::Get(no_ack) => world.get(no_ack),
        Step::Finish { holder, every, how } => {
            world.finish(if holder == 4 { GETTER } else { holder }, every, how);
        }
        Step::Tick(ms) => {
            world.now_ms += ms;
        }
        Step::Bury(count) => world.bury(count),
        Step::Evict => world.evict(),
        Step::Purge => world.purge(),
    }
}
