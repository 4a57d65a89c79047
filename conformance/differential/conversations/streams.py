"""Streams over AMQP 0-9-1: what they refuse, where consumers begin, how credit goes."""

from harness.codec import Typed
from harness.conversation import conversation

STREAM = {"x-queue-type": "stream"}


def stream(t, messages=0, channels=1, arguments=None):
    """A connection, a stream and so many confirmed messages in it: `m0`, `m1` and so on."""
    c, q = t.connect(channels=channels), t.name("q")
    c.call("queue.declare", queue=q, durable=True, arguments={**STREAM, **(arguments or {})})
    if messages:
        c.call("confirm.select")
        for n in range(messages):
            c.publish("", q, f"m{n}")
            c.confirms(1)
    return c, q


def consume(c, q, offset=None, prefetch=10, **fields):
    """basic.qos and basic.consume; deliveries follow."""
    c.call("basic.qos", prefetch_count=prefetch)
    arguments = {} if offset is None else {"x-stream-offset": offset}
    c.call("basic.consume", queue=q, consumer_tag="t", arguments={**arguments, **fields})


@conversation
def a_consumer_without_prefetch_is_refused(t):
    c, q = stream(t)
    c.call("basic.consume", queue=q, consumer_tag="t")


@conversation
def a_consumer_without_acknowledgements_is_refused(t):
    c, q = stream(t)
    c.call("basic.qos", prefetch_count=1)
    c.call("basic.consume", queue=q, consumer_tag="t", no_ack=True)


@conversation
def neither_prefetch_nor_acknowledgements(t):
    c, q = stream(t)
    c.call("basic.consume", queue=q, consumer_tag="t", no_ack=True)


@conversation
def a_window_for_the_channel_is_refused(t):
    c, q = stream(t)
    c.call("basic.qos", prefetch_count=5)
    c.call("basic.qos", prefetch_count=10, **{"global": True})
    c.call("basic.consume", queue=q, consumer_tag="t")


@conversation
def get_is_refused(t):
    c, q = stream(t, 1)
    c.call("basic.get", queue=q)


@conversation
def purge_is_refused(t):
    c, q = stream(t, 1)
    c.call("queue.purge", queue=q)


@conversation
def delete_if_unused(t):
    c, q = stream(t)
    c.call("queue.delete", queue=q, if_unused=True)


@conversation
def delete_if_empty(t):
    c, q = stream(t)
    c.call("queue.delete", queue=q, if_empty=True)


@conversation
def an_exclusive_consumer(t):
    c, q = stream(t, 1)
    c.call("basic.qos", prefetch_count=5)
    c.call("basic.consume", queue=q, consumer_tag="t", exclusive=True,
           arguments={"x-stream-offset": "first"})
    c.read(1)
    c.call("basic.consume", queue=q, consumer_tag="other", arguments={"x-stream-offset": "first"})


@conversation
def a_single_active_consumer_is_no_argument_of_a_stream(t):
    stream(t, arguments={"x-single-active-consumer": True})


@conversation
def a_dead_letter_exchange_is_no_argument_of_a_stream(t):
    stream(t, arguments={"x-dead-letter-exchange": ""})


@conversation
def max_length_is_no_argument_of_a_stream(t):
    stream(t, arguments={"x-max-length": 5})


@conversation
def a_time_to_live_is_no_argument_of_a_stream(t):
    stream(t, arguments={"x-message-ttl": 5})


@conversation
def an_age_without_a_unit_is_refused(t):
    stream(t, arguments={"x-max-age": "5"})


@conversation
def from_the_first(t):
    c, q = stream(t, 3)
    consume(c, q, "first")
    c.read(3)


@conversation
def from_the_last_chunk(t):
    c, q = stream(t, 3)
    consume(c, q, "last")
    c.read(1)


@conversation
def from_the_next(t):
    c, q = stream(t, 3, channels=2)
    consume(c, q, "next")
    c.publish("", q, "m3", 2)
    c.read(1)


@conversation
def without_an_offset_from_the_next(t):
    c, q = stream(t, 3, channels=2)
    c.call("basic.qos", prefetch_count=10)
    c.call("basic.consume", queue=q)
    c.publish("", q, "m3", 2)
    c.read(1)


@conversation
def from_a_number(t):
    c, q = stream(t, 3)
    consume(c, q, 1)
    c.read(2)


@conversation
def from_a_number_behind_the_end(t):
    c, q = stream(t, 2, channels=2)
    consume(c, q, 4)
    for n in range(2, 6):
        c.publish("", q, f"m{n}", 2)
    c.read(2)


@conversation
def from_a_time_before_everything(t):
    c, q = stream(t, 2)
    consume(c, q, Typed("T", 1500000000))
    c.read(2)


@conversation
def from_a_time_to_come(t):
    c, q = stream(t, 2, channels=2)
    consume(c, q, Typed("T", 4000000000))
    c.publish("", q, "m2", 2)
    c.read(1)


@conversation
def from_an_interval(t):
    c, q = stream(t, 2)
    consume(c, q, "7D")
    c.read(2)


@conversation
def from_a_malformed_interval(t):
    c, q = stream(t, 2)
    consume(c, q, "7 days")


@conversation
def from_an_interval_of_nothing(t):
    c, q = stream(t, 2)
    consume(c, q, "0D")


@conversation
def from_a_word_that_means_nothing(t):
    c, q = stream(t)
    consume(c, q, "beginning")


@conversation
def from_a_value_of_a_type_that_means_nothing(t):
    c, q = stream(t)
    consume(c, q, True)


@conversation
def from_a_float(t):
    c, q = stream(t)
    consume(c, q, 1.5)


@conversation
def from_a_table(t):
    c, q = stream(t)
    consume(c, q, {})


@conversation
def the_window_fills_and_acks_open_it(t):
    c, q = stream(t, 5)
    consume(c, q, "first", prefetch=2)
    c.read(2)
    c.sync_queue(q)
    c.send("basic.ack", delivery_tag=2, multiple=True)
    c.read(2)
    c.sync_queue(q)
    c.send("basic.ack", delivery_tag=3)
    c.send("basic.ack", delivery_tag=4)
    c.read(1)


@conversation
def reject_and_nack_give_credit_and_nothing_comes_back(t):
    c, q = stream(t, 4)
    consume(c, q, "first", prefetch=1)
    c.read(1)
    c.send("basic.reject", delivery_tag=1, requeue=True)
    c.read(1)
    c.send("basic.nack", delivery_tag=2, requeue=True)
    c.read(1)
    c.send("basic.reject", delivery_tag=3, requeue=False)
    c.read(1)


@conversation
def a_second_reader_gets_everything_again(t):
    c, q = stream(t, 3, channels=2)
    consume(c, q, "first")
    c.read(3)
    c.send("basic.ack", delivery_tag=3, multiple=True)
    c.call("basic.qos", 2, prefetch_count=10)
    c.call("basic.consume", 2, queue=q, consumer_tag="u", arguments={"x-stream-offset": "first"})
    c.read(3, 2)


@conversation
def acknowledged_messages_stay(t):
    c, q = stream(t, 3)
    consume(c, q, "first")
    c.read(3)
    c.send("basic.ack", delivery_tag=3, multiple=True)
    c.call("basic.cancel", consumer_tag="t")
    c.call("basic.qos", prefetch_count=5)
    c.call("basic.consume", queue=q, consumer_tag="t", arguments={"x-stream-offset": "first"})
    c.read(3)


@conversation
def a_cancelled_consumer_may_acknowledge_what_it_has(t):
    c, q = stream(t, 3)
    consume(c, q, "first", prefetch=2)
    c.read(2)
    c.call("basic.cancel", consumer_tag="t")
    c.send("basic.ack", delivery_tag=2, multiple=True)
    c.sync_queue(q)


@conversation
def the_header_of_the_publisher_is_replaced(t):
    c, q = stream(t)
    c.call("confirm.select")
    c.publish("", q, "m", props={"headers": {"a": 1, "x-stream-offset": "mine", "b": "two"},
                                 "content_type": "text/plain", "expiration": "60000",
                                 "priority": 7, "message_id": "id"})
    c.confirms(1)
    consume(c, q, "first")
    c.read(1)


@conversation
def deleting_a_stream_cancels_its_consumers(t):
    c, q = stream(t, 1, channels=2)
    consume(c, q, "next")
    c.call("queue.delete", 2, queue=q)
    c.read(1)


@conversation
def recover_gives_credit(t):
    c, q = stream(t, 3)
    consume(c, q, "first", prefetch=1)
    c.read(1)
    c.call("basic.recover", requeue=True)
    c.sync_queue(q)


@conversation
def a_consumer_has_no_priority(t):
    c, q = stream(t)
    consume(c, q, **{"x-priority": 5})


@conversation
def a_delivery_limit_is_no_argument_of_a_stream(t):
    stream(t, arguments={"x-delivery-limit": 5})
