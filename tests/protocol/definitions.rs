//! Definitions before and instead of a start: `leveret definitions check` and `import`, and what a mistake leaves behind.

use std::fs;
use std::process::{Command, Output};

use crate::check::{expect_get, send_to};
use crate::support::broker::BrokerProcess;

const DEFINITIONS: &str = r#"{
    "users": [{"name": "guest", "password": "guest", "tags": "administrator"}],
    "vhosts": [{"name": "/"}, {"name": "other"}],
    "permissions": [{"user": "guest", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}],
    "queues": [
        {"vhost": "/", "name": "q", "durable": true, "auto_delete": false, "arguments": {"x-max-length": 5}},
        {"vhost": "other", "name": "r", "durable": true, "auto_delete": false, "arguments": {}}
    ],
    "bindings": [{"vhost": "/", "source": "amq.fanout", "destination": "q", "destination_type": "queue",
                  "routing_key": "", "arguments": {}}]
}"#;

/// A broker that is not running yet, with these definitions in its directory.
fn prepare(definitions: &str) -> BrokerProcess {
    let broker = BrokerProcess::prepare(&["load_definitions = definitions.json"]);
    write(&broker, definitions);
    broker
}

fn write(broker: &BrokerProcess, definitions: &str) {
    let path = broker.directory().join("definitions.json");
    fs::write(path, definitions).expect("our own directory is writable");
}

/// Runs `leveret definitions` on the broker's data directory.
fn definitions(broker: &BrokerProcess, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
    command
        .arg("definitions")
        .args(arguments)
        .args(["definitions.json", "--data-dir", "data"])
        .current_dir(broker.directory());
    command.output().expect("cargo has built the broker")
}

fn lines(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    text.lines().map(str::to_owned).collect()
}

#[track_caller]
fn expect_check(broker: &BrokerProcess, arguments: &[&str], expected: &[&str]) {
    let output = definitions(broker, &[&["check"], arguments].concat());
    assert_eq!(lines(&output.stdout), expected);
    let has_mistake = expected.iter().any(|line| line.starts_with("mistake"));
    assert_eq!(output.status.success(), !has_mistake);
}

#[test]
fn a_mistake_at_the_end_of_the_definitions_leaves_nothing_behind() {
    let wrong = DEFINITIONS.replace("\"destination\": \"q\"", "\"destination\": \"missing\"");
    let mut broker = prepare(&wrong);
    broker.spawn();
    assert!(broker.await_ready_or_end().is_err());
    let mistake =
        "bindings[0] 'amq.fanout -> missing' in vhost '/': no queue 'missing' in vhost '/'";
    assert!(broker.log().contains(mistake), "{}", broker.log());
    // What is there is what a first start finds.
    let created = [
        "create users[0] 'guest'",
        "create vhosts[0] '/'",
        "create vhosts[1] 'other'",
        "create permissions[0] 'guest' in vhost '/'",
        "create queues[0] 'q' in vhost '/'",
        "create queues[1] 'r' in vhost 'other'",
    ];
    let mistake = format!("mistake {mistake}");
    let counts = "definitions.json: to create: 6, the same: 0, to change: 0, differing and left as they are: 0, \
                  skipped: 0, mistakes: 1";
    let expected = [&created[..], &[&mistake, counts]].concat();
    expect_check(&broker, &[], &expected);
}

#[test]
fn a_check_says_what_would_change_while_the_broker_runs() {
    let mut broker = prepare(DEFINITIONS);
    broker.boot();
    let mut peer = broker.connect();
    peer.open_channel(1);
    send_to(&mut peer, "q", "kept");
    let other = DEFINITIONS
        .replace("\"x-max-length\": 5", "\"x-max-length\": 6")
        .replace("\"name\": \"r\"", "\"name\": \"s\"")
        .replace("administrator", "monitoring");
    write(&broker, &other);
    let expected = [
        "change users[0] 'guest': tags: [\"administrator\"] becomes [\"monitoring\"]",
        "same vhosts[0] '/'",
        "same vhosts[1] 'other'",
        "same permissions[0] 'guest' in vhost '/'",
        "differs queues[0] 'q' in vhost '/': inequivalent arg 'x-max-length' for queue 'q' in vhost '/': received \
         the value '6' of type 'long' but current is the value '5' of type 'long'",
        "create queues[1] 's' in vhost 'other'",
        "same bindings[0] 'amq.fanout -> q' in vhost '/'",
        "definitions.json: to create: 1, the same: 4, to change: 1, differing and left as they are: 1, skipped: 0, \
         mistakes: 0",
    ];
    expect_check(&broker, &[], &expected);
    // It is the broker's all the time.
    let refused = definitions(&broker, &["import"]);
    assert!(!refused.status.success());
    let reason = lines(&refused.stderr).join("\n");
    assert!(reason.contains("is in use by another process"), "{reason}");
    expect_get(&mut peer, "q", "kept");
    write(&broker, "{\"queues\": [\n{]}");
    let malformed = "mistake definitions.json: no JSON: key must be a string at line 2 column 2";
    expect_check(&broker, &[], &[malformed]);
}

#[test]
fn a_part_is_imported_into_the_data_of_a_broker_that_does_not_run() {
    let mut broker = prepare(DEFINITIONS);
    let imported = definitions(
        &broker,
        &["import", "--only", "users,vhosts,permissions,queues"],
    );
    assert!(imported.status.success(), "{:?}", lines(&imported.stderr));
    let counts = "definitions.json: to create: 0, the same: 2, to change: 0, differing and left as they are: 0, \
                  skipped: 0, mistakes: 0";
    let expected = [
        "same vhosts[1] 'other'",
        "same queues[1] 'r' in vhost 'other'",
        counts,
    ];
    expect_check(&broker, &["--vhost", "other"], &expected);
    let bindings = [
        "create bindings[0] 'amq.fanout -> q' in vhost '/'",
        &counts.replace("to create: 0, the same: 2", "to create: 1, the same: 0"),
    ];
    expect_check(&broker, &["--only", "bindings"], &bindings);
    write(&broker, "{}");
    broker.boot();
    let mut peer = broker.connect();
    peer.open_channel(1);
    send_to(&mut peer, "q", "there");
    expect_get(&mut peer, "q", "there");
}
