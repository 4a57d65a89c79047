"""Channels: open, close, reuse of numbers, channel.flow, errors that close (rows 51-53, 63, 75)."""

from harness.conversation import conversation


@conversation
def open_and_close(t):
    c = t.connect(0)
    c.call("channel.open", 1)
    c.call("channel.close", 1, reply_code=200, reply_text="bye")


@conversation
def a_closed_number_is_free_again(t):
    c = t.connect(0)
    for _ in range(3):
        c.call("channel.open", 7)
        c.call("channel.close", 7, reply_code=200)


@conversation
def a_second_open_of_the_same_channel(t):
    c = t.connect()
    c.send("channel.open", 1)
    c.read(1, 0)


@conversation
def a_method_on_a_channel_that_is_not_open(t):
    c = t.connect()
    c.send("queue.declare", 5, queue=t.name("q"))
    c.read(1, 0)


@conversation
def a_publish_on_a_channel_that_is_not_open(t):
    c = t.connect()
    c.publish("", "x", "m", ch=5)
    c.read(1, 0)


@conversation
def a_method_after_channel_close(t):
    c = t.connect()
    c.call("channel.close", 1, reply_code=200)
    c.send("queue.declare", 1, queue=t.name("q"))
    c.read(1, 0)


@conversation
def closing_a_channel_that_is_not_open(t):
    c = t.connect(0)
    c.send("channel.close", 9, reply_code=200)
    c.read(1, 0)


@conversation
def close_ok_for_a_channel_that_is_not_open(t):
    c = t.connect(0)
    c.send("channel.close-ok", 9)
    c.read(1, 0)


@conversation
def close_ok_for_a_channel_that_is_open(t):
    c = t.connect()
    c.send("channel.close-ok", 1)
    c.read(1, 0)


@conversation
def after_an_error_everything_is_ignored_until_close_ok(t):
    c, q, p = t.connect(channels=2), t.name("q"), t.name("p")
    c.answer_close = False
    c.call("queue.declare", queue=q, passive=True)
    c.send("queue.declare", queue=p)
    c.publish("", p, "ignored")
    c.send("basic.ack", delivery_tag=99)
    c.sync(2)
    c.send("channel.close-ok", 1)
    c.call("channel.open", 1)
    c.call("queue.declare", queue=p, passive=True)
    c.send("channel.close-ok", 1)


@conversation
def an_open_before_close_ok_is_a_second_open(t):
    c = t.connect()
    c.answer_close = False
    c.call("queue.declare", queue=t.name("q"), passive=True)
    c.send("channel.open", 1)
    c.answer_close = True
    c.read(1, 0)


@conversation
def a_crossing_channel_close_is_answered(t):
    c, q = t.connect(), t.name("q")
    c.answer_close = False
    c.call("queue.declare", queue=q, passive=True)
    c.call("channel.close", reply_code=200)
    c.send("channel.close-ok", 1)
    c.call("channel.open", 1)


@conversation
def an_error_leaves_other_channels_alone(t):
    c, q = t.connect(channels=2), t.name("q")
    c.call("queue.declare", 2, queue=q)
    c.call("basic.consume", 2, queue=q, consumer_tag="t")
    c.call("queue.declare", 1, queue=q, durable=True)
    c.publish("", q, "m", ch=2)
    c.read(1, 2)


@conversation
def flow_active_is_answered(t):
    c = t.connect()
    c.call("channel.flow", active=True)


@conversation
def flow_inactive_is_not_implemented(t):
    c = t.connect()
    c.send("channel.flow", active=False)
    c.read(1, 0)


@conversation
def flow_ok_from_the_client(t):
    c = t.connect(channels=2)
    c.send("channel.flow-ok", active=True)
    c.sync(2)
    c.call("channel.flow", active=True)


@conversation
def a_method_that_only_servers_send(t):
    c = t.connect()
    c.send("channel.open-ok", 1)
    c.read(1, 0)


@conversation
def basic_deliver_from_the_client(t):
    c = t.connect()
    c.send("basic.get-empty", 1)
    c.read(1, 0)


@conversation
def access_request_is_answered_with_ticket_one(t):
    c = t.connect()
    c.call("access.request", realm="/data", exclusive=True, passive=True, active=True, write=True,
           read=True)


@conversation
def hundred_channels_work_side_by_side(t):
    c, q = t.connect(channels=100), t.name("q")
    c.call("queue.declare", queue=q)
    for n in range(1, 101):
        c.publish("", q, f"m{n}", ch=n)
        c.sync(n)
    c.wait_queue(q, 100, 0)
    c.call("basic.get", 100, queue=q)


@conversation
def channel_close_requeues_before_close_ok(t):
    c, q = t.connect(channels=2), t.name("q")
    c.call("queue.declare", queue=q)
    for n in range(3):
        c.publish("", q, f"m{n}")
    c.wait_queue(q, 3, 0)
    for _ in range(2):
        c.call("basic.get", queue=q)
    c.call("channel.close", reply_code=200)
    c.call("queue.declare", 2, queue=q, passive=True)
    for _ in range(3):
        c.call("basic.get", 2, queue=q)


@conversation
def a_channel_error_requeues_what_was_unacked(t):
    c, q = t.connect(channels=2), t.name("q")
    c.call("queue.declare", queue=q)
    c.publish("", q, "m")
    c.wait_queue(q, 1, 0)
    c.call("basic.get", queue=q)
    c.call("queue.declare", queue=q, durable=True)
    c.wait_queue(q, 1, 0, ch=2)
    c.call("basic.get", 2, queue=q)


@conversation
def connection_close_requeues_in_order(t):
    c, d, q = t.connect(channels=2), t.connect(), t.name("q")
    c.call("queue.declare", queue=q)
    for n in range(4):
        c.publish("", q, f"m{n}")
    c.wait_queue(q, 4, 0)
    c.call("basic.get", 1, queue=q)
    c.call("basic.get", 2, queue=q)
    c.call("basic.get", 1, queue=q)
    c.close()
    d.wait_queue(q, 4, 0)
    for _ in range(4):
        d.call("basic.get", queue=q)


@conversation
def a_lost_connection_requeues_in_order_as_redelivered(t):
    c, d, q = t.connect(), t.connect(), t.name("q")
    c.call("queue.declare", queue=q)
    for n in range(3):
        c.publish("", q, f"m{n}")
    c.wait_queue(q, 3, 0)
    c.call("basic.consume", queue=q, consumer_tag="t")
    c.read(3)
    c.abort()
    d.wait_queue(q, 3, 0)
    for _ in range(3):
        d.call("basic.get", queue=q)
