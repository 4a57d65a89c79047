"""Auto-delete queues and exchanges (rows 76, 77)."""

from harness.conversation import conversation


def auto_delete_queue(t, consume=True):
    c, d, q = t.connect(channels=2), t.connect(), t.name("q")
    c.call("queue.declare", queue=q, auto_delete=True)
    if consume:
        c.call("basic.consume", queue=q, consumer_tag="t")
    return c, d, q


@conversation
def a_queue_without_consumers_stays(t):
    c, d, q = auto_delete_queue(t, consume=False)
    c.publish("", q, "m")
    c.wait_queue(q, 1, 0)
    c.call("basic.get", queue=q)
    c.close()
    d.call("queue.declare", queue=q, passive=True)


@conversation
def a_queue_goes_with_the_cancel_of_its_last_consumer(t):
    c, _, q = auto_delete_queue(t)
    c.call("basic.cancel", consumer_tag="t")
    c.call("queue.declare", queue=q, passive=True)


@conversation
def a_queue_stays_while_another_consumer_is_there(t):
    c, _, q = auto_delete_queue(t)
    c.call("basic.consume", 2, queue=q, consumer_tag="u")
    c.call("basic.cancel", 1, consumer_tag="t")
    c.call("queue.declare", 2, queue=q, passive=True)
    c.call("basic.cancel", 2, consumer_tag="u")
    c.call("queue.declare", 2, queue=q, passive=True)


@conversation
def a_queue_goes_with_the_channel_of_its_last_consumer(t):
    c, _, q = auto_delete_queue(t)
    c.call("channel.close", reply_code=200)
    c.call("queue.declare", 2, queue=q, passive=True)


@conversation
def a_queue_goes_with_a_closed_connection(t):
    c, d, q = auto_delete_queue(t)
    c.close()
    d.wait_missing(q)


@conversation
def a_queue_goes_with_a_lost_connection(t):
    c, d, q = auto_delete_queue(t)
    c.abort()
    d.wait_missing(q)


@conversation
def messages_go_with_the_queue(t):
    c, _, q = auto_delete_queue(t)
    c.publish("", q, "m")
    c.read(1)
    c.call("basic.cancel", consumer_tag="t")
    c.send("basic.ack", delivery_tag=1)
    c.sync()
    c.call("queue.declare", queue=q, auto_delete=True)


@conversation
def an_exchange_goes_with_its_last_queue_binding(t):
    c, x, q = t.connect(), t.name("x"), t.name("q")
    c.call("exchange.declare", exchange=x, type="fanout", auto_delete=True)
    c.call("queue.declare", queue=q)
    c.call("queue.bind", queue=q, exchange=x, routing_key="a")
    c.call("queue.bind", queue=q, exchange=x, routing_key="b")
    c.call("queue.unbind", queue=q, exchange=x, routing_key="a")
    c.call("exchange.declare", exchange=x, passive=True)
    c.call("queue.unbind", queue=q, exchange=x, routing_key="b")
    c.call("exchange.declare", exchange=x, passive=True)


@conversation
def an_exchange_without_bindings_stays(t):
    c, d, x = t.connect(), t.connect(), t.name("x")
    c.call("exchange.declare", exchange=x, type="fanout", auto_delete=True)
    c.close()
    d.call("exchange.declare", exchange=x, passive=True)


@conversation
def an_exchange_goes_with_its_last_queue(t):
    c, x, q = t.connect(), t.name("x"), t.name("q")
    c.call("exchange.declare", exchange=x, type="fanout", auto_delete=True)
    c.call("queue.declare", queue=q)
    c.call("queue.bind", queue=q, exchange=x)
    c.call("queue.delete", queue=q)
    c.call("exchange.declare", exchange=x, passive=True)


@conversation
def bindings_to_an_exchange_do_not_keep_it(t):
    c, x, q = t.connect(), t.name("x"), t.name("q")
    c.call("exchange.declare", exchange=x, type="fanout", auto_delete=True)
    c.call("exchange.bind", destination=x, source="amq.fanout", routing_key="nothing")
    c.call("exchange.unbind", destination=x, source="amq.fanout", routing_key="nothing")
    c.call("exchange.declare", exchange=x, passive=True)
    c.call("exchange.bind", destination=x, source="amq.direct", routing_key=x)
    c.call("queue.declare", queue=q)
    c.call("queue.bind", queue=q, exchange=x)
    c.call("queue.unbind", queue=q, exchange=x)
    c.publish("amq.direct", x, "m", mandatory=True)
    c.read(1)


@conversation
def exchanges_cascade(t):
    c, x, y, q = t.connect(channels=3), t.name("x"), t.name("y"), t.name("q")
    c.call("exchange.declare", exchange=x, type="fanout", auto_delete=True)
    c.call("exchange.declare", exchange=y, type="fanout", auto_delete=True)
    c.call("exchange.bind", destination=y, source=x)
    c.call("queue.declare", queue=q)
    c.call("queue.bind", queue=q, exchange=y)
    c.call("queue.delete", queue=q)
    c.call("exchange.declare", 2, exchange=y, passive=True)
    c.call("exchange.declare", 3, exchange=x, passive=True)


@conversation
def a_deleted_destination_exchange_triggers_it(t):
    c, x, y = t.connect(), t.name("x"), t.name("y")
    c.call("exchange.declare", exchange=x, type="fanout", auto_delete=True)
    c.call("exchange.declare", exchange=y, type="fanout")
    c.call("exchange.bind", destination=y, source=x)
    c.call("exchange.delete", exchange=y)
    c.call("exchange.declare", exchange=x, passive=True)


@conversation
def a_nowait_unbind_does_not_trigger_twice(t):
    c, x, q = t.connect(), t.name("x"), t.name("q")
    c.call("exchange.declare", exchange=x, type="fanout", auto_delete=True)
    c.call("queue.declare", queue=q)
    c.call("queue.bind", queue=q, exchange=x)
    c.call("queue.unbind", queue=q, exchange=x, routing_key="never")
    c.call("exchange.declare", exchange=x, passive=True)
