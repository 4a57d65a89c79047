"""tx.select, commit, rollback (rows 45, 54)."""

from harness.conversation import conversation


def transactional(t):
    c, q = t.connect(channels=2), t.name("q")
    c.call("queue.declare", queue=q)
    c.call("tx.select")
    return c, q


@conversation
def publishes_wait_for_the_commit(t):
    c, q = transactional(t)
    c.publish("", q, "m1")
    c.publish("", q, "m2")
    c.sync()
    c.call("queue.declare", 2, queue=q, passive=True)
    c.call("tx.commit")
    c.wait_queue(q, 2, 0, ch=2)
    c.call("basic.get", 2, queue=q)


@conversation
def a_rollback_forgets_publishes(t):
    c, q = transactional(t)
    c.publish("", q, "m1")
    c.call("tx.rollback")
    c.call("tx.commit")
    c.call("queue.declare", queue=q, passive=True)


@conversation
def a_commit_begins_the_next_transaction(t):
    c, q = transactional(t)
    for n in range(3):
        c.publish("", q, f"m{n}")
        c.call("tx.commit")
    c.wait_queue(q, 3, 0)


@conversation
def commit_without_select(t):
    c = t.connect(channels=2)
    c.call("tx.commit", 1)
    c.call("tx.rollback", 2)


@conversation
def select_twice(t):
    c, _ = transactional(t)
    c.call("tx.select")


@conversation
def acks_wait_for_the_commit(t):
    c, q = transactional(t)
    for n in range(2):
        c.publish("", q, f"m{n}")
    c.call("tx.commit")
    c.wait_queue(q, 2, 0)
    c.call("basic.get", queue=q)
    c.call("basic.get", queue=q)
    c.send("basic.ack", delivery_tag=2, multiple=True)
    c.call("tx.commit")
    c.call("channel.close", reply_code=200)
    c.call("queue.declare", 2, queue=q, passive=True)


@conversation
def acks_that_were_not_committed_are_undone_by_close(t):
    c, q = transactional(t)
    c.publish("", q, "m")
    c.call("tx.commit")
    c.wait_queue(q, 1, 0)
    c.call("basic.get", queue=q)
    c.send("basic.ack", delivery_tag=1)
    c.call("channel.close", reply_code=200)
    c.wait_queue(q, 1, 0, ch=2)
    c.call("basic.get", 2, queue=q)


@conversation
def a_rollback_restores_acks(t):
    c, q = transactional(t)
    c.publish("", q, "m")
    c.call("tx.commit")
    c.wait_queue(q, 1, 0)
    c.call("basic.get", queue=q)
    c.send("basic.ack", delivery_tag=1)
    c.call("tx.rollback")
    c.send("basic.ack", delivery_tag=1)
    c.call("tx.commit")
    c.call("channel.close", reply_code=200)
    c.call("queue.declare", 2, queue=q, passive=True)


@conversation
def a_nack_with_requeue_waits_for_the_commit(t):
    c, q = transactional(t)
    c.publish("", q, "m")
    c.call("tx.commit")
    c.wait_queue(q, 1, 0)
    c.call("basic.get", queue=q)
    c.send("basic.nack", delivery_tag=1, requeue=True)
    c.sync()
    c.call("queue.declare", 2, queue=q, passive=True)
    c.call("tx.commit")
    c.wait_queue(q, 1, 0, ch=2)


@conversation
def an_unknown_tag_fails_at_once(t):
    c, _ = transactional(t)
    c.send("basic.ack", delivery_tag=1)
    c.read(1)


@conversation
def a_missing_exchange_fails_at_once(t):
    c, q = transactional(t)
    c.publish("", q, "m")
    c.publish(t.name("missing"), "k", "m")
    c.read(1)
    c.call("queue.declare", 2, queue=q, passive=True)


@conversation
def a_mandatory_message_is_returned_at_the_commit(t):
    c, _ = transactional(t)
    c.publish("", "nowhere", "m", mandatory=True)
    c.sync()
    c.send("tx.commit")
    c.read(2)


@conversation
def closing_the_channel_forgets_publishes(t):
    c, q = transactional(t)
    c.publish("", q, "m")
    c.call("channel.close", reply_code=200)
    c.call("queue.declare", 2, queue=q, passive=True)


@conversation
def persistent_publishes_commit(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q, durable=True)
    c.call("tx.select")
    for n in range(10):
        c.publish("", q, f"m{n}", props={"delivery_mode": 2})
    c.call("tx.commit")
    c.wait_queue(q, 10, 0)


@conversation
def other_channels_are_not_transactional(t):
    c, q = transactional(t)
    c.publish("", q, "m", ch=2)
    c.wait_queue(q, 1, 0, ch=2)


@conversation
def declarations_do_not_wait(t):
    c, _ = transactional(t)
    p = t.name("p")
    c.call("queue.declare", queue=p)
    c.call("tx.rollback")
    c.call("queue.declare", 2, queue=p, passive=True)
