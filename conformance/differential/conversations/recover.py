"""basic.recover and basic.recover-async (row 75)."""

from harness.conversation import conversation


def got(t, count):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q)
    for n in range(count):
        c.publish("", q, f"m{n}")
    c.wait_queue(q, count, 0)
    for _ in range(count):
        c.call("basic.get", queue=q)
    return c, q


@conversation
def recover_requeues_in_order(t):
    c, q = got(t, 3)
    c.call("basic.recover", requeue=True)
    c.wait_queue(q, 3, 0)
    for _ in range(3):
        c.call("basic.get", queue=q)


@conversation
def recover_with_nothing_outstanding(t):
    c = t.connect()
    c.call("basic.recover", requeue=True)


@conversation
def recover_without_requeue_is_not_implemented(t):
    c, _ = got(t, 1)
    c.send("basic.recover", requeue=False)
    c.read(1, 0)


@conversation
def recover_async_has_no_answer(t):
    c, q = got(t, 2)
    c.send("basic.recover-async", requeue=True)
    c.wait_queue(q, 2, 0)
    c.call("basic.get", queue=q)


@conversation
def recover_async_without_requeue_is_not_implemented(t):
    c, _ = got(t, 1)
    c.send("basic.recover-async", requeue=False)
    c.read(1, 0)


@conversation
def recovered_tags_are_unknown(t):
    c, q = got(t, 1)
    c.call("basic.recover", requeue=True)
    c.wait_queue(q, 1, 0)
    c.send("basic.ack", delivery_tag=1)
    c.read(1)


@conversation
def recover_leaves_acked_messages_alone(t):
    c, q = got(t, 3)
    c.send("basic.ack", delivery_tag=2)
    c.call("basic.recover", requeue=True)
    c.wait_queue(q, 2, 0)
    for _ in range(2):
        c.call("basic.get", queue=q)
