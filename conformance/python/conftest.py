"""Connections, names and waiting, shared by all pika conformance tests."""

import os
import socket
import time
import uuid
from collections import deque

import pika
import pytest

AMQP_URL = os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/")
WAIT_S = 10


def parameters(**changes):
    """The connection parameters of AMQP_URL, with single attributes replaced."""
    result = pika.URLParameters(AMQP_URL)
    for attribute, value in changes.items():
        setattr(result, attribute, value)
    return result


def connect(**changes):
    return pika.BlockingConnection(parameters(**changes))


def cut(connection):
    """Ends the TCP connection without a word of AMQP."""
    connection._impl._transport._sock.shutdown(socket.SHUT_RDWR)


def eventually(condition, what):
    """Polls what the broker does on its own, for which it sends no reply."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {WAIT_S} s in vain: {what}"
        time.sleep(0.01)


class Inbox:
    """A consumer that collects its deliveries, to be taken one by one."""

    def __init__(self, channel, queue, **options):
        self.channel = channel
        self.deliveries = deque()
        self.tag = channel.basic_consume(queue, self._arrived, **options)

    def _arrived(self, _channel, method, properties, body):
        self.deliveries.append((method, properties, body))

    def take(self):
        deadline = time.monotonic() + WAIT_S
        while not self.deliveries:
            left = deadline - time.monotonic()
            assert left > 0, f"no delivery within {WAIT_S} s"
            self.channel.connection.process_data_events(time_limit=left)
        return self.deliveries.popleft()

    def take_bodies(self, count):
        return [self.take()[2] for _ in range(count)]


class Names:
    """Unique names; what carries them is deleted after the test."""

    def __init__(self):
        self.prefix = f"conformance.python.{uuid.uuid4().hex[:12]}"
        self.queues, self.exchanges = [], []

    def queue(self, name="queue"):
        self.queues.append(f"{self.prefix}.{name}")
        return self.queues[-1]

    def exchange(self, name="exchange"):
        self.exchanges.append(f"{self.prefix}.{name}")
        return self.exchanges[-1]

    def delete_all(self):
        with connect() as connection:
            channel = connection.channel()
            for queue in self.queues:
                channel.queue_delete(queue)
            for exchange in self.exchanges:
                channel.exchange_delete(exchange)


@pytest.fixture
def names():
    names = Names()
    yield names
    names.delete_all()


@pytest.fixture
def connection(names):  # after `names`, so that it closes before they are deleted
    connection = connect()
    yield connection
    if connection.is_open:
        connection.close()


@pytest.fixture
def channel(connection):
    """A confirming channel: what it has published is in the queues."""
    channel = connection.channel()
    channel.confirm_delivery()
    return channel


@pytest.fixture
def queue(channel, names):
    """A durable queue, reached through the default exchange."""
    queue = names.queue()
    channel.queue_declare(queue, durable=True)
    return queue


def publish(channel, queue, *bodies):
    for body in bodies:
        channel.basic_publish("", queue, body)


def ready(channel, queue):
    """The number of messages in `queue` that wait for a consumer."""
    return channel.queue_declare(queue, passive=True).method.message_count


def exists(connection, queue):
    """Whether `queue` exists, asked on a channel of its own (a 404 closes it)."""
    channel = connection.channel()
    try:
        channel.queue_declare(queue, passive=True)
    except pika.exceptions.ChannelClosedByBroker as closed:
        assert closed.reply_code == 404
        return False
    channel.close()
    return True
