"""queue.declare: equivalence of redeclarations, names, passive declares (rows 1-8, 10-12)."""

from harness.codec import Typed
from harness.conversation import conversation


@conversation
def declare_ok_counts_nothing_in_a_new_queue(t):
    c = t.connect()
    c.call("queue.declare", queue=t.name("q"))


@conversation
def redeclare_with_the_same_properties_succeeds(t):
    c, q = t.connect(), t.name("q")
    for _ in range(2):
        c.call("queue.declare", queue=q, durable=True, auto_delete=True)


@conversation
def redeclare_with_another_durable_is_refused(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q)
    c.call("queue.declare", queue=q, durable=True)


@conversation
def redeclare_with_another_auto_delete_is_refused(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q, auto_delete=True)
    c.call("queue.declare", queue=q)


@conversation
def redeclare_with_another_exclusive_is_locked_both_ways(t):
    c, q, p = t.connect(channels=2), t.name("q"), t.name("p")
    c.call("queue.declare", queue=q, exclusive=True)
    c.call("queue.declare", queue=q)
    c.call("queue.declare", 2, queue=p)
    c.call("queue.declare", 2, queue=p, exclusive=True)


@conversation
def the_first_difference_named_is_durable_then_auto_delete(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q)
    c.call("queue.declare", queue=q, durable=True, auto_delete=True, arguments={"x-max-length": 1})


@conversation
def redeclare_with_another_argument_value_is_refused(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q, arguments={"x-message-ttl": 60000})
    c.call("queue.declare", queue=q, arguments={"x-message-ttl": 61000})


@conversation
def redeclare_with_an_argument_that_is_not_set_is_refused(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q)
    c.call("queue.declare", queue=q, arguments={"x-message-ttl": 2})


@conversation
def redeclare_without_an_argument_that_is_set_is_refused(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q, arguments={"x-message-ttl": 60000})
    c.call("queue.declare", queue=q)


@conversation
def redeclare_with_another_string_argument_is_refused(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q, arguments={"x-dead-letter-exchange": "one"})
    c.call("queue.declare", queue=q, arguments={"x-dead-letter-exchange": "two"})


@conversation
def redeclare_with_another_boolean_argument_is_refused(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q, arguments={"x-single-active-consumer": True})
    c.call("queue.declare", queue=q, arguments={"x-single-active-consumer": False})


@conversation
def redeclare_with_a_string_for_an_integer_is_invalid(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q, arguments={"x-message-ttl": 60000})
    c.call("queue.declare", queue=q, arguments={"x-message-ttl": "60000"})


@conversation
def integers_of_different_width_compare_equal(t):
    c, q = t.connect(), t.name("q")
    for letter in "bBsuIil":
        c.call("queue.declare", queue=q, arguments={"x-max-length": Typed(letter, 100)})


@conversation
def arguments_in_another_order_compare_equal(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q, arguments={"x-max-length": 10, "x-message-ttl": 60000})
    c.call("queue.declare", queue=q, arguments={"x-message-ttl": 60000, "x-max-length": 10})


@conversation
def unknown_arguments_never_differ(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q, arguments={"x-unheard-of": 1, "plain": "a"})
    c.call("queue.declare", queue=q, arguments={"x-unheard-of": 2})
    c.call("queue.declare", queue=q)


@conversation
def absent_queue_type_equals_classic(t):
    c, q, p = t.connect(), t.name("q"), t.name("p")
    c.call("queue.declare", queue=q)
    c.call("queue.declare", queue=q, arguments={"x-queue-type": "classic"})
    c.call("queue.declare", queue=p, arguments={"x-queue-type": "classic"})
    c.call("queue.declare", queue=p)


@conversation
def exclusive_queue_ignores_durable_on_redeclare(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q, exclusive=True, durable=True)
    c.call("queue.declare", queue=q, exclusive=True, durable=False)
    c.call("queue.declare", queue=q, exclusive=True, durable=True)


@conversation
def passive_declare_of_a_missing_queue_is_not_found(t):
    c = t.connect()
    c.call("queue.declare", queue=t.name("missing"), passive=True)


@conversation
def passive_declare_ignores_all_properties(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q)
    c.call("queue.declare", queue=q, passive=True, durable=True, auto_delete=True,
           arguments={"x-max-length": 1, "x-message-ttl": "nonsense"})


@conversation
def passive_declare_counts_ready_messages_and_consumers(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q)
    for _ in range(3):
        c.publish("", q, "m")
    c.wait_queue(q, 3, 0)
    c.call("basic.get", queue=q)
    c.call("queue.declare", queue=q, passive=True)
    c.call("basic.qos", prefetch_count=1)
    c.call("basic.consume", queue=q, consumer_tag="t")
    c.read(1)
    c.call("queue.declare", queue=q, passive=True)


@conversation
def passive_declare_ignores_exclusive_for_its_own_connection(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q, exclusive=True)
    c.call("queue.declare", queue=q, passive=True)


@conversation
def nowait_declares_without_an_answer(t):
    c, q = t.connect(), t.name("q")
    c.send("queue.declare", queue=q, nowait=True)
    c.sync()
    c.call("queue.declare", queue=q, passive=True)


@conversation
def nowait_declare_still_reports_errors(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q)
    c.send("queue.declare", queue=q, durable=True, nowait=True)
    c.read(1)


@conversation
def passive_nowait_declare_of_a_missing_queue_is_not_found(t):
    c = t.connect()
    c.send("queue.declare", queue=t.name("missing"), passive=True, nowait=True)
    c.read(1)


@conversation
def names_keep_spaces_and_unicode(t):
    c, q = t.connect(), t.name("Grüße an 世界 \u00a0!")
    c.call("queue.declare", queue=q)
    c.call("queue.declare", queue=q + "?", passive=True)


@conversation
def carriage_return_and_line_feed_are_stripped_from_names(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=f"\r\n{q[:3]}\r{q[3:]}\n")
    c.call("queue.declare", queue=q, passive=True)
    c.call("queue.delete", queue=f"{q}\r\n")
    c.call("queue.declare", queue=q + "\n", passive=True)


@conversation
def a_name_of_255_bytes_is_accepted(t):
    c, name = t.connect(), t.name("n" * 246)
    assert len(name) == 255
    c.call("queue.declare", queue=name)


@conversation
def error_text_about_a_long_name_is_cut(t):
    c, name = t.connect(), t.name("n" * 246)
    c.call("queue.declare", queue=name, passive=True)


@conversation
def error_text_about_a_long_unicode_name_is_cut(t):
    c = t.connect(channels=2)
    c.call("queue.declare", 1, queue=t.name("ü" * 123), passive=True)
    c.call("queue.declare", 2, queue=t.name("x" + "世" * 81), passive=True)


@conversation
def the_ticket_field_is_ignored(t):
    c = t.connect()
    c.call("queue.declare", queue=t.name("q"), ticket=4711)
