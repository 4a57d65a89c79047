"""basic.cancel and consumer cancel notifications (rows 20, 21)."""

from harness.conversation import conversation


def consuming(t, count, capabilities=None):
    c, q = t.connect(capabilities=capabilities), t.name("q")
    c.call("queue.declare", queue=q)
    for n in range(count):
        c.publish("", q, f"m{n}")
    c.wait_queue(q, count, 0)
    c.call("basic.consume", queue=q, consumer_tag="t")
    c.read(count)
    return c, q


@conversation
def cancel_of_an_unknown_tag_is_answered(t):
    c = t.connect()
    c.call("basic.cancel", consumer_tag="never")
    c.call("basic.cancel", consumer_tag="")


@conversation
def no_deliveries_follow_cancel_ok(t):
    c, q = consuming(t, 1)
    c.call("basic.cancel", consumer_tag="t")
    c.publish("", q, "late")
    c.wait_queue(q, 1, 0)


@conversation
def cancel_ok_comes_after_the_last_delivery(t):
    c, q = consuming(t, 0)
    for n in range(5):
        c.publish("", q, f"m{n}")
    c.read(5)
    c.send("basic.cancel", consumer_tag="t")
    c.publish("", q, "late")
    c.read(1)
    c.wait_queue(q, 1, 0)


@conversation
def outstanding_deliveries_stay_ackable(t):
    c, q = consuming(t, 3)
    c.call("basic.cancel", consumer_tag="t")
    c.call("queue.declare", queue=q, passive=True)
    c.send("basic.ack", delivery_tag=1)
    c.send("basic.nack", delivery_tag=2, requeue=True)
    c.wait_queue(q, 1, 0)
    c.send("basic.ack", delivery_tag=3)
    c.call("basic.get", queue=q)


@conversation
def outstanding_deliveries_come_back_with_the_channel(t):
    c, q = consuming(t, 2)
    c.call("basic.cancel", consumer_tag="t")
    c.call("channel.close", reply_code=200)
    c.call("channel.open")
    c.wait_queue(q, 2, 0)
    c.call("basic.get", queue=q)


@conversation
def nowait_cancel_has_no_answer(t):
    c, q = consuming(t, 0)
    c.send("basic.cancel", consumer_tag="t", nowait=True)
    c.call("queue.declare", queue=q, passive=True)


@conversation
def cancel_twice(t):
    c, _ = consuming(t, 0)
    c.call("basic.cancel", consumer_tag="t")
    c.call("basic.cancel", consumer_tag="t")


@conversation
def another_channels_tag_is_unknown(t):
    c, q = consuming(t, 0)
    c.call("channel.open", 2)
    c.call("basic.cancel", 2, consumer_tag="t")
    c.call("queue.declare", 2, queue=q, passive=True)


@conversation
def every_consumer_of_a_deleted_queue_is_notified(t):
    c, q = consuming(t, 0)
    c.call("channel.open", 2)
    c.call("basic.consume", 2, queue=q, consumer_tag="second")
    c.call("channel.open", 3)
    c.call("queue.delete", 3, queue=q)
    c.read(1, 1)
    c.read(1, 2)


@conversation
def the_deleting_channel_is_notified_too(t):
    c, q = consuming(t, 1)
    c.send("queue.delete", queue=q, nowait=True)
    c.read(1)


@conversation
def a_client_cancel_ok_is_not_expected(t):
    c, q = consuming(t, 0)
    c.send("basic.cancel-ok", consumer_tag="t")
    c.read(1, 0)
