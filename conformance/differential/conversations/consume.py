"""basic.consume and deliveries: tags, exclusivity, order, fairness, priorities (17-19, 21-23)."""

from harness.codec import Typed
from harness.conversation import conversation


def filled(c, q, count, **fields):
    c.call("queue.declare", queue=q, **fields)
    for n in range(count):
        c.publish("", q, f"m{n}")
    c.wait_queue(q, count, 0)


@conversation
def consume_ok_comes_before_the_first_delivery(t):
    c, q = t.connect(), t.name("q")
    filled(c, q, 3)
    c.send("basic.consume", queue=q, consumer_tag="t")
    c.read(4)


@conversation
def nowait_consume_delivers_without_consume_ok(t):
    c, q = t.connect(), t.name("q")
    filled(c, q, 2)
    c.send("basic.consume", queue=q, consumer_tag="t", nowait=True)
    c.read(2)


@conversation
def nowait_with_an_empty_tag_still_consumes(t):
    c, q = t.connect(), t.name("q")
    filled(c, q, 1)
    c.send("basic.consume", queue=q, nowait=True)
    c.read(1)


@conversation
def consuming_a_missing_queue_is_not_found(t):
    c = t.connect()
    c.call("basic.consume", queue=t.name("missing"), consumer_tag="t")


@conversation
def a_reused_tag_on_the_channel_closes_the_connection(t):
    c, q = t.connect(), t.name("q")
    filled(c, q, 0)
    c.call("basic.consume", queue=q, consumer_tag="t")
    c.send("basic.consume", queue=q, consumer_tag="t")
    c.read(1, 0)


@conversation
def another_channel_may_use_the_same_tag(t):
    c, q = t.connect(channels=2), t.name("q")
    filled(c, q, 0)
    c.call("basic.consume", 1, queue=q, consumer_tag="t")
    c.call("basic.consume", 2, queue=q, consumer_tag="t")


@conversation
def a_cancelled_tag_is_free_again(t):
    c, q = t.connect(), t.name("q")
    filled(c, q, 0)
    for _ in range(2):
        c.call("basic.consume", queue=q, consumer_tag="t")
        c.call("basic.cancel", consumer_tag="t")


@conversation
def get_and_consume_share_one_tag_space(t):
    c, q = t.connect(), t.name("q")
    filled(c, q, 5)
    c.call("basic.get", queue=q)
    c.call("basic.get", queue=q, no_ack=True)
    c.call("basic.qos", prefetch_count=1)
    c.call("basic.consume", queue=q, consumer_tag="t")
    c.read(1)
    c.call("basic.get", queue=q)
    c.send("basic.ack", delivery_tag=3)
    c.read(1)


@conversation
def exclusive_consume_refuses_others(t):
    c, q = t.connect(channels=2), t.name("q")
    filled(c, q, 0)
    c.call("basic.consume", 1, queue=q, consumer_tag="t", exclusive=True)
    c.call("basic.consume", 2, queue=q, consumer_tag="u")


@conversation
def exclusive_consume_is_refused_where_others_consume(t):
    c, q = t.connect(channels=2), t.name("q")
    filled(c, q, 0)
    c.call("basic.consume", 1, queue=q, consumer_tag="t")
    c.call("basic.consume", 2, queue=q, consumer_tag="u", exclusive=True)


@conversation
def exclusive_consume_is_free_after_the_cancel(t):
    c, q = t.connect(channels=2), t.name("q")
    filled(c, q, 0)
    c.call("basic.consume", 1, queue=q, consumer_tag="t", exclusive=True)
    c.call("basic.cancel", 1, consumer_tag="t")
    c.call("basic.consume", 2, queue=q, consumer_tag="u", exclusive=True)


@conversation
def get_works_beside_an_exclusive_consumer(t):
    c, q = t.connect(channels=2), t.name("q")
    filled(c, q, 2)
    c.call("basic.qos", prefetch_count=1)
    c.call("basic.consume", 1, queue=q, consumer_tag="t", exclusive=True)
    c.read(1)
    c.call("basic.get", 2, queue=q)


@conversation
def two_consumers_take_turns(t):
    c, q = t.connect(channels=3), t.name("q")
    filled(c, q, 0)
    c.call("basic.consume", 2, queue=q, consumer_tag="two")
    c.call("basic.consume", 3, queue=q, consumer_tag="three")
    for n in range(6):
        c.publish("", q, f"m{n}")
    c.read(3, 2)
    c.read(3, 3)


@conversation
def a_full_consumer_is_skipped(t):
    c, q = t.connect(channels=3), t.name("q")
    filled(c, q, 0)
    c.call("basic.qos", 2, prefetch_count=1)
    c.call("basic.consume", 2, queue=q, consumer_tag="small")
    c.call("basic.consume", 3, queue=q, consumer_tag="large")
    for n in range(5):
        c.publish("", q, f"m{n}")
    c.read(1, 2)
    c.read(4, 3)


@conversation
def several_consumers_on_one_channel(t):
    c, q, p = t.connect(channels=2), t.name("q"), t.name("p")
    filled(c, q, 0)
    filled(c, p, 0)
    c.call("basic.consume", 2, queue=q, consumer_tag="q")
    c.call("basic.consume", 2, queue=p, consumer_tag="p")
    for name in (q, p, p, q):
        c.publish("", name, "m")
        c.read(1, 2)


@conversation
def higher_priority_comes_first(t):
    c, q = t.connect(channels=3), t.name("q")
    filled(c, q, 0)
    c.call("basic.qos", 3, prefetch_count=2)
    c.call("basic.consume", 2, queue=q, consumer_tag="low")
    c.call("basic.consume", 3, queue=q, consumer_tag="high", arguments={"x-priority": 5})
    for n in range(4):
        c.publish("", q, f"m{n}")
    c.read(2, 3)
    c.read(2, 2)
    c.send("basic.ack", 3, delivery_tag=1)
    c.sync(3)
    c.publish("", q, "again")
    c.read(1, 3)


@conversation
def a_negative_priority_comes_last(t):
    c, q = t.connect(channels=3), t.name("q")
    filled(c, q, 0)
    c.call("basic.consume", 2, queue=q, consumer_tag="low",
           arguments={"x-priority": Typed("b", -1)})
    c.call("basic.consume", 3, queue=q, consumer_tag="normal")
    c.publish("", q, "m")
    c.read(1, 3)


@conversation
def a_priority_that_is_no_integer_is_refused(t):
    c, q = t.connect(), t.name("q")
    filled(c, q, 0)
    c.call("basic.consume", queue=q, consumer_tag="t", arguments={"x-priority": "high"})


@conversation
def no_local_is_ignored(t):
    c, q = t.connect(), t.name("q")
    filled(c, q, 0)
    c.call("basic.consume", queue=q, consumer_tag="t", no_local=True)
    c.publish("", q, "mine")
    c.read(1)


@conversation
def unknown_consumer_arguments_are_accepted(t):
    c, q = t.connect(), t.name("q")
    filled(c, q, 1)
    c.call("basic.consume", queue=q, consumer_tag="t",
           arguments={"x-unheard-of": 1, "x-cancel-on-ha-failover": True})
    c.read(1)


@conversation
def a_delivery_names_exchange_and_key_of_the_publish(t):
    c, x, q = t.connect(), t.name("x"), t.name("q")
    c.call("exchange.declare", exchange=x, type="topic")
    filled(c, q, 0)
    c.call("queue.bind", queue=q, exchange=x, routing_key="#")
    c.call("basic.consume", queue=q, consumer_tag="t")
    c.publish(x, "a.b.c", "m", props={"content_type": "x", "headers": {"k": "v"}})
    c.read(1)


@conversation
def large_and_empty_bodies_are_delivered(t):
    c, q = t.connect(), t.name("q")
    filled(c, q, 0)
    c.call("basic.consume", queue=q, consumer_tag="t", no_ack=True)
    for size in (0, 1, 20000, 131064, 131065, 400000):
        c.publish("", q, bytes(n % 253 for n in range(size)),
                  frames=[min(131064, size - at) for at in range(0, size, 131064)])
        c.read(1)


@conversation
def the_arguments_of_stream_consumers_are_refused(t):
    arguments = {"x-stream-offset": "first"}
    c, q, quorum = t.connect(channels=2), t.name("q"), t.name("quorum")
    c.call("queue.declare", queue=q)
    c.call("queue.declare", queue=quorum, durable=True, arguments={"x-queue-type": "quorum"})
    c.call("basic.consume", 1, queue=q, consumer_tag="t", arguments=arguments)
    c.call("basic.consume", 2, queue=quorum, consumer_tag="t", arguments=arguments)
