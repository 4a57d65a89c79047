"""Opening and closing connections, and being refused."""

import pika
import pytest
from pika.exceptions import ConnectionClosedByBroker, ProbableAccessDeniedError
from pika.exceptions import ProbableAuthenticationError

from conftest import connect, parameters

CAPABILITIES = {
    "publisher_confirms",
    "exchange_exchange_bindings",
    "basic.nack",
    "consumer_cancel_notify",
    "connection.blocked",
    "consumer_priorities",
    "authentication_failure_close",
    "per_consumer_qos",
    "direct_reply_to",
}


def test_the_server_introduces_itself_with_the_nine_capabilities(connection):
    properties = connection._impl.server_properties
    assert set(properties) >= {"product", "version", "platform", "copyright", "information"}
    assert int(properties["version"].split(".")[0]) >= 3
    capabilities = properties["capabilities"]
    assert {name for name in capabilities if capabilities[name]} >= CAPABILITIES


def test_a_wrong_password_is_refused():
    credentials = pika.PlainCredentials(parameters().credentials.username, "wrong")
    with pytest.raises(ProbableAuthenticationError) as refused:
        connect(credentials=credentials, connection_attempts=1)
    assert "ACCESS_REFUSED" in str(refused.value)


def test_an_unknown_user_gets_the_same_answer_as_a_wrong_password():
    credentials = pika.PlainCredentials("no-such-user", parameters().credentials.password)
    with pytest.raises(ProbableAuthenticationError) as refused:
        connect(credentials=credentials, connection_attempts=1)
    assert "ACCESS_REFUSED" in str(refused.value)


def test_a_missing_vhost_is_not_allowed():
    # pika words any close before connection.open-ok as one of these two.
    with pytest.raises((ProbableAccessDeniedError, ConnectionClosedByBroker)) as refused:
        connect(virtual_host="no-such-vhost", connection_attempts=1)
    assert "530" in str(refused.value)
    assert "no-such-vhost" in str(refused.value)


def test_the_smallest_frame_size_is_accepted_and_used(names):
    with connect(frame_max=4096) as connection:
        assert connection._impl.params.frame_max == 4096
        channel = connection.channel()
        queue = names.queue()
        channel.queue_declare(queue, durable=True)
        body = bytes(range(256)) * 64
        channel.basic_publish("", queue, body)
        assert channel.basic_get(queue, auto_ack=True)[2] == body


def test_a_heartbeat_of_zero_is_the_clients_choice():
    with connect(heartbeat=0) as connection:
        assert connection._impl.params.heartbeat == 0
        assert connection.channel().is_open


def test_one_connection_carries_many_channels(connection):
    channels = [connection.channel() for _ in range(50)]
    assert len({channel.channel_number for channel in channels}) == 50
    assert all(channel.is_open for channel in channels)


def test_a_closed_channel_number_can_be_opened_again(connection):
    for _ in range(3):
        channel = connection.channel(channel_number=7)
        channel.close()
        assert channel.is_closed


def test_a_secret_can_be_updated(connection):
    connection.update_secret(parameters().credentials.password, "rotation")
    assert connection.channel().is_open
