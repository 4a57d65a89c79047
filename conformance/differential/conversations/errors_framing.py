"""Bytes that are not a conversation: bad frames, misplaced frames, malformed arguments (55-63)."""

import struct

from harness import codec
from harness.codec import RawTable
from harness.conversation import conversation

FRAME = codec.frame


def publish_method(ch=1, **fields):
    return codec.method_frame(ch, "basic.publish", **fields)


def hard_error(c):
    c.read(1, 0)


@conversation
def a_wrong_frame_end_byte(t):
    c = t.connect()
    c.raw(codec.method_frame(1, "channel.flow", active=True)[:-1] + b"\x00")
    hard_error(c)


@conversation
def a_wrong_frame_end_byte_on_a_body_frame(t):
    c = t.connect()
    c.raw(publish_method(routing_key="nowhere") + FRAME(codec.HEADER, 1, codec.header_payload(4))
          + FRAME(codec.BODY, 1, b"four")[:-1] + b"\xcd")
    hard_error(c)


@conversation
def a_frame_larger_than_agreed(t):
    c = t.connect()
    c.raw(struct.pack(">BHI", codec.BODY, 1, 131073) + b"a" * 131073 + b"\xce", "an oversized frame")
    hard_error(c)


@conversation
def a_frame_that_announces_four_gigabytes(t):
    c = t.connect()
    c.raw(struct.pack(">BHI", codec.METHOD, 1, 0xFFFFFFFF) + b"abcdef")
    hard_error(c)


@conversation
def an_unknown_frame_type(t):
    c = t.connect()
    c.raw(FRAME(9, 1, b"what"))
    hard_error(c)


@conversation
def an_unknown_frame_type_on_channel_zero(t):
    c = t.connect()
    c.raw(FRAME(9, 0, b"what"))
    hard_error(c)


@conversation
def a_header_where_a_method_is_due(t):
    c = t.connect()
    c.raw(FRAME(codec.HEADER, 1, codec.header_payload(0)))
    hard_error(c)


@conversation
def a_body_where_a_method_is_due(t):
    c = t.connect()
    c.raw(FRAME(codec.BODY, 1, b"body"))
    hard_error(c)


@conversation
def a_method_where_a_header_is_due(t):
    c = t.connect()
    c.raw(publish_method(routing_key="nowhere"))
    c.send("channel.flow", active=True)
    hard_error(c)


@conversation
def a_body_where_a_header_is_due(t):
    c = t.connect()
    c.raw(publish_method(routing_key="nowhere") + FRAME(codec.BODY, 1, b"body"))
    hard_error(c)


@conversation
def a_method_where_a_body_is_due(t):
    c = t.connect()
    c.raw(publish_method(routing_key="nowhere") + FRAME(codec.HEADER, 1, codec.header_payload(9)))
    c.send("channel.flow", active=True)
    hard_error(c)


@conversation
def a_header_where_a_body_is_due(t):
    c = t.connect()
    header = FRAME(codec.HEADER, 1, codec.header_payload(9))
    c.raw(publish_method(routing_key="nowhere") + header + header)
    hard_error(c)


@conversation
def a_header_of_another_class(t):
    c = t.connect()
    c.raw(publish_method(routing_key="nowhere")
          + FRAME(codec.HEADER, 1, codec.header_payload(0, class_id=50)))
    hard_error(c)


@conversation
def a_header_with_a_weight(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q)
    c.raw(publish_method(routing_key=q) + FRAME(codec.HEADER, 1, codec.header_payload(0, weight=1)))
    hard_error(c)


@conversation
def a_body_longer_than_announced(t):
    c = t.connect()
    c.raw(publish_method(routing_key="nowhere") + FRAME(codec.HEADER, 1, codec.header_payload(3))
          + FRAME(codec.BODY, 1, b"four"))
    c.send("channel.flow", active=True)
    hard_error(c)


@conversation
def a_body_frame_after_an_empty_content(t):
    c = t.connect()
    c.raw(publish_method(routing_key="nowhere") + FRAME(codec.HEADER, 1, codec.header_payload(0))
          + FRAME(codec.BODY, 1, b""))
    hard_error(c)


@conversation
def empty_body_frames_within_a_content(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q)
    c.publish("", q, "abcdef", frames=[0, 1, 0, 0, 5])
    c.wait_queue(q, 1, 0)
    c.call("basic.get", queue=q)


@conversation
def contents_of_two_channels_interleave(t):
    c, q = t.connect(channels=2), t.name("q")
    c.call("queue.declare", queue=q)
    body = lambda ch, data: FRAME(codec.BODY, ch, data)  # noqa: E731
    c.raw(publish_method(1, routing_key=q) + FRAME(codec.HEADER, 1, codec.header_payload(4))
          + body(1, b"on") + publish_method(2, routing_key=q)
          + FRAME(codec.HEADER, 2, codec.header_payload(3)) + body(2, b"tw") + FRAME(codec.HEARTBEAT, 0, b"")
          + body(1, b"e.") + body(2, b"o"))
    c.wait_queue(q, 2, 0)
    bodies = {}
    c.transcript.recording = False
    for _ in range(2):
        reply = c.call("basic.get", queue=q, no_ack=True)
        bodies[b"".join(reply.frames)] = True
    c.transcript.recording = True
    c.transcript.heard(1, 1, f"bodies {sorted(bodies)}")


@conversation
def frames_that_arrive_byte_by_byte(t):
    c, q = t.connect(), t.name("q")
    data = codec.method_frame(1, "queue.declare", queue=q)
    for byte in data:
        c._write(bytes([byte]))
    c.read(1)


@conversation
def a_heartbeat_on_another_channel(t):
    c = t.connect()
    c.raw(FRAME(codec.HEARTBEAT, 1, b""))
    hard_error(c)


@conversation
def a_heartbeat_on_a_channel_that_is_not_open(t):
    c = t.connect()
    c.raw(FRAME(codec.HEARTBEAT, 3, b""))
    hard_error(c)


@conversation
def a_heartbeat_with_a_payload(t):
    c = t.connect()
    c.raw(FRAME(codec.HEARTBEAT, 0, b"beat"))
    hard_error(c)


@conversation
def a_header_frame_on_channel_zero(t):
    c = t.connect()
    c.raw(FRAME(codec.HEADER, 0, codec.header_payload(0)))
    hard_error(c)


@conversation
def an_unknown_class(t):
    c = t.connect()
    c.raw(FRAME(codec.METHOD, 1, struct.pack(">HH", 999, 10)))
    hard_error(c)
    c.read_eof()


@conversation
def an_unknown_method_of_a_known_class(t):
    c = t.connect()
    c.raw(FRAME(codec.METHOD, 1, struct.pack(">HH", 50, 99)))
    hard_error(c)
    c.read_eof()


@conversation
def a_method_frame_without_a_method(t):
    c = t.connect()
    c.raw(FRAME(codec.METHOD, 1, b""))
    hard_error(c)
    c.read_eof()


@conversation
def a_method_that_ends_too_early(t):
    c = t.connect()
    c.raw(FRAME(codec.METHOD, 1, struct.pack(">HHH", 50, 10, 0) + b"\x09abc"))
    hard_error(c)
    c.read_eof()


@conversation
def a_method_with_surplus_bytes(t):
    c = t.connect()
    c.raw(FRAME(codec.METHOD, 1, codec.method_payload("channel.flow", {"active": True}) + b"more"))
    hard_error(c)
    c.read_eof()


@conversation
def a_short_string_that_is_not_utf8(t):
    c = t.connect()
    c.call("queue.declare", queue=b"q\xff\xfe")


@conversation
def a_routing_key_that_is_not_utf8(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q)
    c.call("queue.bind", queue=q, exchange="amq.fanout", routing_key=b"\xc3\x28")


@conversation
def a_table_with_an_unknown_type(t):
    c = t.connect()
    c.send("queue.declare", queue=t.name("q"), arguments=RawTable(b"\x01kZ\x00"))
    hard_error(c)
    c.read_eof()


@conversation
def a_table_that_ends_within_a_value(t):
    c = t.connect()
    c.send("queue.declare", queue=t.name("q"), arguments=RawTable(b"\x01kS\x00\x00\x00\x09abc"))
    hard_error(c)
    c.read_eof()


@conversation
def a_table_longer_than_its_frame(t):
    c = t.connect()
    payload = struct.pack(">HHH", 50, 10, 0) + b"\x01q\x00" + struct.pack(">I", 1000)
    c.raw(FRAME(codec.METHOD, 1, payload))
    hard_error(c)
    c.read_eof()


@conversation
def headers_with_an_unknown_type(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q)
    c.publish("", q, "m", props={"headers": RawTable(b"\x01kZ\x00")})
    hard_error(c)
    c.read_eof()


@conversation
def properties_that_end_too_early(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q)
    payload = struct.pack(">HHQH", 60, 0, 0, 1 << 15) + b"\x0aabc"
    c.raw(publish_method(routing_key=q) + FRAME(codec.HEADER, 1, payload))
    hard_error(c)
    c.read_eof()


@conversation
def a_body_larger_than_the_maximum_message_size(t):
    c, q, size = t.connect(), t.name("q"), 1048577
    c.call("queue.declare", queue=q)
    c.publish("", q, b"x" * size, frames=[131000] * 8 + [size - 8 * 131000])
    c.read(1)


@conversation
def a_body_of_exactly_the_maximum_message_size(t):
    c, q, size = t.connect(), t.name("q"), 1048576
    c.call("queue.declare", queue=q)
    c.publish("", q, b"x" * size, frames=[131000] * 8 + [size - 8 * 131000])
    c.wait_queue(q, 1, 0)
    c.call("basic.get", queue=q)


@conversation
def a_content_header_that_is_cut_short(t):
    c = t.connect()
    c.raw(publish_method(routing_key="nowhere") + FRAME(codec.HEADER, 1, b"\x00\x3c\x00\x00"))
    hard_error(c)


@conversation
def an_empty_content_header(t):
    c = t.connect()
    c.raw(publish_method(routing_key="nowhere") + FRAME(codec.HEADER, 1, b""))
    hard_error(c)


@conversation
def an_empty_method_on_a_channel_that_is_not_open(t):
    c = t.connect()
    c.raw(FRAME(codec.METHOD, 9, b""))
    hard_error(c)


@conversation
def a_content_header_on_a_channel_that_is_not_open(t):
    c = t.connect()
    c.raw(FRAME(codec.HEADER, 9, codec.header_payload(0)))
    hard_error(c)


@conversation
def a_body_on_a_channel_that_is_not_open(t):
    c = t.connect()
    c.raw(FRAME(codec.BODY, 9, b"body"))
    hard_error(c)
