"""alternate-exchange: when it is used, chains, cycles."""

from harness.conversation import conversation


def exchange(c, t, stem, kind="direct", alternate=None):
    name = t.name(stem)
    c.call("exchange.declare", exchange=name, type=kind,
           arguments={"alternate-exchange": alternate} if alternate else {})
    return name


def bound_queue(c, t, stem, to, key=""):
    q = t.name(stem)
    c.call("queue.declare", queue=q)
    c.call("queue.bind", queue=q, exchange=to, routing_key=key)
    return q


@conversation
def what_nothing_matched_goes_to_the_alternate(t):
    c = t.connect()
    ae = exchange(c, t, "ae", "fanout")
    x = exchange(c, t, "x", alternate=ae)
    q, p = bound_queue(c, t, "q", x, "k"), bound_queue(c, t, "p", ae)
    c.publish(x, "k", "routed", mandatory=True)
    c.publish(x, "other", "alternate", mandatory=True)
    c.wait_queue(q, 1, 0)
    c.wait_queue(p, 1, 0)
    c.call("basic.get", queue=p)


@conversation
def chains_are_followed(t):
    c = t.connect()
    third = exchange(c, t, "third", "fanout")
    second = exchange(c, t, "second", alternate=third)
    first = exchange(c, t, "first", alternate=second)
    q = bound_queue(c, t, "q", third)
    c.publish(first, "k", "m", mandatory=True)
    c.wait_queue(q, 1, 0)
    c.call("basic.get", queue=q)


@conversation
def cycles_end_in_a_return(t):
    c = t.connect()
    x, y = t.name("x"), t.name("y")
    c.call("exchange.declare", exchange=x, type="direct", arguments={"alternate-exchange": y})
    c.call("exchange.declare", exchange=y, type="direct", arguments={"alternate-exchange": x})
    c.publish(x, "k", "m", mandatory=True)
    c.read(1)


@conversation
def itself_as_alternate_ends_in_a_return(t):
    c, x = t.connect(), t.name("x")
    c.call("exchange.declare", exchange=x, type="direct", arguments={"alternate-exchange": x})
    c.publish(x, "k", "m", mandatory=True)
    c.read(1)


@conversation
def a_missing_alternate_is_ignored(t):
    c = t.connect()
    x = exchange(c, t, "x", alternate=t.name("missing"))
    c.publish(x, "k", "m", mandatory=True)
    c.read(1)


@conversation
def an_alternate_may_be_declared_later(t):
    c, ae = t.connect(), t.name("ae")
    x = exchange(c, t, "x", alternate=ae)
    c.publish(x, "k", "m", mandatory=True)
    c.read(1)
    c.call("exchange.declare", exchange=ae, type="fanout")
    q = bound_queue(c, t, "q", ae)
    c.publish(x, "k", "m", mandatory=True)
    c.wait_queue(q, 1, 0)


@conversation
def an_internal_alternate_is_used(t):
    c, ae = t.connect(), t.name("ae")
    c.call("exchange.declare", exchange=ae, type="fanout", internal=True)
    q = bound_queue(c, t, "q", ae)
    x = exchange(c, t, "x", alternate=ae)
    c.publish(x, "k", "m", mandatory=True)
    c.wait_queue(q, 1, 0)


@conversation
def the_default_exchange_as_alternate(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q)
    x = t.name("x")
    c.call("exchange.declare", exchange=x, type="direct", arguments={"alternate-exchange": ""})
    c.publish(x, q, "m", mandatory=True)
    c.read(1)


@conversation
def a_bound_exchange_that_routes_nowhere_still_counts_as_matched(t):
    c = t.connect()
    ae = exchange(c, t, "ae", "fanout")
    q = bound_queue(c, t, "q", ae)
    x, y = exchange(c, t, "x", alternate=ae), exchange(c, t, "y")
    c.call("exchange.bind", destination=y, source=x, routing_key="k")
    c.publish(x, "k", "m", mandatory=True)
    c.read(1)
    c.call("queue.declare", queue=q, passive=True)


@conversation
def the_alternate_of_a_bound_exchange_is_used(t):
    c = t.connect()
    ae = exchange(c, t, "ae", "fanout")
    q = bound_queue(c, t, "q", ae)
    x, y = exchange(c, t, "x"), exchange(c, t, "y", alternate=ae)
    c.call("exchange.bind", destination=y, source=x, routing_key="k")
    c.publish(x, "k", "m", mandatory=True)
    c.wait_queue(q, 1, 0)
