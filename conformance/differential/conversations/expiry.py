"""Time to live of messages and queues (rows 32-35, 76, 78)."""

from harness.conversation import conversation


def declare(c, name, **arguments):
    return c.call("queue.declare", queue=name,
                  arguments={f"x-{key.replace('_', '-')}": value for key, value in arguments.items()})


def publish(c, q, body, expiration=None):
    c.publish("", q, body, props={"expiration": str(expiration)} if expiration is not None else {})


LONG = 600000


@conversation
def a_message_expires_without_consumers(t):
    c, q = t.connect(), t.name("q")
    declare(c, q)
    c.call("confirm.select")
    publish(c, q, "m", 1)
    c.confirms(1)
    c.wait_queue(q, 0, 0)
    c.call("basic.get", queue=q)


@conversation
def the_ttl_of_the_queue_expires_everything(t):
    c, q = t.connect(), t.name("q")
    declare(c, q, message_ttl=20)
    for n in range(5):
        publish(c, q, f"m{n}")
    c.wait_queue(q, 0, 0)


@conversation
def the_smaller_of_both_times_counts(t):
    c, a, b = t.connect(), t.name("a"), t.name("b")
    declare(c, a, message_ttl=LONG)
    declare(c, b, message_ttl=1)
    publish(c, a, "m", 1)
    publish(c, b, "m", LONG)
    c.wait_queue(a, 0, 0)
    c.wait_queue(b, 0, 0)


@conversation
def a_long_time_to_live_delivers(t):
    c, q = t.connect(), t.name("q")
    declare(c, q, message_ttl=LONG)
    publish(c, q, "m", LONG)
    c.wait_queue(q, 1, 0)
    c.call("basic.get", queue=q)


@conversation
def ttl_zero_without_a_consumer_discards_at_once(t):
    c, q = t.connect(), t.name("q")
    declare(c, q, message_ttl=0)
    publish(c, q, "m")
    c.wait_queue(q, 0, 0)
    c.call("basic.get", queue=q)


@conversation
def ttl_zero_reaches_a_consumer_that_waits(t):
    c, q = t.connect(), t.name("q")
    declare(c, q, message_ttl=0)
    c.call("basic.consume", queue=q, consumer_tag="t", no_ack=True)
    publish(c, q, "m1")
    publish(c, q, "m2")
    c.read(2)


@conversation
def expiration_zero_reaches_a_consumer_that_waits(t):
    c, q = t.connect(), t.name("q")
    declare(c, q)
    c.call("basic.consume", queue=q, consumer_tag="t")
    publish(c, q, "m", 0)
    c.read(1)
    c.send("basic.ack", delivery_tag=1)
    c.sync()


@conversation
def ttl_zero_is_discarded_when_the_consumer_is_full(t):
    c, q = t.connect(), t.name("q")
    declare(c, q, message_ttl=0)
    c.call("basic.qos", prefetch_count=1)
    c.call("basic.consume", queue=q, consumer_tag="t")
    publish(c, q, "m1")
    c.read(1)
    publish(c, q, "m2")
    c.wait_queue(q, 0, 1)
    c.send("basic.ack", delivery_tag=1)
    c.sync_queue(q)


@conversation
def a_discarded_message_of_ttl_zero_is_dead_lettered(t):
    c, q, dead = t.connect(), t.name("q"), t.name("dead")
    declare(c, q, message_ttl=0, dead_letter_exchange="", dead_letter_routing_key=dead)
    declare(c, dead)
    publish(c, q, "m")
    c.wait_queue(dead, 1, 0)
    c.call("basic.get", queue=dead)


@conversation
def a_message_with_ttl_is_confirmed_when_it_expires(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q, durable=True, arguments={"x-message-ttl": 0})
    c.call("confirm.select")
    for n in range(3):
        c.publish("", q, f"m{n}", props={"delivery_mode": 2}, mandatory=True)
    c.confirms(3)


@conversation
def an_unacknowledged_message_does_not_expire(t):
    c, q, clock = t.connect(), t.name("q"), t.name("clock")
    declare(c, q)
    declare(c, clock, message_ttl=900)
    publish(c, q, "m", 600)
    c.call("basic.get", queue=q)
    # What came later with more time is gone: so would be this one, were it ready.
    publish(c, clock, "tick")
    c.wait_queue(clock, 0, 0)
    c.send("basic.ack", delivery_tag=1)
    c.sync()


@conversation
def a_requeued_message_keeps_its_time(t):
    c, q, clock = t.connect(), t.name("q"), t.name("clock")
    declare(c, q)
    declare(c, clock, message_ttl=900)
    publish(c, q, "m", 600)
    c.call("basic.get", queue=q)
    publish(c, clock, "tick")
    c.wait_queue(clock, 0, 0)
    c.send("basic.nack", delivery_tag=1, requeue=True)
    c.wait_queue(q, 0, 0)


@conversation
def invalid_expirations_close_the_channel(t):
    values = ("abc", "", "-1", "1.5", "10ms", " 5", "315360000001")
    c, q = t.connect(channels=len(values)), t.name("q")
    declare(c, q)
    for channel, value in enumerate(values, 1):
        c.publish("", q, "m", ch=channel, props={"expiration": value})
        c.read(1, channel)


@conversation
def the_longest_expiration_is_ten_years(t):
    c, q = t.connect(), t.name("q")
    declare(c, q)
    publish(c, q, "m", 315360000000)
    c.wait_queue(q, 1, 0)
    c.call("basic.get", queue=q)


@conversation
def an_unused_queue_expires(t):
    c, q = t.connect(), t.name("q")
    declare(c, q, expires=20)
    c.wait_missing(q + "-never")
    c.call("queue.declare", queue=t.name("other"))


@conversation
def a_queue_with_a_consumer_does_not_expire(t):
    c, q, clock = t.connect(), t.name("q"), t.name("clock")
    declare(c, q, expires=100)
    c.call("basic.consume", queue=q, consumer_tag="t")
    declare(c, clock, message_ttl=300)
    publish(c, clock, "tick")
    c.wait_queue(clock, 0, 0)
    publish(c, q, "m")
    c.read(1)


@conversation
def publishing_does_not_keep_a_queue(t):
    c, q = t.connect(channels=2), t.name("q")
    declare(c, q, expires=50, dead_letter_exchange="amq.fanout")
    c.call("confirm.select", 2)
    for _ in range(500):
        c.publish("", q, "m", ch=2, mandatory=True)
        c.transcript.recording = False
        reply = c.read(1, 2)
        c.transcript.recording = True
        if reply.name == "basic.return":
            break
    c.transcript.heard(1, 2, f"in the end: {reply.name}")
    c.transcript.recording = False
    c.read(1, 2)
    c.transcript.recording = True


@conversation
def an_auto_delete_queue_waits_for_its_first_consumer(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q, auto_delete=True, arguments={"x-expires": LONG})
    publish(c, q, "m")
    c.wait_queue(q, 1, 0)
    c.call("basic.get", queue=q)
    c.wait_queue(q, 0, 0)
    c.call("basic.consume", queue=q, consumer_tag="t")
    c.call("basic.cancel", consumer_tag="t")
    c.wait_missing(q)
