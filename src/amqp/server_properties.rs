//! What connection.start says about the server.

use amq_protocol::types::{AMQPValue, FieldTable};

use crate::config::{Config, node_name};

/// The extensions that the broker has, all of them RabbitMQ's.
const CAPABILITIES: [&str; 9] = [
    "publisher_confirms",
    "exchange_exchange_bindings",
    "basic.nack",
    "consumer_cancel_notify",
    "connection.blocked",
    "consumer_priorities",
    "authentication_failure_close",
    "per_consumer_qos",
    "direct_reply_to",
];

/// The server-properties of every connection. Product and version are what the configuration says, as
/// clients branch on them; what the broker really is stands in `platform`.
pub fn server_properties(config: &Config) -> FieldTable {
    let mut capabilities = FieldTable::default();
    for capability in CAPABILITIES {
        capabilities.insert(capability.into(), AMQPValue::Boolean(true));
    }
    let mut properties = FieldTable::default();
    properties.insert("capabilities".into(), AMQPValue::FieldTable(capabilities));
    for (name, value) in [
        ("cluster_name", cluster_name(config)),
        ("copyright", "Copyright (c) the Leveret authors".to_owned()),
        (
            "information",
            "Licensed under the Apache License, Version 2.0".to_owned(),
        ),
        (
            "platform",
            concat!("Leveret ", env!("CARGO_PKG_VERSION")).to_owned(),
        ),
        ("product", config.server_product.clone()),
        ("version", config.server_version.clone()),
    ] {
        properties.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    properties
}

/// The same with another name of the cluster.
pub fn put_cluster_name(properties: &mut FieldTable, name: &str) {
    let name = AMQPValue::LongString(name.into());
    properties.insert("cluster_name".into(), name);
}

/// The configured name, or one after the host as RabbitMQ has it.
fn cluster_name(config: &Config) -> String {
    config.cluster_name.clone().unwrap_or_else(node_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(properties: &FieldTable, name: &str) -> String {
        match properties.inner().get(name) {
            Some(AMQPValue::LongString(text)) => text.to_string(),
            other => panic!("{name} is {other:?}"),
        }
    }

    #[test]
    fn clients_find_what_rabbitmq_would_tell_them() {
        let config = Config {
            cluster_name: Some("rabbit@here".into()),
            ..Config::default()
        };
        let properties = server_properties(&config);
        let names: Vec<_> = properties.inner().keys().map(ToString::to_string).collect();
        let expected = [
            "capabilities",
            "cluster_name",
            "copyright",
            "information",
            "platform",
            "product",
            "version",
        ];
        assert_eq!(names, expected);
        assert_eq!(text(&properties, "cluster_name"), "rabbit@here");
        assert_eq!(text(&properties, "product"), config.server_product);
        assert_eq!(text(&properties, "version"), config.server_version);
        let capabilities = properties.inner().get("capabilities");
        let Some(AMQPValue::FieldTable(capabilities)) = capabilities else {
            panic!("{capabilities:?}")
        };
        assert_eq!(capabilities.inner().len(), CAPABILITIES.len());
        assert!(
            capabilities
                .inner()
                .values()
                .all(|value| *value == AMQPValue::Boolean(true))
        );
    }

    #[test]
    fn a_cluster_without_a_name_is_named_after_the_host() {
        let name = text(&server_properties(&Config::default()), "cluster_name");
        assert!(
            name.starts_with("leveret@") && name.len() > "leveret@".len(),
            "{name}"
        );
    }
}
