//! The queues of a run and how they are joined: chosen once, so that they can be declared again.

use amq_protocol::types::{AMQPValue, FieldTable};

use super::chance::Chance;
use super::message::{GROUP, TOKEN};
use super::odds::Odds;

/// A fanout exchange.
pub(super) const ALL: &str = "all";
/// A fanout exchange for dead letters.
pub(super) const GRAVES: &str = "graves";
/// An exchange that delays; each queue is bound by its name.
pub(super) const LATER: &str = "later";
/// An exchange that deduplicates; each queue is bound by its name.
pub(super) const ONCE: &str = "once";

/// How long [`ONCE`] remembers, in ms.
pub(super) const REMEMBERED_MS: u64 = 700;

pub(super) struct QueuePlan {
    pub(super) name: String,
    pub(super) durable: bool,
    /// Goes with its last consumer.
    pub(super) auto_delete: bool,
    /// Goes with its connection.
    pub(super) is_exclusive: bool,
    pub(super) arguments: FieldTable,
    /// The exchanges that it is bound to.
    pub(super) bound_to: Vec<&'static str>,
}

/// Draws the queues of a run.
pub(super) fn draw(chance: &mut Chance, odds: &Odds) -> Vec<QueuePlan> {
    let count = chance.between(3, 6) as usize;
    let names: Vec<String> = (0..count).map(|number| format!("q{number}")).collect();
    let mut plans: Vec<QueuePlan> = (0..count)
        .map(|at| draw_queue(chance, odds, &names, at))
        .collect();
    thin_out_graves(&mut plans);
    plans
}

/// A dead letter may go to several queues where that is the end of it: otherwise each rejection would multiply a message.
fn thin_out_graves(plans: &mut [QueuePlan]) {
    let is_grave = |plan: &&mut QueuePlan| plan.bound_to.contains(&GRAVES);
    let dead_letters = |plan: &QueuePlan| {
        let arguments = plan.arguments.inner();
        arguments.contains_key("x-dead-letter-exchange")
    };
    let has_end = plans
        .iter()
        .any(|plan| plan.bound_to.contains(&GRAVES) && !dead_letters(plan));
    let mut kept = 0;
    for plan in plans.iter_mut().filter(is_grave) {
        let stays = if has_end {
            !dead_letters(plan)
        } else {
            kept == 0
        };
        if stays {
            kept += 1;
        } else {
            plan.bound_to.retain(|exchange| *exchange != GRAVES);
        }
    }
}

fn draw_queue(chance: &mut Chance, odds: &Odds, names: &[String], at: usize) -> QueuePlan {
    let is_quorum = chance.percent(15);
    let mut bound_to = vec![LATER, ONCE];
    for (exchange, percent) in [(ALL, 60), (GRAVES, 30)] {
        if chance.percent(percent) {
            bound_to.push(exchange);
        }
    }
    let arguments = draw_arguments(chance, odds, names, is_quorum);
    let is_exclusive = !is_quorum && chance.percent(odds.exclusive);
    QueuePlan {
        name: names[at].clone(),
        durable: is_quorum || (!is_exclusive && chance.percent(85)),
        auto_delete: !is_quorum && chance.percent(odds.auto_delete),
        is_exclusive,
        arguments,
        bound_to,
    }
}

/// Arguments that a queue could have instead.
pub(super) fn other_arguments(
    chance: &mut Chance,
    odds: &Odds,
    names: &[String],
    plan: &QueuePlan,
    graves: usize,
) -> FieldTable {
    let is_quorum = plan.arguments.inner().contains_key("x-queue-type");
    let mut arguments = draw_arguments(chance, odds, names, is_quorum);
    // Where dead letters go to several queues that is the end of them.
    let exchange = arguments.inner().get("x-dead-letter-exchange");
    let is_to_all = exchange == Some(&AMQPValue::LongString(GRAVES.into()));
    let is_grave = plan.bound_to.contains(&GRAVES);
    if graves > 1 && (is_to_all || is_grave) {
        let kept = arguments.inner().iter();
        let kept = kept.filter(|(name, _)| !name.as_str().starts_with("x-dead-letter"));
        let kept: std::collections::BTreeMap<_, _> = kept
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        arguments = kept.into();
        // An overflow that says so needs somewhere to go, or not: both may be.
    }
    arguments
}

fn draw_arguments(
    chance: &mut Chance,
    odds: &Odds,
    names: &[String],
    is_quorum: bool,
) -> FieldTable {
    let mut table = FieldTable::default();
    let mut put = |name: &str, value| {
        table.insert(name.into(), value);
    };
    let number = |number: u64| AMQPValue::LongLongInt(number as i64);
    let text = |text: &str| AMQPValue::LongString(text.into());
    if is_quorum {
        put("x-queue-type", text("quorum"));
    } else if chance.percent(odds.priorities) {
        put("x-max-priority", number(3));
    }
    match chance.below(10) {
        0..4 => {
            put("x-dead-letter-exchange", text(""));
            let target = &names[chance.below(names.len())];
            put("x-dead-letter-routing-key", text(target));
        }
        4..6 => put("x-dead-letter-exchange", text(GRAVES)),
        6 => {
            let exchanges = [ONCE, LATER];
            put("x-dead-letter-exchange", text(exchanges[chance.below(2)]));
            let target = &names[chance.below(names.len())];
            put("x-dead-letter-routing-key", text(target));
        }
        _ => {}
    }
    if chance.percent(odds.ttl) {
        put("x-message-ttl", number(chance.between(0, 400)));
    }
    if chance.percent(odds.limit) {
        match chance.below(2) {
            0 => put("x-max-length-bytes", number(chance.between(0, 4_000))),
            _ => put("x-max-length", number(chance.between(0, 12))),
        }
        let overflows = ["drop-head", "reject-publish", "reject-publish-dlx"];
        let choices = if is_quorum {
            &overflows[..2]
        } else {
            &overflows
        };
        if let Some(overflow) = chance.one_of(choices) {
            put("x-overflow", text(overflow));
        }
    }
    if chance.percent(odds.delivery_limit) {
        put("x-delivery-limit", number(chance.between(0, 3)));
    }
    if chance.percent(odds.retry) {
        let types = ["all", "failed", "returned"];
        put("x-delayed-retry-type", text(types[chance.below(3)]));
        put("x-delayed-retry-min", number(chance.between(20, 100)));
        put("x-delayed-retry-max", number(300));
    }
    if chance.percent(odds.consumer_timeout) {
        put("x-consumer-timeout", number(chance.between(40, 300)));
    }
    if chance.percent(odds.expires) {
        put("x-expires", number(chance.between(200, 1_000)));
    }
    if chance.percent(odds.single_active) {
        put("x-single-active-consumer", AMQPValue::Boolean(true));
    }
    if chance.percent(odds.least_loaded) {
        put("x-consumer-choice", text("least-loaded"));
    }
    if chance.percent(odds.group) {
        let headers = [GROUP, GROUP, TOKEN];
        put("x-message-group", text(headers[chance.below(3)]));
    }
    if chance.percent(odds.deduplication) {
        put("x-message-deduplication", AMQPValue::Boolean(true));
        let kind = chance.below(4);
        if kind == 1 || kind == 3 {
            put("x-cache-ttl", number(chance.between(50, 600)));
        }
        if kind >= 2 {
            put("x-cache-size", number(chance.between(1, 8)));
        }
    }
    if chance.percent(odds.delay) {
        let delays = [0, 10, 80, 200];
        put("x-message-delay", number(delays[chance.below(4)]));
    }
    if chance.percent(odds.rate) {
        put("x-max-consume-rate", number(chance.between(0, 30)));
    }
    table
}
