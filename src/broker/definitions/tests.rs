mod planning;

use serde_json::{Value, json};

use super::*;
use crate::broker::arguments::QueueType;
use crate::broker::policy::PolicyKind;
use crate::broker::testing::TestBroker;
use crate::config::NodeLimits;

fn import(test: &TestBroker, definitions: &Value) -> Result<Ticket, String> {
    let text = definitions.to_string();
    let imported = test
        .broker
        .import_definitions(text.as_bytes(), &Selection::default());
    imported.map_err(|error| error.to_string())
}

fn everything() -> Value {
    json!({
        "rabbit_version": "3.10.8",
        "users": [
            {"name": "u", "password": "secret", "tags": "management, policymaker"},
            {"name": "w", "password_hash": "", "tags": ["monitoring"]},
        ],
        "vhosts": [{"name": "/"}, {"name": "v"}],
        "permissions": [{"user": "u", "vhost": "v", "configure": "^a", "write": ".*", "read": ""}],
        "topic_permissions": [],
        "parameters": [
            {"vhost": "v", "component": "operator_policy", "name": "o", "value": {
                "pattern": "^q", "apply-to": "queues", "definition": {"max-length": 5}, "priority": 1,
            }},
            {"vhost": "v", "component": "federation-upstream", "name": "f", "value": {"uri": "amqp://"}},
        ],
        "global_parameters": [{"name": "cluster_name", "value": "c"}],
        "policies": [{
            "vhost": "v", "name": "p", "pattern": "^q", "apply-to": "all",
            "definition": {"max-length": 9, "dead-letter-exchange": "x"}, "priority": 0,
        }],
        "exchanges": [{
            "vhost": "v", "name": "x", "type": "topic", "durable": true, "auto_delete": false, "internal": false,
            "arguments": {"alternate-exchange": "amq.fanout"},
        }],
        "queues": [
            {"vhost": "v", "name": "q", "durable": true, "auto_delete": false, "arguments": {"x-max-priority": 3}},
            {"vhost": "v", "name": "qq", "durable": true, "auto_delete": false, "type": "quorum", "arguments": {}},
            {"vhost": "v", "name": "amq.gen-1", "durable": true, "auto_delete": false, "arguments": {}},
        ],
        "bindings": [
            {"vhost": "v", "source": "x", "destination": "q", "destination_type": "queue", "routing_key": "a.#",
             "arguments": {}},
            {"vhost": "v", "source": "x", "destination": "amq.topic", "destination_type": "exchange",
             "routing_key": "b", "arguments": {}},
            {"vhost": "v", "source": "", "destination": "q", "destination_type": "queue", "routing_key": "q",
             "arguments": {}},
        ],
    })
}

fn check_everything(test: &TestBroker) {
    let vhost = test.broker.vhost("v").unwrap();
    let queue = vhost.queue("q").unwrap();
    let settings = queue.settings();
    assert_eq!((settings.max_length, settings.max_priority), (Some(5), 3));
    assert_eq!(&*settings.dead_letter.as_ref().unwrap().exchange, "x");
    let quorum = vhost.queue("qq").unwrap().spec.arguments.get().queue_type();
    assert_eq!(quorum.name(), "quorum");
    assert!(vhost.queue("amq.gen-1").is_none());
    let exchange = vhost.exchange("x").unwrap();
    assert_eq!(exchange.alternate().as_deref(), Some("amq.fanout"));
    assert_eq!(vhost.bindings().len(), 2);
    assert_eq!(vhost.policies(PolicyKind::User).len(), 1);
    assert_eq!(vhost.policies(PolicyKind::Operator).len(), 1);
}

#[test]
fn everything_is_imported_and_importing_it_again_changes_nothing() {
    let test = TestBroker::new();
    let ticket = import(&test, &everything()).unwrap();
    test.wait(ticket);
    check_everything(&test);
    let users = test.broker.auth.users();
    let users: Vec<_> = users
        .iter()
        .map(|user| (&*user.name, user.tags.len()))
        .collect();
    assert_eq!(users, [("u", 2), ("w", 1)]);
    assert_eq!(test.broker.auth.permissions("u").len(), 1);
    import(&test, &everything()).unwrap();
    check_everything(&test);
    let test = test.restart();
    check_everything(&test);
}

#[test]
fn what_is_there_stays_as_it_is() {
    let test = TestBroker::new();
    import(&test, &everything()).unwrap();
    let other = json!({
        "queues": [{"vhost": "v", "name": "q", "durable": false, "auto_delete": true, "arguments": {}}],
        "exchanges": [{"vhost": "v", "name": "x", "type": "direct", "durable": true, "auto_delete": false}],
    });
    import(&test, &other).unwrap();
    check_everything(&test);
}

#[test]
fn limits_and_default_types_are_imported_and_stay() {
    let test = TestBroker::new();
    let definitions = json!({
        "users": [{"name": "u", "tags": "", "limits": {"max-connections": 3, "max-channels": -1, "max-publish-rate": 7}}],
        "vhosts": [
            {"name": "v", "default_queue_type": "undefined", "metadata": {"description": "", "tags": []}},
            {"name": "w", "metadata": {"default_queue_type": "rabbit_stream_queue"}},
        ],
        "parameters": [
            {"vhost": "v", "component": "vhost-limits", "name": "limits", "value": {"max-queues": 2, "max-consume-rate": 5, "max-publish-bytes-rate": -1}},
            {"vhost": "w", "component": "vhost-limits", "name": "limits", "value": []},
        ],
        // A type that is said is kept, whatever the default.
        "queues": [{"vhost": "w", "name": "q", "durable": true, "auto_delete": false, "type": "classic"}],
    });
    let check = |test: &TestBroker| {
        let limits = test.broker.auth.users()[0].limits;
        assert_eq!(
            (limits.max_connections, limits.max_channels),
            (Some(3), None)
        );
        assert_eq!(limits.rates.max_publish_rate, Some(7));
        let settings = |name| test.broker.vhost(name).unwrap().settings();
        let rates = settings("v").limits.rates;
        assert_eq!(
            (rates.max_consume_rate, rates.max_publish_bytes_rate),
            (Some(5), None)
        );
        assert_eq!(
            test.broker.vhost("v").unwrap().rates().consume.available(0),
            5
        );
        assert_eq!(settings("v").limits.max_queues, Some(2));
        // A new virtual host keeps what the configuration says.
        assert_eq!(settings("v").default_queue_type, Some(QueueType::Classic));
        assert_eq!(settings("w").limits.max_queues, None);
        assert_eq!(settings("w").default_queue_type, Some(QueueType::Stream));
        let queue = test.broker.vhost("w").unwrap().queue("q").unwrap();
        assert_eq!(queue.spec.arguments.get().queue_type(), QueueType::Classic);
    };
    let ticket = import(&test, &definitions).unwrap();
    test.wait(ticket);
    check(&test);
    // An import that says nothing of them changes nothing.
    import(
        &test,
        &json!({"users": [{"name": "u"}], "vhosts": [{"name": "w"}]}),
    )
    .unwrap();
    check(&test);
}

#[test]
fn names_and_routing_keys_have_to_fit_into_short_strings() {
    let test = TestBroker::new();
    let long = "n".repeat(256);
    let cases = [
        (
            json!({"queues": [{"vhost": "/", "name": long, "durable": true, "auto_delete": false}]}),
            "a name should have up to 255 bytes",
        ),
        (
            json!({"exchanges": [{
                "vhost": "/", "name": long, "type": "direct", "durable": true, "auto_delete": false,
            }]}),
            "a name should have up to 255 bytes",
        ),
        (
            json!({"bindings": [{
                "vhost": "/", "source": "amq.direct", "destination": "q", "destination_type": "queue",
                "routing_key": long,
            }]}),
            "a routing key should have up to 255 bytes",
        ),
    ];
    for (definitions, reason) in cases {
        let refused = import(&test, &definitions).unwrap_err().to_string();
        assert!(refused.ends_with(reason), "{refused}");
    }
}

#[test]
fn an_error_names_the_entry() {
    let test = TestBroker::new();
    let cases = [
        (json!([]), "not a JSON object"),
        (json!({"queues": {}}), "'queues' is not a list"),
        (
            json!({"policies": [{"vhost": "/", "name": "p", "pattern": "", "definition": {"foo": 1}}]}),
            "policies[0] 'p' in vhost '/': [{<<\"foo\">>,1}] are not recognised policy settings",
        ),
        (
            json!({"parameters": [
                {"vhost": "/", "component": "vhost-limits", "name": "limits", "value": {"max-queues": "2"}},
            ]}),
            "parameters[0] 'vhost-limits/limits' in vhost '/': max-queues should be an integer, actually was <<\"2\">>",
        ),
        (
            json!({"users": [{"name": "u", "limits": {"max-queues": 2}}]}),
            "users[0] 'u': unrecognised limit 'max-queues'",
        ),
        (
            json!({"vhosts": [{"name": "a", "default_queue_type": "odd"}]}),
            "vhosts[0] 'a': unsupported queue type 'odd'",
        ),
        (
            json!({"vhosts": [{"name": "a"}, {}]}),
            "vhosts[1]: missing field `name`",
        ),
        (
            json!({"queues": [{"vhost": "no", "name": "q", "durable": true, "auto_delete": false}]}),
            "queues[0] 'q' in vhost 'no': virtual host 'no' does not exist",
        ),
        (
            json!({"permissions": [{"user": "no", "vhost": "/", "configure": "", "write": "", "read": ""}]}),
            "permissions[0] 'no' in vhost '/': user 'no' does not exist",
        ),
        (
            json!({"bindings": [{
                "vhost": "/", "source": "x", "destination": "q", "destination_type": "queue", "routing_key": "",
            }]}),
            "bindings[0] 'x -> q' in vhost '/': no exchange 'x' in vhost '/'",
        ),
        (
            json!({"global_parameters": [{"name": "", "value": 1}]}),
            "global_parameters[0] '': the names of a parameter should have 1 to 255 bytes, its value up to 1048576 as \
             JSON",
        ),
    ];
    for (definitions, text) in cases {
        assert_eq!(import(&test, &definitions).unwrap_err(), text);
    }
    let import = |text: &[u8]| test.broker.import_definitions(text, &Selection::default());
    let malformed = import(b"{\n  \"queues\": [}").unwrap_err();
    assert_eq!(
        malformed.to_string(),
        "no JSON: expected value at line 2 column 14"
    );
    assert_eq!(import(b" ").unwrap(), Ticket::IMMEDIATE);
}

#[test]
fn a_virtual_host_too_many_is_not_imported() {
    let test = TestBroker::with_limits(NodeLimits {
        vhosts: Some(2),
        ..NodeLimits::default()
    });
    let definitions = json!({"vhosts": [{"name": "/"}, {"name": "v"}, {"name": "w"}]});
    assert_eq!(
        import(&test, &definitions).unwrap_err(),
        "vhosts[2] 'w': cannot create vhost 'w': vhost limit of 2 is reached"
    );
    assert!(test.broker.vhost("v").is_none(), "all or nothing");
    import(&test, &json!({"vhosts": [{"name": "w"}]})).unwrap();
}

#[test]
fn parameters_and_metadata_are_kept_and_cleared() {
    let test = TestBroker::new();
    let definitions = json!({
        "vhosts": [{"name": "v", "description": "old", "metadata": {
            "description": "new", "tags": ["a", "b"], "protected_from_deletion": true,
        }}],
        "parameters": [{"vhost": "v", "component": "shovel", "name": "s", "value": {"src-uri": "amqp://"}}],
        "global_parameters": [{"name": "cluster_name", "value": "c"}, {"name": "other", "value": [1]}],
    });
    let ticket = import(&test, &definitions).unwrap();
    test.wait(ticket);
    let test = test.restart();
    let vhost = test.broker.vhost("v").unwrap();
    let settings = vhost.settings();
    assert_eq!(settings.description, "old", "the entry itself comes first");
    assert_eq!(settings.tags, ["a", "b"]);
    let parameters = vhost.parameters();
    assert_eq!(parameters.len(), 1);
    assert_eq!(
        (&*parameters[0].component, &*parameters[0].name),
        ("shovel", "s")
    );
    assert_eq!(parameters[0].value, json!({"src-uri": "amqp://"}));
    let visit = test.broker.services.visit();
    let refused = test.broker.delete_vhost(&visit, "v").err().unwrap();
    assert_eq!(refused.to_string(), "vhost 'v' is protected from deletion");
    assert!(vhost.clear_parameter(&visit, "shovel", "s").is_some());
    assert!(vhost.clear_parameter(&visit, "shovel", "s").is_none());
    let ticket = test.broker.clear_global_parameter(&visit, "other").unwrap();
    vhost.set_deletion_protection(&visit, false).unwrap();
    drop(visit);
    drop(vhost);
    test.wait(ticket);
    let test = test.restart();
    assert_eq!(
        test.broker.global_parameter("cluster_name"),
        Some(json!("c"))
    );
    assert_eq!(test.broker.global_parameters().len(), 1);
    assert!(test.broker.vhost("v").unwrap().parameters().is_empty());
    let visit = test.broker.services.visit();
    assert!(test.broker.delete_vhost(&visit, "v").unwrap().is_some());
}

#[test]
fn an_export_is_imported_as_what_it_was() {
    let test = TestBroker::new();
    import(&test, &everything()).unwrap();
    let more = json!({
        "users": [{"name": "u", "limits": {"max-channels": 4}, "tags": "management"}],
        "vhosts": [{"name": "w", "metadata": {"description": "d", "tags": ["t"], "default_queue_type": "quorum"}}],
        "parameters": [
            {"vhost": "w", "component": "vhost-limits", "name": "limits", "value": {"max-queues": 5}},
        ],
        "queues": [
            {"vhost": "w", "name": "c", "durable": true, "auto_delete": false, "type": "classic",
             "arguments": {"x-queue-type": "classic"}},
            {"vhost": "w", "name": "t", "durable": false, "auto_delete": true, "arguments": {}},
        ],
        "bindings": [
            {"vhost": "w", "source": "amq.headers", "destination": "c", "destination_type": "queue",
             "routing_key": "", "arguments": {"x-match": "any", "there": null, "n": 1, "l": ["a", 1.5]}},
        ],
    });
    import(&test, &more).unwrap();
    let exported = test.broker.export_definitions("4.3.5");
    assert_eq!(exported["rabbitmq_version"], "4.3.5");
    let other = TestBroker::new();
    import(&other, &exported).unwrap();
    assert_eq!(other.broker.export_definitions("4.3.5"), exported);
    for (category, count) in [
        ("users", 2),
        ("vhosts", 3),
        ("permissions", 1),
        ("policies", 1),
        ("parameters", 3),
        ("global_parameters", 1),
        ("exchanges", 1),
        ("queues", 4),
        ("bindings", 3),
    ] {
        let entries = exported[category].as_array().unwrap();
        assert_eq!(entries.len(), count, "{category}");
    }
    let of_one = test.broker.vhost("w").unwrap().export_definitions("4.3.5");
    assert_eq!(of_one["queues"].as_array().unwrap().len(), 2);
    assert!(of_one["queues"][0].get("vhost").is_none());
    assert!(of_one.get("users").is_none());
}
