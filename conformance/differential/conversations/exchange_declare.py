"""exchange.declare and exchange.delete."""

from harness.codec import Typed
from harness.conversation import conversation


@conversation
def every_type_declares(t):
    c = t.connect()
    for kind in ("direct", "fanout", "topic", "headers"):
        c.call("exchange.declare", exchange=t.name(kind), type=kind)


@conversation
def redeclare_with_the_same_properties_succeeds(t):
    c, x = t.connect(), t.name("x")
    for _ in range(2):
        c.call("exchange.declare", exchange=x, type="topic", durable=True, internal=True)


@conversation
def redeclare_with_another_type_is_refused(t):
    c, x = t.connect(), t.name("x")
    c.call("exchange.declare", exchange=x, type="topic")
    c.call("exchange.declare", exchange=x, type="direct")


@conversation
def redeclare_with_another_durable_is_refused(t):
    c, x = t.connect(), t.name("x")
    c.call("exchange.declare", exchange=x, type="topic", durable=True)
    c.call("exchange.declare", exchange=x, type="topic")


@conversation
def redeclare_with_another_auto_delete_is_refused(t):
    c, x = t.connect(), t.name("x")
    c.call("exchange.declare", exchange=x, type="topic")
    c.call("exchange.declare", exchange=x, type="topic", auto_delete=True)


@conversation
def redeclare_with_another_internal_is_refused(t):
    c, x = t.connect(), t.name("x")
    c.call("exchange.declare", exchange=x, type="topic")
    c.call("exchange.declare", exchange=x, type="topic", internal=True)


@conversation
def the_first_difference_named_is_the_type(t):
    c, x = t.connect(), t.name("x")
    c.call("exchange.declare", exchange=x, type="topic")
    c.call("exchange.declare", exchange=x, type="fanout", durable=True, internal=True)


@conversation
def only_the_alternate_exchange_is_compared_among_arguments(t):
    c, x = t.connect(), t.name("x")
    c.call("exchange.declare", exchange=x, type="topic", arguments={"a": 1})
    c.call("exchange.declare", exchange=x, type="topic", arguments={"b": 2})
    c.call("exchange.declare", exchange=x, type="topic",
           arguments={"alternate-exchange": "amq.fanout"})


@conversation
def redeclare_with_another_alternate_exchange_is_refused(t):
    c, x = t.connect(), t.name("x")
    c.call("exchange.declare", exchange=x, type="topic", arguments={"alternate-exchange": "one"})
    c.call("exchange.declare", exchange=x, type="topic", arguments={"alternate-exchange": "two"})


@conversation
def redeclare_without_the_alternate_exchange_is_refused(t):
    c, x = t.connect(), t.name("x")
    c.call("exchange.declare", exchange=x, type="topic", arguments={"alternate-exchange": "one"})
    c.call("exchange.declare", exchange=x, type="topic")


@conversation
def an_alternate_exchange_that_is_not_a_string_is_refused(t):
    c, x = t.connect(), t.name("x")
    c.call("exchange.declare", exchange=x, type="topic", arguments={"alternate-exchange": 5})


@conversation
def an_unknown_type_is_refused(t):
    c = t.connect()
    c.send("exchange.declare", exchange=t.name("x"), type="x-unheard-of")
    c.read(1)


@conversation
def an_empty_type_is_refused(t):
    c = t.connect()
    c.send("exchange.declare", exchange=t.name("x"), type="")
    c.read(1)


@conversation
def a_passive_declare_of_a_missing_exchange_is_not_found(t):
    c = t.connect()
    c.call("exchange.declare", exchange=t.name("missing"), type="direct", passive=True)


@conversation
def a_passive_declare_ignores_the_type(t):
    c, x = t.connect(), t.name("x")
    c.call("exchange.declare", exchange=x, type="topic")
    c.call("exchange.declare", exchange=x, type="direct", passive=True, durable=True)
    c.call("exchange.declare", exchange=x, type="nonsense", passive=True)
    c.call("exchange.declare", exchange=x, passive=True)


@conversation
def nowait_declares_without_an_answer(t):
    c, x = t.connect(), t.name("x")
    c.send("exchange.declare", exchange=x, type="fanout", nowait=True)
    c.call("exchange.declare", exchange=x, type="fanout", passive=True)


@conversation
def nowait_declare_still_reports_errors(t):
    c, x = t.connect(), t.name("x")
    c.call("exchange.declare", exchange=x, type="fanout")
    c.send("exchange.declare", exchange=x, type="direct", nowait=True)
    c.read(1)


@conversation
def line_ends_are_stripped_from_names(t):
    c, x = t.connect(), t.name("x")
    c.call("exchange.declare", exchange=f"\n{x}\r\n", type="fanout")
    c.call("exchange.declare", exchange=x, passive=True)


@conversation
def deleting_a_missing_exchange_succeeds(t):
    c = t.connect()
    c.call("exchange.delete", exchange=t.name("missing"))
    c.call("exchange.delete", exchange=t.name("missing2"), if_unused=True)


@conversation
def a_deleted_exchange_is_gone(t):
    c, x = t.connect(), t.name("x")
    c.call("exchange.declare", exchange=x, type="fanout", durable=True)
    c.call("exchange.delete", exchange=x)
    c.call("exchange.declare", exchange=x, passive=True)


@conversation
def delete_if_unused_refuses_an_exchange_with_bindings(t):
    c, x, q = t.connect(), t.name("x"), t.name("q")
    c.call("exchange.declare", exchange=x, type="fanout")
    c.call("queue.declare", queue=q)
    c.call("queue.bind", queue=q, exchange=x)
    c.call("exchange.delete", exchange=x, if_unused=True)


@conversation
def delete_if_unused_ignores_bindings_to_the_exchange(t):
    c, x = t.connect(), t.name("x")
    c.call("exchange.declare", exchange=x, type="fanout")
    c.call("exchange.bind", destination=x, source="amq.fanout", routing_key="none")
    c.call("exchange.delete", exchange=x, if_unused=True)


@conversation
def deleting_an_exchange_removes_its_bindings(t):
    c, x, q = t.connect(), t.name("x"), t.name("q")
    c.call("exchange.declare", exchange=x, type="fanout")
    c.call("queue.declare", queue=q)
    c.call("queue.bind", queue=q, exchange=x)
    c.call("exchange.delete", exchange=x)
    c.call("exchange.declare", exchange=x, type="fanout")
    c.publish(x, "", "m", mandatory=True)
    c.read(1)


@conversation
def nowait_delete_has_no_answer(t):
    c, x = t.connect(), t.name("x")
    c.call("exchange.declare", exchange=x, type="fanout")
    c.send("exchange.delete", exchange=x, nowait=True)
    c.call("exchange.declare", exchange=x, passive=True)


@conversation
def an_internal_exchange_refuses_publishes(t):
    c, x = t.connect(), t.name("x")
    c.call("exchange.declare", exchange=x, type="fanout", internal=True)
    c.publish(x, "", "m")
    c.read(1)


@conversation
def an_internal_exchange_takes_messages_from_exchanges(t):
    c, x, y, q = t.connect(), t.name("x"), t.name("y"), t.name("q")
    c.call("exchange.declare", exchange=x, type="fanout", internal=True)
    c.call("exchange.declare", exchange=y, type="fanout")
    c.call("queue.declare", queue=q)
    c.call("queue.bind", queue=q, exchange=x)
    c.call("exchange.bind", destination=x, source=y)
    c.publish(y, "key", "m")
    c.wait_queue(q, 1, 0)
    c.call("basic.get", queue=q)


@conversation
def arguments_of_any_type_are_accepted(t):
    c = t.connect()
    c.call("exchange.declare", exchange=t.name("x"), type="direct", arguments={
        "list": [1, "two", None, {"three": 3.5}], "x-any": Typed("T", 1700000000), "b": b"bytes"})
