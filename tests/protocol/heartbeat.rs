//! Heartbeats: what the client asked for counts, and silence ends the connection.

use crate::check::peer_with;
use crate::support::peer::{Frame, HEARTBEAT, Login};

#[test]
fn the_server_beats_as_often_as_the_client_asked_and_drops_a_silent_client() {
    let mut peer = peer_with(&Login {
        heartbeat: 1,
        ..Login::default()
    });
    let beat = Frame {
        kind: HEARTBEAT,
        channel: 0,
        payload: vec![],
    };
    assert_eq!(peer.recv_any().expect("a heartbeat"), beat);
    // Two silent checks end the connection without connection.close.
    peer.expect_end();
}

#[test]
fn a_client_that_beats_is_kept() {
    let mut peer = peer_with(&Login {
        heartbeat: 1,
        ..Login::default()
    });
    peer.open_channel(1);
    // Longer than it takes the server to drop a silent client: ten of its own beats.
    for _ in 0..10 {
        assert_eq!(peer.recv_any().expect("a heartbeat").kind, HEARTBEAT);
        peer.send_frame(HEARTBEAT, 0, b"");
    }
    peer.expect_silence(1);
}
