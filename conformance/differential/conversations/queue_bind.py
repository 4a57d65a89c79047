"""queue.bind and queue.unbind: identity of bindings, missing ends (rows 9, 13, 79)."""

from harness.codec import Typed
from harness.conversation import conversation


def exchange_and_queue(c, t, kind="direct"):
    x, q = t.name("x"), t.name("q")
    c.call("exchange.declare", exchange=x, type=kind)
    c.call("queue.declare", queue=q)
    return x, q


@conversation
def bind_and_unbind(t):
    c = t.connect()
    x, q = exchange_and_queue(c, t)
    c.call("queue.bind", queue=q, exchange=x, routing_key="k")
    c.publish(x, "k", "m")
    c.wait_queue(q, 1, 0)
    c.call("queue.unbind", queue=q, exchange=x, routing_key="k")
    c.publish(x, "k", "m", mandatory=True)
    c.read(1)


@conversation
def binding_twice_is_one_binding(t):
    c = t.connect()
    x, q = exchange_and_queue(c, t)
    c.call("queue.bind", queue=q, exchange=x, routing_key="k")
    c.call("queue.bind", queue=q, exchange=x, routing_key="k")
    c.publish(x, "k", "m")
    c.wait_queue(q, 1, 0)
    c.call("queue.unbind", queue=q, exchange=x, routing_key="k")
    c.publish(x, "k", "m", mandatory=True)
    c.read(1)


@conversation
def bindings_that_differ_in_arguments_are_two(t):
    c = t.connect()
    x, q = exchange_and_queue(c, t)
    c.call("queue.bind", queue=q, exchange=x, routing_key="k", arguments={"a": 1})
    c.call("queue.bind", queue=q, exchange=x, routing_key="k", arguments={"a": 2})
    c.call("queue.unbind", queue=q, exchange=x, routing_key="k", arguments={"a": 1})
    c.publish(x, "k", "m")
    c.wait_queue(q, 1, 0)
    c.call("queue.unbind", queue=q, exchange=x, routing_key="k")
    c.publish(x, "k", "m")
    c.wait_queue(q, 2, 0)
    c.call("queue.unbind", queue=q, exchange=x, routing_key="k", arguments={"a": 2})
    c.publish(x, "k", "m", mandatory=True)
    c.read(1)


@conversation
def the_order_of_arguments_is_no_part_of_a_binding(t):
    c = t.connect()
    x, q = exchange_and_queue(c, t)
    c.call("queue.bind", queue=q, exchange=x, routing_key="k", arguments={"a": 1, "b": 2})
    c.call("queue.unbind", queue=q, exchange=x, routing_key="k", arguments={"b": 2, "a": 1})
    c.publish(x, "k", "m", mandatory=True)
    c.read(1)


@conversation
def the_type_of_an_argument_is_part_of_a_binding(t):
    c = t.connect()
    x, q = exchange_and_queue(c, t)
    c.call("queue.bind", queue=q, exchange=x, routing_key="k", arguments={"a": Typed("I", 1)})
    c.call("queue.unbind", queue=q, exchange=x, routing_key="k", arguments={"a": Typed("l", 1)})
    c.publish(x, "k", "m")
    c.wait_queue(q, 1, 0)


@conversation
def a_queue_with_several_matching_bindings_gets_one_copy(t):
    c = t.connect()
    x, q = exchange_and_queue(c, t, "topic")
    for key in ("a.b", "a.*", "#", "*.b"):
        c.call("queue.bind", queue=q, exchange=x, routing_key=key)
    c.publish(x, "a.b", "m")
    c.wait_queue(q, 1, 0)


@conversation
def binding_a_missing_queue_is_not_found(t):
    c = t.connect()
    c.call("queue.bind", queue=t.name("missing"), exchange="amq.direct", routing_key="k")


@conversation
def binding_to_a_missing_exchange_is_not_found(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q)
    c.call("queue.bind", queue=q, exchange=t.name("missing"), routing_key="k")


@conversation
def binding_two_missing_ends_names_one(t):
    c = t.connect()
    c.call("queue.bind", queue=t.name("missing-q"), exchange=t.name("missing-x"), routing_key="k")


@conversation
def unbinding_what_was_not_bound_succeeds(t):
    c = t.connect()
    x, q = exchange_and_queue(c, t)
    c.call("queue.unbind", queue=q, exchange=x, routing_key="never")


@conversation
def unbinding_a_missing_queue(t):
    c = t.connect()
    c.call("queue.unbind", queue=t.name("missing"), exchange="amq.direct", routing_key="k")


@conversation
def unbinding_from_a_missing_exchange(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q)
    c.call("queue.unbind", queue=q, exchange=t.name("missing"), routing_key="k")


@conversation
def nowait_binds_without_an_answer(t):
    c = t.connect()
    x, q = exchange_and_queue(c, t)
    c.send("queue.bind", queue=q, exchange=x, routing_key="k", nowait=True)
    c.publish(x, "k", "m")
    c.wait_queue(q, 1, 0)


@conversation
def a_durable_exchange_takes_a_transient_queue(t):
    c, x, q = t.connect(), t.name("x"), t.name("q")
    c.call("exchange.declare", exchange=x, type="fanout", durable=True)
    c.call("queue.declare", queue=q)
    c.call("queue.bind", queue=q, exchange=x)
    c.publish(x, "", "m")
    c.wait_queue(q, 1, 0)
