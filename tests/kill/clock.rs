//! A system clock that was set back while the broker was down.

use std::time::{SystemTime, UNIX_EPOCH};

use leveret::message::op::Op;
use leveret::store::{Store, StoreOptions};

use crate::support::broker::BrokerProcess;

#[test]
fn a_clock_that_was_set_back_is_warned_about_once() {
    let mut broker = BrokerProcess::start();
    broker.kill9();
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now_ms = now.expect("it is after 1970").as_millis() as u64;
    let ahead_ms = now_ms + 3_600_000;
    write_at(&broker, ahead_ms);
    assert!(!broker.log().contains("system clock"), "{}", broker.log());

    broker.boot();
    let log = broker.log();
    let mut warnings = log.lines().filter(|line| line.contains("system clock"));
    let warning = warnings.next().expect("a warning");
    assert!(warning.contains("WARN"), "{warning}");
    let stored = format!("last_known_ms={ahead_ms}");
    assert!(warning.contains(&stored), "{warning}");
    assert!(warning.contains("system_clock_ms="), "{warning}");
    assert_eq!(warnings.next(), None);
}

/// Commits something to the data directory as a broker with that time would.
fn write_at(broker: &BrokerProcess, now_ms: u64) {
    let options = StoreOptions::new(broker.data_dir());
    let (store, recovered) = Store::open(options).expect("the broker is down");
    let row = recovered.state.into_iter().next();
    let (key, value) = row.expect("the first start wrote the default user");
    let visit = store.visit(now_ms);
    let ticket = visit.push(Op::PutState { key, value });
    drop(visit);
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime without threads").block_on(async {
        store.wait(ticket).await;
        store.close().await;
    });
}
