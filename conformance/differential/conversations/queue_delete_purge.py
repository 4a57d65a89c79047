"""queue.delete and queue.purge: counts, if-unused, if-empty, missing queues (rows 12-14)."""

from harness.conversation import conversation


def filled(c, q, count, **fields):
    c.call("queue.declare", queue=q, **fields)
    for n in range(count):
        c.publish("", q, f"m{n}")
    c.wait_queue(q, count, 0)


@conversation
def delete_of_a_missing_queue_succeeds(t):
    c = t.connect()
    c.call("queue.delete", queue=t.name("missing"))
    c.call("queue.delete", queue=t.name("missing2"), if_empty=True, if_unused=True)


@conversation
def delete_returns_the_number_of_ready_messages(t):
    c, q = t.connect(), t.name("q")
    filled(c, q, 3)
    c.call("basic.get", queue=q)
    c.call("queue.delete", queue=q)
    c.call("queue.declare", queue=q, passive=True)


@conversation
def delete_if_empty_refuses_a_queue_with_messages(t):
    c, q = t.connect(), t.name("q")
    filled(c, q, 1)
    c.call("queue.delete", queue=q, if_empty=True)


@conversation
def delete_if_empty_takes_a_queue_with_unacked_messages(t):
    c, q = t.connect(), t.name("q")
    filled(c, q, 1)
    c.call("basic.get", queue=q)
    c.call("queue.delete", queue=q, if_empty=True)


@conversation
def delete_if_unused_refuses_a_queue_with_consumers(t):
    c, q = t.connect(), t.name("q")
    filled(c, q, 0)
    c.call("basic.consume", queue=q, consumer_tag="t")
    c.call("queue.delete", queue=q, if_unused=True)


@conversation
def delete_if_unused_takes_a_queue_whose_consumer_has_gone(t):
    c, q = t.connect(), t.name("q")
    filled(c, q, 2)
    c.call("basic.consume", queue=q, consumer_tag="t")
    c.read(2)
    c.call("basic.cancel", consumer_tag="t")
    c.call("queue.delete", queue=q, if_unused=True)


@conversation
def delete_with_both_conditions_names_not_empty_first(t):
    c, q = t.connect(), t.name("q")
    filled(c, q, 2)
    c.call("basic.qos", prefetch_count=1)
    c.call("basic.consume", queue=q, consumer_tag="t")
    c.read(1)
    c.call("queue.delete", queue=q, if_unused=True, if_empty=True)


@conversation
def nowait_delete_has_no_answer(t):
    c, q = t.connect(), t.name("q")
    filled(c, q, 0)
    c.send("queue.delete", queue=q, nowait=True)
    c.call("queue.declare", queue=q, passive=True)


@conversation
def delete_notifies_consumers_of_the_cancel(t):
    c, d, q = t.connect(), t.connect(), t.name("q")
    filled(c, q, 0)
    d.call("basic.consume", queue=q, consumer_tag="one")
    c.call("queue.delete", queue=q)
    d.read(1)
    d.call("basic.cancel", consumer_tag="one")


@conversation
def delete_does_not_notify_clients_without_the_capability(t):
    c, d, q = t.connect(), t.connect(capabilities={}), t.name("q")
    filled(c, q, 0)
    d.call("basic.consume", queue=q, consumer_tag="one")
    c.call("queue.delete", queue=q)
    d.sync()


@conversation
def acks_after_the_queue_was_deleted_are_accepted(t):
    c, q = t.connect(), t.name("q")
    filled(c, q, 2)
    c.call("basic.get", queue=q)
    c.call("basic.get", queue=q)
    c.call("queue.delete", queue=q)
    c.send("basic.ack", delivery_tag=1)
    c.send("basic.nack", delivery_tag=2, requeue=True)
    c.sync()


@conversation
def a_deleted_queue_leaves_no_bindings(t):
    c, q = t.connect(), t.name("q")
    filled(c, q, 0)
    c.call("queue.bind", queue=q, exchange="amq.direct", routing_key=q)
    c.call("queue.delete", queue=q)
    c.call("queue.declare", queue=q)
    c.publish("amq.direct", q, "m", mandatory=True)
    c.read(1)


@conversation
def purge_removes_ready_messages_only(t):
    c, q = t.connect(channels=2), t.name("q")
    filled(c, q, 5)
    c.call("basic.get", queue=q)
    c.call("basic.get", queue=q)
    c.call("queue.purge", queue=q)
    c.send("basic.nack", delivery_tag=2, multiple=True, requeue=True)
    c.wait_queue(q, 2, 0)
    c.call("basic.get", queue=q)
    c.call("basic.get", queue=q)


@conversation
def purge_of_an_empty_queue(t):
    c, q = t.connect(), t.name("q")
    filled(c, q, 0)
    c.call("queue.purge", queue=q)


@conversation
def purge_of_a_missing_queue_is_not_found(t):
    c = t.connect()
    c.call("queue.purge", queue=t.name("missing"))


@conversation
def nowait_purge_has_no_answer(t):
    c, q = t.connect(), t.name("q")
    filled(c, q, 2)
    c.send("queue.purge", queue=q, nowait=True)
    c.call("queue.declare", queue=q, passive=True)
