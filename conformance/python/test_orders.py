"""The orders producer and consumer, run as the programs they are."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import AMQP_URL, ready

HERE = Path(__file__).parent


@pytest.fixture
def orders(names):
    """The environment of both programs, with names of their own."""
    return {
        **os.environ,
        "AMQP_URL": AMQP_URL,
        "ORDERS_EXCHANGE": names.exchange("orders"),
        "ORDERS_QUEUE": names.queue("orders"),
    }


def send(orders, *amounts):
    command = [sys.executable, HERE / "orders_producer.py", *map(str, amounts)]
    subprocess.run(command, env=orders, check=True, timeout=15, capture_output=True)


@pytest.fixture
def consumer(orders):
    command = [sys.executable, HERE / "orders_consumer.py"]
    # A shell's background job ignores it, and so would what it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(command, env=orders, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "waiting for orders\n"
        yield process
        process.kill()


def test_an_order_is_persistent_json(orders, channel):
    send(orders, 19.5)
    method, properties, body = channel.basic_get(orders["ORDERS_QUEUE"], auto_ack=True)
    assert json.loads(body) == {"id": 1, "amount": 19.5}
    assert (properties.content_type, properties.delivery_mode) == ("application/json", 2)
    assert (method.exchange, method.routing_key) == (orders["ORDERS_EXCHANGE"], "order.created")


def test_orders_are_handled_or_refused_and_none_comes_back(orders, consumer, channel):
    send(orders, 10, -1, 30)
    lines = [consumer.stdout.readline() for _ in range(3)]
    assert lines == [
        "handled order 1\n",
        "refused an order: the amount must be positive\n",
        "handled order 3\n",
    ]
    consumer.send_signal(signal.SIGINT)
    assert consumer.wait(timeout=10) == 0
    assert ready(channel, orders["ORDERS_QUEUE"]) == 0


def test_an_order_that_nobody_handled_waits_in_the_queue(orders, channel):
    send(orders, 1, 2)
    assert ready(channel, orders["ORDERS_QUEUE"]) == 2
