//! What arguments and policies come to.

use amq_protocol::types::{AMQPValue, FieldTable};
use serde_json::Value;

use super::Effective;
use super::applied::smaller_limit;
use crate::broker::arguments::{
    self, ConsumerChoice, EXPIRY_MS_MAX, Overflow, QueueArguments, QueueType, delayed_retry, term,
};
use crate::broker::deduplication::{DEDUPLICATION, QueueSettings};
use crate::broker::queue::{DeadLetter, Retry, Settings};
use crate::rate::RateLimits;

/// What a policy says of deduplication: the arguments without their prefix.
const DEDUPLICATION_KEYS: &[&str] = &[
    "message-deduplication",
    "deduplication-header",
    "cache-size",
    "cache-ttl",
    "cache-persistence",
];

/// What holds for a queue with these arguments while these policies do: of numbers the smaller one; a dead letter
/// exchange, its key and the overflow behaviour are the argument's, except that in a quorum queue the policy's overflow
/// behaviour holds (`rabbit_queue_type_util:args_policy_lookup` and its callers).
pub fn queue_settings(arguments: &QueueArguments, policies: &Effective) -> Settings {
    let settings = Settings::from_arguments(arguments);
    if policies.as_map().is_empty() {
        return settings;
    }
    let time = |key| policies.number(key).map(|ms| ms.min(EXPIRY_MS_MAX));
    let delivery_limit = delivery_limit(arguments, policies, &settings);
    let retry = retry(arguments, policies);
    let rates = rates(&settings.rates, policies);
    Settings {
        message_ttl_ms: smaller(settings.message_ttl_ms, time("message-ttl")),
        delay_ms: smaller(settings.delay_ms, time("message-delay")),
        expires_ms: smaller(settings.expires_ms, time("expires")),
        max_length: smaller(settings.max_length, policies.number("max-length")),
        max_length_bytes: smaller(
            settings.max_length_bytes,
            policies.number("max-length-bytes"),
        ),
        overflow: overflow(arguments, policies),
        consumer_choice: consumer_choice(arguments, policies),
        dead_letter: dead_letter(arguments, policies),
        counts_deliveries: settings.counts_deliveries
            || delivery_limit.is_some()
            || retry.is_some(),
        retry,
        delivery_limit,
        rates,
        deduplication: deduplication(arguments, policies),
        consumer_timeout_ms: smaller(
            arguments.consumer_timeout_ms(),
            policies.number("consumer-timeout"),
        )
        .or(settings.consumer_timeout_ms),
        max_age_ms: smaller(settings.max_age_ms, max_age_ms(policies)),
        stream_segment_bytes: smaller(
            settings.stream_segment_bytes,
            policies.number("stream-max-segment-size-bytes"),
        ),
        stream_filter_bytes: smaller(
            settings.stream_filter_bytes.map(u64::from),
            policies.number("stream-filter-size-bytes"),
        )
        .and_then(|bytes| u8::try_from(bytes).ok()),
        ..settings
    }
}

/// The argument's, with all that goes with it, else the policy's.
fn deduplication(arguments: &QueueArguments, policies: &Effective) -> Option<QueueSettings> {
    if arguments.table().contains_key(DEDUPLICATION) {
        return arguments.deduplication().cloned();
    }
    let mut table = FieldTable::default();
    for key in DEDUPLICATION_KEYS {
        let value = match policies.as_map().get(*key) {
            Some(Value::Bool(value)) => AMQPValue::Boolean(*value),
            Some(Value::String(text)) => AMQPValue::LongString(text.as_str().into()),
            Some(Value::Number(number)) => {
                AMQPValue::LongLongInt(number.as_i64().unwrap_or(i64::MAX))
            }
            _ => continue,
        };
        table.insert(format!("x-{key}").into(), value);
    }
    QueueSettings::from_arguments(&table)
}

fn rates(declared: &RateLimits, policies: &Effective) -> RateLimits {
    let rate = |declared, key| smaller(declared, policies.number(key));
    RateLimits {
        max_publish_rate: rate(declared.max_publish_rate, "max-publish-rate"),
        max_publish_bytes_rate: rate(declared.max_publish_bytes_rate, "max-publish-bytes-rate"),
        max_consume_rate: rate(declared.max_consume_rate, "max-consume-rate"),
    }
}

fn max_age_ms(policies: &Effective) -> Option<u64> {
    let age = policies.as_map().get("max-age")?.as_str()?;
    arguments::max_age_ms(age.as_bytes())
}

fn smaller(argument: Option<u64>, policy: Option<u64>) -> Option<u64> {
    match (argument, policy) {
        (Some(argument), Some(policy)) => Some(argument.min(policy)),
        (one, None) | (None, one) => one,
    }
}

fn delivery_limit(
    arguments: &QueueArguments,
    policies: &Effective,
    settings: &Settings,
) -> Option<u32> {
    let Some(policy) = policies.signed("delivery-limit") else {
        return settings.delivery_limit;
    };
    let limit = match arguments.delivery_limit() {
        Some(argument) => smaller_limit(argument, policy),
        // The default of quorum queues is none that somebody asked for.
        None => policy,
    };
    if limit < 0 {
        None
    } else {
        Some(u32::try_from(limit).unwrap_or(u32::MAX))
    }
}

/// The type is the argument's, else the policy's; of the delays the smaller ones hold.
fn retry(arguments: &QueueArguments, policies: &Effective) -> Option<Retry> {
    let mut table = arguments.table();
    if let Some(policy) = policies.text("delayed-retry-type")
        && !table.contains_key("x-delayed-retry-type")
    {
        let value = AMQPValue::LongString(policy.into());
        table.insert("x-delayed-retry-type".into(), value);
    }
    for (key, argument) in [
        ("delayed-retry-min", "x-delayed-retry-min"),
        ("delayed-retry-max", "x-delayed-retry-max"),
    ] {
        let declared = table.inner().get(argument).and_then(term::integer);
        let declared = declared.and_then(|ms| u64::try_from(ms).ok());
        if let Some(ms) = smaller(declared, policies.number(key)) {
            let ms = i64::try_from(ms).unwrap_or(i64::MAX);
            table.insert(argument.into(), AMQPValue::LongLongInt(ms));
        }
    }
    delayed_retry(&table)
}

fn overflow(arguments: &QueueArguments, policies: &Effective) -> Overflow {
    let is_quorum = arguments.queue_type() == QueueType::Quorum;
    let policy = policies
        .text("overflow")
        .and_then(|name| Overflow::from_name(name.as_bytes()));
    match (arguments.declared_overflow(), policy) {
        // Quorum queues do not have it (`rabbit_quorum_queue:overflow`).
        (_, Some(Overflow::RejectPublishDeadLetter)) if is_quorum => Overflow::DropHead,
        (_, Some(policy)) if is_quorum => policy,
        (Some(argument), _) => argument,
        (None, policy) => policy.unwrap_or_default(),
    }
}

/// The argument's, else the policy's.
fn consumer_choice(arguments: &QueueArguments, policies: &Effective) -> ConsumerChoice {
    let of_policy = || {
        let name = policies.text("consumer-choice")?;
        ConsumerChoice::from_name(name.as_bytes())
    };
    let choice = arguments.consumer_choice().or_else(of_policy);
    choice.unwrap_or_default()
}

/// Exchange and key are looked for one by one: a policy can give the key to the exchange of the argument.
fn dead_letter(arguments: &QueueArguments, policies: &Effective) -> Option<DeadLetter> {
    let exchange = arguments
        .dead_letter_exchange()
        .or_else(|| policies.text("dead-letter-exchange"))?;
    let routing_key = arguments
        .dead_letter_routing_key()
        .or_else(|| policies.text("dead-letter-routing-key"));
    Some(DeadLetter {
        exchange: exchange.into(),
        routing_key: routing_key.map(Into::into),
    })
}

#[cfg(test)]
mod tests;
