"""Routing by the default, direct, fanout and topic exchanges."""

from harness.conversation import conversation


def route(t, c, kind, bindings, keys):
    """Publishes each key once and shows which queues got which."""
    x = t.name("x")
    c.call("exchange.declare", exchange=x, type=kind)
    queues = []
    for number, binding in enumerate(bindings):
        q = t.name(f"q{number}")
        c.call("queue.declare", queue=q)
        for key in [binding] if isinstance(binding, str) else binding:
            c.call("queue.bind", queue=q, exchange=x, routing_key=key)
        queues.append(q)
    c.call("confirm.select")
    for key in keys:
        c.publish(x, key, key)
    c.confirms(len(keys))
    for q in queues:
        while (reply := c.call("basic.get", queue=q, no_ack=True)) and reply.name == "basic.get-ok":
            pass


@conversation
def the_default_exchange_routes_by_queue_name(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q)
    c.publish("", q, "m")
    c.wait_queue(q, 1, 0)
    c.call("basic.get", queue=q)
    c.publish("", q + "x", "m", mandatory=True)
    c.read(1)


@conversation
def direct_compares_the_whole_key(t):
    route(t, t.connect(), "direct", ["a", "a.b", "", "#", ["a", "b"]], ["a", "a.b", "", "#", "A", "b"])


@conversation
def fanout_ignores_the_key(t):
    route(t, t.connect(), "fanout", ["a", "", "#"], ["", "x.y"])


@conversation
def topic_star_is_exactly_one_word(t):
    route(t, t.connect(), "topic", ["*", "a.*", "*.b", "a.*.c", "*.*"],
          ["", "a", "a.b", "a.b.c", "a.", ".b", ".", "a..c"])


@conversation
def topic_hash_is_any_number_of_words(t):
    route(t, t.connect(), "topic", ["#", "a.#", "#.b", "a.#.b"],
          ["", "a", "b", "a.b", "a.x.b", "a.x.y.b", "a.b.x", "ab", "."])


@conversation
def topic_hash_and_star_together(t):
    route(t, t.connect(), "topic", ["#.*", "*.#", "*.#.*", "#.a.#", "a.*.#"],
          ["", "a", "a.b", "a.b.c", "x.a.y"])


@conversation
def topic_wildcards_within_a_word_are_letters(t):
    route(t, t.connect(), "topic", ["a*", "a.b#", "#a"], ["a*", "ab", "a.b#", "a.bc", "#a", "xa"])


@conversation
def topic_empty_words_count(t):
    route(t, t.connect(), "topic", ["", "a.", ".a", "..", "a..b"], ["", "a.", ".a", "..", "a..b", "a"])


@conversation
def topic_two_hashes_in_a_key(t):
    route(t, t.connect(), "topic", ["#.#", "a.#.#", "#.a.#"], ["", "a", "b.a.c", "a.b"])


@conversation
def topic_is_case_sensitive_and_takes_unicode(t):
    route(t, t.connect(), "topic", ["Größe.*", "größe.*"], ["Größe.世界", "größe.x"])


@conversation
def keys_of_255_bytes(t):
    route(t, t.connect(), "topic", ["k" * 255, "#"], ["k" * 255, "k" * 254])


@conversation
def removed_topic_bindings_no_longer_match(t):
    c, x, q = t.connect(), t.name("x"), t.name("q")
    c.call("exchange.declare", exchange=x, type="topic")
    c.call("queue.declare", queue=q)
    for key in ("a.#", "a.*", "a.b.c"):
        c.call("queue.bind", queue=q, exchange=x, routing_key=key)
    c.call("queue.unbind", queue=q, exchange=x, routing_key="a.#")
    c.publish(x, "a.b.d", "m", mandatory=True)
    c.read(1)
    c.publish(x, "a.b.c", "m", mandatory=True)
    c.wait_queue(q, 1, 0)
