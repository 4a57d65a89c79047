"""What an error closes, and what stays open."""

import pytest
from pika.exceptions import ChannelClosedByBroker, ConnectionClosedByBroker

from conftest import publish


def test_publishing_to_a_missing_exchange_closes_only_that_channel(connection, channel, queue):
    bystander = connection.channel()
    with pytest.raises(ChannelClosedByBroker) as closed:
        channel.basic_publish("conformance.missing", "key", b"body")
    assert closed.value.reply_code == 404
    assert closed.value.reply_text == (
        "NOT_FOUND - no exchange 'conformance.missing' in vhost '/'"
    )
    assert channel.is_closed and bystander.is_open and connection.is_open
    publish(bystander, queue, b"1")
    assert bystander.basic_get(queue, auto_ack=True)[2] == b"1"


def test_the_number_of_a_channel_closed_by_an_error_can_be_opened_again(connection):
    for _ in range(3):
        channel = connection.channel(channel_number=5)
        with pytest.raises(ChannelClosedByBroker):
            channel.queue_declare("conformance.missing", passive=True)
    assert connection.channel(channel_number=5).is_open


def test_a_prefetch_size_is_not_implemented_and_closes_the_connection(connection, channel):
    with pytest.raises(ConnectionClosedByBroker) as closed:
        channel.basic_qos(prefetch_size=1)
    assert closed.value.reply_code == 540
    assert closed.value.reply_text.startswith("NOT_IMPLEMENTED - prefetch_size!=0")
    assert connection.is_closed


def test_recover_without_requeue_is_not_implemented(connection, channel):
    with pytest.raises(ConnectionClosedByBroker) as closed:
        channel.basic_recover(requeue=False)
    assert closed.value.reply_code == 540
    assert connection.is_closed


def test_an_exchange_of_an_unknown_type_is_refused(channel, names):
    # 3.10 closes the connection with 503; later versions close the channel.
    with pytest.raises((ChannelClosedByBroker, ConnectionClosedByBroker)) as closed:
        channel.exchange_declare(names.exchange(), "no-such-type", durable=True)
    assert closed.value.reply_code in (406, 503)
    assert "no-such-type" in closed.value.reply_text
