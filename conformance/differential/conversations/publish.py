"""basic.publish: missing exchanges, order of checks, properties, expiration, user-id (49, 50, 58, 87)."""

from harness.codec import Typed
from harness.conversation import conversation

ALL_PROPERTIES = {
    "content_type": "text/plain", "content_encoding": "utf-8", "headers": {"h": 1},
    "delivery_mode": 2, "priority": 7, "correlation_id": "c", "reply_to": "r",
    "message_id": "i", "timestamp": 1700000000, "type": "t", "user_id": "guest", "app_id": "a",
    "cluster_id": "k",
}


def get_back(t, body=b"", **publish):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q)
    c.publish("", q, body, **publish)
    c.wait_queue(q, 1, 0)
    c.call("basic.get", queue=q)


@conversation
def an_empty_body_has_no_body_frame(t):
    get_back(t)


@conversation
def all_properties_come_back(t):
    get_back(t, "body", props=ALL_PROPERTIES)


@conversation
def no_properties_come_back_as_none(t):
    get_back(t, "body")


@conversation
def an_empty_headers_table_stays_a_table(t):
    get_back(t, "body", props={"headers": {}})


@conversation
def empty_strings_and_zeros_stay(t):
    get_back(t, "body", props={"content_type": "", "priority": 0, "timestamp": 0, "type": ""})


@conversation
def the_largest_numbers_stay(t):
    get_back(t, "body", props={"priority": 255, "timestamp": 2**64 - 1})


@conversation
def unknown_delivery_modes(t):
    c, q = t.connect(channels=2), t.name("q")
    c.call("queue.declare", queue=q)
    for ch, mode in ((1, 0), (2, 255)):
        c.publish("", q, "m", ch=ch, props={"delivery_mode": mode})
        c.sync(ch)


@conversation
def a_timestamp_is_in_seconds(t):
    get_back(t, "body", props={"timestamp": 1, "headers": {"at": Typed("T", 1)}})


@conversation
def a_missing_exchange_closes_the_channel(t):
    c = t.connect()
    c.publish(t.name("missing"), "k", "m")
    c.read(1)


@conversation
def publishes_after_a_missing_exchange_are_lost(t):
    c, q = t.connect(channels=2), t.name("q")
    c.call("queue.declare", 2, queue=q)
    c.call("confirm.select")
    c.publish(t.name("missing"), "k", "m")
    c.publish("", q, "m")
    c.read(1)
    c.call("queue.declare", 2, queue=q, passive=True)


@conversation
def an_expiration_that_is_no_number(t):
    c = t.connect()
    c.publish("", "nowhere", "m", props={"expiration": "abc"})
    c.read(1)


@conversation
def an_expiration_with_a_unit(t):
    c = t.connect()
    c.publish("", "nowhere", "m", props={"expiration": "100ms"})
    c.read(1)


@conversation
def a_negative_expiration(t):
    c = t.connect()
    c.publish("", "nowhere", "m", props={"expiration": "-1"})
    c.read(1)


@conversation
def an_expiration_that_is_too_large(t):
    c = t.connect()
    c.publish("", "nowhere", "m", props={"expiration": "315360000001"})
    c.read(1)


@conversation
def the_largest_expiration(t):
    get_back(t, "m", props={"expiration": "315360000000"})


@conversation
def an_empty_expiration(t):
    c = t.connect()
    c.publish("", "nowhere", "m", props={"expiration": ""})
    c.read(1)


@conversation
def a_user_id_of_another_user(t):
    c = t.connect()
    c.publish("", "nowhere", "m", props={"user_id": "somebody"})
    c.read(1)


@conversation
def an_empty_user_id(t):
    c = t.connect()
    c.publish("", "nowhere", "m", props={"user_id": ""})
    c.read(1)


@conversation
def the_exchange_is_checked_before_expiration_and_user_id(t):
    c = t.connect()
    c.publish(t.name("missing"), "k", "m", props={"expiration": "abc", "user_id": "somebody"})
    c.read(1)


@conversation
def a_wrong_expiration_and_a_wrong_user_id(t):
    c = t.connect(channels=2)
    c.publish("", "nowhere", "m", props={"expiration": "abc", "user_id": "somebody"})
    c.read(1)


@conversation
def an_internal_exchange_is_checked_before_the_expiration(t):
    c, x = t.connect(), t.name("x")
    c.call("exchange.declare", exchange=x, type="fanout", internal=True)
    c.publish(x, "k", "m", props={"expiration": "abc"})
    c.read(1)


@conversation
def the_size_is_checked_before_the_exchange(t):
    c, size = t.connect(), 1048577
    c.publish(t.name("missing"), "k", b"x" * size, frames=[131000] * 8 + [size - 8 * 131000])
    c.read(1)


@conversation
def immediate_is_not_implemented(t):
    c = t.connect()
    c.publish("", "nowhere", "m", immediate=True)
    c.read(1, 0)


@conversation
def line_ends_in_the_exchange_name_are_stripped(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q)
    c.publish("\r\n", q, "m")
    c.sync()


@conversation
def an_unroutable_message_is_dropped_silently(t):
    c = t.connect()
    c.publish("amq.direct", "nowhere-at-all", "m")
    c.sync()


@conversation
def one_message_goes_to_many_queues(t):
    c, x, queues = t.connect(), t.name("x"), [t.name(f"q{n}") for n in range(5)]
    c.call("exchange.declare", exchange=x, type="fanout")
    for q in queues:
        c.call("queue.declare", queue=q)
        c.call("queue.bind", queue=q, exchange=x)
    c.publish(x, "key", "body", props={"headers": {"n": 1}})
    for q in queues:
        c.wait_queue(q, 1, 0)
        c.call("basic.get", queue=q)


@conversation
def order_is_kept_per_channel(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q)
    for n in range(30):
        c.publish("", q, f"m{n:02}", props={"delivery_mode": 1 + n % 2})
    c.call("basic.consume", queue=q, no_ack=True, consumer_tag="t")
    c.read(30)
