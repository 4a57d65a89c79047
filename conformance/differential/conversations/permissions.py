"""What the user `limited` may do; c, w, r at the head of a name are its rights (rows 66, 67).

The user has configure on names that begin with c, write on cw.. and w.., read on cwr.., cr.., wr..
and r..; nothing on amq.*.
"""

from functools import partial

from harness.conversation import conversation as any_conversation

conversation = partial(any_conversation, profile="limited")


@conversation
def declaring_needs_configure(t):
    c = t.connect(channels=4)
    c.call("queue.declare", 1, queue=t.name("c-q"))
    c.call("queue.declare", 1, queue=t.name("x-q"))
    c.call("exchange.declare", 2, exchange=t.name("c-x"), type="fanout")
    c.call("exchange.declare", 2, exchange=t.name("x-x"), type="fanout")


@conversation
def redeclaring_needs_configure_before_equivalence(t):
    c = t.connect()
    c.call("queue.declare", queue=t.name("w-q"), durable=True, arguments={"x-message-ttl": "bad"})


@conversation
def deleting_needs_configure(t):
    c = t.connect(channels=2)
    c.call("queue.delete", 1, queue=t.name("wr-q"))
    c.call("exchange.delete", 2, exchange=t.name("wr-x"))


@conversation
def a_passive_declare_without_any_right(t):
    c = t.connect(channels=2)
    c.call("queue.declare", 1, queue=t.name("x-q"), passive=True)
    c.call("exchange.declare", 2, exchange=t.name("x-x"), passive=True)


@conversation
def a_passive_declare_with_read_only(t):
    c = t.connect(channels=2)
    c.call("queue.declare", 1, queue=t.name("r-q"), passive=True)
    c.call("exchange.declare", 2, exchange=t.name("r-x"), passive=True)


@conversation
def a_passive_declare_with_configure_only(t):
    c, q = t.connect(), t.name("c-q")
    c.call("queue.declare", queue=q)
    c.call("queue.declare", queue=q, passive=True)


@conversation
def publishing_needs_write(t):
    c, x, y = t.connect(), t.name("cw-x"), t.name("cr-x")
    c.call("exchange.declare", exchange=x, type="fanout")
    c.call("exchange.declare", exchange=y, type="fanout")
    c.publish(x, "k", "m", mandatory=True)
    c.read(1)
    c.publish(y, "k", "m", mandatory=True)
    c.read(1)


@conversation
def publishing_to_the_default_exchange_needs_write_on_amq_default(t):
    c = t.connect()
    c.publish("", "any", "m")
    c.read(1)


@conversation
def write_is_checked_before_the_exchange_exists(t):
    c = t.connect(channels=2)
    c.publish(t.name("w-missing"), "k", "m", ch=1)
    c.read(1, 1)
    c.publish(t.name("x-missing"), "k", "m", ch=2)
    c.read(1, 2)


@conversation
def consuming_getting_and_purging_need_read(t):
    c, q = t.connect(channels=3), t.name("cw-q")
    c.call("queue.declare", queue=q)
    c.call("basic.consume", 1, queue=q, consumer_tag="t")
    c.call("basic.get", 2, queue=q)
    c.call("queue.purge", 3, queue=q)


@conversation
def with_read_all_three_work(t):
    c, q = t.connect(channels=3), t.name("cr-q")
    c.call("queue.declare", queue=q)
    c.call("basic.get", 2, queue=q)
    c.call("queue.purge", 3, queue=q)
    c.call("basic.consume", 1, queue=q, consumer_tag="t")


@conversation
def binding_needs_write_on_the_queue(t):
    c, q, x = t.connect(), t.name("cr-q"), t.name("cr-x")
    c.call("queue.declare", queue=q)
    c.call("exchange.declare", exchange=x, type="fanout")
    c.call("queue.bind", queue=q, exchange=x)


@conversation
def binding_needs_read_on_the_exchange(t):
    c, q, x = t.connect(), t.name("cw-q"), t.name("cw-x")
    c.call("queue.declare", queue=q)
    c.call("exchange.declare", exchange=x, type="fanout")
    c.call("queue.bind", queue=q, exchange=x)


@conversation
def binding_with_both_rights_works(t):
    c, q, x = t.connect(), t.name("cw-q"), t.name("cwr-x")
    c.call("queue.declare", queue=q)
    c.call("exchange.declare", exchange=x, type="fanout")
    c.call("queue.bind", queue=q, exchange=x)
    c.publish(x, "", "m", mandatory=True)
    c.wait_queue(q, 1, 0)
    c.call("queue.unbind", queue=q, exchange=x)


@conversation
def unbinding_needs_the_same_rights(t):
    c, q, x = t.connect(channels=2), t.name("cw-q"), t.name("cr-q")
    c.call("queue.unbind", 1, queue=x, exchange=t.name("cr-x"))
    c.call("queue.unbind", 2, queue=q, exchange=t.name("cw-x"))


@conversation
def exchange_binding_needs_write_and_read(t):
    c, d, s = t.connect(channels=3), t.name("cw-x"), t.name("cr-x")
    for name in (d, s):
        c.call("exchange.declare", exchange=name, type="fanout")
    c.call("exchange.bind", 1, destination=d, source=s)
    c.call("exchange.unbind", 1, destination=d, source=s)
    c.call("exchange.bind", 2, destination=s, source=s)
    c.call("exchange.bind", 3, destination=d, source=d)


@conversation
def a_dead_letter_exchange_needs_write_on_it(t):
    c = t.connect()
    c.call("queue.declare", queue=t.name("cr-q"),
           arguments={"x-dead-letter-exchange": t.name("x-dlx")})


@conversation
def a_dead_letter_exchange_needs_read_on_the_queue(t):
    c = t.connect()
    c.call("queue.declare", queue=t.name("cw-q"),
           arguments={"x-dead-letter-exchange": t.name("w-dlx")})


@conversation
def an_alternate_exchange_needs_write_on_it(t):
    c = t.connect()
    c.call("exchange.declare", exchange=t.name("cr-x"), type="fanout",
           arguments={"alternate-exchange": t.name("x-ae")})


@conversation
def an_alternate_exchange_needs_read_on_the_exchange(t):
    c = t.connect()
    c.call("exchange.declare", exchange=t.name("cw-x"), type="fanout",
           arguments={"alternate-exchange": t.name("w-ae")})


@conversation
def a_server_named_queue_needs_configure(t):
    c = t.connect()
    c.call("queue.declare", exclusive=True)


@conversation
def user_id_must_be_the_own_name(t):
    c, x = t.connect(), t.name("cw-x")
    c.call("exchange.declare", exchange=x, type="fanout")
    c.publish(x, "k", "m", props={"user_id": "limited"}, mandatory=True)
    c.read(1)
    c.publish(x, "k", "m", props={"user_id": "guest"})
    c.read(1)
