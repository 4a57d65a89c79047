"""Protocol headers, SASL, connection.open, connection.close (rows 63-65, 73).

Where the broker refuses a login it waits some seconds first; these run at the start.
"""

from harness import codec
from harness.conversation import conversation
from harness.peer import CLIENT_CAPABILITIES

PROPERTIES = {"capabilities": CLIENT_CAPABILITIES, "product": "differential"}
TUNE = {"channel_max": 2047, "frame_max": 131072}


def header(c, data=codec.PROTOCOL_HEADER):
    c.raw(data)
    c.read(1, 0)


def start_ok(c, response="\0guest\0guest", mechanism="PLAIN", properties=None, locale="en_US"):
    c.send("connection.start-ok", 0, client_properties=PROPERTIES if properties is None else properties,
           mechanism=mechanism, response=response, locale=locale)


def tuned(t):
    """A connection that is due to send connection.open."""
    c = t.socket()
    header(c)
    start_ok(c)
    c.read(1, 0)
    c.send("connection.tune-ok", 0, **TUNE)
    return c


@conversation
def the_whole_handshake(t):
    c = tuned(t)
    c.call("connection.open", 0, virtual_host="/")
    c.call("channel.open", 1)
    c.close()


@conversation
def amqplain_login(t):
    c = t.socket()
    header(c)
    table = codec.encode_table({"LOGIN": "guest", "PASSWORD": "guest"})[4:]
    start_ok(c, table, "AMQPLAIN")
    c.read(1, 0)
    c.send("connection.tune-ok", 0, **TUNE)
    c.call("connection.open", 0, virtual_host="/")


@conversation
def amqplain_with_a_wrong_password(t):
    c = t.socket()
    header(c)
    table = codec.encode_table({"LOGIN": "guest", "PASSWORD": "wrong"})[4:]
    start_ok(c, table, "AMQPLAIN")
    c.read(1, 0)


@conversation
def amqplain_without_a_password(t):
    c = t.socket()
    header(c)
    start_ok(c, codec.encode_table({"LOGIN": "guest"})[4:], "AMQPLAIN")
    c.read(1, 0)


@conversation
def protocol_0_9_is_accepted(t):
    header(t.socket(), b"AMQP\x00\x00\x09\x00")


@conversation
def protocol_0_9_in_the_old_notation_is_accepted(t):
    header(t.socket(), b"AMQP\x01\x01\x00\x09")


@conversation
def another_minor_version_gets_the_header_back(t):
    c = t.socket()
    header(c, b"AMQP\x00\x00\x09\x02")
    c.read_eof()


@conversation
def an_unknown_version_gets_the_header_back(t):
    c = t.socket()
    header(c, b"AMQP\x00\x00\x0a\x00")
    c.read_eof()


@conversation
def an_http_request_gets_the_header_back(t):
    c = t.socket()
    header(c, b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n")
    c.read_eof()


@conversation
def a_tls_client_hello_gets_the_header_back(t):
    c = t.socket()
    header(c, bytes.fromhex("16030100ba010000b603030102030405"))
    c.read_eof()


@conversation
def wrong_password_is_refused_with_the_capability(t):
    c = t.socket()
    header(c)
    start_ok(c, "\0guest\0wrong")
    c.read(1, 0)


@conversation
def wrong_password_drops_the_connection_without_the_capability(t):
    c = t.socket()
    header(c)
    start_ok(c, "\0guest\0wrong", properties={})
    c.read_eof()


@conversation
def unknown_user_is_refused_like_a_wrong_password(t):
    c = t.socket()
    header(c)
    start_ok(c, "\0nobody\0guest")
    c.read(1, 0)


@conversation
def empty_password_is_refused(t):
    c = t.socket()
    header(c)
    start_ok(c, "\0guest\0")
    c.read(1, 0)


@conversation
def a_plain_response_without_zero_bytes_is_refused(t):
    c = t.socket()
    header(c)
    start_ok(c, "guest")
    c.read(1, 0)


@conversation
def a_plain_authorization_identity_is_refused(t):
    c = t.socket()
    header(c)
    start_ok(c, "another\0guest\0guest")
    c.read(1, 0)


@conversation
def an_unknown_mechanism_drops_the_connection(t):
    c = t.socket()
    header(c)
    start_ok(c, "whatever", "SCRAM-SHA-512")
    c.read_eof()


@conversation
def the_locale_is_ignored(t):
    c = t.socket()
    header(c)
    start_ok(c, locale="xx_XX")
    c.read(1, 0)


@conversation
def empty_client_properties_are_accepted(t):
    c = t.socket()
    header(c)
    start_ok(c, properties={})
    c.read(1, 0)


@conversation
def opening_a_missing_vhost_is_not_allowed(t):
    c = tuned(t)
    c.call("connection.open", 0, virtual_host="nowhere")


@conversation
def opening_the_empty_vhost_name_is_not_allowed(t):
    c = tuned(t)
    c.call("connection.open", 0, virtual_host="")


@conversation
def a_channel_before_connection_open(t):
    c = tuned(t)
    c.send("channel.open", 1)
    c.read_eof()


@conversation
def a_second_connection_open(t):
    c = t.connect()
    c.call("connection.open", 0, virtual_host="/")


@conversation
def a_second_start_ok(t):
    c = t.connect()
    start_ok(c)
    c.read(1, 0)


@conversation
def a_second_tune_ok(t):
    c = t.connect()
    c.call("connection.tune-ok", 0, **TUNE)


@conversation
def an_answer_that_only_servers_give(t):
    c = t.connect()
    c.call("connection.open-ok", 0)


@conversation
def a_connection_method_on_another_channel(t):
    c = t.connect()
    c.send("connection.close", 1, reply_code=200)
    c.read_eof()


@conversation
def a_channel_method_on_channel_zero(t):
    c = t.connect()
    c.call("channel.open", 0)


@conversation
def a_queue_method_on_channel_zero(t):
    c = t.connect()
    c.call("queue.declare", 0, queue=t.name("q"))


@conversation
def close_is_answered_with_close_ok(t):
    c = t.connect()
    c.close()


@conversation
def close_flushes_what_was_published_before(t):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q, durable=True)
    for n in range(50):
        c.publish("", q, f"m{n}")
    c.close()
    d = t.connect()
    d.wait_queue(q, 50, 0)
    d.call("basic.get", queue=q)


@conversation
def close_ok_that_nobody_asked_for(t):
    c = t.connect()
    c.send("connection.close-ok", 0)
    c.read_eof()


@conversation
def update_secret_with_the_right_password(t):
    c = t.connect()
    c.call("connection.update-secret", 0, new_secret="guest", reason="rotation")
    c.call("channel.open", 2)


@conversation
def update_secret_with_a_wrong_password(t):
    c = t.connect()
    c.call("connection.update-secret", 0, new_secret="wrong", reason="rotation")
