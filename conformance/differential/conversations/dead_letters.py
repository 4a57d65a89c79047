"""Dead lettering: reasons, headers, counts, cycles, keys (rows 29, 36-42)."""

from harness.conversation import conversation

DLX, DLK = "x-dead-letter-exchange", "x-dead-letter-routing-key"


def queue(c, name, **arguments):
    c.call("queue.declare", queue=name,
           arguments={f"x-{key.replace('_', '-')}": value for key, value in arguments.items()})


def dying(t, c, **arguments):
    """A queue whose dead go to a second one through the default exchange; both names."""
    q, dead = t.name("q"), t.name("dead")
    queue(c, q, dead_letter_exchange="", dead_letter_routing_key=dead, **arguments)
    queue(c, dead)
    return q, dead


def take(c, q, **settlement):
    """Gets a message and settles it by the given method, shown as the broker delivers it."""
    reply = c.call("basic.get", queue=q)
    for method, fields in settlement.items():
        c.send(f"basic.{method}", delivery_tag=reply["delivery_tag"], **fields)
    return reply


REJECT = {"reject": {"requeue": False}}


def show(c, q, count=1):
    c.wait_queue(q, count, 0)
    for _ in range(count):
        c.call("basic.get", queue=q, no_ack=True)


@conversation
def a_rejected_message_goes_to_the_dead_letter_exchange(t):
    c = t.connect()
    q, dead = dying(t, c)
    c.publish("", q, "m")
    c.wait_queue(q, 1, 0)
    take(c, q, **REJECT)
    show(c, dead)
    c.wait_queue(q, 0, 0)


@conversation
def nack_without_requeue_rejects_all_up_to_the_tag(t):
    c = t.connect()
    q, dead = dying(t, c)
    for n in range(4):
        c.publish("", q, f"m{n}")
    c.wait_queue(q, 4, 0)
    for _ in range(4):
        c.call("basic.get", queue=q)
    c.send("basic.nack", delivery_tag=3, multiple=True, requeue=False)
    show(c, dead, 3)
    c.send("basic.ack", delivery_tag=4)
    c.sync()


@conversation
def requeue_is_no_death(t):
    c = t.connect()
    q, dead = dying(t, c)
    c.publish("", q, "m")
    c.wait_queue(q, 1, 0)
    take(c, q, reject={"requeue": True})
    show(c, q)
    c.wait_queue(dead, 0, 0)


@conversation
def an_expired_message_dies_with_its_own_key(t):
    c = t.connect()
    q, dead, x = t.name("q"), t.name("dead"), t.name("x")
    c.call("exchange.declare", exchange=x, type="fanout")
    queue(c, q, dead_letter_exchange=x, message_ttl=1)
    queue(c, dead)
    c.call("queue.bind", queue=dead, exchange=x)
    c.publish("", q, "m", props={"delivery_mode": 2, "content_type": "text/plain"})
    show(c, dead)


@conversation
def the_expiration_of_a_message_becomes_original_expiration(t):
    c = t.connect()
    q, dead = dying(t, c)
    c.publish("", q, "m", props={"expiration": "1", "headers": {"mine": 1}, "priority": 3})
    show(c, dead)


@conversation
def a_rejected_message_keeps_its_expiration_in_x_death_only(t):
    c = t.connect()
    q, dead = dying(t, c)
    c.publish("", q, "m", props={"expiration": "600000"})
    c.wait_queue(q, 1, 0)
    take(c, q, **REJECT)
    show(c, dead)


@conversation
def a_dropped_head_dies_of_maxlen(t):
    c = t.connect()
    q, dead = dying(t, c, max_length=1)
    for n in range(3):
        c.publish("", q, f"m{n}")
    show(c, dead, 2)
    show(c, q)


@conversation
def a_message_dropped_for_its_bytes_dies_of_maxlen(t):
    c = t.connect()
    q, dead = dying(t, c, max_length_bytes=5)
    for n in range(3):
        c.publish("", q, f"mm{n}")
    show(c, dead, 2)
    show(c, q)


@conversation
def reject_publish_dlx_dead_letters_the_newcomer(t):
    c = t.connect()
    q, dead = dying(t, c, max_length=1, overflow="reject-publish-dlx")
    c.call("confirm.select")
    for n in range(3):
        c.publish("", q, f"m{n}")
    c.confirms(3)
    show(c, dead, 2)
    show(c, q)


@conversation
def reject_publish_does_not_dead_letter(t):
    c = t.connect()
    q, dead = dying(t, c, max_length=1, overflow="reject-publish")
    c.call("confirm.select")
    for n in range(3):
        c.publish("", q, f"m{n}")
    c.confirms(3)
    c.wait_queue(dead, 0, 0)
    show(c, q)


@conversation
def a_message_keeps_its_properties_and_headers_in_front(t):
    c = t.connect()
    q, dead = dying(t, c)
    c.publish("", q, "m", props={
        "content_type": "a/b", "content_encoding": "utf-8", "headers": {"z": 1, "a": "text", "n": None},
        "delivery_mode": 2, "priority": 5, "correlation_id": "c", "reply_to": "r", "message_id": "id",
        "timestamp": 5, "type": "t", "user_id": "guest", "app_id": "app"})
    c.wait_queue(q, 1, 0)
    take(c, q, **REJECT)
    show(c, dead)


@conversation
def two_queues_count_apart_and_the_last_death_stands_first(t):
    c = t.connect()
    a, b, last = t.name("a"), t.name("b"), t.name("last")
    queue(c, a, dead_letter_exchange="", dead_letter_routing_key=b)
    queue(c, b, dead_letter_exchange="", dead_letter_routing_key=last)
    queue(c, last)
    c.publish("", a, "m")
    c.wait_queue(a, 1, 0)
    take(c, a, **REJECT)
    c.wait_queue(b, 1, 0)
    take(c, b, **REJECT)
    show(c, last)


@conversation
def a_repeated_death_is_counted_and_moves_to_the_front(t):
    c = t.connect()
    a, b = t.name("a"), t.name("b")
    queue(c, a, dead_letter_exchange="", dead_letter_routing_key=b)
    queue(c, b, dead_letter_exchange="", dead_letter_routing_key=a)
    c.publish("", a, "m")
    for q in (a, b, a, b, a):
        c.wait_queue(q, 1, 0)
        take(c, q, **REJECT)
    show(c, b)


@conversation
def deaths_of_different_reasons_are_counted_apart(t):
    c = t.connect()
    a, b = t.name("a"), t.name("b")
    queue(c, a, dead_letter_exchange="", dead_letter_routing_key=b)
    queue(c, b, dead_letter_exchange="", dead_letter_routing_key=a, message_ttl=1)
    c.publish("", a, "m")
    c.wait_queue(a, 1, 0)
    take(c, a, **REJECT)
    c.wait_queue(a, 1, 0)
    take(c, a, **REJECT)
    show(c, a)


@conversation
def a_queue_may_be_its_own_dead_letter_target_after_a_rejection(t):
    c, q = t.connect(), t.name("q")
    queue(c, q, dead_letter_exchange="", dead_letter_routing_key=q)
    c.publish("", q, "m")
    c.wait_queue(q, 1, 0)
    for _ in range(2):
        take(c, q, **REJECT)
        c.wait_queue(q, 1, 0)
    show(c, q)


@conversation
def an_automatic_cycle_is_broken(t):
    c, q = t.connect(), t.name("q")
    queue(c, q, dead_letter_exchange="", message_ttl=1)
    c.publish("", q, "m")
    c.wait_queue(q, 0, 0)


@conversation
def an_automatic_cycle_over_two_queues_is_broken(t):
    c = t.connect()
    a, b, witness, x = t.name("a"), t.name("b"), t.name("witness"), t.name("x")
    c.call("exchange.declare", exchange=x, type="fanout")
    queue(c, a, dead_letter_exchange=x, message_ttl=1)
    queue(c, b, dead_letter_exchange="", dead_letter_routing_key=a, message_ttl=1)
    queue(c, witness)
    c.call("queue.bind", queue=b, exchange=x)
    c.call("queue.bind", queue=witness, exchange=x)
    c.publish("", a, "m")
    show(c, witness)
    c.wait_queue(a, 0, 0)
    c.wait_queue(b, 0, 0)
    c.wait_queue(witness, 0, 0)


@conversation
def a_cycle_with_a_rejection_in_it_goes_on(t):
    c = t.connect()
    work, wait = t.name("work"), t.name("wait")
    queue(c, work, dead_letter_exchange="", dead_letter_routing_key=wait)
    queue(c, wait, dead_letter_exchange="", dead_letter_routing_key=work, message_ttl=1)
    c.publish("", work, "m")
    for _ in range(3):
        c.wait_queue(work, 1, 0)
        take(c, work, **REJECT)
    show(c, work)


@conversation
def a_missing_dead_letter_exchange_loses_the_message(t):
    c, q = t.connect(), t.name("q")
    queue(c, q, dead_letter_exchange=t.name("missing"))
    c.publish("", q, "m")
    c.wait_queue(q, 1, 0)
    take(c, q, **REJECT)
    c.sync()
    c.wait_queue(q, 0, 0)


@conversation
def an_unroutable_dead_letter_is_lost(t):
    c, q = t.connect(), t.name("q")
    queue(c, q, dead_letter_exchange="", dead_letter_routing_key=t.name("nowhere"))
    c.publish("", q, "m")
    c.wait_queue(q, 1, 0)
    take(c, q, **REJECT)
    c.wait_queue(q, 0, 0)


@conversation
def a_dead_letter_exchange_may_come_later(t):
    c, q, dead, x = t.connect(), t.name("q"), t.name("dead"), t.name("x")
    queue(c, q, dead_letter_exchange=x)
    queue(c, dead)
    c.publish("", q, "m")
    c.wait_queue(q, 1, 0)
    c.call("exchange.declare", exchange=x, type="topic")
    c.call("queue.bind", queue=dead, exchange=x, routing_key="#")
    take(c, q, **REJECT)
    show(c, dead)


@conversation
def an_alternate_exchange_catches_unroutable_dead_letters(t):
    c, q, dead, x, other = t.connect(), t.name("q"), t.name("dead"), t.name("x"), t.name("other")
    c.call("exchange.declare", exchange=other, type="fanout")
    c.call("exchange.declare", exchange=x, type="direct", arguments={"alternate-exchange": other})
    queue(c, q, dead_letter_exchange=x)
    queue(c, dead)
    c.call("queue.bind", queue=dead, exchange=other)
    c.publish("", q, "m")
    c.wait_queue(q, 1, 0)
    take(c, q, **REJECT)
    show(c, dead)


@conversation
def cc_keys_route_again_and_stand_in_x_death(t):
    c = t.connect()
    q, k1, k2, x = t.name("q"), t.name("k1"), t.name("k2"), t.name("x")
    c.call("exchange.declare", exchange=x, type="direct")
    queue(c, q, dead_letter_exchange=x)
    for name in (k1, k2):
        queue(c, name)
    c.call("queue.bind", queue=k1, exchange=x, routing_key=q)
    c.call("queue.bind", queue=k2, exchange=x, routing_key="copy")
    c.publish("", q, "m", props={"headers": {"CC": ["copy"], "a": 1}})
    c.wait_queue(q, 1, 0)
    take(c, q, **REJECT)
    show(c, k1)
    show(c, k2)


@conversation
def bcc_keys_are_forgotten(t):
    c = t.connect()
    q, k1, k2, x = t.name("q"), t.name("k1"), t.name("k2"), t.name("x")
    c.call("exchange.declare", exchange=x, type="direct")
    queue(c, q, dead_letter_exchange=x)
    for name in (k1, k2):
        queue(c, name)
    c.call("queue.bind", queue=k1, exchange=x, routing_key=q)
    c.call("queue.bind", queue=k2, exchange=x, routing_key="hidden")
    c.publish("", q, "m", props={"headers": {"BCC": ["hidden"]}})
    c.wait_queue(q, 1, 0)
    take(c, q, **REJECT)
    show(c, k1)
    c.call("queue.delete", queue=k2)


@conversation
def a_dead_letter_routing_key_takes_the_place_of_all_keys(t):
    c = t.connect()
    q, own, copy, dlk, x = (t.name(stem) for stem in ("q", "own", "copy", "dlk", "x"))
    c.call("exchange.declare", exchange=x, type="direct")
    queue(c, q, dead_letter_exchange=x, dead_letter_routing_key="dead")
    for name, key in ((own, q), (copy, "copy"), (dlk, "dead")):
        queue(c, name)
        c.call("queue.bind", queue=name, exchange=x, routing_key=key)
    c.publish("", q, "m", props={"headers": {"CC": ["copy"]}})
    c.wait_queue(q, 1, 0)
    take(c, q, **REJECT)
    show(c, dlk)
    c.wait_queue(own, 0, 0)
    c.wait_queue(copy, 0, 0)


@conversation
def headers_of_the_dead_route_at_a_headers_exchange(t):
    c, q, dead, x = t.connect(), t.name("q"), t.name("dead"), t.name("x")
    c.call("exchange.declare", exchange=x, type="headers")
    queue(c, q, dead_letter_exchange=x)
    queue(c, dead)
    c.call("queue.bind", queue=dead, exchange=x,
           arguments={"x-match": "all-with-x", "x-first-death-reason": "rejected"})
    c.call("queue.bind", queue=dead, exchange=x, arguments={"kind": "a"})
    c.publish("", q, "m", props={"headers": {"kind": "a"}})
    c.wait_queue(q, 1, 0)
    take(c, q, **REJECT)
    show(c, dead)


@conversation
def a_published_x_death_is_a_header_like_others(t):
    c = t.connect()
    q, dead = dying(t, c)
    c.publish("", q, "m", props={"headers": {"x-death": "text", "x-first-death-reason": "mine"}})
    c.wait_queue(q, 1, 0)
    take(c, q, **REJECT)
    c.wait_queue(dead, 1, 0)
    c.wait_queue(q, 0, 0)


@conversation
def a_consumer_gets_dead_letters(t):
    c = t.connect(channels=2)
    q, dead = dying(t, c)
    c.call("basic.consume", 2, queue=dead, consumer_tag="d", no_ack=True)
    c.call("basic.consume", queue=q, consumer_tag="c")
    c.publish("", q, "m")
    c.read(1)
    c.send("basic.nack", delivery_tag=1, requeue=False)
    c.read(1, 2)


@conversation
def a_dead_letter_may_go_to_many_queues(t):
    c, q, x = t.connect(), t.name("q"), t.name("x")
    c.call("exchange.declare", exchange=x, type="fanout")
    queue(c, q, dead_letter_exchange=x, message_ttl=1)
    targets = [t.name(stem) for stem in ("d1", "d2", "d3")]
    for target in targets:
        queue(c, target)
        c.call("queue.bind", queue=target, exchange=x)
    c.publish("", q, "m" * 20000)
    for target in targets:
        show(c, target)


@conversation
def purge_and_delete_are_no_deaths(t):
    c = t.connect()
    q, dead = dying(t, c)
    c.publish("", q, "m")
    c.wait_queue(q, 1, 0)
    c.call("queue.purge", queue=q)
    c.publish("", q, "m")
    c.wait_queue(q, 1, 0)
    c.call("queue.delete", queue=q)
    c.wait_queue(dead, 0, 0)


@conversation
def rejections_of_a_transaction_wait_for_its_commit(t):
    c = t.connect(channels=2)
    q, dead = dying(t, c)
    c.publish("", q, "m")
    c.wait_queue(q, 1, 0)
    c.call("tx.select")
    take(c, q, **REJECT)
    c.sync()
    c.wait_queue(dead, 0, 0, ch=2)
    c.call("tx.commit")
    c.wait_queue(dead, 1, 0, ch=2)


@conversation
def a_republished_dead_letter_is_a_new_message(t):
    c = t.connect()
    q, dead = dying(t, c)
    c.publish("", q, "m")
    c.wait_queue(q, 1, 0)
    take(c, q, **REJECT)
    c.wait_queue(dead, 1, 0)
    take(c, dead, ack={})
    c.publish("", q, "again", props={"headers": {"attempt": 2}})
    c.wait_queue(q, 1, 0)
    take(c, q, **REJECT)
    show(c, dead)


@conversation
def a_retry_queue_counts_the_deaths_of_both_queues(t):
    c, q, retry = t.connect(), t.name("q"), t.name("retry")
    queue(c, q, dead_letter_exchange="", dead_letter_routing_key=retry)
    queue(c, retry, dead_letter_exchange="", dead_letter_routing_key=q, message_ttl=20)
    c.publish("", q, "m")
    for _ in range(3):
        c.wait_queue(q, 1, 0)
        take(c, q, **REJECT)
    show(c, q)


@conversation
def keys_of_cc_route_at_every_death(t):
    c, x, q, copies = t.connect(), t.name("x"), t.name("q"), t.name("copies")
    c.call("exchange.declare", exchange=x, type="direct")
    queue(c, q, dead_letter_exchange=x)
    queue(c, copies)
    c.call("queue.bind", queue=q, exchange=x, routing_key="k")
    c.call("queue.bind", queue=copies, exchange=x, routing_key="copy")
    c.publish(x, "k", "m", props={"headers": {"CC": ["copy"]}})
    c.wait_queue(q, 1, 0)
    take(c, q, **REJECT)
    show(c, q)
    show(c, copies, 2)


@conversation
def what_is_requeued_beyond_the_limit_drops_the_oldest(t):
    c = t.connect()
    q, dead = dying(t, c, max_length=2)
    for n in range(2):
        c.publish("", q, f"m{n}")
    c.wait_queue(q, 2, 0)
    for _ in range(2):
        c.call("basic.get", queue=q)
    for n in range(2, 4):
        c.publish("", q, f"m{n}")
    c.wait_queue(q, 2, 0)
    c.send("basic.nack", delivery_tag=0, multiple=True, requeue=True)
    show(c, dead, 2)
    show(c, q, 2)


@conversation
def a_full_queue_takes_no_letters(t):
    c, q, dead = t.connect(), t.name("q"), t.name("dead")
    queue(c, dead, max_length=1, overflow="reject-publish")
    queue(c, q, dead_letter_exchange="", dead_letter_routing_key=dead, max_length=0)
    for n in range(3):
        c.publish("", q, f"m{n}")
    show(c, dead)
    c.wait_queue(dead, 0, 0)
