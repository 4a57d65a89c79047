"""x-max-length, x-max-length-bytes and x-overflow (rows 43-45)."""

from harness.conversation import conversation


def declare(c, name, durable=False, **arguments):
    c.call("queue.declare", queue=name, durable=durable,
           arguments={f"x-{key.replace('_', '-')}": value for key, value in arguments.items()})


def fill(c, q, *bodies, **options):
    for body in bodies:
        c.publish("", q, body, **options)


def drain(c, q, count):
    for _ in range(count + 1):
        c.call("basic.get", queue=q, no_ack=True)


@conversation
def the_oldest_are_dropped(t):
    c, q = t.connect(), t.name("q")
    declare(c, q, max_length=2)
    fill(c, q, "m1", "m2", "m3", "m4", "m5")
    c.sync()
    c.wait_queue(q, 2, 0)
    drain(c, q, 2)


@conversation
def unacknowledged_messages_do_not_count(t):
    c, q = t.connect(), t.name("q")
    declare(c, q, max_length=2)
    fill(c, q, "m1", "m2")
    c.wait_queue(q, 2, 0)
    c.call("basic.get", queue=q)
    c.call("basic.get", queue=q)
    fill(c, q, "m3", "m4")
    c.wait_queue(q, 2, 0)
    c.send("basic.nack", delivery_tag=2, multiple=True, requeue=True)
    c.wait_queue(q, 2, 0)
    drain(c, q, 2)


@conversation
def a_consumer_takes_before_anything_is_dropped(t):
    c, q = t.connect(), t.name("q")
    declare(c, q, max_length=1)
    c.call("basic.consume", queue=q, consumer_tag="t", no_ack=True)
    fill(c, q, "m1", "m2", "m3")
    c.read(3)


@conversation
def length_zero_keeps_nothing(t):
    c, q = t.connect(), t.name("q")
    declare(c, q, max_length=0)
    c.call("confirm.select")
    fill(c, q, "m1", "m2", mandatory=True)
    c.confirms(2)
    c.wait_queue(q, 0, 0)


@conversation
def length_zero_serves_a_consumer(t):
    c, q = t.connect(), t.name("q")
    declare(c, q, max_length=0)
    c.call("basic.consume", queue=q, consumer_tag="t")
    fill(c, q, "m1")
    c.read(1)
    fill(c, q, "m2")
    c.read(1)


@conversation
def bytes_of_bodies_count(t):
    c, q = t.connect(), t.name("q")
    declare(c, q, max_length_bytes=10)
    fill(c, q, "12345", "12345", "1", props={"headers": {"long": "x" * 100}})
    c.sync()
    c.wait_queue(q, 2, 0)
    drain(c, q, 2)


@conversation
def a_message_larger_than_the_limit_drops_everything(t):
    c, q = t.connect(), t.name("q")
    declare(c, q, max_length_bytes=10)
    fill(c, q, "12345", "123456789012")
    c.sync()
    c.wait_queue(q, 0, 0)


@conversation
def empty_bodies_are_never_too_many_bytes(t):
    c, q = t.connect(), t.name("q")
    declare(c, q, max_length_bytes=0)
    fill(c, q, "", "", "")
    c.wait_queue(q, 3, 0)
    fill(c, q, "1")
    c.wait_queue(q, 0, 0)


@conversation
def both_limits_hold(t):
    c, q = t.connect(), t.name("q")
    declare(c, q, max_length=3, max_length_bytes=4)
    fill(c, q, "1", "1", "1", "1")
    c.sync()
    c.wait_queue(q, 3, 0)
    fill(c, q, "333")
    c.wait_queue(q, 2, 0)
    drain(c, q, 2)


@conversation
def reject_publish_nacks(t):
    c, q = t.connect(), t.name("q")
    declare(c, q, max_length=2, overflow="reject-publish")
    c.call("confirm.select")
    fill(c, q, "m1", "m2", "m3", "m4")
    c.confirms(4)
    drain(c, q, 2)


@conversation
def reject_publish_drops_silently_without_confirms(t):
    c, q = t.connect(), t.name("q")
    declare(c, q, max_length=1, overflow="reject-publish")
    fill(c, q, "m1", "m2", "m3", mandatory=True)
    c.sync()
    c.wait_queue(q, 1, 0)
    drain(c, q, 1)


@conversation
def reject_publish_with_bytes(t):
    c, q = t.connect(), t.name("q")
    declare(c, q, max_length_bytes=10, overflow="reject-publish")
    c.call("confirm.select")
    fill(c, q, "12345", "12345", "1", "")
    c.confirms(4)
    drain(c, q, 3)


@conversation
def one_full_queue_of_two_nacks_the_message(t):
    c, a, b, x = t.connect(), t.name("a"), t.name("b"), t.name("x")
    c.call("exchange.declare", exchange=x, type="fanout")
    declare(c, a, max_length=1, overflow="reject-publish")
    declare(c, b)
    for q in (a, b):
        c.call("queue.bind", queue=q, exchange=x)
    c.call("confirm.select")
    for n in range(3):
        c.publish(x, "", f"m{n}")
    c.confirms(3)
    c.wait_queue(a, 1, 0)
    c.wait_queue(b, 3, 0)


@conversation
def reject_publish_makes_a_commit_partial(t):
    c, q = t.connect(channels=2), t.name("q")
    declare(c, q, max_length=1, overflow="reject-publish")
    c.call("tx.select")
    fill(c, q, "m1", "m2")
    c.call("tx.commit")
    c.wait_queue(q, 1, 0, ch=2)


@conversation
def a_full_queue_accepts_again_after_an_acknowledgement(t):
    c, q = t.connect(), t.name("q")
    declare(c, q, max_length=1, overflow="reject-publish")
    c.call("confirm.select")
    fill(c, q, "m1", "m2")
    c.confirms(2)
    c.call("basic.get", queue=q, no_ack=True)
    fill(c, q, "m3")
    c.confirms(1)


@conversation
def reject_publish_lets_a_consumer_take_beyond_the_limit(t):
    c, q = t.connect(), t.name("q")
    declare(c, q, max_length=1, overflow="reject-publish")
    c.call("basic.consume", queue=q, consumer_tag="t", no_ack=True)
    for n in range(3):
        fill(c, q, f"m{n}")
        c.sync_queue(q)
    c.wait_queue(q, 0, 1)


@conversation
def length_zero_with_reject_publish(t):
    c, q = t.connect(), t.name("q")
    declare(c, q, max_length=0, overflow="reject-publish")
    c.call("confirm.select")
    fill(c, q, "m")
    c.confirms(1)


@conversation
def a_requeue_may_exceed_reject_publish(t):
    c, q = t.connect(), t.name("q")
    declare(c, q, max_length=1, overflow="reject-publish")
    fill(c, q, "m1")
    c.wait_queue(q, 1, 0)
    c.call("basic.get", queue=q)
    fill(c, q, "m2")
    c.wait_queue(q, 1, 0)
    c.send("basic.nack", delivery_tag=1, requeue=True)
    c.wait_queue(q, 2, 0)
    drain(c, q, 2)
