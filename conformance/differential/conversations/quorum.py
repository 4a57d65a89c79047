"""Quorum queues of one node: counts of deliveries, limit, order of return (rows 26, 30, 31, 81)."""

from harness.conversation import conversation


def quorum(t, c, stem="q", **arguments):
    q = t.name(stem)
    c.call("queue.declare", queue=q, durable=True, arguments={
        "x-queue-type": "quorum",
        **{f"x-{key.replace('_', '-')}": value for key, value in arguments.items()}})
    return q


def fill(c, q, *bodies):
    """Publishes and waits: a quorum queue answers questions about itself late."""
    c.call("confirm.select")
    for body in bodies:
        c.publish("", q, body)
    c.confirms(len(bodies))


@conversation
def messages_go_through(t):
    c = t.connect(channels=2)
    q = quorum(t, c)
    fill(c, q, "m1", "m2")
    c.call("basic.consume", 2, queue=q, consumer_tag="t")
    c.read(2, 2)
    c.send("basic.ack", 2, delivery_tag=2, multiple=True)
    c.sync(2)


@conversation
def a_rejected_message_shows_its_delivery_count(t):
    c = t.connect(channels=2)
    q = quorum(t, c)
    fill(c, q, "m")
    c.call("basic.qos", 2, prefetch_count=1)
    c.call("basic.consume", 2, queue=q, consumer_tag="t")
    c.read(1, 2)
    for tag in (1, 2):
        c.send("basic.reject", 2, delivery_tag=tag, requeue=True)
        c.read(1, 2)


@conversation
def the_delivery_limit_dead_letters(t):
    c = t.connect(channels=2)
    dead = t.name("dead")
    c.call("queue.declare", queue=dead)
    q = quorum(t, c, delivery_limit=2, dead_letter_exchange="", dead_letter_routing_key=dead)
    fill(c, q, "m")
    c.call("basic.qos", 2, prefetch_count=1)
    c.call("basic.consume", 2, queue=q, consumer_tag="t")
    for tag in (1, 2, 3):
        c.read(1, 2)
        c.send("basic.reject", 2, delivery_tag=tag, requeue=True)
    c.wait_queue(dead, 1, 0)
    c.call("basic.get", queue=dead, no_ack=True)


@conversation
def a_delivery_limit_of_zero_allows_one_delivery(t):
    c = t.connect(channels=2)
    dead = t.name("dead")
    c.call("queue.declare", queue=dead)
    q = quorum(t, c, delivery_limit=0, dead_letter_exchange="", dead_letter_routing_key=dead)
    fill(c, q, "m")
    c.call("basic.consume", 2, queue=q, consumer_tag="t")
    c.read(1, 2)
    c.send("basic.reject", 2, delivery_tag=1, requeue=True)
    c.wait_queue(dead, 1, 0)


@conversation
def rejections_without_requeue_are_dead_lettered(t):
    c = t.connect(channels=2)
    dead = t.name("dead")
    c.call("queue.declare", queue=dead)
    q = quorum(t, c, dead_letter_exchange="", dead_letter_routing_key=dead)
    fill(c, q, "m1", "m2")
    c.call("basic.consume", 2, queue=q, consumer_tag="t")
    c.read(2, 2)
    c.send("basic.nack", 2, delivery_tag=2, multiple=True, requeue=False)
    c.wait_queue(dead, 2, 0)
    c.call("basic.get", queue=dead, no_ack=True)
    c.call("basic.get", queue=dead, no_ack=True)


@conversation
def returned_messages_come_in_the_order_of_their_return(t):
    c = t.connect(channels=2)
    q = quorum(t, c, delivery_limit=20)
    fill(c, q, "m1", "m2", "m3", "m4")
    c.call("basic.qos", 2, prefetch_count=3)
    c.call("basic.consume", 2, queue=q, consumer_tag="t")
    c.read(3, 2)
    c.call("basic.cancel", 2, consumer_tag="t")
    c.send("basic.reject", 2, delivery_tag=2, requeue=True)
    c.sync(2)
    c.send("basic.reject", 2, delivery_tag=1, requeue=True)
    c.sync(2)
    c.send("basic.ack", 2, delivery_tag=3)
    c.sync(2)
    c.call("channel.open", 3)
    c.call("basic.consume", 3, queue=q, consumer_tag="u", no_ack=False)
    c.read(3, 3)


@conversation
def exclusive_auto_delete_and_transient_are_refused(t):
    c = t.connect(channels=4)
    arguments = {"x-queue-type": "quorum"}
    c.call("queue.declare", 1, queue=t.name("a"), durable=False, arguments=arguments)
    c.call("queue.declare", 2, queue=t.name("b"), durable=True, exclusive=True, arguments=arguments)
    c.call("queue.declare", 3, queue=t.name("c"), durable=True, auto_delete=True, arguments=arguments)
    c.call("queue.declare", 4, queue="", durable=True, arguments=arguments)


@conversation
def a_single_active_consumer_of_a_quorum_queue(t):
    c = t.connect(channels=4)
    q = quorum(t, c, single_active_consumer=True)
    fill(c, q, "m1")
    c.call("basic.consume", 2, queue=q, consumer_tag="a")
    c.call("basic.consume", 3, queue=q, consumer_tag="b")
    c.read(1, 2)
    c.send("basic.ack", 2, delivery_tag=1)
    c.call("basic.cancel", 2, consumer_tag="a")
    c.publish("", q, "m2", ch=4)
    c.read(1, 3)


@conversation
def reject_publish_of_a_quorum_queue_with_length_zero_is_declared(t):
    c = t.connect()
    quorum(t, c, max_length=1, overflow="reject-publish", dead_letter_exchange="amq.fanout",
           dead_letter_strategy="at-least-once")
    c.call("queue.declare", queue=t.name("other"))


@conversation
def a_declaration_does_not_keep_an_unused_queue(t):
    c = t.connect()
    q = quorum(t, c, expires=300)
    # It is declared passively all the time.
    c.wait_missing(q)
