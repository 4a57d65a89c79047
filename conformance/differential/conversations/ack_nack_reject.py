"""basic.ack, nack and reject: tags, multiple, requeue order (rows 15-18, 26, 27, 29)."""

from harness.conversation import conversation


def got(t, count, gets=None, channels=1):
    """A queue of `count` messages of which the first `gets` were got on channel 1."""
    c, q = t.connect(channels=channels), t.name("q")
    c.call("queue.declare", queue=q)
    for n in range(count):
        c.publish("", q, f"m{n}")
    c.wait_queue(q, count, 0)
    for _ in range(count if gets is None else gets):
        c.call("basic.get", queue=q)
    return c, q


def drain(c, q, count, ch=1):
    for _ in range(count):
        c.call("basic.get", ch, queue=q)


@conversation
def an_acked_message_is_gone(t):
    c, q = got(t, 2, channels=2)
    c.send("basic.ack", delivery_tag=1)
    c.call("channel.close", reply_code=200)
    c.wait_queue(q, 1, 0, ch=2)
    c.call("basic.get", 2, queue=q)


@conversation
def ack_of_an_unknown_tag(t):
    c, _ = got(t, 1)
    c.send("basic.ack", delivery_tag=2)
    c.read(1)


@conversation
def ack_of_the_same_tag_twice(t):
    c, _ = got(t, 1)
    c.send("basic.ack", delivery_tag=1)
    c.send("basic.ack", delivery_tag=1)
    c.read(1)


@conversation
def ack_of_tag_zero_alone_is_unknown(t):
    c, _ = got(t, 1)
    c.send("basic.ack", delivery_tag=0)
    c.read(1)


@conversation
def ack_of_tag_zero_with_multiple_is_everything(t):
    c, q = got(t, 3, channels=2)
    c.send("basic.ack", delivery_tag=0, multiple=True)
    c.call("channel.close", reply_code=200)
    c.call("queue.declare", 2, queue=q, passive=True)


@conversation
def ack_of_tag_zero_with_multiple_and_nothing_outstanding(t):
    c = t.connect()
    c.send("basic.ack", delivery_tag=0, multiple=True)
    c.sync()


@conversation
def multiple_acks_up_to_the_tag(t):
    c, q = got(t, 4, channels=2)
    c.send("basic.ack", delivery_tag=3, multiple=True)
    c.call("channel.close", reply_code=200)
    c.wait_queue(q, 1, 0, ch=2)
    c.call("basic.get", 2, queue=q)


@conversation
def multiple_with_a_tag_that_is_not_outstanding(t):
    c, _ = got(t, 3)
    c.send("basic.ack", delivery_tag=2)
    c.send("basic.ack", delivery_tag=2, multiple=True)
    c.read(1)


@conversation
def multiple_with_a_tag_beyond_the_last(t):
    c, _ = got(t, 2)
    c.send("basic.ack", delivery_tag=9, multiple=True)
    c.read(1)


@conversation
def an_error_in_an_ack_requeues_the_rest(t):
    c, q = got(t, 2, channels=2)
    c.send("basic.ack", delivery_tag=7)
    c.read(1)
    c.wait_queue(q, 2, 0, ch=2)
    drain(c, q, 2, 2)


@conversation
def acks_in_any_order(t):
    c, q = got(t, 5, channels=2)
    for tag in (4, 1, 5, 2):
        c.send("basic.ack", delivery_tag=tag)
    c.call("channel.close", reply_code=200)
    c.wait_queue(q, 1, 0, ch=2)
    drain(c, q, 1, 2)


@conversation
def a_no_ack_delivery_cannot_be_acked(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q)
    c.call("basic.consume", queue=q, consumer_tag="t", no_ack=True)
    c.publish("", q, "m")
    c.read(1)
    c.send("basic.ack", delivery_tag=1)
    c.read(1)


@conversation
def tags_of_another_channel_are_unknown(t):
    c, q = got(t, 1, channels=2)
    c.send("basic.ack", 2, delivery_tag=1)
    c.read(1, 2)


@conversation
def reject_with_requeue_comes_back_redelivered(t):
    c, q = got(t, 1)
    c.send("basic.reject", delivery_tag=1, requeue=True)
    c.wait_queue(q, 1, 0)
    drain(c, q, 1)


@conversation
def reject_without_requeue_is_gone(t):
    c, q = got(t, 1)
    c.send("basic.reject", delivery_tag=1)
    c.sync()
    c.call("channel.close", reply_code=200)
    c.call("channel.open")
    c.call("basic.get", queue=q)


@conversation
def reject_of_an_unknown_tag(t):
    c, _ = got(t, 1)
    c.send("basic.reject", delivery_tag=5, requeue=True)
    c.read(1)


@conversation
def nack_of_an_unknown_tag(t):
    c, _ = got(t, 1)
    c.send("basic.nack", delivery_tag=5, requeue=True)
    c.read(1)


@conversation
def nack_multiple_requeues_in_the_original_order(t):
    c, q = got(t, 5, 4)
    c.send("basic.nack", delivery_tag=3, multiple=True, requeue=True)
    c.wait_queue(q, 4, 0)
    drain(c, q, 4)


@conversation
def nack_of_tag_zero_with_multiple_requeues_all(t):
    c, q = got(t, 3)
    c.send("basic.nack", delivery_tag=0, multiple=True, requeue=True)
    c.wait_queue(q, 3, 0)
    drain(c, q, 3)


@conversation
def nack_without_requeue_is_gone(t):
    c, q = got(t, 3, channels=2)
    c.send("basic.nack", delivery_tag=2, multiple=True)
    c.call("channel.close", reply_code=200)
    c.wait_queue(q, 1, 0, ch=2)
    drain(c, q, 1, 2)


@conversation
def requeued_messages_take_their_original_position(t):
    c, q = got(t, 5, 3)
    c.send("basic.nack", delivery_tag=3, requeue=True)
    c.send("basic.nack", delivery_tag=1, requeue=True)
    c.wait_queue(q, 4, 0)
    drain(c, q, 4)


@conversation
def a_requeued_message_goes_to_the_next_consumer(t):
    c, d, q = t.connect(), t.connect(), t.name("q")
    c.call("queue.declare", queue=q)
    c.call("basic.consume", queue=q, consumer_tag="one")
    c.publish("", q, "m")
    c.read(1)
    d.call("basic.consume", queue=q, consumer_tag="two")
    c.call("basic.cancel", consumer_tag="one")
    c.send("basic.reject", delivery_tag=1, requeue=True)
    d.read(1)


@conversation
def a_sole_consumer_gets_its_rejected_message_again(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q)
    c.call("basic.consume", queue=q, consumer_tag="one")
    c.publish("", q, "m")
    c.read(1)
    for tag in (1, 2, 3):
        c.send("basic.nack", delivery_tag=tag, requeue=True)
        c.read(1)


@conversation
def a_message_that_was_never_seen_may_still_be_redelivered(t):
    c, d, q = t.connect(), t.connect(), t.name("q")
    c.call("queue.declare", queue=q)
    for n in range(2):
        c.publish("", q, f"m{n}")
    c.wait_queue(q, 2, 0)
    c.call("basic.consume", queue=q, consumer_tag="t")
    c.read(2)
    c.abort()
    d.wait_queue(q, 2, 0)
    drain(d, q, 2)


@conversation
def ack_and_nack_within_one_segment(t):
    c, q = got(t, 4)
    c.send("basic.ack", delivery_tag=2)
    c.send("basic.nack", delivery_tag=3, requeue=True, multiple=True)
    c.send("basic.ack", delivery_tag=4)
    c.wait_queue(q, 2, 0)
    drain(c, q, 3)
