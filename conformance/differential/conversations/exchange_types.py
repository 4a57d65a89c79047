"""Exchange types that RabbitMQ 3.10 has as plugins: consistent hash, modulus hash, random, recent history."""

from harness.conversation import conversation

HASH, MODULUS, RANDOM, HISTORY = (
    "x-consistent-hash", "x-modulus-hash", "x-random", "x-recent-history")


def declared(t, c, kind, **arguments):
    x = t.name("x")
    c.call("exchange.declare", exchange=x, type=kind, arguments=arguments)
    return x


def queue(t, c, stem="q"):
    q = t.name(stem)
    c.call("queue.declare", queue=q)
    return q


def drain(c, q, count):
    for _ in range(count + 1):
        c.call("basic.get", queue=q, no_ack=True)


def refuse_key(t, kind, key):
    c = t.connect()
    x, q = declared(t, c, kind), queue(t, c)
    c.call("queue.bind", queue=q, exchange=x, routing_key=key)


@conversation
def a_hash_is_of_a_header_or_of_a_property(t):
    declared(t, t.connect(), HASH, **{"hash-header": "a", "hash-property": "message_id"})


@conversation
def only_three_properties_can_be_hashed(t):
    declared(t, t.connect(), HASH, **{"hash-property": "user_id"})


@conversation
def the_three_properties_are_accepted(t):
    c = t.connect()
    for name in ("message_id", "correlation_id", "timestamp"):
        c.call("exchange.declare", exchange=t.name(name), type=HASH,
               arguments={"hash-property": name})


@conversation
def a_weight_of_zero_is_refused(t):
    refuse_key(t, HASH, "0")


@conversation
def a_negative_weight_is_refused(t):
    refuse_key(t, HASH, "-1")


@conversation
def a_weight_that_is_no_number_is_refused(t):
    refuse_key(t, HASH, "abc")


@conversation
def an_empty_weight_is_refused(t):
    c = t.connect()
    x, q = declared(t, c, HASH), queue(t, c)
    c.call("queue.bind", queue=q, exchange=x, routing_key="")


@conversation
def a_fraction_is_no_weight(t):
    refuse_key(t, HASH, "1.5")


@conversation
def signs_and_leading_zeros_are_weights(t):
    c = t.connect()
    x, q = declared(t, c, HASH), queue(t, c)
    for key in ("+2", "007"):
        c.call("queue.bind", queue=q, exchange=x, routing_key=key)
        c.call("queue.unbind", queue=q, exchange=x, routing_key=key)


@conversation
def arguments_of_a_hash_are_not_compared(t):
    c = t.connect()
    x = declared(t, c, HASH, **{"hash-header": "a"})
    c.call("exchange.declare", exchange=x, type=HASH, arguments={"hash-header": "b"})


@conversation
def one_binding_gets_all(t):
    c = t.connect()
    for number, (kind, key) in enumerate(
            [(HASH, "3"), (MODULUS, "k"), (MODULUS, ""), (RANDOM, "k"), (RANDOM, "")]):
        x, q = t.name(f"x{number}"), t.name(f"q{number}")
        c.call("exchange.declare", exchange=x, type=kind)
        c.call("queue.declare", queue=q)
        c.publish(x, "before", "returned", mandatory=True)
        c.read(1)
        c.call("queue.bind", queue=q, exchange=x, routing_key=key)
        for routing_key in ("a", "b"):
            c.publish(x, routing_key, routing_key)
        c.wait_queue(q, 2, 0)
        drain(c, q, 2)


@conversation
def the_history_length_is_positive(t):
    declared(t, t.connect(), HISTORY, **{"x-recent-history-length": 0})


@conversation
def the_history_length_is_no_negative_number(t):
    declared(t, t.connect(), HISTORY, **{"x-recent-history-length": -1})


@conversation
def the_history_length_is_no_text(t):
    declared(t, t.connect(), HISTORY, **{"x-recent-history-length": "abc"})


@conversation
def the_history_length_is_no_boolean(t):
    declared(t, t.connect(), HISTORY, **{"x-recent-history-length": True})


@conversation
def a_new_binding_gets_the_latest_messages(t):
    c = t.connect()
    x, q = declared(t, c, HISTORY, **{"x-recent-history-length": 3}), queue(t, c)
    c.call("confirm.select")
    for number in range(5):
        c.publish(x, f"k{number}", f"m{number}",
                  props={"headers": {"n": number}, "delivery_mode": 2, "expiration": "60000"})
    c.publish(x, "k", "not kept", props={"headers": {"x-recent-history-no-store": True}})
    c.publish(x, "k", "kept", props={"headers": {"x-recent-history-no-store": "true"}})
    c.confirms(7)
    c.call("queue.bind", queue=q, exchange=x, routing_key="any")
    c.wait_queue(q, 3, 0)
    c.call("queue.bind", queue=q, exchange=x, routing_key="any")
    drain(c, q, 3)
    c.call("queue.bind", queue=q, exchange=x, routing_key="another")
    c.wait_queue(q, 3, 0)
    drain(c, q, 3)


@conversation
def an_exchange_gets_the_history_too(t):
    c = t.connect()
    x, q, behind = declared(t, c, HISTORY), queue(t, c), t.name("behind")
    c.call("exchange.declare", exchange=behind, type="topic")
    c.call("queue.bind", queue=q, exchange=behind, routing_key="#")
    c.call("confirm.select")
    for key in ("a", "b"):
        c.publish(x, key, key)
    c.confirms(2)
    c.call("exchange.bind", destination=behind, source=x, routing_key="any")
    c.wait_queue(q, 2, 0)
    drain(c, q, 2)
