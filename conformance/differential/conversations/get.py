"""basic.get."""

from harness.conversation import conversation


@conversation
def an_empty_queue_gives_get_empty(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q)
    c.call("basic.get", queue=q)


@conversation
def message_count_is_what_is_left(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q)
    for n in range(3):
        c.publish("", q, f"m{n}")
    c.wait_queue(q, 3, 0)
    for _ in range(4):
        c.call("basic.get", queue=q)


@conversation
def no_ack_takes_a_tag_and_needs_no_ack(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q)
    for n in range(2):
        c.publish("", q, f"m{n}")
    c.wait_queue(q, 2, 0)
    c.call("basic.get", queue=q, no_ack=True)
    c.call("basic.get", queue=q)
    c.send("basic.ack", delivery_tag=2)
    c.sync()


@conversation
def a_missing_queue_is_not_found(t):
    t.connect().call("basic.get", queue=t.name("missing"))


@conversation
def get_does_not_count_to_the_prefetch(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q)
    c.call("basic.qos", prefetch_count=1)
    for n in range(4):
        c.publish("", q, f"m{n}")
    c.wait_queue(q, 4, 0)
    for _ in range(2):
        c.call("basic.get", queue=q)
    c.call("basic.consume", queue=q, consumer_tag="t")
    c.read(1)
    c.call("basic.get", queue=q)


@conversation
def get_names_exchange_and_key_of_the_publish(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q)
    c.call("queue.bind", queue=q, exchange="amq.topic", routing_key=f"{q}.#")
    c.publish("amq.topic", f"{q}.x.y", "m")
    c.wait_queue(q, 1, 0)
    c.call("basic.get", queue=q)
