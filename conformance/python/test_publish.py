"""Publishing: confirms, returns, properties and bodies of every size."""

from datetime import datetime, timezone
from decimal import Decimal

import pytest
from pika import BasicProperties, DeliveryMode
from pika.data import encode_value
from pika.exceptions import UnroutableError

from conftest import Inbox, connect, parameters, publish, ready

ALL_PROPERTIES = {
    "content_type": "application/json",
    "content_encoding": "identity",
    "delivery_mode": 2,
    "priority": 7,
    "correlation_id": "correlation",
    "reply_to": "reply.queue",
    "expiration": "3600000",
    "message_id": "message-1",
    "timestamp": 1_700_000_000,
    "type": "order.created",
    "user_id": parameters().credentials.username,
    "app_id": "conformance",
}

# Every field-table type that pika writes, at both ends of its range.
ALL_FIELD_TYPES = {
    "string": "sch\u00f6n \u2603",
    "empty string": "",
    "bytes": b"\x00\xff\x00",
    "true": True,
    "false": False,
    "int": 1,
    "int min": -(2**31),
    "int max": 2**31 - 1,
    "long min": -(2**63),
    "long max": 2**63 - 1,
    "decimal": Decimal("-3.14"),
    "timestamp": datetime(2024, 2, 29, 12, 0, tzinfo=timezone.utc),
    "void": None,
    "table": {"deep": {"deeper": {"deepest": 1}}, "empty": {}},
    "array": [1, "two", True, None, [3, [4]], {"five": 5}],
    "empty array": [],
}


def test_a_confirm_means_that_the_message_is_in_the_queue(channel, queue):
    channel.basic_publish("", queue, b"one")
    assert ready(channel, queue) == 1


def test_many_persistent_messages_are_confirmed_and_keep_their_order(channel, queue):
    bodies = [f"message {i}".encode() for i in range(200)]
    persistent = BasicProperties(delivery_mode=DeliveryMode.Persistent)
    for body in bodies:
        channel.basic_publish("", queue, body, persistent)
    assert Inbox(channel, queue, auto_ack=True).take_bodies(200) == bodies


def test_a_mandatory_message_that_is_unroutable_comes_back(channel):
    with pytest.raises(UnroutableError) as unroutable:
        channel.basic_publish(
            "", "conformance.missing", b"body", BasicProperties(message_id="m"), mandatory=True
        )
    (returned,) = unroutable.value.messages
    assert (returned.method.reply_code, returned.method.reply_text) == (312, "NO_ROUTE")
    assert (returned.method.exchange, returned.method.routing_key) == ("", "conformance.missing")
    assert (returned.properties.message_id, returned.body) == ("m", b"body")
    channel.basic_publish("", "conformance.missing", b"", mandatory=False)
    assert channel.is_open


def test_a_mandatory_message_that_is_routable_does_not_come_back(channel, queue):
    channel.basic_publish("", queue, b"body", mandatory=True)
    assert ready(channel, queue) == 1


def test_without_confirms_a_return_reaches_the_callback(connection):
    channel = connection.channel()
    returned = []
    channel.add_on_return_callback(
        lambda _channel, method, _properties, body: returned.append((method.reply_code, body))
    )
    channel.basic_publish("", "conformance.missing", b"body", mandatory=True)
    while not returned:  # bounded by the timeout of the test
        channel.connection.process_data_events(time_limit=1)
    assert returned == [(312, b"body")]


@pytest.mark.parametrize("size", [0, 1, 131_064, 131_065, 1024 * 1024])
def test_a_body_of_any_size_arrives_unchanged(channel, queue, size):
    # With pika's frame_max of 131072 these are none, one, one full, two and nine frames.
    body = (bytes(range(251)) * (size // 251 + 1))[:size]
    channel.basic_publish("", queue, body)
    assert channel.basic_get(queue, auto_ack=True)[2] == body
    channel.basic_publish("", queue, body)
    assert Inbox(channel, queue, auto_ack=True).take()[2] == body


def test_all_properties_arrive_unchanged(channel, queue):
    sent = BasicProperties(**ALL_PROPERTIES, headers={"key": "value"})
    channel.basic_publish("", queue, b"", sent)
    received = Inbox(channel, queue, auto_ack=True).take()[1]
    for name, value in ALL_PROPERTIES.items():
        assert getattr(received, name) == value, name
    assert received.headers == {"key": "value"}


def test_absent_properties_stay_absent(channel, queue):
    channel.basic_publish("", queue, b"")
    received = Inbox(channel, queue, auto_ack=True).take()[1]
    assert all(getattr(received, name) is None for name in ALL_PROPERTIES)
    assert received.headers is None


def test_headers_of_every_type_arrive_unchanged_and_in_order(channel, queue):
    channel.basic_publish("", queue, b"", BasicProperties(headers=ALL_FIELD_TYPES))
    received = Inbox(channel, queue, auto_ack=True).take()[1].headers
    assert received == ALL_FIELD_TYPES
    assert list(received) == list(ALL_FIELD_TYPES)
    assert wire_types(received) == wire_types(ALL_FIELD_TYPES)


def wire_types(table):
    """The type octet of every value, as pika encodes it (True == 1 hides a difference)."""
    types = []
    for value in table.values():
        pieces = []
        encode_value(pieces, value)
        types.append(b"".join(pieces))
    return types


def test_a_delivery_names_its_origin(channel, queue, names):
    exchange = names.exchange()
    channel.exchange_declare(exchange, "topic", durable=True)
    channel.queue_bind(queue, exchange, "#")
    channel.basic_publish(exchange, "some.key", b"1")
    publish(channel, queue, b"2")
    inbox = Inbox(channel, queue, auto_ack=True, consumer_tag="named")
    first, second = inbox.take()[0], inbox.take()[0]
    assert (first.exchange, first.routing_key) == (exchange, "some.key")
    assert (second.exchange, second.routing_key) == ("", queue)
    assert (first.consumer_tag, first.redelivered) == ("named", False)
    assert (first.delivery_tag, second.delivery_tag) == (1, 2)


def test_a_request_is_answered_by_direct_reply_to(channel, queue):
    replies = Inbox(channel, "amq.rabbitmq.reply-to", auto_ack=True)
    request = BasicProperties(reply_to="amq.rabbitmq.reply-to", correlation_id="c-1")
    channel.basic_publish("", queue, b"request", request)
    with connect() as connection:
        server = connection.channel()
        server.confirm_delivery()
        _, asked, body = server.basic_get(queue, auto_ack=True)
        assert (body, asked.correlation_id) == (b"request", "c-1")
        assert asked.reply_to.startswith("amq.rabbitmq.reply-to.")
        assert server.queue_declare(asked.reply_to, passive=True).method.consumer_count == 1
        answer = BasicProperties(correlation_id=asked.correlation_id)
        server.basic_publish("", asked.reply_to, b"reply", answer)
    method, properties, body = replies.take()
    assert (body, properties.correlation_id) == (b"reply", "c-1")
    assert method.redelivered is False
