"""basic.qos: per consumer, per channel, what counts (rows 18, 23-25, 75)."""

from harness.conversation import conversation


def queue_of(c, t, count, stem="q"):
    q = t.name(stem)
    c.call("queue.declare", queue=q)
    for n in range(count):
        c.publish("", q, f"{stem}{n}")
    c.wait_queue(q, count, 0)
    return q


@conversation
def prefetch_size_is_not_implemented(t):
    c = t.connect()
    c.send("basic.qos", prefetch_size=1)
    c.read(1, 0)


@conversation
def the_window_opens_with_each_ack(t):
    c = t.connect()
    q = queue_of(c, t, 4)
    c.call("basic.qos", prefetch_count=2)
    c.call("basic.consume", queue=q, consumer_tag="t")
    c.read(2)
    c.sync_queue(q)
    c.send("basic.ack", delivery_tag=1)
    c.read(1)
    c.send("basic.ack", delivery_tag=3, multiple=True)
    c.read(1)


@conversation
def zero_is_unlimited(t):
    c = t.connect()
    q = queue_of(c, t, 20)
    c.call("basic.qos", prefetch_count=0)
    c.call("basic.consume", queue=q, consumer_tag="t")
    c.read(20)


@conversation
def no_ack_consumers_have_no_window(t):
    c = t.connect()
    q = queue_of(c, t, 5)
    c.call("basic.qos", prefetch_count=1)
    c.call("basic.consume", queue=q, consumer_tag="t", no_ack=True)
    c.read(5)


@conversation
def each_consumer_has_a_window_of_its_own(t):
    c = t.connect()
    q, p = queue_of(c, t, 3), queue_of(c, t, 3, "p")
    c.call("basic.qos", prefetch_count=2)
    c.call("basic.consume", queue=q, consumer_tag="q")
    c.read(2)
    c.call("basic.consume", queue=p, consumer_tag="p")
    c.read(2)
    c.sync_queue(q)
    c.sync_queue(p)


@conversation
def a_change_does_not_touch_existing_consumers(t):
    c = t.connect()
    q = queue_of(c, t, 4)
    c.call("basic.qos", prefetch_count=1)
    c.call("basic.consume", queue=q, consumer_tag="t")
    c.read(1)
    c.call("basic.qos", prefetch_count=3)
    c.sync_queue(q)
    c.call("basic.consume", queue=q, consumer_tag="u")
    c.read(3)


@conversation
def a_reject_opens_the_window(t):
    c = t.connect()
    q = queue_of(c, t, 2)
    c.call("basic.qos", prefetch_count=1)
    c.call("basic.consume", queue=q, consumer_tag="t")
    c.read(1)
    c.send("basic.reject", delivery_tag=1)
    c.read(1)


@conversation
def the_global_window_is_shared_by_all_consumers(t):
    c = t.connect()
    q, p = queue_of(c, t, 3), queue_of(c, t, 3, "p")
    c.call("basic.qos", prefetch_count=4, **{"global": True})
    c.call("basic.consume", queue=q, consumer_tag="q")
    c.read(3)
    c.call("basic.consume", queue=p, consumer_tag="p")
    c.read(1)
    c.sync_queue(q)
    c.sync_queue(p)
    c.send("basic.ack", delivery_tag=2, multiple=True)
    c.read(2)


@conversation
def both_windows_hold(t):
    c = t.connect()
    q = queue_of(c, t, 6)
    c.call("basic.qos", prefetch_count=3, **{"global": True})
    c.call("basic.qos", prefetch_count=2)
    c.call("basic.consume", queue=q, consumer_tag="t")
    c.read(2)
    c.sync_queue(q)
    c.call("basic.consume", queue=q, consumer_tag="u")
    c.read(1)
    c.sync_queue(q)


@conversation
def channels_have_windows_of_their_own(t):
    c = t.connect(channels=2)
    q = queue_of(c, t, 4)
    c.call("basic.qos", 1, prefetch_count=1)
    c.call("basic.consume", 1, queue=q, consumer_tag="t")
    c.read(1, 1)
    c.call("basic.consume", 2, queue=q, consumer_tag="t")
    c.read(3, 2)
