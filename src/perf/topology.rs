//! Queues, exchange and bindings of a run: their names, and their making and removal.

use amq_protocol::protocol::{AMQPClass, exchange, queue};
use amq_protocol::types::{FieldTable, ShortString};

use super::args::PerfArgs;
use super::client::Client;
use super::error::PerfError;
use super::settings::{refuse, short, table};

const QUEUES_MAX: usize = 1 << 20;
const BINDINGS_MAX: usize = 10 << 20;

/// What a run publishes to and consumes from.
#[derive(Clone, Debug)]
pub(super) struct Topology {
    pub(super) queues: Vec<ShortString>,
    /// `None` publishes to the default exchange.
    exchange: Option<Exchange>,
    routing_key: String,
    binding_key: String,
    bindings: usize,
    queue_arguments: FieldTable,
    binding_arguments: FieldTable,
    durable: bool,
    predeclared: bool,
    purge: bool,
    keep: bool,
    /// Bindings made and removed per second by a connection of its own.
    pub(super) churn: Option<f64>,
}

#[derive(Clone, Debug)]
struct Exchange {
    name: ShortString,
    kind: ShortString,
    arguments: FieldTable,
}

impl Exchange {
    /// The broker's own exchanges can neither be declared anew nor deleted.
    fn built_in(&self) -> bool {
        self.name.as_str().starts_with("amq.")
    }
}

/// How often the broker delivers one message, as far as the options tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copies {
    /// Once, from one of the queues.
    One,
    /// Once from each queue.
    EachQueue,
    /// The exchange's rules decide.
    Unknown,
}

impl Topology {
    pub(super) fn new(args: &PerfArgs) -> Result<Self, PerfError> {
        let queues = queue_names(args)?;
        let exchange = exchange(args)?;
        let bindings = args.bindings.unwrap_or(1);
        if bindings == 0 || bindings.saturating_mul(queues.len()) > BINDINGS_MAX {
            return refuse(format!("between 1 and {BINDINGS_MAX} bindings"));
        }
        if exchange.is_none() && (bindings > 1 || args.binding_churn.is_some()) {
            return refuse("bindings need an exchange: --exchange or --exchange-type");
        }
        let mut routing_key = args.routing_key.clone().unwrap_or_else(|| "%q".into());
        let mut binding_key = args
            .binding_key
            .clone()
            .unwrap_or_else(|| routing_key.clone());
        for key in [&mut routing_key, &mut binding_key] {
            if bindings > 1 && !key.contains("%b") {
                key.push_str(".%b");
            }
        }
        Ok(Self {
            queues,
            exchange,
            routing_key,
            binding_key,
            bindings,
            queue_arguments: table(&args.queue_arg)?,
            binding_arguments: table(&args.binding_arg)?,
            durable: args.durable,
            predeclared: args.predeclared,
            purge: args.purge,
            keep: args.keep || args.predeclared,
            churn: args.binding_churn,
        })
    }

    /// Name of the exchange to publish to, empty for the default exchange.
    pub(super) fn exchange_name(&self) -> &str {
        self.exchange
            .as_ref()
            .map_or("", |exchange| exchange.name.as_str())
    }

    fn fanout(&self) -> bool {
        self.exchange
            .as_ref()
            .is_some_and(|exchange| exchange.kind.as_str() == "fanout")
    }

    /// The routing keys of publisher number `publisher` of `publishers`, to be used in turn.
    pub(super) fn routing_keys(
        &self,
        publisher: usize,
        publishers: usize,
    ) -> Result<Vec<ShortString>, PerfError> {
        if self.fanout() {
            return Ok(vec![self.key(&self.routing_key, 0, 0)?]);
        }
        let mut keys = Vec::new();
        for queue in share(publisher, publishers, self.queues.len()) {
            if self.exchange.is_none() {
                keys.push(self.queues[queue].clone());
            } else {
                for binding in 0..self.bindings {
                    keys.push(self.key(&self.routing_key, queue, binding)?);
                }
            }
        }
        keys.dedup();
        Ok(keys)
    }

    /// How many copies of each message arrive at consumers.
    pub(super) fn copies(&self) -> Copies {
        let kind = self
            .exchange
            .as_ref()
            .map(|exchange| exchange.kind.as_str());
        let wild = |name: &str| name.contains(['*', '#']);
        // Without wildcards a topic exchange routes as a direct one.
        let kind = match kind {
            Some("topic") if !wild(&self.binding_key) && !wild(self.queues[0].as_str()) => {
                Some("direct")
            }
            kind => kind,
        };
        let plain = self.routing_key == self.binding_key && !self.predeclared;
        let own_key = self.routing_key.contains("%d") || self.routing_key.contains("%q");
        match kind {
            None => Copies::One,
            _ if self.queues.len() == 1 && (plain || kind == Some("fanout")) => Copies::One,
            Some("fanout") => Copies::EachQueue,
            Some("direct") if plain && own_key => Copies::One,
            Some("direct") if plain => Copies::EachQueue,
            Some(_) => Copies::Unknown,
        }
    }

    /// `pattern` with the numbers of a queue and a binding in it, both shown from 1.
    fn key(&self, pattern: &str, queue: usize, binding: usize) -> Result<ShortString, PerfError> {
        let key = pattern
            .replace("%q", self.queues[queue].as_str())
            .replace("%d", &(queue + 1).to_string())
            .replace("%b", &(binding + 1).to_string());
        short(key)
    }

    /// Declares, binds and purges what the options ask for.
    pub(super) fn declare(&self, client: &mut Client) -> Result<(), PerfError> {
        if !self.predeclared {
            let declares = self.queues.iter().map(|queue| self.declare_queue(queue));
            let exchange = self.exchange.iter().filter(|exchange| !exchange.built_in());
            client.call_all(exchange.map(|exchange| self.declare_exchange(exchange)))?;
            client.call_all(declares)?;
            self.bind(client)?;
        }
        if self.purge {
            client.call_all(self.queues.iter().map(purge_queue))?;
        }
        Ok(())
    }

    fn bind(&self, client: &mut Client) -> Result<(), PerfError> {
        let Some(exchange) = &self.exchange else {
            return Ok(());
        };
        for (number, queue) in self.queues.iter().enumerate() {
            let keys =
                (0..self.bindings).map(|binding| self.key(&self.binding_key, number, binding));
            let keys = keys.collect::<Result<Vec<_>, _>>()?;
            client.call_all(
                keys.into_iter()
                    .map(|key| self.bind_queue(exchange, queue, key)),
            )?;
        }
        Ok(())
    }

    /// Deletes what was declared, unless it is to be kept.
    pub(super) fn delete(&self, client: &mut Client) -> Result<(), PerfError> {
        if self.keep {
            return Ok(());
        }
        client.call_all(self.queues.iter().map(delete_queue))?;
        let exchange = self.exchange.iter().filter(|exchange| !exchange.built_in());
        client.call_all(exchange.map(delete_exchange))
    }

    /// The bind and the unbind of one more key at the first queue.
    pub(super) fn churn_pair(&self, number: u64) -> Option<[AMQPClass; 2]> {
        let exchange = self.exchange.as_ref()?;
        let queue = self.queues.first()?;
        let key = ShortString::from(format!("perf.churn.{number}"));
        let unbind = queue::Unbind {
            queue: queue.clone(),
            exchange: exchange.name.clone(),
            routing_key: key.clone(),
            arguments: self.binding_arguments.clone(),
        };
        let unbind = AMQPClass::Queue(queue::AMQPMethod::Unbind(unbind));
        Some([self.bind_queue(exchange, queue, key), unbind])
    }

    fn declare_exchange(&self, exchange: &Exchange) -> AMQPClass {
        AMQPClass::Exchange(exchange::AMQPMethod::Declare(exchange::Declare {
            exchange: exchange.name.clone(),
            kind: exchange.kind.clone(),
            passive: false,
            durable: self.durable,
            auto_delete: false,
            internal: false,
            nowait: false,
            arguments: exchange.arguments.clone(),
        }))
    }

    fn declare_queue(&self, name: &ShortString) -> AMQPClass {
        AMQPClass::Queue(queue::AMQPMethod::Declare(queue::Declare {
            queue: name.clone(),
            passive: false,
            durable: self.durable,
            exclusive: false,
            auto_delete: false,
            nowait: false,
            arguments: self.queue_arguments.clone(),
        }))
    }

    fn bind_queue(&self, exchange: &Exchange, queue: &ShortString, key: ShortString) -> AMQPClass {
        AMQPClass::Queue(queue::AMQPMethod::Bind(queue::Bind {
            queue: queue.clone(),
            exchange: exchange.name.clone(),
            routing_key: key,
            nowait: false,
            arguments: self.binding_arguments.clone(),
        }))
    }
}

/// The numbers out of `0..items` that fall to `member` of `members`: each item falls to someone,
/// and each member gets at least one.
pub(super) fn share(member: usize, members: usize, items: usize) -> Vec<usize> {
    if members >= items {
        vec![member % items]
    } else {
        (member..items).step_by(members).collect()
    }
}

fn purge_queue(name: &ShortString) -> AMQPClass {
    let purge = queue::Purge {
        queue: name.clone(),
        nowait: false,
    };
    AMQPClass::Queue(queue::AMQPMethod::Purge(purge))
}

fn delete_queue(name: &ShortString) -> AMQPClass {
    let queue = name.clone();
    let delete = queue::Delete {
        queue,
        if_unused: false,
        if_empty: false,
        nowait: false,
    };
    AMQPClass::Queue(queue::AMQPMethod::Delete(delete))
}

fn delete_exchange(exchange: &Exchange) -> AMQPClass {
    let delete = exchange::Delete {
        exchange: exchange.name.clone(),
        if_unused: false,
        nowait: false,
    };
    AMQPClass::Exchange(exchange::AMQPMethod::Delete(delete))
}

fn queue_names(args: &PerfArgs) -> Result<Vec<ShortString>, PerfError> {
    let count = args.queue_count.unwrap_or(1);
    if count == 0 || count > QUEUES_MAX {
        return refuse(format!("--queue-count is between 1 and {QUEUES_MAX}"));
    }
    let pattern = match (&args.queue_pattern, &args.queue) {
        (Some(_), Some(_)) => return refuse("either --queue or --queue-pattern"),
        (Some(pattern), None) => pattern.clone(),
        (None, Some(name)) if count > 1 => format!("{name}-%d"),
        (None, Some(name)) => name.clone(),
        (None, None) if count > 1 => "perf-%d".into(),
        (None, None) => "perf".into(),
    };
    if count > 1 && !pattern.contains("%d") {
        return refuse("--queue-pattern needs %d where the number goes");
    }
    (1..=count)
        .map(|number| short(pattern.replace("%d", &number.to_string())))
        .collect()
}

fn exchange(args: &PerfArgs) -> Result<Option<Exchange>, PerfError> {
    let name = match (&args.exchange, &args.exchange_type) {
        (None, None) => return Ok(None),
        (Some(name), _) if name.is_empty() => return Ok(None),
        (Some(name), _) => name.clone(),
        (None, Some(_)) => "perf".into(),
    };
    let kind = args
        .exchange_type
        .clone()
        .unwrap_or_else(|| "direct".into());
    let arguments = table(&args.exchange_arg)?;
    Ok(Some(Exchange {
        name: short(name)?,
        kind: short(kind)?,
        arguments,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topology(args: PerfArgs) -> Topology {
        Topology::new(&args).unwrap()
    }

    #[test]
    fn queues_are_shared_out_without_a_gap() {
        for (members, items) in [(1, 1), (1, 20), (3, 20), (20, 20), (40, 20)] {
            let mut seen: Vec<usize> = (0..members)
                .flat_map(|member| share(member, members, items))
                .collect();
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen, (0..items).collect::<Vec<_>>(), "{members} {items}");
        }
    }

    #[test]
    fn keys_name_queue_and_binding() {
        let keys = topology(PerfArgs {
            exchange_type: Some("topic".into()),
            queue_count: Some(2),
            bindings: Some(2),
            routing_key: Some("a.%d.%b".into()),
            ..PerfArgs::default()
        });
        let keys = keys.routing_keys(0, 1).unwrap();
        assert_eq!(
            keys.iter().map(ShortString::as_str).collect::<Vec<_>>(),
            ["a.1.1", "a.1.2", "a.2.1", "a.2.2"]
        );
    }

    #[test]
    fn the_default_exchange_routes_by_queue_name() {
        let names = topology(PerfArgs {
            queue_count: Some(3),
            ..PerfArgs::default()
        });
        assert_eq!(names.routing_keys(1, 3).unwrap()[0].as_str(), "perf-2");
        assert_eq!(names.copies(), Copies::One);
    }

    #[test]
    fn a_fanout_copies_to_each_queue() {
        let base = PerfArgs {
            queue_count: Some(3),
            ..PerfArgs::default()
        };
        let fanout = topology(PerfArgs {
            exchange_type: Some("fanout".into()),
            ..base.clone()
        });
        assert_eq!(fanout.copies(), Copies::EachQueue);
        let topic = |binding_key: Option<String>| {
            topology(PerfArgs {
                exchange_type: Some("topic".into()),
                binding_key,
                ..base.clone()
            })
        };
        assert_eq!(topic(None).copies(), Copies::One);
        assert_eq!(topic(Some("#".into())).copies(), Copies::Unknown);
        let direct = topology(PerfArgs {
            exchange_type: Some("direct".into()),
            ..base
        });
        assert_eq!(direct.copies(), Copies::One);
    }

    #[test]
    fn a_pattern_without_a_place_for_the_number_is_refused() {
        let args = PerfArgs {
            queue_pattern: Some("q".into()),
            queue_count: Some(2),
            ..PerfArgs::default()
        };
        assert!(Topology::new(&args).is_err());
    }
}
