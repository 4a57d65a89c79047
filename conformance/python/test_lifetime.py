"""What goes away by itself: exclusive, auto-delete and server-named queues."""

import pytest
from pika.exceptions import ChannelClosedByBroker

from conftest import Inbox, connect, cut, eventually, exists, publish


def test_an_exclusive_queue_is_locked_for_other_connections(channel, names):
    queue = names.queue()
    channel.queue_declare(queue, exclusive=True)
    with connect() as other:
        with pytest.raises(ChannelClosedByBroker) as closed:
            other.channel().queue_declare(queue, passive=True)
    assert closed.value.reply_code == 405
    assert closed.value.reply_text.startswith(
        f"RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{queue}' in vhost '/'"
    )


def test_an_exclusive_queue_is_shared_by_the_channels_of_its_connection(connection, channel, names):
    queue = names.queue()
    channel.queue_declare(queue, exclusive=True)
    publish(connection.channel(), queue, b"1")
    other = connection.channel()
    assert Inbox(other, queue, auto_ack=True).take()[2] == b"1"


def test_an_exclusive_queue_is_gone_when_its_connection_is_closed(connection, names):
    queue = names.queue()
    with connect() as owner:
        owner.channel().queue_declare(queue, exclusive=True)
    assert not exists(connection, queue)


def test_an_exclusive_queue_goes_when_its_connection_is_lost(connection, names):
    queue = names.queue()
    owner = connect()
    owner.channel().queue_declare(queue, exclusive=True)
    cut(owner)
    eventually(lambda: not exists(connection, queue), "the queue goes")


def test_an_auto_delete_queue_waits_for_its_first_consumer_and_goes_with_the_last(
    connection, channel, names
):
    queue = names.queue()
    channel.queue_declare(queue, durable=True, auto_delete=True)
    assert exists(connection, queue)
    one, two = Inbox(channel, queue), Inbox(channel, queue)
    channel.basic_cancel(one.tag)
    assert exists(connection, queue)
    channel.basic_cancel(two.tag)
    eventually(lambda: not exists(connection, queue), "the queue goes")


def test_closing_the_channel_of_the_last_consumer_deletes_an_auto_delete_queue(connection, names):
    queue = names.queue()
    channel = connection.channel()
    channel.queue_declare(queue, durable=True, auto_delete=True)
    Inbox(channel, queue)
    channel.close()
    eventually(lambda: not exists(connection, queue), "the queue goes")


def test_an_auto_delete_exchange_goes_with_its_last_binding(connection, channel, queue, names):
    exchange = names.exchange()
    channel.exchange_declare(exchange, "direct", durable=True, auto_delete=True)
    channel.exchange_declare(exchange, passive=True)
    channel.queue_bind(queue, exchange, "key")
    channel.queue_unbind(queue, exchange, "key")
    with pytest.raises(ChannelClosedByBroker) as closed:
        channel.exchange_declare(exchange, passive=True)
    assert closed.value.reply_code == 404


def test_the_server_names_a_queue_that_has_no_name(channel):
    first = channel.queue_declare("", exclusive=True).method.queue
    second = channel.queue_declare("", exclusive=True).method.queue
    assert first.startswith("amq.gen-") and second.startswith("amq.gen-")
    assert first != second


def test_an_empty_name_means_the_queue_declared_last(channel):
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind("", "amq.direct", "conformance")
    publish(channel, queue, b"1")
    assert channel.basic_get("", auto_ack=True)[2] == b"1"


def test_an_empty_name_without_a_declared_queue_is_404(channel):
    with pytest.raises(ChannelClosedByBroker) as closed:
        channel.basic_get("")
    assert closed.value.reply_code == 404
    assert "no previously declared queue" in closed.value.reply_text
