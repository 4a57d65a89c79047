"""x-max-priority, consumer priorities and single active consumers (rows 84, 85)."""

from harness.conversation import conversation


def declare(c, name, **arguments):
    c.call("queue.declare", queue=name,
           arguments={f"x-{key.replace('_', '-')}": value for key, value in arguments.items()})


def fill(c, q, *priorities):
    for n, priority in enumerate(priorities):
        c.publish("", q, f"m{n}", props={} if priority is None else {"priority": priority})
    c.sync()


def drain(c, q, count):
    for _ in range(count):
        c.call("basic.get", queue=q, no_ack=True)


@conversation
def higher_priorities_come_first(t):
    c, q = t.connect(), t.name("q")
    declare(c, q, max_priority=5)
    fill(c, q, 1, 5, None, 3, 5, 0, 1)
    c.wait_queue(q, 7, 0)
    drain(c, q, 8)


@conversation
def priorities_above_the_maximum_are_the_maximum(t):
    c, q = t.connect(), t.name("q")
    declare(c, q, max_priority=3)
    fill(c, q, 3, 200, 3, 255)
    c.wait_queue(q, 4, 0)
    drain(c, q, 5)


@conversation
def without_the_argument_priorities_mean_nothing(t):
    c, q = t.connect(), t.name("q")
    declare(c, q)
    fill(c, q, 1, 9, 5)
    c.wait_queue(q, 3, 0)
    drain(c, q, 3)


@conversation
def a_maximum_of_zero(t):
    c, q = t.connect(), t.name("q")
    declare(c, q, max_priority=0)
    fill(c, q, 1, 9, 5)
    c.wait_queue(q, 3, 0)
    drain(c, q, 3)


@conversation
def a_requeued_message_returns_to_its_place_and_level(t):
    c, q = t.connect(), t.name("q")
    declare(c, q, max_priority=5)
    fill(c, q, 1, 5, 1, 5)
    c.wait_queue(q, 4, 0)
    c.call("basic.get", queue=q)
    c.call("basic.get", queue=q)
    c.call("basic.get", queue=q)
    c.send("basic.nack", delivery_tag=3, multiple=True, requeue=True)
    c.wait_queue(q, 4, 0)
    drain(c, q, 4)


@conversation
def a_limit_drops_from_the_head_of_the_highest_level(t):
    c, q, dead = t.connect(), t.name("q"), t.name("dead")
    declare(c, q, max_priority=5, max_length=2, dead_letter_exchange="", dead_letter_routing_key=dead)
    declare(c, dead)
    fill(c, q, 1, 5, 1)
    c.wait_queue(q, 2, 0)
    c.wait_queue(dead, 1, 0)
    drain(c, q, 2)
    drain(c, dead, 1)


@conversation
def all_levels_expire(t):
    c, q = t.connect(), t.name("q")
    declare(c, q, max_priority=5, message_ttl=1)
    fill(c, q, 1, 5, 3)
    c.wait_queue(q, 0, 0)


@conversation
def purge_empties_all_levels(t):
    c, q = t.connect(), t.name("q")
    declare(c, q, max_priority=5)
    fill(c, q, 1, 5, 3)
    c.wait_queue(q, 3, 0)
    c.call("queue.purge", queue=q)
    drain(c, q, 1)


@conversation
def a_consumer_of_higher_priority_is_served_first(t):
    c, q = t.connect(channels=3), t.name("q")
    declare(c, q)
    c.call("basic.qos", 2, prefetch_count=2)
    c.call("basic.consume", 3, queue=q, consumer_tag="low", no_ack=True)
    c.call("basic.consume", 2, queue=q, consumer_tag="high", arguments={"x-priority": 5})
    for n in range(4):
        c.publish("", q, f"m{n}")
    c.read(2, 2)
    c.read(2, 3)


def single(t, **arguments):
    c, q = t.connect(channels=4), t.name("q")
    declare(c, q, single_active_consumer=True, **arguments)
    return c, q


@conversation
def only_the_first_consumer_of_a_single_active_queue_is_served(t):
    c, q = single(t)
    c.call("basic.consume", 1, queue=q, consumer_tag="a")
    c.call("basic.consume", 2, queue=q, consumer_tag="b")
    for n in range(3):
        c.publish("", q, f"m{n}")
    c.read(3, 1)
    c.wait_queue(q, 0, 2)


@conversation
def the_next_takes_over_when_the_active_one_is_cancelled(t):
    c, q = single(t)
    for channel, tag in ((1, "a"), (2, "b"), (3, "c")):
        c.call("basic.consume", channel, queue=q, consumer_tag=tag)
    c.publish("", q, "m1", ch=4)
    c.read(1, 1)
    c.call("basic.cancel", 1, consumer_tag="a")
    c.publish("", q, "m2", ch=4)
    c.read(1, 2)
    # What the first one holds stays with it.
    c.send("basic.nack", 1, delivery_tag=1, requeue=True)
    c.read(1, 2)


@conversation
def the_next_takes_over_when_the_channel_of_the_active_one_closes(t):
    c, q = single(t)
    for channel, tag in ((1, "a"), (2, "b")):
        c.call("basic.consume", channel, queue=q, consumer_tag=tag)
    c.publish("", q, "m1", ch=4)
    c.publish("", q, "m2", ch=4)
    c.read(2, 1)
    c.call("channel.close", 1, reply_code=200)
    c.read(2, 2)


@conversation
def a_higher_priority_does_not_take_over_in_a_classic_queue(t):
    c, q = single(t)
    c.call("basic.consume", 1, queue=q, consumer_tag="a")
    c.call("basic.consume", 2, queue=q, consumer_tag="b", arguments={"x-priority": 10})
    c.publish("", q, "m1", ch=4)
    c.read(1, 1)
    c.call("basic.cancel", 1, consumer_tag="a")
    c.publish("", q, "m2", ch=4)
    c.read(1, 2)


@conversation
def the_highest_priority_is_next_in_line(t):
    c, q = single(t)
    c.call("basic.consume", 1, queue=q, consumer_tag="a")
    c.call("basic.consume", 2, queue=q, consumer_tag="b")
    c.call("basic.consume", 3, queue=q, consumer_tag="c", arguments={"x-priority": 10})
    c.call("basic.cancel", 1, consumer_tag="a")
    c.publish("", q, "m", ch=4)
    c.read(1, 3)


@conversation
def a_full_active_consumer_is_waited_for(t):
    c, q = single(t)
    c.call("basic.qos", 1, prefetch_count=1)
    c.call("basic.consume", 1, queue=q, consumer_tag="a")
    c.call("basic.consume", 2, queue=q, consumer_tag="b")
    c.publish("", q, "m1", ch=4)
    c.publish("", q, "m2", ch=4)
    c.read(1, 1)
    c.wait_queue(q, 1, 2, ch=4)
    c.send("basic.ack", 1, delivery_tag=1)
    c.read(1, 1)


@conversation
def exclusive_consume_of_a_single_active_queue_is_refused(t):
    c, q = single(t)
    c.call("basic.consume", 1, queue=q, consumer_tag="a", exclusive=True)
    c.call("basic.consume", 2, queue=q, consumer_tag="b")


@conversation
def get_from_a_single_active_queue(t):
    c, q = single(t)
    c.publish("", q, "m", ch=4)
    c.wait_queue(q, 1, 0, ch=4)
    c.call("basic.get", 2, queue=q)
    c.call("basic.consume", 1, queue=q, consumer_tag="a")
    c.call("basic.get", 3, queue=q)


@conversation
def an_auto_delete_single_active_queue_goes_with_its_last_consumer(t):
    c, q = t.connect(channels=2), t.name("q")
    c.call("queue.declare", queue=q, auto_delete=True, arguments={"x-single-active-consumer": True})
    c.call("basic.consume", 1, queue=q, consumer_tag="a")
    c.call("basic.consume", 2, queue=q, consumer_tag="b")
    c.call("basic.cancel", 1, consumer_tag="a")
    c.publish("", q, "m")
    c.read(1, 2)
    c.call("basic.cancel", 2, consumer_tag="b")
    c.wait_missing(q)


def hand_over(t, c, leave):
    """A single active consumer holds two of four messages when it goes; the next one gets all four in order."""
    d, q = t.connect(), t.name("q")
    declare(d, q, single_active_consumer=True)
    fill(d, q, *[None] * 4)
    d.wait_queue(q, 4, 0)
    c.call("basic.qos", prefetch_count=2)
    c.call("basic.consume", queue=q, consumer_tag="first")
    c.read(2)
    d.call("basic.consume", queue=q, consumer_tag="next")
    leave(c)
    d.read(4)


@conversation
def the_next_begins_with_what_a_closed_channel_held(t):
    hand_over(t, t.connect(), lambda c: c.call("channel.close", reply_code=200))


@conversation
def the_next_begins_with_what_a_lost_connection_held(t):
    hand_over(t, t.connect(), lambda c: c.abort())
