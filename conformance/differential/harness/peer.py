"""A raw AMQP peer: sends the bytes it is told to, waits for replies by count, writes a transcript.

It never sleeps to wait for something: it either reads a known number of replies, or makes a
round trip that is not part of the transcript (`sync`, `sync_queue`, `wait_queue`).
"""

import socket
import time
from collections import defaultdict, deque
from dataclasses import dataclass, field

from . import codec
from .deaths import one_form
from .methods import WITH_CONTENT
from .transcript import render_content, render_fields

CLIENT_CAPABILITIES = {
    "authentication_failure_close": True, "basic.nack": True, "connection.blocked": True,
    "consumer_cancel_notify": True, "exchange_exchange_bindings": True, "publisher_confirms": True,
}


@dataclass
class Reply:
    """One complete reply: a method, with its content if it carries one."""

    channel: int
    name: str
    fields: list
    header: tuple | None = None
    frames: list = field(default_factory=list)

    def __getitem__(self, key):
        return dict(self.fields)[key]

    def line(self):
        if self.name == "connection.start":
            self.fields = [(key, _without_values(key, value)) for key, value in self.fields]
        content = render_content(one_form(self.header), self.frames) if self.header else ""
        return f"{self.name}{render_fields(self.fields)}{content}"


def _said(fields):
    return "".join(f" {name}={value!r}" for name, value in fields.items())


def _without_values(field, value):
    """connection.start without what names the product: only keys, types, order and capabilities."""
    if field == "mechanisms":
        return " ".join(sorted(value.split()))
    if field == "server_properties":
        return [(key, kind, "..." if kind == "S" else inner) for key, kind, inner in value]
    return value


class Peer:
    """One TCP connection to the broker.

    After connection.close or channel.close it answers with close-ok by itself, unless
    `answer_close` is False. Once the broker has closed, reading ends at once.
    """

    def __init__(self, transcript, number, address, timeout_s):
        self.transcript, self.number, self.timeout_s = transcript, number, timeout_s
        self.answer_close = True
        self.show_heartbeats = False
        self.gone = False
        self.open_channels = set()
        self._closed_channels = set()
        self._inbox = defaultdict(deque)
        self._content = {}
        self._awaited = None
        self._buffer = bytearray()
        self._socket = socket.create_connection(address, timeout=timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    # What a conversation says.

    def raw(self, data, label=None):
        """Sends bytes as they are."""
        self.transcript.said(self.number, "-", label or f"raw {bytes(data[:80])!r} ({len(data)} bytes)")
        self._write(data)

    def send(self, name, ch=1, **fields):
        """Sends a method without waiting."""
        self.transcript.said(self.number, ch, name + _said(fields))
        self._note_channel(name, ch)
        self._write(codec.method_frame(ch, name, **fields))

    def call(self, name, ch=1, **fields):
        """Sends a method and reads one reply on its channel."""
        self.send(name, ch, **fields)
        return self.read(1, ch)

    def publish(self, exchange, routing_key, body=b"", ch=1, props=(), frames=None, **flags):
        """basic.publish with its content; `frames` splits the body at the given sizes."""
        body = body.encode() if isinstance(body, str) else body
        self.transcript.said(
            self.number, ch, f"basic.publish exchange={exchange!r} routing_key={routing_key!r}"
            f"{_said(flags)} {dict(props)!r} {len(body)} bytes")
        sizes = ([len(body)] if body else []) if frames is None else frames
        data = codec.method_frame(
            ch, "basic.publish", exchange=exchange, routing_key=routing_key, **flags)
        data += codec.frame(codec.HEADER, ch, codec.header_payload(len(body), props))
        at = 0
        for size in sizes:
            data += codec.frame(codec.BODY, ch, body[at:at + size])
            at += size
        self._write(data)

    def abort(self):
        """Closes the socket without a word."""
        self.transcript.said(self.number, "-", "closes the socket")
        self.gone = True
        self._socket.close()

    # What a conversation waits for.

    def read(self, count=1, ch=1):
        """Reads `count` replies on a channel; returns the last, or None if the broker has closed."""
        reply = None
        for _ in range(count):
            reply = self._next(ch)
            if reply is None:
                break
        return reply

    def read_eof(self):
        """Reads until the broker closes the socket."""
        deadline = self._deadline()
        while not self.gone:
            if not self._pump(deadline):
                self.transcript.timeout(self.number, 0, "the end of the connection")
                return

    def confirms(self, count, ch=1):
        """Reads until `count` publishes are confirmed and shows which were acked and nacked.

        How the broker groups confirms with `multiple` depends on timing, so only the sets count.
        """
        self.transcript.recording, recording = False, self.transcript.recording
        settled, outcome = set(), {"basic.ack": set(), "basic.nack": set()}
        while len(settled) < count:
            reply = self._next(ch)
            if reply is None or reply.name not in outcome:
                break
            tag = reply["delivery_tag"]
            fresh = {n for n in range(1, tag + 1) if n not in settled} if reply["multiple"] else {tag}
            outcome[reply.name] |= fresh
            settled |= fresh
        self.transcript.recording = recording
        acks, nacks = sorted(outcome["basic.ack"]), sorted(outcome["basic.nack"])
        self.transcript.heard(self.number, ch, f"confirms ack={acks} nack={nacks}")

    def sync(self, ch=1):
        """A round trip through the channel (channel.flow): all before it has been handled."""
        return self._quietly(ch, "channel.flow", "channel.flow-ok", active=True)

    def sync_queue(self, queue, ch=1):
        """A round trip through the queue and then the channel: deliveries under way have arrived."""
        self._quietly(ch, "queue.declare", "queue.declare-ok", queue=queue, passive=True)
        self.sync(ch)

    def wait_queue(self, queue, messages, consumers, ch=1):
        """Asks for the queue's counts until they are as given; for effects that are asynchronous."""
        deadline, counts = self._deadline(), None
        while True:
            reply = self._quietly(
                ch, "queue.declare", "queue.declare-ok", queue=queue, passive=True)
            counts = (reply["message_count"], reply["consumer_count"]) if reply else None
            if counts in (None, (messages, consumers)) or time.monotonic() > deadline:
                break
            time.sleep(0.02)
        self.transcript.heard(self.number, ch, f"queue has (messages, consumers) = {counts}")

    def wait_missing(self, queue, ch=9):
        """Asks until the queue no longer exists or is no longer locked; shown is only the outcome."""
        deadline, self.transcript.recording = self._deadline(), False
        while True:
            self.call("channel.open", ch)
            reply = self.call("queue.declare", ch, queue=queue, passive=True)
            missing = reply is not None and reply.name == "channel.close" and reply["reply_code"] == 404
            if self.gone or missing or time.monotonic() > deadline:
                break
            if reply is not None and reply.name == "queue.declare-ok":
                self.call("channel.close", ch, reply_code=200)
            time.sleep(0.02)
        self.transcript.recording = True
        self.transcript.heard(self.number, ch, f"queue is missing: {missing}")

    def close(self):
        """connection.close and everything up to close-ok; then the client closes the socket."""
        self.call("connection.close", 0, reply_code=200, reply_text="bye")
        self.abort()

    def finish(self):
        """The end of a conversation: shows what else was said, then leaves quietly."""
        for channel in sorted(self.open_channels):
            if not self.gone:
                self.sync(channel)
        self.transcript.recording = False
        if not self.gone:
            self._quietly(0, "connection.close", "connection.close-ok", reply_code=200)
        self._socket.close()
        self.transcript.recording = True

    def handshake(self, user, password, vhost="/", capabilities=None, tune=None):
        """The usual handshake, not shown in the transcript; heartbeats are off."""
        self.transcript.recording = False
        self._write(codec.PROTOCOL_HEADER)
        self.read(1, 0)
        properties = {"capabilities": CLIENT_CAPABILITIES if capabilities is None else capabilities}
        self.send("connection.start-ok", 0, client_properties=properties, mechanism="PLAIN",
                  response=f"\0{user}\0{password}", locale="en_US")
        self.read(1, 0)
        self.send("connection.tune-ok", 0, **(tune or {"channel_max": 2047, "frame_max": 131072}))
        reply = self.call("connection.open", 0, virtual_host=vhost)
        self.transcript.recording = True
        if reply is None or reply.name != "connection.open-ok":
            self.transcript.heard(self.number, 0, f"handshake ended with {reply and reply.line()}")

    # How it works.

    def _note_channel(self, name, ch):
        if name == "channel.open":
            self.open_channels.add(ch)
            self._closed_channels.discard(ch)
        elif name in ("channel.close", "channel.close-ok"):
            self.open_channels.discard(ch)

    def _write(self, data):
        try:
            self._socket.sendall(data)
        except OSError:
            pass  # The broker has closed; what it said before is still to be read.

    def _deadline(self):
        return time.monotonic() + (1 if self.transcript.timed_out else self.timeout_s)

    def _next(self, ch):
        deadline = self._deadline()
        while not self._inbox[ch]:
            if self.gone or ch in self._closed_channels:
                return None
            if not self._pump(deadline):
                self.transcript.timeout(self.number, ch, "a reply")
                return None
        return self._inbox[ch].popleft()

    def _quietly(self, ch, name, expected, **fields):
        if self.gone:
            return None
        self._awaited = (ch, expected)
        self._write(codec.method_frame(ch, name, **fields))
        deadline = self._deadline()
        while isinstance(self._awaited, tuple):
            if self.gone or ch in self._closed_channels:
                self._awaited = None
            elif not self._pump(deadline):
                self.transcript.timeout(self.number, ch, expected)
                self._awaited = None
        reply, self._awaited = self._awaited, None
        return reply

    def _pump(self, deadline):
        """Handles one frame (or the end of the stream); False if none came in time."""
        while True:
            frame = self._cut()
            if frame:
                self._handle(*frame)
                return True
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            try:
                self._socket.settimeout(remaining)
                data = self._socket.recv(262144)
            except TimeoutError:
                return False
            except OSError:
                data = b""
            if not data:
                self._end()
                return True
            self._buffer += data

    def _end(self):
        if self._buffer:
            self.transcript.heard(self.number, 0, f"unfinished frame {bytes(self._buffer[:80])!r}")
        self.transcript.heard(self.number, 0, "EOF")
        self.gone = True

    def _cut(self):
        buffer = self._buffer
        if buffer[:4] == b"AMQP" and len(buffer) >= 8:
            header = bytes(buffer[:8])
            del buffer[:8]
            return None, 0, header
        if len(buffer) < 7 or buffer[:4] == b"AMQP":
            return None
        kind, channel = buffer[0], int.from_bytes(buffer[1:3], "big")
        size = int.from_bytes(buffer[3:7], "big")
        if len(buffer) < size + 8:
            return None
        payload, end = bytes(buffer[7:7 + size]), buffer[7 + size]
        del buffer[:size + 8]
        if end != codec.FRAME_END:
            self.transcript.heard(self.number, channel, f"BAD FRAME END {end}")
        return kind, channel, payload

    def _handle(self, kind, channel, payload):
        if kind is None:
            self.transcript.heard(self.number, 0, f"protocol header {payload!r}")
            self._inbox[0].append(payload)
        elif kind == codec.HEARTBEAT:
            if self.show_heartbeats:
                self.transcript.heard(self.number, channel, f"heartbeat {payload!r}")
                self._inbox[channel].append(payload)
        elif kind == codec.METHOD:
            name, fields = codec.decode_method(payload)
            reply = Reply(channel, name, fields)
            if name in WITH_CONTENT:
                self._content[channel] = reply
            else:
                self._complete(reply)
        elif channel not in self._content:
            self.transcript.heard(self.number, channel, f"STRAY FRAME type={kind} {payload[:80]!r}")
        else:
            reply = self._content[channel]
            if kind == codec.HEADER:
                reply.header = codec.decode_header(payload)
            else:
                reply.frames.append(payload)
            if sum(map(len, reply.frames)) >= reply.header[2]:
                del self._content[channel]
                self._complete(reply)

    def _complete(self, reply):
        if self._awaited == (reply.channel, reply.name):
            self._awaited = reply
            return
        self.transcript.heard(self.number, reply.channel, reply.line())
        self._inbox[reply.channel].append(reply)
        if reply.name == "channel.close" and self.answer_close:
            self._closed_channels.add(reply.channel)
            self.send("channel.close-ok", reply.channel)
        elif reply.name == "connection.close" and self.answer_close:
            self.send("connection.close-ok", 0)
            self.read_eof()
