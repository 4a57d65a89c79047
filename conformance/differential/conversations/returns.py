"""basic.return: content, order, what counts as routed."""

from harness.conversation import conversation


@conversation
def a_return_carries_the_whole_message(t):
    c = t.connect()
    c.publish("amq.topic", "no.where.at.all", b"body" * 5, mandatory=True, props={
        "content_type": "text/plain", "headers": {"a": 1, "b": [1, None]}, "delivery_mode": 2,
        "expiration": "1000", "timestamp": 5})
    c.read(1)


@conversation
def a_return_of_an_empty_body(t):
    c = t.connect()
    c.publish("", "nowhere", mandatory=True)
    c.read(1)


@conversation
def a_return_of_a_large_body(t):
    c = t.connect()
    c.publish("", "nowhere", b"z" * 200000, mandatory=True, frames=[100000, 100000])
    c.read(1)


@conversation
def returns_keep_the_order_of_publishes(t):
    c = t.connect()
    for n in range(5):
        c.publish("", f"nowhere{n}", f"m{n}", mandatory=True)
    c.read(5)


@conversation
def a_routed_mandatory_message_is_not_returned(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q)
    c.publish("", q, "m", mandatory=True)
    c.wait_queue(q, 1, 0)
    c.sync()


@conversation
def an_exchange_without_bindings_returns(t):
    c, x = t.connect(), t.name("x")
    for kind in ("fanout", "headers", "topic", "direct"):
        name = t.name(kind)
        c.call("exchange.declare", exchange=name, type=kind)
        c.publish(name, "k", "m", mandatory=True)
        c.read(1)


@conversation
def a_message_that_ends_in_an_empty_exchange_is_returned(t):
    c, x, y = t.connect(), t.name("x"), t.name("y")
    c.call("exchange.declare", exchange=x, type="fanout")
    c.call("exchange.declare", exchange=y, type="fanout")
    c.call("exchange.bind", destination=y, source=x)
    c.publish(x, "k", "m", mandatory=True)
    c.read(1)
