//! `x-consistent-hash`: a message takes one binding, always the same for what is hashed: its routing key, the header
//! that `hash-header` names, or the property that `hash-property` names. The binding key is a weight: how many times
//! the share of a binding with weight 1 this one gets.
//!
//! The choice is a rendezvous: each destination draws a number from its own hash of the key, scaled by its weight, and
//! the lowest wins (weighted rendezvous hashing). It depends on nothing but names and weights, so that it survives
//! restarts, and a binding that comes or goes moves only the keys that it gets or had. A message costs one hash per
//! destination.

use amq_protocol::types::{AMQPValue, FieldTable};

use super::hash::{hash, mix};
use super::message::Property;
use super::{ExchangeType, Message, RoutingTable};
use crate::broker::arguments::term::{self, Plain};
use crate::broker::binding::{Binding, Destination};
use crate::broker::error::Error;
use crate::broker::names::ResourceKind;

pub(super) const TYPE: ExchangeType = ExchangeType {
    name: "x-consistent-hash",
    table: |arguments| {
        Box::new(ConsistentHash {
            // What was declared was valid.
            hashed: Hashed::from_arguments(arguments).unwrap_or_default(),
            places: Vec::new(),
        })
    },
    validate: |arguments| Hashed::from_arguments(arguments).map(drop),
    validate_binding: |routing_key, _, _| weight(routing_key).map(drop),
};

const HASH_HEADER: &str = "hash-header";
const HASH_PROPERTY: &str = "hash-property";

struct ConsistentHash {
    hashed: Hashed,
    places: Vec<Place>,
}

/// A destination and its share.
struct Place {
    destination: Destination,
    seed: u64,
    /// Of all its bindings together.
    weight: u128,
}

/// What of a message is hashed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Hashed {
    #[default]
    RoutingKey,
    Header(Box<str>),
    Property(Property),
}

impl RoutingTable for ConsistentHash {
    fn add(&mut self, binding: &Binding) {
        let weight = u128::from(weight(&binding.routing_key).unwrap_or(1));
        match self.position(&binding.destination) {
            Some(at) => self.places[at].weight += weight,
            None => self.places.push(Place::new(&binding.destination, weight)),
        }
    }

    fn remove(&mut self, binding: &Binding) {
        let weight = u128::from(weight(&binding.routing_key).unwrap_or(1));
        if let Some(at) = self.position(&binding.destination) {
            self.places[at].weight -= weight;
            if self.places[at].weight == 0 {
                self.places.swap_remove(at);
            }
        }
    }

    fn route(&self, message: &mut Message<'_>, found: &mut dyn FnMut(&Destination)) {
        let key = self.hashed.key(message);
        let draws = self.places.iter().map(|place| (place.draw(key), place));
        let winner = draws.min_by(|(one, _), (other, _)| one.total_cmp(other));
        if let Some((_, place)) = winner {
            found(&place.destination);
        }
    }
}

impl ConsistentHash {
    fn position(&self, destination: &Destination) -> Option<usize> {
        self.places
            .iter()
            .position(|place| place.destination.address() == destination.address())
    }
}

impl Place {
    fn new(destination: &Destination, weight: u128) -> Self {
        let kind = match destination.kind() {
            ResourceKind::Queue => 1,
            ResourceKind::Exchange => 2,
        };
        Self {
            destination: destination.clone(),
            seed: hash(kind, destination.name().as_bytes()),
            weight,
        }
    }

    /// Exponentially distributed with the weight as its rate: the chance of the lowest draw is the share of the weight.
    fn draw(&self, key: u64) -> f64 {
        let random = mix(key ^ self.seed) >> 11;
        let uniform = (random as f64 + 0.5) / (1u64 << 53) as f64;
        -uniform.ln() / self.weight as f64
    }
}

impl Hashed {
    fn from_arguments(arguments: &FieldTable) -> Result<Self, Error> {
        let text = |name| match arguments.inner().get(name) {
            None => Ok(None),
            Some(AMQPValue::LongString(text)) => {
                Ok(Some(String::from_utf8_lossy(text.as_bytes()).into_owned()))
            }
            // RabbitMQ crashes, and closes the connection with 541.
            Some(other) => Err(Error::InvalidExchange(format!(
                "{name} must be a string, not {}",
                term::type_name(other)
            ))),
        };
        match (text(HASH_HEADER)?, text(HASH_PROPERTY)?) {
            (None, None) => Ok(Self::RoutingKey),
            (Some(header), None) => Ok(Self::Header(header.into())),
            (None, Some(property)) => match &*property {
                "correlation_id" => Ok(Self::Property(Property::CorrelationId)),
                "message_id" => Ok(Self::Property(Property::MessageId)),
                "timestamp" => Ok(Self::Property(Property::Timestamp)),
                _ => Err(Error::InvalidExchange(format!(
                    "Unsupported property: {property}"
                ))),
            },
            (Some(_), Some(_)) => Err(Error::InvalidExchange(
                "hash-header and hash-property are mutually exclusive".into(),
            )),
        }
    }

    /// The hash of what decides. Messages without it go the same way, all of them, as in RabbitMQ.
    fn key(&self, message: &mut Message<'_>) -> u64 {
        match self {
            // CC and BCC do not count.
            Self::RoutingKey => hash(0, message.routing_keys.first().unwrap_or(&"").as_bytes()),
            Self::Header(name) => match message.headers().inner().get(&**name) {
                Some(value) => match term::bytes(value) {
                    Some(text) => hash(0, text),
                    None => hash(0, Plain(value).to_string().as_bytes()),
                },
                None => hash(1, &[]),
            },
            Self::Property(property) => match message.property(*property) {
                Some(value) => hash(0, &value),
                None => hash(1, &[]),
            },
        }
    }
}

/// A weight: decimal digits, 1 or more. Beyond 64 bits all weights are the same.
fn weight(routing_key: &str) -> Result<u64, Error> {
    let digits = routing_key.strip_prefix(['+', '-']).unwrap_or(routing_key);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let key = AMQPValue::LongString(routing_key.into());
        return Err(Error::InvalidBinding(format!(
            "The binding key must be an integer: {}",
            term::Term(&key)
        )));
    }
    let number = if routing_key.starts_with('-') {
        0
    } else {
        digits.parse().unwrap_or(u64::MAX)
    };
    if number == 0 {
        return Err(Error::InvalidBinding(
            "The binding key must be greater than 0".into(),
        ));
    }
    Ok(number)
}

#[cfg(test)]
mod tests;
