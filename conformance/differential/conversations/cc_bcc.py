"""CC and BCC headers: sender-selected distribution (row 80)."""

from harness.conversation import conversation


def queues(c, t, *stems):
    names = [t.name(stem) for stem in stems]
    for name in names:
        c.call("queue.declare", queue=name)
    return names


def show(c, *names):
    for q in names:
        c.call("basic.get", queue=q, no_ack=True)


def published(c, headers, exchange, key, *names):
    c.call("confirm.select")
    c.publish(exchange, key, "m", props={"headers": headers}, mandatory=True)
    c.confirms(1)
    show(c, *names)


@conversation
def cc_on_the_default_exchange_names_queues(t):
    c = t.connect()
    a, b, d = queues(c, t, "a", "b", "d")
    published(c, {"CC": [b, d], "other": 1}, "", a, a, b, d)


@conversation
def bcc_is_stripped(t):
    c = t.connect()
    a, b = queues(c, t, "a", "b")
    published(c, {"x": 1, "BCC": [b], "y": 2}, "", a, a, b)


@conversation
def bcc_alone_leaves_an_empty_table(t):
    c = t.connect()
    a, b = queues(c, t, "a", "b")
    published(c, {"BCC": [b]}, "", a, a, b)


@conversation
def cc_and_bcc_together(t):
    c = t.connect()
    a, b, d = queues(c, t, "a", "b", "d")
    published(c, {"CC": [b], "BCC": [d]}, "", a, a, b, d)


@conversation
def a_queue_named_twice_gets_one_copy(t):
    c = t.connect()
    a, b = queues(c, t, "a", "b")
    published(c, {"CC": [a, b, b], "BCC": [b]}, "", a, a, b)
    show(c, a, b)


@conversation
def cc_with_a_direct_exchange(t):
    c, x = t.connect(), t.name("x")
    a, b = queues(c, t, "a", "b")
    c.call("exchange.declare", exchange=x, type="direct")
    c.call("queue.bind", queue=a, exchange=x, routing_key="ka")
    c.call("queue.bind", queue=b, exchange=x, routing_key="kb")
    published(c, {"CC": ["kb"]}, x, "ka", a, b)


@conversation
def cc_with_a_topic_exchange(t):
    c, x = t.connect(), t.name("x")
    a, b = queues(c, t, "a", "b")
    c.call("exchange.declare", exchange=x, type="topic")
    c.call("queue.bind", queue=a, exchange=x, routing_key="a.#")
    c.call("queue.bind", queue=b, exchange=x, routing_key="b.*")
    published(c, {"BCC": ["b.x"]}, x, "a.x", a, b)


@conversation
def cc_alone_may_route(t):
    c = t.connect()
    a, = queues(c, t, "a")
    published(c, {"CC": [a]}, "", "nowhere", a)


@conversation
def missing_cc_queues_are_ignored(t):
    c = t.connect()
    a, = queues(c, t, "a")
    published(c, {"CC": ["nowhere1", "nowhere2"]}, "", a, a)


@conversation
def a_cc_that_is_no_array_is_refused(t):
    c = t.connect()
    a, = queues(c, t, "a")
    c.publish("", a, "m", props={"headers": {"CC": "text"}})
    c.read(1)


@conversation
def a_bcc_that_is_no_array_is_refused(t):
    c = t.connect()
    a, = queues(c, t, "a")
    c.publish("", a, "m", props={"headers": {"BCC": 5}})
    c.read(1)


@conversation
def entries_that_are_no_strings(t):
    c = t.connect()
    a, b = queues(c, t, "a", "b")
    published(c, {"CC": [b, 5, None]}, "", a, a, b)


@conversation
def a_return_keeps_cc(t):
    c = t.connect()
    c.publish("", "nowhere", "m", mandatory=True,
              props={"headers": {"CC": ["n1"], "BCC": ["n2"], "k": 1}})
    c.read(1)


@conversation
def lower_case_names_mean_nothing(t):
    c = t.connect()
    a, b = queues(c, t, "a", "b")
    published(c, {"cc": [b], "bcc": [b]}, "", a, a, b)
