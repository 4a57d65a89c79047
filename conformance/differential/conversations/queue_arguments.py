"""Arguments of queue.declare are checked at declaration; their effects are not tested here."""

from harness.codec import Typed
from harness.conversation import conversation


def declare(t, *tables, **fields):
    """Declares one queue per table, each on a channel of its own."""
    c = t.connect(channels=len(tables))
    for number, table in enumerate(tables, 1):
        c.call("queue.declare", number, queue=t.name(f"q{number}"), arguments=table, **fields)


@conversation
def message_ttl(t):
    declare(t, *({"x-message-ttl": value} for value in (
        0, 1, -1, "100", True, None, Typed("d", 1.0), 315360000000, 315360000001, Typed("l", 2**62))))


@conversation
def expires(t):
    declare(t, *({"x-expires": value} for value in (
        600000, 0, -1, "100", Typed("d", 1.0), 315360000000, 315360000001)))


@conversation
def max_length(t):
    declare(t, *({"x-max-length": value} for value in (
        0, 10, -1, "10", Typed("d", 1.0), Typed("l", 2**62))))


@conversation
def max_length_bytes(t):
    declare(t, *({"x-max-length-bytes": value} for value in (0, 10, -1, "10", [1])))


@conversation
def overflow(t):
    declare(t, *({"x-overflow": value} for value in (
        "drop-head", "reject-publish", "reject-publish-dlx", "drop-tail", "", 1)))


@conversation
def dead_letter_exchange(t):
    declare(t, *({"x-dead-letter-exchange": value} for value in ("", "anything", 1, True, None)))


@conversation
def dead_letter_routing_key(t):
    declare(t, {"x-dead-letter-routing-key": "k"},
            {"x-dead-letter-routing-key": "k", "x-dead-letter-exchange": ""},
            {"x-dead-letter-exchange": "x", "x-dead-letter-routing-key": ""},
            {"x-dead-letter-exchange": "x", "x-dead-letter-routing-key": 1})


@conversation
def max_priority(t):
    declare(t, *({"x-max-priority": value} for value in (0, 1, 10, 255, 256, -1, "5")))


@conversation
def single_active_consumer(t):
    declare(t, *({"x-single-active-consumer": value} for value in (True, False, 1, "true")))


@conversation
def exclusive_consume_with_single_active_consumer(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q, arguments={"x-single-active-consumer": True})
    c.call("basic.consume", queue=q, consumer_tag="t", exclusive=True)


@conversation
def queue_mode(t):
    declare(t, *({"x-queue-mode": value} for value in ("default", "lazy", "eager", 1)))


@conversation
def queue_type(t):
    declare(t, *({"x-queue-type": value} for value in ("classic", "unheard-of", "", 1, True)))


@conversation
def queue_version(t):
    declare(t, {"x-queue-version": 2}, {"x-queue-version": 3}, {"x-queue-version": "2"})


@conversation
def queue_version_one(t):
    declare(t, {"x-queue-version": 1})


@conversation
def queue_master_locator_is_accepted(t):
    declare(t, {"x-queue-master-locator": "min-masters"})


@conversation
def several_arguments_at_once(t):
    declare(t, {"x-message-ttl": 60000, "x-expires": 600000, "x-max-length": 10,
                "x-max-length-bytes": 1000, "x-dead-letter-exchange": "dlx",
                "x-dead-letter-routing-key": "k", "x-max-priority": 5, "x-overflow": "drop-head",
                "x-single-active-consumer": True, "x-unheard-of": "x"})


@conversation
def a_bad_argument_on_an_existing_queue(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q)
    c.call("queue.declare", queue=q, arguments={"x-message-ttl": "bad"})


@conversation
def a_bad_argument_and_another_durable(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q)
    c.call("queue.declare", queue=q, durable=True, arguments={"x-max-length": -1})


@conversation
def quorum_queues_refuse_transient_exclusive_and_auto_delete(t):
    c, table = t.connect(channels=3), {"x-queue-type": "quorum"}
    c.call("queue.declare", 1, queue=t.name("q1"), arguments=table)
    c.call("queue.declare", 2, queue=t.name("q2"), durable=True, exclusive=True, arguments=table)
    c.call("queue.declare", 3, queue=t.name("q3"), durable=True, auto_delete=True, arguments=table)


@conversation
def streams_refuse_transient_exclusive_and_auto_delete(t):
    c, table = t.connect(channels=3), {"x-queue-type": "stream"}
    c.call("queue.declare", 1, queue=t.name("q1"), arguments=table)
    c.call("queue.declare", 2, queue=t.name("q2"), durable=True, exclusive=True, arguments=table)
    c.call("queue.declare", 3, queue=t.name("q3"), durable=True, auto_delete=True, arguments=table)


@conversation
def a_server_named_quorum_queue(t):
    c = t.connect()
    c.call("queue.declare", durable=True, arguments={"x-queue-type": "quorum"})


@conversation
def two_fields_of_the_same_name(t):
    c = t.connect()
    c.call("queue.declare", queue=t.name("q"), arguments=[("x-max-length", 1), ("x-max-length", -1)])
