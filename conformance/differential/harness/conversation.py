"""A conversation: a function that talks to a broker, registered under `subject/name`."""

import zlib

from . import codec
from .peer import Peer
from .transcript import Transcript

REGISTRY = {}


def conversation(function=None, *, profile="default"):
    """Registers a conversation. Its profile says as which user it speaks (see `brokers.py`)."""

    def register(function):
        subject = function.__module__.rsplit(".", 1)[-1]
        name = f"{subject}/{function.__name__}"
        assert name not in REGISTRY, f"two conversations are named {name}"
        REGISTRY[name] = (function, profile)
        return function

    return register(function) if function else register


class Talk:
    """What a conversation gets: connections to the broker and names of its own."""

    def __init__(self, name, endpoint, profile, timeout_s):
        self.conversation, self.endpoint, self.timeout_s = name, endpoint, timeout_s
        self.address = endpoint.address(profile)
        self.user, self.password = endpoint.credentials(profile)
        self.transcript = Transcript()
        self._peers, self._names = [], []

    def name(self, stem):
        """A name that no other conversation uses, the same in every run; deleted afterwards."""
        name = f"{stem}-{zlib.crc32(self.conversation.encode()):08x}"
        self._names.append(name)
        return name

    def socket(self):
        """A TCP connection on which nothing has been said."""
        peer = Peer(self.transcript, len(self._peers) + 1, self.address, self.timeout_s)
        self._peers.append(peer)
        return peer

    def connect(self, channels=1, **handshake):
        """A connection with channels 1 to `channels` open."""
        peer = self.socket()
        peer.handshake(self.user, self.password, **handshake)
        self.transcript.recording = False
        for channel in range(1, channels + 1):
            peer.call("channel.open", channel)
        self.transcript.recording = True
        return peer

    def finish(self):
        for peer in self._peers:
            peer.finish()
        self.transcript.recording = False
        if self._names:
            self._clean()

    def _clean(self):
        """Deletes what the conversation's names may stand for, each on a channel of its own."""
        peer = self.connect(0)
        self.transcript.recording = False
        for number, name in enumerate(self._names):
            for method, field in (("queue.delete", "queue"), ("exchange.delete", "exchange")):
                channel = 2 * number + (method == "queue.delete") + 1
                peer._write(codec.method_frame(channel, "channel.open"))
                peer._write(codec.method_frame(channel, method, **{field: name}))
                peer.read(2, channel)
        peer.finish()


def run(name, endpoint, timeout_s):
    """Runs one conversation; returns its transcript."""
    function, profile = REGISTRY[name]
    talk = Talk(name, endpoint, profile, timeout_s)
    try:
        function(talk)
    finally:
        talk.finish()
    return talk.transcript
