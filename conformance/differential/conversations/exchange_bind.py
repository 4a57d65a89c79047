"""exchange.bind and exchange.unbind (40.30-40.51), cycles, identity of bindings."""

from harness.conversation import conversation


def fanouts(c, t, *stems):
    names = [t.name(stem) for stem in stems]
    for name in names:
        c.call("exchange.declare", exchange=name, type="fanout")
    return names


def queue_at(c, t, exchange, stem="q"):
    q = t.name(stem)
    c.call("queue.declare", queue=q)
    c.call("queue.bind", queue=q, exchange=exchange, routing_key="")
    return q


@conversation
def messages_pass_from_exchange_to_exchange(t):
    c = t.connect()
    x, y = fanouts(c, t, "x", "y")
    q = queue_at(c, t, y)
    c.call("exchange.bind", destination=y, source=x, routing_key="k")
    c.publish(x, "key", "m")
    c.wait_queue(q, 1, 0)
    c.call("basic.get", queue=q)


@conversation
def unbind_ok_ends_the_flow(t):
    c = t.connect()
    x, y = fanouts(c, t, "x", "y")
    queue_at(c, t, y)
    c.call("exchange.bind", destination=y, source=x, routing_key="k")
    c.call("exchange.unbind", destination=y, source=x, routing_key="k")
    c.publish(x, "key", "m", mandatory=True)
    c.read(1)


@conversation
def binding_twice_is_one_binding(t):
    c = t.connect()
    x, y = fanouts(c, t, "x", "y")
    q = queue_at(c, t, y)
    for _ in range(2):
        c.call("exchange.bind", destination=y, source=x, routing_key="k")
    c.publish(x, "", "m")
    c.wait_queue(q, 1, 0)
    c.call("exchange.unbind", destination=y, source=x, routing_key="k")
    c.publish(x, "", "m", mandatory=True)
    c.read(1)


@conversation
def cycles_end(t):
    c = t.connect()
    x, y, z = fanouts(c, t, "x", "y", "z")
    q = queue_at(c, t, z)
    for source, destination in ((x, y), (y, z), (z, x), (x, x)):
        c.call("exchange.bind", destination=destination, source=source)
    c.publish(x, "", "m")
    c.wait_queue(q, 1, 0)
    c.publish(y, "", "m")
    c.wait_queue(q, 2, 0)


@conversation
def two_paths_give_one_copy(t):
    c = t.connect()
    x, y, z = fanouts(c, t, "x", "y", "z")
    q = queue_at(c, t, y)
    c.call("queue.bind", queue=q, exchange=z)
    c.call("exchange.bind", destination=y, source=x)
    c.call("exchange.bind", destination=z, source=x)
    c.publish(x, "", "m")
    c.wait_queue(q, 1, 0)


@conversation
def each_exchange_routes_by_its_own_type(t):
    c, x, y = t.connect(), t.name("x"), t.name("y")
    c.call("exchange.declare", exchange=x, type="topic")
    c.call("exchange.declare", exchange=y, type="direct")
    q = t.name("q")
    c.call("queue.declare", queue=q)
    c.call("queue.bind", queue=q, exchange=y, routing_key="a.b")
    c.call("exchange.bind", destination=y, source=x, routing_key="a.#")
    c.publish(x, "a.b", "m")
    c.wait_queue(q, 1, 0)
    c.publish(x, "a.c", "m", mandatory=True)
    c.read(1)


@conversation
def a_missing_destination_is_not_found(t):
    t.connect().call("exchange.bind", destination=t.name("missing"), source="amq.fanout")


@conversation
def a_missing_source_is_not_found(t):
    t.connect().call("exchange.bind", destination="amq.fanout", source=t.name("missing"))


@conversation
def two_missing_ends_name_one(t):
    t.connect().call("exchange.bind", destination=t.name("missing-d"), source=t.name("missing-s"))


@conversation
def unbinding_what_is_missing(t):
    c = t.connect(channels=3)
    c.call("exchange.unbind", 1, destination="amq.fanout", source="amq.direct", routing_key="never")
    c.call("exchange.unbind", 2, destination=t.name("missing"), source="amq.direct")
    c.call("exchange.unbind", 3, destination="amq.fanout", source=t.name("missing2"))


@conversation
def nowait_binds_without_an_answer(t):
    c = t.connect()
    x, y = fanouts(c, t, "x", "y")
    q = queue_at(c, t, y)
    c.send("exchange.bind", destination=y, source=x, nowait=True)
    c.publish(x, "", "m")
    c.wait_queue(q, 1, 0)
    c.send("exchange.unbind", destination=y, source=x, nowait=True)
    c.publish(x, "", "m", mandatory=True)
    c.read(1)


@conversation
def deleting_the_destination_removes_the_binding(t):
    c = t.connect()
    x, y = fanouts(c, t, "x", "y")
    c.call("exchange.bind", destination=y, source=x)
    c.call("exchange.delete", exchange=y)
    c.call("exchange.delete", exchange=x, if_unused=True)
