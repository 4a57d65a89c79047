"""confirm.select, acks, mandatory returns before acks (rows 46-48, 54)."""

from harness.conversation import conversation


@conversation
def select_is_answered(t):
    c = t.connect()
    c.call("confirm.select")
    c.call("confirm.select")


@conversation
def nowait_select_has_no_answer(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q)
    c.send("confirm.select", nowait=True)
    c.publish("", q, "m")
    c.read(1)


@conversation
def numbers_begin_at_one_with_select(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q)
    c.publish("", q, "before")
    c.wait_queue(q, 1, 0)
    c.call("confirm.select")
    c.publish("", q, "first")
    c.confirms(1)


@conversation
def a_second_select_does_not_start_again(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q)
    c.call("confirm.select")
    c.publish("", q, "m")
    c.read(1)
    c.call("confirm.select")
    c.publish("", q, "m")
    c.read(1)


@conversation
def a_routed_message_is_acked(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q)
    c.call("confirm.select")
    for _ in range(3):
        c.publish("", q, "m", mandatory=True)
        c.read(1)


@conversation
def a_persistent_message_in_a_durable_queue_is_acked(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q, durable=True)
    c.call("confirm.select")
    for _ in range(3):
        c.publish("", q, "m", props={"delivery_mode": 2})
        c.read(1)


@conversation
def an_unroutable_message_is_acked(t):
    c = t.connect()
    c.call("confirm.select")
    c.publish("", "nowhere", "m")
    c.read(1)


@conversation
def a_mandatory_return_precedes_its_ack(t):
    c = t.connect()
    c.call("confirm.select")
    c.publish("amq.direct", "nowhere", "m", mandatory=True, props={"message_id": "x"})
    c.read(2)


@conversation
def two_hundred_publishes_are_all_confirmed(t):
    c, q, p = t.connect(), t.name("q"), t.name("p")
    c.call("queue.declare", queue=q, durable=True)
    c.call("queue.declare", queue=p)
    c.call("confirm.select")
    for n in range(200):
        c.publish("", (q, p, "nowhere")[n % 3], f"m{n}", props={"delivery_mode": 1 + n % 2})
    c.confirms(200)


@conversation
def channels_number_on_their_own(t):
    c, q = t.connect(channels=2), t.name("q")
    c.call("queue.declare", queue=q)
    for ch in (1, 2):
        c.call("confirm.select", ch)
    for ch in (1, 2, 1):
        c.publish("", q, "m", ch=ch)
        c.read(1, ch)


@conversation
def a_consumed_message_is_confirmed(t):
    c, d, q = t.connect(), t.connect(), t.name("q")
    c.call("queue.declare", queue=q, durable=True)
    d.call("basic.consume", queue=q, consumer_tag="t", no_ack=True)
    c.call("confirm.select")
    c.publish("", q, "m", props={"delivery_mode": 2})
    c.confirms(1)
    d.read(1)


@conversation
def deleting_the_queue_confirms(t):
    c, q = t.connect(channels=2), t.name("q")
    c.call("queue.declare", queue=q, durable=True)
    c.call("confirm.select")
    for _ in range(20):
        c.publish("", q, "m", props={"delivery_mode": 2})
    c.send("queue.delete", queue=q, nowait=True)
    c.confirms(20)


@conversation
def an_error_ends_all_confirms(t):
    c = t.connect()
    c.call("confirm.select")
    c.publish(t.name("missing"), "k", "m")
    c.publish("", "nowhere", "m")
    c.read(1)
    c.call("channel.open")
    c.publish("", "nowhere", "m")
    c.sync()


@conversation
def confirms_and_transactions_exclude_each_other(t):
    c = t.connect(channels=2)
    c.call("confirm.select", 1)
    c.call("tx.select", 1)
    c.call("tx.select", 2)
    c.call("confirm.select", 2)


@conversation
def an_ack_from_the_publisher_is_for_deliveries_only(t):
    c = t.connect()
    c.call("confirm.select")
    c.publish("", "nowhere", "m")
    c.read(1)
    c.send("basic.ack", delivery_tag=1)
    c.read(1)
