//! What an import would do, said before it does it.

use serde_json::{Value, json};

use super::*;
use crate::auth::Auth;
use crate::config::Config;
use crate::store::Store;

/// The plan of definitions against a broker as it is: a line for each entry, and a line for each mistake.
fn plan(
    test: &TestBroker,
    definitions: &Value,
    selection: &Selection,
) -> (Vec<String>, Vec<String>) {
    let text = definitions.to_string();
    let plan = Planner::new(&test.broker).plan(text.as_bytes(), selection);
    let plan = plan.unwrap_or_else(|error| panic!("{error}"));
    let entries = plan.entries.iter().map(PlannedEntry::to_string);
    let mistakes = plan.mistakes.iter().map(Mistake::to_string);
    (entries.collect(), mistakes.collect())
}

#[test]
fn a_plan_says_what_becomes_of_each_entry_and_changes_nothing() {
    let test = TestBroker::new();
    import(&test, &everything()).unwrap();
    let before = test.broker.export_definitions("4.3.5");
    let again = json!({
        "users": [
            {"name": "u", "password": "secret", "tags": ["management"], "limits": {"max-channels": 4}},
            {"name": "w", "password": "new", "tags": ["monitoring"]},
        ],
        "vhosts": [{"name": "v", "metadata": {"description": "d"}}, {"name": "new"}],
        "permissions": [{"user": "u", "vhost": "v", "configure": "^b", "write": ".*", "read": ""}],
        "topic_permissions": [{"user": "u", "vhost": "v", "exchange": "x", "write": "", "read": ""}],
        "global_parameters": [{"name": "cluster_name", "value": "d"}, {"name": "other", "value": null}],
        "parameters": [
            {"vhost": "v", "component": "federation-upstream", "name": "f", "value": {"uri": "amqp://"}},
            {"vhost": "v", "component": "vhost-limits", "name": "limits", "value": {"max-queues": 7}},
        ],
        "policies": [{
            "vhost": "v", "name": "p", "pattern": "^q", "apply-to": "all",
            "definition": {"max-length": 8, "dead-letter-exchange": "x"}, "priority": 0,
        }],
        "exchanges": [
            {"vhost": "v", "name": "x", "type": "direct", "durable": true, "auto_delete": false},
            {"vhost": "v", "name": "amq.x", "type": "direct", "durable": true, "auto_delete": false},
            {"vhost": "new", "name": "y", "type": "direct", "durable": true, "auto_delete": false},
        ],
        "queues": [
            {"vhost": "v", "name": "q", "durable": true, "auto_delete": false, "arguments": {"x-max-priority": 4}},
            {"vhost": "v", "name": "qq", "durable": true, "auto_delete": false, "type": "quorum", "arguments": {}},
        ],
        "bindings": [
            {"vhost": "v", "source": "x", "destination": "q", "destination_type": "queue", "routing_key": "a.#"},
            {"vhost": "v", "source": "x", "destination": "q", "destination_type": "queue", "routing_key": "b.#"},
            {"vhost": "new", "source": "y", "destination": "amq.fanout", "destination_type": "exchange",
             "routing_key": ""},
            {"vhost": "v", "source": "amq.x", "destination": "q", "destination_type": "queue", "routing_key": ""},
        ],
    });
    let (entries, mistakes) = plan(&test, &again, &Selection::default());
    assert_eq!(mistakes, [""; 0]);
    assert_eq!(
        entries,
        [
            "change users[0] 'u': tags: [\"management\",\"policymaker\"] becomes [\"management\"]; \
             limits.max-channels: none becomes 4",
            "change users[1] 'w': another password",
            "change vhosts[0] 'v': description: none becomes \"d\"",
            "create vhosts[1] 'new'",
            "change permissions[0] 'u' in vhost 'v': configure: \"^a\" becomes \"^b\"",
            "skip topic_permissions[0] 'u' in vhost 'v': topic permissions have no effect",
            "change global_parameters[0] 'cluster_name': \"c\" becomes \"d\"",
            "create global_parameters[1] 'other'",
            "differs exchanges[0] 'x' in vhost 'v': inequivalent arg 'type' for exchange 'x' in vhost 'v': \
             received 'direct' but current is 'topic'",
            "skip exchanges[1] 'amq.x' in vhost 'v': the name is the broker's own",
            "create exchanges[2] 'y' in vhost 'new'",
            "change policies[0] 'p' in vhost 'v': definition.max-length: 9 becomes 8",
            "same parameters[0] 'federation-upstream/f' in vhost 'v'",
            "change parameters[1] 'vhost-limits/limits' in vhost 'v': max-queues: none becomes 7",
            "differs queues[0] 'q' in vhost 'v': inequivalent arg 'x-max-priority' for queue 'q' in vhost 'v': \
             received the value '4' of type 'long' but current is the value '3' of type 'long'",
            "same queues[1] 'qq' in vhost 'v'",
            "same bindings[0] 'x -> q' in vhost 'v'",
            "create bindings[1] 'x -> q' in vhost 'v'",
            "create bindings[2] 'y -> amq.fanout' in vhost 'new'",
            "skip bindings[3] 'amq.x -> q' in vhost 'v': what it belongs to is not imported",
        ]
    );
    assert_eq!(test.broker.export_definitions("4.3.5"), before);
    // What differs stays, everything else is as it was planned.
    import(&test, &again).unwrap();
    let (entries, _) = plan(&test, &again, &Selection::default());
    let others = entries.iter().filter(|entry| !entry.starts_with("same"));
    let words = others.map(|entry| entry.split(' ').next().unwrap());
    assert_eq!(
        words.collect::<Vec<_>>(),
        ["skip", "differs", "skip", "differs", "skip"]
    );
}

#[test]
fn the_rows_of_a_broker_are_planned_against_as_the_broker_itself() {
    let test = TestBroker::new();
    let ticket = import(&test, &everything()).unwrap();
    test.wait(ticket);
    let mut definitions = everything();
    definitions["queues"][0]["arguments"]["x-max-priority"] = 4.into();
    definitions["queues"][1]["name"] = "third".into();
    definitions["policies"][0]["priority"] = 3.into();
    definitions["bindings"][0]["routing_key"] = "other".into();
    let live = plan(&test, &definitions, &Selection::default());
    let rows = Store::look(test.dir()).unwrap().unwrap();
    let of_auth = rows.iter().map(|(key, value)| (&key[..], &value[..]));
    let auth = Auth::recover(of_auth, &Config::default()).unwrap();
    let stored = Planner::stored(&rows, &auth, NodeLimits::default(), QueueType::Classic);
    let text = definitions.to_string();
    let stored = stored.unwrap().plan(text.as_bytes(), &Selection::default());
    let entries: Vec<_> = stored
        .unwrap()
        .entries
        .iter()
        .map(PlannedEntry::to_string)
        .collect();
    assert_eq!((entries, Vec::new()), live);
    assert_eq!(
        live.0
            .iter()
            .filter(|entry| entry.starts_with("same"))
            .count(),
        11
    );
}

#[test]
fn a_part_is_chosen_by_kind_and_by_virtual_host() {
    let definitions = everything();
    let count = |kinds: &[Kind], vhosts: &[&str]| {
        let test = TestBroker::new();
        let selection = Selection {
            kinds: kinds.to_vec(),
            vhosts: vhosts.iter().map(|&name| name.to_owned()).collect(),
        };
        let (entries, mistakes) = plan(&test, &definitions, &selection);
        (entries.len(), mistakes.len())
    };
    assert_eq!(count(&[], &[]), (16, 0));
    assert_eq!(count(&[Kind::Users, Kind::VHosts], &[]), (4, 0));
    assert_eq!(count(&[], &["/"]), (1, 0), "the virtual host itself");
    // The user is not chosen.
    assert_eq!(count(&[], &["v"]), (11, 1));
    assert_eq!(count(&[Kind::Users], &["v"]), (0, 0));
    // They need a virtual host that is not chosen and not there.
    assert_eq!(count(&[Kind::Queues], &[]), (0, 3));
    let test = TestBroker::new();
    let selection = Selection {
        kinds: vec![Kind::VHosts, Kind::Exchanges, Kind::Queues],
        vhosts: vec!["v".into()],
    };
    let text = definitions.to_string();
    test.broker
        .import_definitions(text.as_bytes(), &selection)
        .unwrap();
    let vhost = test.broker.vhost("v").unwrap();
    assert!(vhost.queue("q").is_some() && vhost.exchange("x").is_some());
    assert!(vhost.bindings().is_empty() && vhost.policies(PolicyKind::User).is_empty());
    assert!(test.broker.auth.users().is_empty());
}

#[test]
fn all_mistakes_are_named_and_nothing_is_imported() {
    let test = TestBroker::new();
    let queue = json!({"vhost": "/", "name": "q", "durable": true, "auto_delete": false});
    let with = |key: &str, value: Value| {
        let mut queue = queue.clone();
        queue[key] = value;
        queue
    };
    let definitions = json!({
        "queuess": [],
        "users": [
            {"name": "u"},
            {"name": "u", "tags": "administrator"},
            {"name": 5},
            "u",
            {"name": "w", "password_hash": "AAAA"},
            {"name": "x", "hashing_algorithm": "rot13", "password_hash": "AAAA"},
            {"name": "y", "tags": [1]},
        ],
        "vhosts": [{"name": "v", "default_queue_type": "odd"}, {"name": "ok", "protected_from_deletion": "no"}],
        "permissions": [{"user": "u", "vhost": "/", "configure": "(", "write": "", "read": ""}],
        "policies": {},
        "exchanges": [
            {"vhost": "/", "name": "x", "type": "odd", "durable": true, "auto_delete": false},
            {"vhost": "v", "name": "x", "type": "direct", "durable": true, "auto_delete": false},
        ],
        "queues": [
            queue.clone(),
            queue.clone(),
            with("arguments", json!({"x-max-length": 5})),
            {"vhost": "/", "name": "r", "durable": "yes", "auto_delete": false},
            {"vhost": "/", "name": "s", "auto_delete": false},
            {"vhost": "/", "name": "t", "durable": true, "auto_delete": false, "arguments": {"x-max-length": -1}},
            {"vhost": "/", "name": "w", "durable": false, "auto_delete": false, "type": "quorum"},
            {"vhost": "/", "name": "z", "durable": true, "auto_delete": false, "arguments": []},
        ],
        "bindings": [
            {"vhost": "/", "source": "amq.direct", "destination": "q", "destination_type": "queue", "routing_key": "k"},
            {"vhost": "/", "source": "x", "destination": "q", "destination_type": "queue", "routing_key": "k"},
            {"vhost": "/", "source": "no", "destination": "q", "destination_type": "queue", "routing_key": "k"},
            {"vhost": "/", "source": "amq.direct", "destination": "no", "destination_type": "queue", "routing_key": ""},
            {"vhost": "/", "source": "amq.direct", "destination": "q", "destination_type": "topic", "routing_key": ""},
            {"vhost": "/", "source": "amq.headers", "destination": "q", "destination_type": "queue", "routing_key": "",
             "arguments": {"x-match": "some"}},
        ],
    });
    let before = test.broker.export_definitions("4.3.5");
    let (entries, mistakes) = plan(&test, &definitions, &Selection::default());
    assert_eq!(
        entries,
        [
            "create users[0] 'u'",
            // Its virtual host is wrong, which is said once.
            "skip exchanges[1] 'x' in vhost 'v': what it belongs to is not imported",
            "create queues[0] 'q' in vhost '/'",
            "same queues[1] 'q' in vhost '/'",
            "create bindings[0] 'amq.direct -> q' in vhost '/'",
            "skip bindings[1] 'x -> q' in vhost '/': what it belongs to is not imported",
        ]
    );
    assert_eq!(
        mistakes,
        [
            "users[1] 'u': users[0] has the same name and says something else",
            "users[2]: name should be a text, actually was 5",
            "users[3]: an entry should be an object, actually was <<\"u\">>",
            "users[4] 'w': password_hash: not the base64 of a four-byte salt and a digest of the stated algorithm",
            "users[5] 'x': hashing_algorithm: unknown variant `rot13`, expected one of \
             `rabbit_password_hashing_sha256`, `rabbit_password_hashing_sha512`, `rabbit_password_hashing_md5`",
            "users[6] 'y': tags should be a list of texts, actually was [1]",
            "vhosts[0] 'v': unsupported queue type 'odd'",
            "vhosts[1] 'ok': protected_from_deletion should be true or false, actually was <<\"no\">>",
            "permissions[0] 'u' in vhost '/': invalid configure pattern '(': Parsing error at position 1: \
             Opening parenthesis without closing parenthesis",
            "exchanges[0] 'x' in vhost '/': unknown exchange type 'odd'",
            "'policies' is not a list",
            "queues[2] 'q' in vhost '/': queues[0] has the same name and says something else",
            "queues[3] 'r' in vhost '/': durable should be true or false, actually was <<\"yes\">>",
            "queues[4] 's' in vhost '/': missing field `durable`",
            "queues[5] 't' in vhost '/': invalid arg 'x-max-length' for queue 't' in vhost '/': {value_negative,-1}",
            "queues[6] 'w' in vhost '/': invalid property 'non-durable' for queue 'w' in vhost '/'",
            "queues[7] 'z' in vhost '/': arguments should be an object, actually was []",
            "bindings[2] 'no -> q' in vhost '/': no exchange 'no' in vhost '/'",
            "bindings[3] 'amq.direct -> no' in vhost '/': no queue 'no' in vhost '/'",
            "bindings[4] 'amq.direct -> q' in vhost '/': destination_type should be queue or exchange, actually was \
             'topic'",
            "bindings[5] 'amq.headers -> q' in vhost '/': Invalid x-match field value <<\"some\">>; expected all, \
             any, all-with-x, or any-with-x",
        ]
    );
    assert_eq!(
        import(&test, &definitions).unwrap_err(),
        mistakes.join("\n")
    );
    assert_eq!(test.broker.export_definitions("4.3.5"), before);
}

#[test]
fn of_very_many_mistakes_the_first_are_listed() {
    let test = TestBroker::new();
    let users: Vec<_> = (0..103).map(|_| json!({})).collect();
    let refused = import(&test, &json!({"users": users})).unwrap_err();
    assert_eq!(refused.lines().count(), ENTRIES_LISTED_MAX + 1);
    assert!(refused.ends_with("\nand 3 more mistakes"), "{refused}");
}
