"""What one conversation heard: the replies as lines of text, one stream per connection and channel.

Replies on different channels have no order among themselves, so streams are compared one by one.
What is random by nature is replaced by a numbered placeholder, and only if it has the right shape.
"""

import hashlib
import re
import time

# Server-generated names: prefix and 22 letters of base64url (16 random bytes).
_GENERATED = re.compile(r"amq\.(gen|ctag)-[A-Za-z0-9_-]{22}(?![A-Za-z0-9_-])")
# Timestamps that the broker writes: the time of a death in `x-death`. Those of a client are far from now.
_TIME = re.compile(r"\btime:T=([0-9]{10})\b")
_TIME_TOLERANCE_S = 300
_BODY_SHOWN_MAX = 120


class Transcript:
    def __init__(self):
        self.streams = {}
        self.log = []
        self.timed_out = False
        self.recording = True
        self._placeholders = {}

    def heard(self, connection, channel, line):
        if not self.recording:
            return
        line = _TIME.sub(_now, _GENERATED.sub(self._placeholder, line))
        self.streams.setdefault(f"{connection}.{channel}", []).append(line)
        self.log.append(f"{connection}.{channel} < {line}")

    def said(self, connection, channel, line):
        if self.recording:
            self.log.append(f"{connection}.{channel} > {_GENERATED.sub(self._placeholder, line)}")

    def timeout(self, connection, channel, wanted):
        self.timed_out = True
        self.heard(connection, channel, f"TIMEOUT waiting for {wanted}")

    def _placeholder(self, match):
        kind = match.group(1)
        name = match.group(0)
        if name not in self._placeholders:
            number = 1 + sum(known.startswith(f"amq.{kind}-") for known in self._placeholders)
            self._placeholders[name] = f"<generated amq.{kind}-{number}>"
        return self._placeholders[name]


def _now(match):
    near = abs(int(match.group(1)) - time.time()) < _TIME_TOLERANCE_S
    return "time:T=<now>" if near else match.group(0)


def render_value(letter, value):
    if letter == "F":
        return f"F={render_table(value)}"
    if letter == "A":
        return "A=[" + ", ".join(render_value(*item) for item in value) + "]"
    return f"{letter}={value!r}"


def render_table(entries):
    return "{" + ", ".join(f"{key}:{render_value(*typed)}" for key, *typed in entries) + "}"


def render_fields(fields):
    return "".join(
        f" {name}={render_table(value) if isinstance(value, list) else repr(value)}"
        for name, value in fields
    )


def render_body(body):
    if len(body) <= _BODY_SHOWN_MAX:
        return repr(body)
    return f"{len(body)} bytes, sha256 {hashlib.sha256(body).hexdigest()[:16]}"


def render_content(header, frames):
    class_id, weight, size, properties = header
    head = f" | class={class_id} weight={weight} size={size}{render_fields(properties)}"
    return f"{head} | frames={[len(part) for part in frames]} body={render_body(b''.join(frames))}"
