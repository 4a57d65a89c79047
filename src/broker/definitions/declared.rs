//! What an entry of each kind comes to: exchanges, queues and bindings. Those that exist stay as they are.

use amq_protocol::types::{AMQPValue, FieldTable};

use super::entries::Planned;
use super::fields::Fields;
use super::json::table;
use super::kind::Kind;
use super::plan::Outcome;
use super::step::Step;
use super::view::{BindingView, Refusal, VHostView, View, mistake};
use crate::broker::NOBODY;
use crate::broker::arguments::{Arguments, QueueType};
use crate::broker::direct_reply::is_reply_name;
use crate::broker::error::Error;
use crate::broker::exchange::{ExchangeType, LeadsTo};
use crate::broker::names::{DEFAULT_EXCHANGE, NAME_BYTES_MAX, Resource, ResourceKind, is_reserved};
use crate::broker::vhost::{ExchangeBind, ExchangeDeclare, QueueBind, QueueDeclare};

pub(super) fn exchange(view: &mut View, fields: &Fields<'_>) -> Planned {
    let (vhost, name) = (fields.text("vhost")?, fields.text("name")?);
    let declare = ExchangeDeclare {
        name: name.into(),
        kind: fields.text("type")?.into(),
        durable: fields.flag("durable")?,
        auto_delete: fields.flag("auto_delete")?,
        internal: fields.optional_flag("internal")?.unwrap_or(false),
        arguments: arguments(fields)?,
        connection: NOBODY,
    };
    let found = view.vhost(vhost)?;
    let resource = Resource::exchange(&found.name, name);
    ExchangeType::from_name(&declare.kind).map_err(mistake)?;
    if is_own(name) {
        return Ok((own_name(), None));
    }
    if let Some(exchange) = found.exchanges.get(name) {
        let same = declare.check_equivalence(&resource, exchange.spec());
        return Ok((Outcome::stays(same), None));
    }
    check_short("a name", name)?;
    let spec = declare.spec(&resource).map_err(mistake)?;
    view.check_exchanges(&resource).map_err(mistake)?;
    view.vhost(vhost)?.add_exchange(spec);
    let vhost = vhost.to_owned();
    Ok(Outcome::Created.with(|| Step::Exchange { vhost, declare }))
}

pub(super) fn queue(view: &mut View, fields: &Fields<'_>) -> Planned {
    let (vhost, name) = (fields.text("vhost")?, fields.text("name")?);
    let mut declare = QueueDeclare {
        name: name.into(),
        server_named: false,
        durable: fields.flag("durable")?,
        exclusive: false,
        auto_delete: fields.flag("auto_delete")?,
        arguments: arguments(fields)?,
        connection: NOBODY,
    };
    let queue_type = fields.optional_text("type")?;
    let node_type = view.default_queue_type;
    let found = view.vhost(vhost)?;
    let default = found.settings.default_queue_type.unwrap_or(node_type);
    name_type(&mut declare, queue_type, default);
    let resource = Resource::queue(&found.name, name);
    if is_own(name) {
        return Ok((own_name(), None));
    }
    if let Some(queue) = found.queues.get(name) {
        let same = declare.check_equivalence(&resource, queue.spec());
        return Ok((Outcome::stays(same), None));
    }
    check_short("a name", name)?;
    found.check_queues(name).map_err(mistake)?;
    let spec = declare.spec(&resource, || 0).map_err(mistake)?;
    view.check_queues(name).map_err(mistake)?;
    view.vhost(vhost)?.add_queue(spec);
    let vhost = vhost.to_owned();
    Ok(Outcome::Created.with(|| Step::Queue { vhost, declare }))
}

/// Newer exports say the type beside the arguments. The default does not hold for every queue.
fn name_type(declare: &mut QueueDeclare, queue_type: Option<&str>, default: QueueType) {
    let implied = match declare.durable && !declare.auto_delete {
        true => default,
        false => QueueType::Classic,
    };
    if let Some(queue_type) = queue_type.filter(|name| *name != implied.name())
        && !declare.arguments.contains_key("x-queue-type")
    {
        let queue_type = AMQPValue::LongString(queue_type.into());
        declare.arguments.insert("x-queue-type".into(), queue_type);
    }
    declare.add_default_type(default);
}

pub(super) fn binding(view: &mut View, fields: &Fields<'_>) -> Planned {
    let vhost = fields.text("vhost")?;
    let kind = match fields.text("destination_type")? {
        "queue" => ResourceKind::Queue,
        "exchange" => ResourceKind::Exchange,
        other => {
            let reason =
                format!("destination_type should be queue or exchange, actually was '{other}'");
            return Err(mistake(reason));
        }
    };
    let arguments = arguments(fields)?;
    let binding = BindingView {
        source: fields.text("source")?.into(),
        kind,
        destination: fields.text("destination")?.into(),
        routing_key: fields.text("routing_key")?.into(),
        arguments: Arguments::new(&arguments),
    };
    view.vhost(vhost)?;
    // Every queue is bound there under its name.
    if *binding.source == *DEFAULT_EXCHANGE {
        return Ok((Outcome::Same, None));
    }
    check_short("a routing key", &binding.routing_key)?;
    check_ends(view, vhost, &binding, &arguments)?;
    let found = view.vhost(vhost)?;
    if found.has_binding(&binding) {
        return Ok((Outcome::Same, None));
    }
    let step = bind(vhost, &binding, arguments);
    found.bindings.insert(binding);
    Ok((Outcome::Created, Some(step)))
}

/// Both ends exist, and the source has such bindings.
fn check_ends(
    view: &View,
    vhost: &str,
    binding: &BindingView,
    arguments: &FieldTable,
) -> Result<(), Refusal> {
    let Some(found) = view.vhosts.get(vhost) else {
        return Err(Refusal::Follows);
    };
    let Some(source) = found.exchanges.get(&binding.source) else {
        let missing = Resource::exchange(&found.name, &binding.source);
        return Err(no_such(view, missing));
    };
    let leads_to = leads_to(found, binding).map_err(mistake)?;
    let Some(leads_to) = leads_to else {
        let missing = Resource {
            kind: binding.kind,
            name: binding.destination.clone(),
            vhost: found.name.clone(),
        };
        return Err(no_such(view, missing));
    };
    let source = source.spec();
    source
        .validate_binding(&binding.routing_key, arguments, leads_to)
        .map_err(mistake)
}

/// What the destination is; `None`: it does not exist.
fn leads_to(vhost: &VHostView, binding: &BindingView) -> Result<Option<LeadsTo>, Error> {
    let name = &binding.destination;
    match binding.kind {
        ResourceKind::Exchange if **name == *DEFAULT_EXCHANGE => Err(Error::DefaultExchange),
        ResourceKind::Exchange => {
            let exists = vhost.exchanges.contains_key(name);
            Ok(exists.then_some(LeadsTo::Exchange))
        }
        ResourceKind::Queue if is_reply_name(name) => {
            Err(Error::ReplyQueue(Resource::queue(&vhost.name, name)))
        }
        ResourceKind::Queue => {
            let Some(queue) = vhost.queues.get(name).map(|queue| queue.spec()) else {
                return Ok(None);
            };
            if queue.exclusive_owner.is_some() {
                return Err(Error::Locked(Resource::queue(&vhost.name, name)));
            }
            Ok(Some(LeadsTo::Queue(queue.arguments.get().queue_type())))
        }
    }
}

fn no_such(view: &View, missing: Resource) -> Refusal {
    let kind = match missing.kind {
        ResourceKind::Queue => Kind::Queues,
        ResourceKind::Exchange => Kind::Exchanges,
    };
    let (vhost, name) = (missing.vhost.clone(), missing.name.clone());
    view.missing(kind, &vhost, &name, || Error::NotFound(missing).to_string())
}

fn bind(vhost: &str, binding: &BindingView, arguments: FieldTable) -> Step {
    let vhost = vhost.to_owned();
    let (source, destination) = (binding.source.clone(), binding.destination.clone());
    let routing_key = binding.routing_key.clone();
    match binding.kind {
        ResourceKind::Queue => Step::QueueBinding {
            vhost,
            bind: QueueBind {
                queue: destination,
                exchange: source,
                routing_key,
                arguments,
                connection: NOBODY,
            },
        },
        ResourceKind::Exchange => Step::ExchangeBinding {
            vhost,
            bind: ExchangeBind {
                destination,
                source,
                routing_key,
                arguments,
                connection: NOBODY,
            },
        },
    }
}

fn arguments(fields: &Fields<'_>) -> Result<FieldTable, String> {
    let arguments = fields.optional_object("arguments")?;
    let arguments = arguments.map(|arguments| table(arguments.all()));
    arguments.transpose().map(Option::unwrap_or_default)
}

/// Clients cannot say more than fits into a short string, and rows of the store have no room for it.
fn check_short(what: &str, text: &str) -> Result<(), String> {
    match text.len() {
        ..=NAME_BYTES_MAX => Ok(()),
        _ => Err(format!("{what} should have up to {NAME_BYTES_MAX} bytes")),
    }
}

/// The default exchange and names of the broker are not imported, as in RabbitMQ.
fn is_own(name: &str) -> bool {
    name.is_empty() || is_reserved(name)
}

fn own_name() -> Outcome {
    Outcome::Skipped("the name is the broker's own".into())
}
