"""Names that begin with `amq.`, server-generated names, and the last queue name (rows 8-11)."""

from harness.conversation import conversation


@conversation
def a_queue_with_a_reserved_prefix_is_refused(t):
    t.connect().call("queue.declare", queue="amq.mine")


@conversation
def an_exchange_with_a_reserved_prefix_is_refused(t):
    t.connect().call("exchange.declare", exchange="amq.mine", type="direct")


@conversation
def a_passive_declare_of_a_reserved_queue_name_is_not_found(t):
    t.connect().call("queue.declare", queue="amq.missing", passive=True)


@conversation
def a_passive_declare_of_a_reserved_exchange_name_is_not_found(t):
    t.connect().call("exchange.declare", exchange="amq.missing", type="direct", passive=True)


@conversation
def the_prefix_is_compared_with_case_and_dot(t):
    c, q, p = t.connect(), t.name("AMQ.q"), t.name("amqp")
    c.call("queue.declare", queue=q)
    c.call("queue.declare", queue=p)


@conversation
def predeclared_exchanges_redeclare(t):
    c = t.connect()
    for kind in ("direct", "fanout", "topic", "headers"):
        c.call("exchange.declare", exchange=f"amq.{kind}", type=kind, durable=True)
    c.call("exchange.declare", exchange="amq.match", type="headers", durable=True)
    c.call("exchange.declare", exchange="amq.rabbitmq.trace", type="topic", durable=True,
           internal=True)


@conversation
def predeclared_exchanges_do_not_change_their_type(t):
    c = t.connect()
    c.call("exchange.declare", exchange="amq.direct", type="fanout", durable=True)


@conversation
def predeclared_exchanges_are_not_deleted(t):
    c = t.connect()
    c.call("exchange.delete", exchange="amq.direct")


@conversation
def the_default_exchange_is_not_declared(t):
    c = t.connect()
    c.call("exchange.declare", exchange="", type="direct", durable=True)


@conversation
def the_default_exchange_is_not_declared_passively(t):
    c = t.connect()
    c.call("exchange.declare", exchange="", type="direct", passive=True)


@conversation
def the_default_exchange_is_not_deleted(t):
    c = t.connect()
    c.call("exchange.delete", exchange="")


@conversation
def the_default_exchange_has_no_bindings_of_its_own(t):
    c, q = t.connect(channels=2), t.name("q")
    c.call("queue.declare", queue=q)
    c.call("queue.bind", queue=q, exchange="", routing_key="k")
    c.call("queue.unbind", 2, queue=q, exchange="", routing_key=q)


@conversation
def the_default_exchange_has_no_exchange_bindings(t):
    c = t.connect(channels=2)
    c.call("exchange.bind", 1, destination="amq.fanout", source="", routing_key="k")
    c.call("exchange.bind", 2, destination="", source="amq.fanout", routing_key="k")


@conversation
def the_server_names_a_queue(t):
    c = t.connect()
    reply = c.call("queue.declare", exclusive=True)
    c.call("queue.declare", queue=reply["queue"], passive=True)
    c.publish("", reply["queue"], "m")
    c.wait_queue(reply["queue"], 1, 0)
    c.call("basic.get", queue=reply["queue"])


@conversation
def a_server_named_queue_redeclares_by_its_owner(t):
    c = t.connect()
    reply = c.call("queue.declare", exclusive=True)
    c.call("queue.declare", queue=reply["queue"], exclusive=True)


@conversation
def the_empty_name_is_the_last_declared_queue(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q)
    c.call("queue.bind", exchange="amq.direct", routing_key=q)
    c.publish("amq.direct", q, "m")
    c.wait_queue(q, 1, 0)
    c.call("basic.get")
    c.call("basic.consume", consumer_tag="t")
    c.call("queue.purge")
    c.call("queue.unbind", exchange="amq.direct", routing_key=q)
    c.call("queue.delete")


@conversation
def the_last_declared_queue_is_remembered_per_channel(t):
    c, q = t.connect(channels=2), t.name("q")
    c.call("queue.declare", queue=q)
    c.call("queue.purge", 2)


@conversation
def a_passive_declare_sets_the_last_queue(t):
    c, q, p = t.connect(), t.name("q"), t.name("p")
    c.call("queue.declare", queue=p)
    c.publish("", p, "m")
    c.wait_queue(p, 1, 0)
    c.call("queue.declare", queue=q)
    c.call("queue.declare", queue=p, passive=True)
    c.call("queue.purge")


@conversation
def without_a_declared_queue_the_empty_name_is_not_found(t):
    c = t.connect(channels=6)
    c.call("queue.purge", 1)
    c.call("basic.get", 2)
    c.call("basic.consume", 3)
    c.call("queue.bind", 4, exchange="amq.direct", routing_key="k")
    c.call("queue.delete", 5)
    c.call("queue.declare", 6, passive=True)


@conversation
def an_empty_queue_and_key_bind_the_last_queue_by_its_name(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q)
    c.call("queue.bind", exchange="amq.direct")
    c.publish("amq.direct", q, "m")
    c.wait_queue(q, 1, 0)
    c.call("queue.unbind", exchange="amq.direct")
    c.publish("amq.direct", q, "m", mandatory=True)
    c.read(1)


@conversation
def an_empty_key_with_a_named_queue_stays_empty(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q)
    c.call("queue.bind", queue=q, exchange="amq.direct")
    c.publish("amq.direct", q, "m", mandatory=True)
    c.read(1)
    c.call("queue.unbind", queue=q, exchange="amq.direct")


@conversation
def a_generated_consumer_tag_is_returned(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q)
    first = c.call("basic.consume", queue=q)
    second = c.call("basic.consume", queue=q)
    c.call("basic.cancel", consumer_tag=first["consumer_tag"])
    c.publish("", q, "m")
    c.read(1)
    c.call("basic.cancel", consumer_tag=second["consumer_tag"])
