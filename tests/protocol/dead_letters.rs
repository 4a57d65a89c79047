//! The headers of dead letters as RabbitMQ 4.3 writes them: names, types and order. What RabbitMQ 3.10 does too is
//! compared with it in `conformance/differential`.

use crate::check::{expect_get, own_queue, peer, send_to};
use crate::support::wire::{Value, table};

#[test]
fn x_death_has_its_fields_in_rabbitmqs_order() {
    let mut peer = peer();
    let dead = own_queue(&mut peer);
    let arguments = table([
        ("x-dead-letter-exchange", "".into()),
        ("x-dead-letter-routing-key", dead.as_str().into()),
    ]);
    let declare = method!(queue.declare { exclusive: true, arguments: arguments });
    let queue = peer
        .call(1, declare, method!(queue.declare_ok))
        .text("queue");
    send_to(&mut peer, &queue, "m");
    expect_get(&mut peer, &queue, "m");
    peer.send(1, method!(basic.reject { delivery_tag: 1 }));
    crate::check::await_ready(&mut peer, &dead, 1);
    let letter = expect_get(&mut peer, &dead, "m");
    let headers = letter.properties.headers.expect("its history");
    let names: Vec<_> = headers.iter().map(|(name, _)| name.as_str()).collect();
    let expected = [
        "x-death",
        "x-first-death-exchange",
        "x-first-death-queue",
        "x-first-death-reason",
        "x-last-death-exchange",
        "x-last-death-queue",
        "x-last-death-reason",
    ];
    assert_eq!(names, expected);
    let Value::Array(deaths) = &headers[0].1 else {
        panic!("x-death is an array: {headers:?}");
    };
    let [Value::Table(death)] = &deaths[..] else {
        panic!("one death: {deaths:?}");
    };
    let names: Vec<_> = death.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "count",
            "reason",
            "queue",
            "time",
            "exchange",
            "routing-keys"
        ]
    );
    assert_eq!(death[0].1, Value::I64(1));
    assert!(matches!(death[3].1, Value::Timestamp(_)), "{death:?}");
    assert_eq!(headers[5].1, queue.as_str().into());
    assert_eq!(headers[6].1, "rejected".into());
}
