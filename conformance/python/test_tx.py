"""Transactions: publishes and acknowledgements take effect together."""

import pytest
from pika.exceptions import ChannelClosedByBroker

from conftest import publish, ready


@pytest.fixture
def transaction(connection):
    channel = connection.channel()
    channel.tx_select()
    return channel


def test_what_is_published_arrives_with_the_commit(channel, transaction, queue):
    publish(transaction, queue, b"1", b"2")
    assert ready(transaction, queue) == 0
    transaction.tx_commit()
    assert ready(channel, queue) == 2


def test_a_rollback_forgets_what_was_published(channel, transaction, queue):
    publish(transaction, queue, b"1")
    transaction.tx_rollback()
    transaction.tx_commit()
    assert ready(channel, queue) == 0


def test_acknowledgements_take_effect_with_the_commit(channel, transaction, queue):
    publish(channel, queue, b"1")
    method, _, _ = transaction.basic_get(queue)
    transaction.basic_ack(method.delivery_tag)
    transaction.tx_commit()
    transaction.close()
    assert ready(channel, queue) == 0


def test_after_a_rollback_a_message_can_be_acknowledged_again(channel, transaction, queue):
    publish(channel, queue, b"1")
    method, _, _ = transaction.basic_get(queue)
    transaction.basic_ack(method.delivery_tag)
    transaction.tx_rollback()
    transaction.basic_ack(method.delivery_tag)
    transaction.tx_commit()
    transaction.close()
    assert ready(channel, queue) == 0


def test_closing_the_channel_rolls_back(channel, transaction, queue):
    publish(channel, queue, b"1")
    publish(transaction, queue, b"2")
    method, _, _ = transaction.basic_get(queue)
    transaction.basic_ack(method.delivery_tag)
    transaction.close()
    assert channel.basic_get(queue)[2] == b"1"
    assert ready(channel, queue) == 0


def test_a_commit_without_a_transaction_is_406(connection):
    with pytest.raises(ChannelClosedByBroker) as closed:
        connection.channel().tx_commit()
    assert closed.value.reply_code == 406
    assert closed.value.reply_text == "PRECONDITION_FAILED - channel is not transactional"


def test_a_transaction_cannot_become_confirming(transaction):
    with pytest.raises(ChannelClosedByBroker) as closed:
        transaction.confirm_delivery()
    assert closed.value.reply_code == 406
    assert "cannot switch from tx to confirm mode" in closed.value.reply_text


def test_a_confirming_channel_cannot_become_a_transaction(channel):
    with pytest.raises(ChannelClosedByBroker) as closed:
        channel.tx_select()
    assert closed.value.reply_code == 406
    assert "cannot switch from confirm to tx mode" in closed.value.reply_text
