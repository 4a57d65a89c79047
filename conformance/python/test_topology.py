"""Exchanges, queues and bindings: declaring, redeclaring, routing, deleting."""

import pytest
from pika import BasicProperties
from pika.exceptions import ChannelClosedByBroker

from conftest import publish, ready


def bound_queue(channel, names, exchange, name, key="", arguments=None):
    queue = names.queue(name)
    channel.queue_declare(queue, durable=True)
    channel.queue_bind(queue, exchange, key, arguments)
    return queue


def depths(channel, *queues):
    return [ready(channel, queue) for queue in queues]


def send(channel, exchange, key="", headers=None):
    channel.basic_publish(exchange, key, b"x", BasicProperties(headers=headers))


def test_the_default_exchange_routes_by_queue_name(channel, names):
    queue = names.queue()
    channel.queue_declare(queue, durable=True)
    send(channel, "", queue)
    assert ready(channel, queue) == 1


def test_a_direct_exchange_routes_by_equal_key(channel, names):
    exchange = names.exchange()
    channel.exchange_declare(exchange, "direct", durable=True)
    red = bound_queue(channel, names, exchange, "red", "red")
    blue = bound_queue(channel, names, exchange, "blue", "blue")
    both = bound_queue(channel, names, exchange, "both", "red")
    channel.queue_bind(both, exchange, "blue")
    send(channel, exchange, "red")
    send(channel, exchange, "RED")
    assert depths(channel, red, blue, both) == [1, 0, 1]


def test_a_fanout_exchange_routes_to_every_queue(channel, names):
    exchange = names.exchange()
    channel.exchange_declare(exchange, "fanout", durable=True)
    queues = [bound_queue(channel, names, exchange, f"q{i}", "ignored") for i in range(3)]
    send(channel, exchange, "another")
    assert depths(channel, *queues) == [1, 1, 1]


@pytest.mark.parametrize(
    "pattern, matching, others",
    [
        ("log.*", ["log.info", "log."], ["log", "log.info.disk", "Log.info"]),
        ("log.#", ["log", "log.info", "log.info.disk"], ["xlog", ""]),
        ("*.*.disk", ["log.info.disk"], ["info.disk", "a.b.c.disk"]),
        ("#.disk", ["disk", "a.disk", "a.b.c.disk"], ["disk.a", "adisk"]),
        ("a.#.z", ["a.z", "a.b.z", "a.b.c.z"], ["a", "a.z.b"]),
        ("#", ["", "a", "a.b"], []),
    ],
)
def test_a_topic_exchange_matches_words(channel, names, pattern, matching, others):
    exchange = names.exchange()
    channel.exchange_declare(exchange, "topic", durable=True)
    queue = bound_queue(channel, names, exchange, "queue", pattern)
    for key in matching + others:
        send(channel, exchange, key)
    keys = [channel.basic_get(queue, auto_ack=True)[0].routing_key for _ in matching]
    assert keys == matching
    assert ready(channel, queue) == 0


@pytest.mark.parametrize(
    "x_match, headers, arrives",
    [
        ("all", {"a": 1, "b": "two"}, 1),
        ("all", {"a": 1, "b": "two", "c": True}, 1),
        ("all", {"a": 1}, 0),
        ("all", {"a": 1, "b": "three"}, 0),
        ("any", {"a": 1}, 1),
        ("any", {"a": 2, "b": "two"}, 1),
        ("any", {"a": 2, "c": True}, 0),
        ("any", {}, 0),
    ],
)
def test_a_headers_exchange_matches_arguments(channel, names, x_match, headers, arrives):
    exchange = names.exchange()
    channel.exchange_declare(exchange, "headers", durable=True)
    arguments = {"x-match": x_match, "a": 1, "b": "two"}
    queue = bound_queue(channel, names, exchange, "queue", arguments=arguments)
    send(channel, exchange, headers=headers)
    assert ready(channel, queue) == arrives


def test_exchanges_bind_to_exchanges(channel, names):
    source, destination = names.exchange("source"), names.exchange("destination")
    channel.exchange_declare(source, "topic", durable=True)
    channel.exchange_declare(destination, "fanout", durable=True)
    queue = bound_queue(channel, names, destination, "queue")
    channel.exchange_bind(destination, source, "log.#")
    send(channel, source, "log.info")
    send(channel, source, "other")
    assert ready(channel, queue) == 1
    channel.exchange_unbind(destination, source, "log.#")
    send(channel, source, "log.info")
    assert ready(channel, queue) == 1


def test_a_cycle_of_exchanges_delivers_once(channel, names):
    one, two = names.exchange("one"), names.exchange("two")
    for exchange in (one, two):
        channel.exchange_declare(exchange, "fanout", durable=True)
    channel.exchange_bind(one, two)
    channel.exchange_bind(two, one)
    queue = bound_queue(channel, names, one, "queue")
    channel.queue_bind(queue, two)
    send(channel, one)
    assert ready(channel, queue) == 1


def test_the_alternate_exchange_takes_what_is_unroutable(channel, names):
    exchange, alternate = names.exchange(), names.exchange("alternate")
    channel.exchange_declare(alternate, "fanout", durable=True)
    channel.exchange_declare(
        exchange, "direct", durable=True, arguments={"alternate-exchange": alternate}
    )
    routed = bound_queue(channel, names, exchange, "routed", "key")
    rest = bound_queue(channel, names, alternate, "rest")
    send(channel, exchange, "key")
    send(channel, exchange, "unknown")
    assert depths(channel, routed, rest) == [1, 1]


def test_the_predeclared_exchanges_exist(channel):
    for kind in ("direct", "fanout", "topic", "headers"):
        channel.exchange_declare(f"amq.{kind}", kind, durable=True)
        channel.exchange_declare(f"amq.{kind}", passive=True)
    channel.exchange_declare("amq.match", "headers", durable=True)


def test_unbinding_stops_the_flow(channel, names):
    exchange = names.exchange()
    channel.exchange_declare(exchange, "direct", durable=True)
    queue = bound_queue(channel, names, exchange, "queue", "key")
    channel.queue_bind(queue, exchange, "key")  # a duplicate changes nothing
    send(channel, exchange, "key")
    channel.queue_unbind(queue, exchange, "key")
    send(channel, exchange, "key")
    assert ready(channel, queue) == 1
    channel.queue_unbind(queue, exchange, "never bound")


def test_redeclaring_with_the_same_properties_counts_messages_and_consumers(channel, queue):
    publish(channel, queue, b"1", b"2")
    declared = channel.queue_declare(queue, durable=True).method
    assert (declared.queue, declared.message_count, declared.consumer_count) == (queue, 2, 0)
    channel.basic_qos(prefetch_count=1)
    channel.basic_consume(queue, lambda *_: None)
    declared = channel.queue_declare(queue, passive=True).method
    assert (declared.message_count, declared.consumer_count) == (1, 1)


def test_redeclaring_a_queue_with_another_auto_delete_flag_is_406(channel, names):
    queue = names.queue()
    channel.queue_declare(queue, durable=True, auto_delete=False)
    with pytest.raises(ChannelClosedByBroker) as closed:
        channel.queue_declare(queue, durable=True, auto_delete=True)
    assert closed.value.reply_code == 406
    assert closed.value.reply_text == (
        f"PRECONDITION_FAILED - inequivalent arg 'auto_delete' for queue '{queue}' "
        "in vhost '/': received 'true' but current is 'false'"
    )


def test_redeclaring_a_queue_with_other_arguments_is_406(channel, queue):
    with pytest.raises(ChannelClosedByBroker) as closed:
        channel.queue_declare(queue, durable=True, arguments={"x-message-ttl": 1000})
    assert closed.value.reply_code == 406
    assert f"inequivalent arg 'x-message-ttl' for queue '{queue}'" in closed.value.reply_text


def test_redeclaring_an_exchange_with_another_type_is_406(channel, names):
    exchange = names.exchange()
    channel.exchange_declare(exchange, "direct", durable=True)
    with pytest.raises(ChannelClosedByBroker) as closed:
        channel.exchange_declare(exchange, "fanout", durable=True)
    assert closed.value.reply_code == 406
    assert closed.value.reply_text == (
        f"PRECONDITION_FAILED - inequivalent arg 'type' for exchange '{exchange}' "
        "in vhost '/': received 'fanout' but current is 'direct'"
    )


@pytest.mark.parametrize("kind", ["queue", "exchange"])
def test_a_passive_declare_of_something_missing_is_404(channel, kind):
    with pytest.raises(ChannelClosedByBroker) as closed:
        getattr(channel, f"{kind}_declare")("conformance.missing", passive=True)
    assert closed.value.reply_code == 404
    assert closed.value.reply_text == (
        f"NOT_FOUND - no {kind} 'conformance.missing' in vhost '/'"
    )


def test_binding_to_a_missing_exchange_is_404(channel, queue):
    with pytest.raises(ChannelClosedByBroker) as closed:
        channel.queue_bind(queue, "conformance.missing", "key")
    assert closed.value.reply_code == 404
    assert "no exchange 'conformance.missing'" in closed.value.reply_text


def test_deleting_something_missing_succeeds(channel):
    assert channel.queue_delete("conformance.missing").method.message_count == 0
    channel.exchange_delete("conformance.missing")


def test_delete_and_purge_count_the_messages_that_are_ready(channel, queue):
    publish(channel, queue, b"1", b"2", b"3")
    channel.basic_get(queue)
    assert channel.queue_purge(queue).method.message_count == 2
    publish(channel, queue, b"4")
    assert channel.queue_delete(queue).method.message_count == 1


def test_a_queue_with_messages_is_not_deleted_if_empty(channel, queue):
    publish(channel, queue, b"1")
    with pytest.raises(ChannelClosedByBroker) as closed:
        channel.queue_delete(queue, if_empty=True)
    assert closed.value.reply_code == 406
    assert closed.value.reply_text.endswith(f"queue '{queue}' in vhost '/' not empty")


def test_a_queue_with_a_consumer_is_not_deleted_if_unused(channel, queue):
    channel.basic_consume(queue, lambda *_: None)
    with pytest.raises(ChannelClosedByBroker) as closed:
        channel.queue_delete(queue, if_unused=True)
    assert closed.value.reply_code == 406
    assert closed.value.reply_text.endswith(f"queue '{queue}' in vhost '/' in use")


def test_an_exchange_with_a_binding_is_not_deleted_if_unused(channel, queue, names):
    exchange = names.exchange()
    channel.exchange_declare(exchange, "direct", durable=True)
    channel.queue_bind(queue, exchange, "key")
    with pytest.raises(ChannelClosedByBroker) as closed:
        channel.exchange_delete(exchange, if_unused=True)
    assert closed.value.reply_code == 406
    assert closed.value.reply_text.endswith(f"exchange '{exchange}' in vhost '/' in use")


def test_names_with_the_reserved_prefix_are_403(connection):
    for declare in ("queue_declare", "exchange_declare"):
        channel = connection.channel()
        with pytest.raises(ChannelClosedByBroker) as closed:
            getattr(channel, declare)("amq.conformance")
        assert closed.value.reply_code == 403
        assert "contains reserved prefix 'amq.*'" in closed.value.reply_text


def test_publishing_to_an_internal_exchange_is_403(channel, names):
    exchange = names.exchange()
    channel.exchange_declare(exchange, "fanout", durable=True, internal=True)
    with pytest.raises(ChannelClosedByBroker) as closed:
        send(channel, exchange)
    assert closed.value.reply_code == 403
    assert "internal exchange" in closed.value.reply_text
