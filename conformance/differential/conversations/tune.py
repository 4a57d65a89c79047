"""connection.tune: limits, heartbeats, and what the agreed frame_max does (rows 69-72)."""

from harness import codec
from harness.conversation import conversation


def tuning(t):
    """A connection that is due to send connection.tune-ok."""
    c = t.socket()
    c.raw(codec.PROTOCOL_HEADER)
    c.read(1, 0)
    c.send("connection.start-ok", 0, client_properties={}, mechanism="PLAIN",
           response="\0guest\0guest", locale="en_US")
    c.read(1, 0)
    return c


def tune(t, **values):
    c = tuning(t)
    c.send("connection.tune-ok", 0, **{"channel_max": 2047, "frame_max": 131072, **values})
    return c


def tune_and_open(t, **values):
    c = tune(t, **values)
    c.call("connection.open", 0, virtual_host="/")
    return c


@conversation
def the_proposed_values(t):
    tuning(t)


@conversation
def frame_max_of_4096_is_accepted(t):
    tune_and_open(t, frame_max=4096)


@conversation
def frame_max_of_8192_is_accepted(t):
    tune_and_open(t, frame_max=8192)


@conversation
def frame_max_below_the_minimum_is_not_allowed(t):
    tune(t, frame_max=4095).read(1, 0)


@conversation
def frame_max_above_the_proposal_is_not_allowed(t):
    tune(t, frame_max=131073).read(1, 0)


@conversation
def frame_max_without_limit_is_not_allowed(t):
    tune(t, frame_max=0).read(1, 0)


@conversation
def channel_max_above_the_proposal_is_not_allowed(t):
    tune(t, channel_max=2048).read(1, 0)


@conversation
def channel_max_without_limit_is_not_allowed(t):
    tune(t, channel_max=0).read(1, 0)


@conversation
def a_channel_number_up_to_channel_max_opens(t):
    c = t.connect(0, tune={"channel_max": 10, "frame_max": 131072})
    c.call("channel.open", 10)


@conversation
def a_channel_number_above_channel_max(t):
    c = t.connect(0, tune={"channel_max": 10, "frame_max": 131072})
    c.call("channel.open", 11)


@conversation
def more_channels_than_channel_max_are_not_allowed(t):
    c = t.connect(3, tune={"channel_max": 3, "frame_max": 131072})
    c.send("channel.open", 4)
    c.read(1, 0)


@conversation
def the_highest_channel_number_by_default(t):
    c = t.connect(0)
    c.call("channel.open", 2047)


@conversation
def bodies_are_split_at_frame_max_minus_8(t):
    c, q = t.connect(tune={"channel_max": 10, "frame_max": 4096}), t.name("q")
    c.call("queue.declare", queue=q)
    for size in (4087, 4088, 4089, 8176, 10000):
        body = bytes(n % 251 for n in range(size))
        c.publish("", q, body, frames=[size // 3, size // 3, size - 2 * (size // 3)])
        c.wait_queue(q, 1, 0)
        c.call("basic.get", queue=q, no_ack=True)


@conversation
def a_frame_of_exactly_frame_max_is_accepted(t):
    c, q = t.connect(tune={"channel_max": 10, "frame_max": 4096}), t.name("q")
    c.call("queue.declare", queue=q)
    c.publish("", q, b"x" * 4088)
    c.wait_queue(q, 1, 0)
    c.call("basic.get", queue=q, no_ack=True)


@conversation
def a_frame_8_bytes_beyond_frame_max_is_tolerated(t):
    c, q = t.connect(tune={"channel_max": 10, "frame_max": 4096}), t.name("q")
    c.call("queue.declare", queue=q)
    c.publish("", q, b"x" * 4096)
    c.wait_queue(q, 1, 0)


@conversation
def a_frame_9_bytes_beyond_frame_max_is_a_frame_error(t):
    c, q = t.connect(tune={"channel_max": 10, "frame_max": 4096}), t.name("q")
    c.call("queue.declare", queue=q)
    c.publish("", q, b"x" * 4097)
    c.read(1, 0)


@conversation
def another_connection_splits_at_its_own_frame_max(t):
    c, d, q = t.connect(), t.connect(tune={"channel_max": 1, "frame_max": 4096}), t.name("q")
    c.call("queue.declare", queue=q)
    c.publish("", q, b"y" * 9000)
    c.wait_queue(q, 1, 0)
    d.call("basic.get", queue=q)


@conversation
def heartbeats_come_when_the_client_asks_for_them(t):
    c = tune_and_open(t, heartbeat=1)
    c.show_heartbeats = True
    c.read(1, 0)


@conversation
def a_silent_client_is_dropped_without_a_close_frame(t):
    c = tune_and_open(t, heartbeat=1)
    c.read_eof()


@conversation
def heartbeats_from_the_client_are_accepted(t):
    c = t.connect()
    c.raw(codec.frame(codec.HEARTBEAT, 0, b""))
    c.raw(codec.frame(codec.HEARTBEAT, 0, b""))
    c.call("channel.open", 2)
