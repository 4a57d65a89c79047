"""Direct reply-to (row 74). The address of a consumer differs between brokers and never shows here."""

from harness.conversation import conversation

REPLY_TO = "amq.rabbitmq.reply-to"
ASKING = {"reply_to": REPLY_TO}


@conversation
def the_pseudo_queue_can_be_declared(t):
    c = t.connect()
    c.call("queue.declare", queue=REPLY_TO, passive=True)
    c.call("queue.declare", queue=REPLY_TO)
    c.call("queue.declare", queue=REPLY_TO, durable=True, exclusive=True,
           arguments={"x-message-ttl": "bad"})


@conversation
def an_unknown_address_cannot_be_declared(t):
    t.connect().call("queue.declare", queue=f"{REPLY_TO}.x", passive=True)


@conversation
def an_unknown_address_cannot_be_created(t):
    t.connect().call("queue.declare", queue=f"{REPLY_TO}.x")


@conversation
def a_longer_name_is_another_queue(t):
    t.connect().call("queue.declare", queue=f"{REPLY_TO}x", passive=True)


@conversation
def deleting_the_pseudo_queue_succeeds(t):
    t.connect().call("queue.delete", queue=REPLY_TO)


@conversation
def the_pseudo_queue_cannot_be_purged(t):
    t.connect().call("queue.purge", queue=REPLY_TO)


@conversation
def the_pseudo_queue_has_nothing_to_get(t):
    t.connect().call("basic.get", queue=REPLY_TO)


@conversation
def the_pseudo_queue_cannot_be_bound(t):
    t.connect().call("queue.bind", queue=REPLY_TO, exchange="amq.direct", routing_key="k")


@conversation
def a_reply_consumer_cannot_acknowledge(t):
    t.connect().call("basic.consume", queue=REPLY_TO, consumer_tag="t")


@conversation
def a_channel_has_one_reply_consumer(t):
    c = t.connect()
    c.call("basic.consume", queue=REPLY_TO, consumer_tag="one", no_ack=True)
    c.call("basic.consume", queue=REPLY_TO, consumer_tag="two", no_ack=True)


@conversation
def a_tag_of_another_consumer_is_refused(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q)
    c.call("basic.consume", queue=q, consumer_tag="t")
    c.call("basic.consume", queue=REPLY_TO, consumer_tag="t", no_ack=True)


@conversation
def a_cancelled_reply_consumer_can_be_set_again(t):
    c = t.connect()
    for tag in ("one", "two"):
        c.call("basic.consume", queue=REPLY_TO, consumer_tag=tag, no_ack=True, exclusive=True)
        c.call("basic.cancel", consumer_tag=tag)


@conversation
def a_request_needs_a_reply_consumer(t):
    c = t.connect()
    c.publish("", "q", "m", props=ASKING)
    c.read(1)


@conversation
def the_exchange_is_looked_for_before_the_reply_consumer(t):
    c = t.connect()
    c.publish("nowhere", "q", "m", props=ASKING)
    c.read(1)


@conversation
def the_reply_consumer_is_looked_for_before_expiration_and_user_id(t):
    c = t.connect()
    c.publish("", "q", "m", props={**ASKING, "expiration": "abc", "user_id": "somebody"})
    c.read(1)


@conversation
def a_reply_to_an_unknown_address_is_returned(t):
    c = t.connect()
    c.publish("", f"{REPLY_TO}.x", "m", mandatory=True)
    c.read(1)
    c.publish("", REPLY_TO, "m", mandatory=True)
    c.read(1)
