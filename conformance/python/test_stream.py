"""Streams: messages stay, consumers read from their own offsets."""

import pytest
from pika.exceptions import ChannelClosedByBroker

from conftest import publish


@pytest.fixture
def stream(channel, names):
    stream = names.queue("stream")
    channel.queue_declare(stream, durable=True, arguments={"x-queue-type": "stream"})
    return stream


def read(connection, stream, count, **arguments):
    """Bodies and offsets of the next `count` messages, all acknowledged."""
    channel = connection.channel()
    channel.basic_qos(prefetch_count=10)
    arguments = {name.replace("_", "-"): value for name, value in arguments.items()}
    taken = []
    for method, properties, body in channel.consume(stream, arguments=arguments):
        taken.append((body, properties.headers["x-stream-offset"]))
        channel.basic_ack(method.delivery_tag)
        if len(taken) == count:
            break
    channel.close()
    return taken


def test_every_consumer_reads_everything(connection, channel, stream):
    bodies = [b"%d" % number for number in range(30)]
    publish(channel, stream, *bodies)
    expected = list(zip(bodies, range(30)))
    assert read(connection, stream, 30, x_stream_offset="first") == expected
    assert read(connection, stream, 30, x_stream_offset="first") == expected
    assert read(connection, stream, 5, x_stream_offset=25) == expected[25:]


def test_an_interval_is_a_place_to_begin(connection, channel, stream):
    publish(channel, stream, b"a", b"b")
    assert read(connection, stream, 2, x_stream_offset="1h") == [(b"a", 0), (b"b", 1)]


def test_a_consumer_without_prefetch_is_406(connection, stream):
    channel = connection.channel()
    with pytest.raises(ChannelClosedByBroker) as closed:
        channel.basic_consume(stream, lambda *_: None)
    assert closed.value.reply_code == 406
