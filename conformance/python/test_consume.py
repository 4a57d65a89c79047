"""Consuming: acknowledgements, redelivery, prefetch, cancelling, and basic.get."""

import pytest
from pika.exceptions import ChannelClosedByBroker

from conftest import Inbox, connect, cut, eventually, publish, ready


def test_acknowledged_messages_are_gone(connection, queue):
    channel = connection.channel()
    publish(channel, queue, b"1", b"2")
    inbox = Inbox(channel, queue)
    for body in (b"1", b"2"):
        method, _, received = inbox.take()
        assert received == body
        channel.basic_ack(method.delivery_tag)
    channel.close()
    assert ready(connection.channel(), queue) == 0


def test_one_acknowledgement_covers_all_up_to_its_tag(connection, queue):
    channel = connection.channel()
    publish(channel, queue, b"1", b"2", b"3")
    inbox = Inbox(channel, queue)
    tags = [inbox.take()[0].delivery_tag for _ in range(3)]
    channel.basic_ack(tags[1], multiple=True)
    channel.close()
    method, _, body = connection.channel().basic_get(queue, auto_ack=True)
    assert (body, method.redelivered, method.message_count) == (b"3", True, 0)


def test_acknowledging_tag_zero_with_multiple_covers_everything(connection, queue):
    channel = connection.channel()
    publish(channel, queue, b"1", b"2", b"3")
    Inbox(channel, queue).take_bodies(3)
    channel.basic_ack(0, multiple=True)
    channel.close()
    assert ready(connection.channel(), queue) == 0


def test_an_acknowledgement_of_an_unknown_tag_is_406(channel, queue):
    channel.basic_ack(99)
    with pytest.raises(ChannelClosedByBroker) as closed:
        ready(channel, queue)
    assert closed.value.reply_code == 406
    assert closed.value.reply_text == "PRECONDITION_FAILED - unknown delivery tag 99"


def test_a_second_acknowledgement_of_a_tag_is_406(channel, queue):
    publish(channel, queue, b"1")
    tag = Inbox(channel, queue).take()[0].delivery_tag
    channel.basic_ack(tag)
    channel.basic_ack(tag)
    with pytest.raises(ChannelClosedByBroker) as closed:
        ready(channel, queue)
    assert closed.value.reply_code == 406


@pytest.mark.parametrize("method", ["basic_nack", "basic_reject"])
def test_a_requeued_message_comes_again_as_redelivered(channel, queue, method):
    publish(channel, queue, b"1")
    inbox = Inbox(channel, queue)
    first, _, _ = inbox.take()
    assert not first.redelivered
    getattr(channel, method)(first.delivery_tag, requeue=True)
    second, _, body = inbox.take()
    assert (body, second.redelivered) == (b"1", True)
    assert second.delivery_tag == first.delivery_tag + 1


@pytest.mark.parametrize("method", ["basic_nack", "basic_reject"])
def test_a_message_refused_without_requeue_is_gone(connection, queue, method):
    channel = connection.channel()
    publish(channel, queue, b"1", b"2")
    tag = Inbox(channel, queue).take()[0].delivery_tag
    getattr(channel, method)(tag, requeue=False)
    channel.close()
    assert connection.channel().basic_get(queue)[2] == b"2"


def test_one_nack_requeues_all_up_to_its_tag_in_their_order(channel, queue):
    publish(channel, queue, b"1", b"2", b"3", b"4")
    inbox = Inbox(channel, queue)
    tags = [inbox.take()[0].delivery_tag for _ in range(4)]
    channel.basic_cancel(inbox.tag)
    channel.basic_nack(tags[2], multiple=True, requeue=True)
    channel.basic_ack(tags[3])
    again = Inbox(channel, queue)
    assert again.take_bodies(3) == [b"1", b"2", b"3"]


def test_recover_redelivers_everything_outstanding(channel, queue):
    publish(channel, queue, b"1", b"2")
    inbox = Inbox(channel, queue)
    inbox.take_bodies(2)
    channel.basic_recover(requeue=True)
    again = [inbox.take() for _ in range(2)]
    assert [body for _, _, body in again] == [b"1", b"2"]
    assert all(method.redelivered for method, _, _ in again)


def test_closing_a_channel_returns_its_messages_to_their_places(connection, queue):
    channel = connection.channel()
    publish(channel, queue, b"1", b"2", b"3")
    inbox = Inbox(channel, queue)
    tags = [inbox.take()[0].delivery_tag for _ in range(3)]
    channel.basic_ack(tags[1])
    channel.close()
    inbox = Inbox(connection.channel(), queue)
    assert inbox.take_bodies(2) == [b"1", b"3"]


def test_losing_a_connection_returns_its_messages(channel, queue):
    publish(channel, queue, b"1")
    lost = connect()
    assert lost.channel().basic_get(queue)[2] == b"1"
    cut(lost)
    eventually(lambda: ready(channel, queue) == 1, "the message comes back")
    method, _, body = channel.basic_get(queue)
    assert (body, method.redelivered) == (b"1", True)


def test_prefetch_limits_what_is_outstanding(channel, queue):
    publish(channel, queue, b"1", b"2", b"3", b"4", b"5")
    channel.basic_qos(prefetch_count=2)
    inbox = Inbox(channel, queue)
    tags = [inbox.take()[0].delivery_tag for _ in range(2)]
    assert ready(channel, queue) == 3
    channel.basic_ack(tags[0])
    inbox.take()
    assert ready(channel, queue) == 2


def test_prefetch_counts_each_consumer_by_itself(connection, channel, queue):
    publish(channel, queue, b"1", b"2", b"3", b"4")
    channel.basic_qos(prefetch_count=1)
    one = Inbox(channel, queue)
    channel.basic_qos(prefetch_count=2)
    two = Inbox(channel, queue)
    one.take(), two.take(), two.take()
    assert ready(channel, queue) == 1


def test_global_prefetch_is_shared_by_the_consumers_of_a_channel(connection, channel, names):
    server = connection._impl.server_properties
    version = tuple(map(int, server["version"].split(".")[:2]))
    if server["platform"].startswith("Erlang") and version >= (4, 3):
        pytest.skip("RabbitMQ 4.3 denies the deprecated feature global_qos")
    one, two = names.queue("one"), names.queue("two")
    for queue in (one, two):
        channel.queue_declare(queue, durable=True)
        publish(channel, queue, b"1", b"2")
    channel.basic_qos(prefetch_count=3, global_qos=True)
    first, second = Inbox(channel, one), Inbox(channel, two)
    last = first.take(), first.take(), second.take()
    assert ready(channel, one) + ready(channel, two) == 1
    channel.basic_ack(last[0][0].delivery_tag)
    second.take()
    assert ready(channel, one) + ready(channel, two) == 0


def test_prefetch_does_not_limit_automatic_acknowledgement(channel, queue):
    publish(channel, queue, *[b"x"] * 10)
    channel.basic_qos(prefetch_count=1)
    Inbox(channel, queue, auto_ack=True).take_bodies(10)


def test_consumers_take_turns(connection, channel, queue):
    other = connection.channel()
    one, two = Inbox(channel, queue, auto_ack=True), Inbox(other, queue, auto_ack=True)
    publish(channel, queue, *[b"x"] * 10)
    one.take_bodies(5)
    two.take_bodies(5)


def test_a_cancelled_consumer_gets_nothing_but_keeps_what_it_has(channel, queue):
    publish(channel, queue, b"1")
    inbox = Inbox(channel, queue)
    tag = inbox.take()[0].delivery_tag
    channel.basic_cancel(inbox.tag)
    publish(channel, queue, b"2")
    channel.basic_ack(tag)
    assert channel.basic_get(queue)[2] == b"2"


def test_cancelling_an_unknown_consumer_succeeds(channel):
    channel.basic_cancel("conformance.missing")
    assert channel.is_open


def test_an_exclusive_consumer_keeps_others_out(connection, channel, queue):
    channel.basic_consume(queue, lambda *_: None, exclusive=True)
    with pytest.raises(ChannelClosedByBroker) as closed:
        connection.channel().basic_consume(queue, lambda *_: None)
    assert closed.value.reply_code == 403
    assert closed.value.reply_text == (
        f"ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use"
    )


def test_consuming_from_a_missing_queue_is_404(channel):
    with pytest.raises(ChannelClosedByBroker) as closed:
        channel.basic_consume("conformance.missing", lambda *_: None)
    assert closed.value.reply_code == 404


def test_deleting_the_queue_cancels_its_consumers(connection, channel, queue):
    cancelled = []
    channel.add_on_cancel_callback(lambda frame: cancelled.append(frame.method.consumer_tag))
    inbox = Inbox(channel, queue)
    connection.channel().queue_delete(queue)
    while not cancelled:  # bounded by the timeout of the test
        connection.process_data_events(time_limit=1)
    assert cancelled == [inbox.tag]
    assert channel.is_open


def test_get_from_an_empty_queue_is_empty(channel, queue):
    assert channel.basic_get(queue) == (None, None, None)


def test_get_counts_what_is_left(channel, queue):
    publish(channel, queue, b"1", b"2", b"3")
    for body, left in ((b"1", 2), (b"2", 1), (b"3", 0)):
        method, _, received = channel.basic_get(queue)
        assert (received, method.message_count) == (body, left)
        channel.basic_ack(method.delivery_tag)
    assert channel.basic_get(queue) == (None, None, None)


def test_get_from_a_missing_queue_is_404(channel):
    with pytest.raises(ChannelClosedByBroker) as closed:
        channel.basic_get("conformance.missing")
    assert closed.value.reply_code == 404
