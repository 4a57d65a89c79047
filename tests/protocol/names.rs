//! Names: what is reserved, stripped, cut.

use crate::check::{check_channel_error, check_channel_error_on, peer, since_4, unique};
use crate::support::peer::decode;

#[test]
fn the_reserved_prefix_is_refused_for_new_queues() {
    let text = "queue name 'amq.mine' contains reserved prefix 'amq.*'";
    check_channel_error(method!(queue.declare { queue: "amq.mine" }), 403, text);
}

#[test]
fn the_name_of_a_server_named_queue_is_reserved_too() {
    let mut peer = peer();
    let name = crate::check::own_queue(&mut peer);
    let passive = method!(queue.declare { queue: &name, passive: true });
    peer.call(1, passive, method!(queue.declare_ok { queue: &name }));
    let again = method!(queue.declare { queue: &name, exclusive: true });
    let text = format!("queue name '{name}' contains reserved prefix 'amq.*'");
    check_channel_error_on(&mut peer, again, 403, &text);
}

#[test]
fn carriage_returns_and_line_feeds_are_stripped() {
    let mut peer = peer();
    let name = unique("stripped");
    let dirty = format!("\r\n{name}\n");
    let declare = method!(queue.declare { queue: dirty, exclusive: true });
    peer.call(1, declare, method!(queue.declare_ok { queue: &name }));
}

#[test]
fn names_may_be_utf_8() {
    let mut peer = peer();
    let name = unique("häschen-🐇");
    let declare = method!(queue.declare { queue: &name, exclusive: true });
    peer.call(1, declare, method!(queue.declare_ok { queue: &name }));
    crate::check::send_to(&mut peer, &name, "hop");
    crate::check::expect_get(&mut peer, &name, "hop");
}

#[test]
fn a_name_of_255_bytes_is_fine() {
    let mut peer = peer();
    let name = format!("{:x<255}", unique("long"));
    let declare = method!(queue.declare { queue: &name, exclusive: true });
    peer.call(1, declare, method!(queue.declare_ok { queue: &name }));
}

#[test]
fn a_reply_text_is_cut_to_255_bytes() {
    let mut peer = peer();
    let name = "n".repeat(255);
    peer.send(1, method!(queue.declare { queue: &name, passive: true }));
    let close = decode(&peer.recv()).expect("a method that can be read");
    assert_eq!(close.name(), "channel.close");
    let text = close.text("reply_text");
    assert!(text.starts_with("NOT_FOUND - no queue 'nnn"), "{text}");
    assert!(
        text.len() <= 255 && text.len() > 250,
        "{} bytes: {text}",
        text.len()
    );
}

#[test]
fn a_reply_text_is_cut_between_characters() {
    let mut peer = peer();
    let name = "ü".repeat(127);
    peer.send(1, method!(queue.declare { queue: &name, passive: true }));
    let close = decode(&peer.recv());
    if since_4(false, true) && close.is_none() {
        return; // RabbitMQ counts characters, so that its text may not fit its length octet.
    }
    let close = close.expect("a method that can be read");
    let text = close.text("reply_text");
    assert!(text.len() <= 255 && !text.contains('\u{FFFD}'), "{text}");
}
