"""Exclusive queues: the lock on every operation, their end (rows 4-6, 73)."""

from harness.conversation import conversation


def locked(t, channels=1):
    """An exclusive queue of one connection, and another connection."""
    c, d, q = t.connect(), t.connect(channels=channels), t.name("q")
    c.call("queue.declare", queue=q, exclusive=True)
    return c, d, q


@conversation
def another_connection_is_refused_every_operation(t):
    _, d, q = locked(t, 8)
    d.call("queue.declare", 1, queue=q, exclusive=True)
    d.call("queue.declare", 2, queue=q, passive=True)
    d.call("basic.consume", 3, queue=q, consumer_tag="t")
    d.call("basic.get", 4, queue=q)
    d.call("queue.bind", 5, queue=q, exchange="amq.direct", routing_key="k")
    d.call("queue.unbind", 6, queue=q, exchange="amq.direct", routing_key="k")
    d.call("queue.purge", 7, queue=q)
    d.call("queue.delete", 8, queue=q)


@conversation
def another_connection_declares_without_exclusive(t):
    _, d, q = locked(t)
    d.call("queue.declare", queue=q)


@conversation
def another_connection_may_publish(t):
    c, d, q = locked(t)
    d.publish("", q, "m", mandatory=True)
    c.wait_queue(q, 1, 0)
    c.call("basic.get", queue=q)


@conversation
def the_owner_uses_it_on_every_channel(t):
    c, _, q = locked(t)
    c.call("channel.open", 2)
    c.call("queue.declare", 2, queue=q, exclusive=True)
    c.call("basic.consume", 2, queue=q, consumer_tag="t")
    c.publish("", q, "m")
    c.read(1, 2)


@conversation
def it_survives_its_channel(t):
    c, _, q = locked(t)
    c.call("channel.close", reply_code=200)
    c.call("channel.open", 2)
    c.call("queue.declare", 2, queue=q, passive=True)


@conversation
def it_is_gone_before_connection_close_ok(t):
    c, d, q = locked(t)
    c.close()
    d.call("queue.declare", queue=q, passive=True)


@conversation
def it_goes_with_a_lost_connection(t):
    c, d, q = locked(t)
    c.abort()
    d.wait_missing(q)
    d.call("queue.declare", queue=q, passive=True)


@conversation
def its_name_is_free_afterwards(t):
    c, d, q = locked(t)
    c.close()
    d.call("queue.declare", queue=q, durable=True)


@conversation
def an_exclusive_queue_with_auto_delete_goes_with_its_consumer(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q, exclusive=True, auto_delete=True)
    c.call("basic.consume", queue=q, consumer_tag="t")
    c.call("basic.cancel", consumer_tag="t")
    c.call("queue.declare", queue=q, passive=True)


@conversation
def the_bindings_of_an_exclusive_queue_go_with_it(t):
    c, d, q = locked(t)
    c.call("queue.bind", queue=q, exchange="amq.direct", routing_key=q)
    c.close()
    d.publish("amq.direct", q, "m", mandatory=True)
    d.read(1)
