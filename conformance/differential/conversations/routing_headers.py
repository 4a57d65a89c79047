"""The headers exchange: x-match, types of values, presence tests, x- keys."""

from harness.codec import Typed
from harness.conversation import conversation


def match(t, arguments, *headers, kind="headers"):
    """Binds one queue with the arguments and shows which of the headers reach it."""
    c, x, q = t.connect(), t.name("x"), t.name("q")
    c.call("exchange.declare", exchange=x, type=kind)
    c.call("queue.declare", queue=q)
    reply = c.call("queue.bind", queue=q, exchange=x, arguments=arguments)
    if reply is None or reply.name != "queue.bind-ok":
        return
    c.call("confirm.select")
    for number, each in enumerate(headers):
        c.publish(x, "", f"m{number}", props={} if each is None else {"headers": each})
    c.confirms(len(headers))
    while (reply := c.call("basic.get", queue=q, no_ack=True)) and reply.name == "basic.get-ok":
        pass


@conversation
def all_wants_every_header(t):
    match(t, {"x-match": "all", "a": 1, "b": "two"},
          {"a": 1, "b": "two"}, {"a": 1}, {"b": "two", "a": 1, "c": 3}, {"a": 2, "b": "two"}, {}, None)


@conversation
def all_is_the_default(t):
    match(t, {"a": 1, "b": "two"}, {"a": 1, "b": "two"}, {"a": 1}, {"b": "two"})


@conversation
def any_wants_one_header(t):
    match(t, {"x-match": "any", "a": 1, "b": "two"},
          {"a": 1, "b": "two"}, {"a": 1}, {"b": "two"}, {"a": 2, "b": "three"}, {"c": 1}, {}, None)


@conversation
def no_arguments_match_everything_with_all(t):
    match(t, {}, {}, {"a": 1}, None)


@conversation
def no_arguments_match_nothing_with_any(t):
    match(t, {"x-match": "any"}, {}, {"a": 1}, None)


@conversation
def a_void_argument_tests_presence(t):
    match(t, {"a": None}, {"a": 1}, {"a": "x"}, {"a": None}, {"b": 1}, {})


@conversation
def x_keys_are_skipped(t):
    match(t, {"x-match": "all", "x-special": 1, "a": 1}, {"a": 1}, {"a": 1, "x-special": 2})


@conversation
def x_keys_are_skipped_with_any(t):
    match(t, {"x-match": "any", "x-special": 1, "a": 1}, {"x-special": 1}, {"a": 1})


@conversation
def all_with_x_compares_x_keys(t):
    match(t, {"x-match": "all-with-x", "x-special": 1, "a": 1},
          {"a": 1}, {"a": 1, "x-special": 1}, {"a": 1, "x-special": 2})


@conversation
def any_with_x_compares_x_keys(t):
    match(t, {"x-match": "any-with-x", "x-special": 1, "a": 1},
          {"x-special": 1}, {"a": 1}, {"x-special": 2})


@conversation
def an_invalid_x_match_is_refused(t):
    match(t, {"x-match": "some", "a": 1})


@conversation
def an_x_match_that_is_not_a_string_is_refused(t):
    match(t, {"x-match": 1, "a": 1})


@conversation
def numbers_compare_by_value(t):
    match(t, {"a": Typed("I", 5)}, {"a": Typed("b", 5)}, {"a": Typed("l", 5)}, {"a": Typed("d", 5.0)},
          {"a": "5"}, {"a": True})


@conversation
def strings_booleans_and_times_compare_by_type(t):
    match(t, {"x-match": "any", "s": "text", "t": True, "T": Typed("T", 1700000000)},
          {"s": b"text"}, {"t": Typed("b", 1)}, {"T": 1700000000}, {"T": Typed("T", 1700000000)},
          {"t": True})


@conversation
def tables_and_arrays_compare_as_a_whole(t):
    match(t, {"x-match": "any", "f": {"a": 1, "b": 2}, "l": [1, "two"]},
          {"f": {"a": 1, "b": 2}}, {"f": {"b": 2, "a": 1}}, {"l": [1, "two"]}, {"l": ["two", 1]})


@conversation
def keys_are_case_sensitive(t):
    match(t, {"Key": 1}, {"key": 1}, {"Key": 1})


@conversation
def the_routing_key_does_not_matter(t):
    c, x, q = t.connect(), t.name("x"), t.name("q")
    c.call("exchange.declare", exchange=x, type="headers")
    c.call("queue.declare", queue=q)
    c.call("queue.bind", queue=q, exchange=x, routing_key="bound", arguments={"a": 1})
    c.publish(x, "published", "m", props={"headers": {"a": 1}})
    c.wait_queue(q, 1, 0)


@conversation
def amq_match_is_a_headers_exchange(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q)
    c.call("queue.bind", queue=q, exchange="amq.match", arguments={q: 1})
    c.publish("amq.match", "", "m", props={"headers": {q: 1}})
    c.wait_queue(q, 1, 0)
