"""Bytes of AMQP 0-9-1: frames, field tables, method arguments, content headers.

Decoded tables stay lists of `(key, type letter, value)`, so that type and order can be compared.
"""

import struct
from dataclasses import dataclass

from .methods import BY_ID, BY_NAME, PROPERTIES

PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
FRAME_END = 0xCE

# struct formats of the field-table types with a fixed size, by RabbitMQ's letters.
# Both `l` and `L` are signed 64-bit in RabbitMQ.
_FIXED = {
    "t": "?", "b": "b", "B": "B", "s": "h", "u": "H", "I": "i", "i": "I",
    "l": "q", "L": "q", "f": "f", "d": "d", "T": "Q",
}
_FIELDS = {"octet": "B", "short": "H", "long": "I", "longlong": "Q", "timestamp": "Q"}


@dataclass(frozen=True)
class Typed:
    """A field-table value with an explicit type letter."""

    letter: str
    value: object


@dataclass(frozen=True)
class RawTable:
    """The bytes of a table without its length: for malformed tables."""

    content: bytes


def shortstr(text):
    data = text if isinstance(text, bytes) else text.encode()
    return bytes([len(data)]) + data


def longstr(text):
    data = text if isinstance(text, bytes) else text.encode()
    return struct.pack(">I", len(data)) + data


def _typed(value):
    match value:
        case Typed():
            return value
        case None:
            return Typed("V", None)
        case bool():
            return Typed("t", value)
        case int():
            return Typed("I" if -(2**31) <= value < 2**31 else "l", value)
        case str():
            return Typed("S", value)
        case float():
            return Typed("d", value)
        case bytes():
            return Typed("x", value)
        case dict():
            return Typed("F", value)
        case list():
            return Typed("A", value)
    raise TypeError(f"no field-table type for {value!r}")


def encode_value(value):
    typed = _typed(value)
    letter, value = typed.letter, typed.value
    head = letter.encode()
    if letter in _FIXED:
        return head + struct.pack(">" + _FIXED[letter], value)
    if letter == "V":
        return head
    if letter in "Sx":
        return head + longstr(value)
    if letter == "D":
        scale, digits = value
        return head + struct.pack(">BI", scale, digits)
    if letter == "F":
        return head + encode_table(value)
    if letter == "A":
        return head + longstr(b"".join(encode_value(item) for item in value))
    raise TypeError(f"unknown field-table type {letter!r}")


def encode_table(table):
    if isinstance(table, RawTable):
        return longstr(table.content)
    items = table.items() if isinstance(table, dict) else table
    return longstr(b"".join(shortstr(key) + encode_value(value) for key, value in items))


class Reader:
    """A cursor over received bytes; raises on a read past the end."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        if self.at + count > len(self.data):
            raise ValueError(f"{count} bytes wanted, {len(self.data) - self.at} left")
        self.at += count
        return self.data[self.at - count:self.at]

    def unpack(self, code):
        return struct.unpack(">" + code, self.take(struct.calcsize(">" + code)))[0]

    def shortstr(self):
        return text(self.take(self.unpack("B")))

    def longstr(self):
        return text(self.take(self.unpack("I")))

    def value(self):
        letter = chr(self.unpack("B"))
        if letter in _FIXED:
            return letter, self.unpack(_FIXED[letter])
        if letter == "V":
            return letter, None
        if letter in "Sx":
            return letter, self.longstr()
        if letter == "D":
            return letter, (self.unpack("B"), self.unpack("I"))
        if letter == "F":
            return letter, self.table()
        if letter == "A":
            inner, items = Reader(self.take(self.unpack("I"))), []
            while inner.at < len(inner.data):
                items.append(inner.value())
            return letter, items
        raise ValueError(f"unknown field-table type {letter!r}")

    def table(self):
        inner, entries = Reader(self.take(self.unpack("I"))), []
        while inner.at < len(inner.data):
            key = inner.shortstr()
            entries.append((key, *inner.value()))
        return entries

    def field(self, kind):
        if kind in _FIELDS:
            return self.unpack(_FIELDS[kind])
        return {"shortstr": self.shortstr, "longstr": self.longstr, "table": self.table}[kind]()


def text(data):
    return data.decode("utf-8", "backslashreplace")


def frame(kind, channel, payload):
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + bytes([FRAME_END])


def encode_fields(fields, values):
    """Arguments in wire order, neighbouring bits packed into octets; missing ones are zero or empty."""
    out, bits = bytearray(), []

    def flush():
        for start in range(0, len(bits), 8):
            out.append(sum(bit << place for place, bit in enumerate(bits[start:start + 8])))
        bits.clear()

    for name, kind in fields:
        value = values.pop(name, None)
        if kind == "bit":
            bits.append(bool(value))
            continue
        flush()
        if kind in _FIELDS:
            out += struct.pack(">" + _FIELDS[kind], value or 0)
        elif kind == "table":
            out += encode_table({} if value is None else value)
        else:
            out += (shortstr if kind == "shortstr" else longstr)(value or "")
    flush()
    if values:
        raise TypeError(f"unknown fields {sorted(values)}")
    return bytes(out)


def method_payload(name, values):
    class_id, method_id, fields = BY_NAME[name]
    return struct.pack(">HH", class_id, method_id) + encode_fields(fields, dict(values))


def method_frame(channel, name, **values):
    return frame(METHOD, channel, method_payload(name, values))


def header_payload(size, properties=(), class_id=60, weight=0):
    """A content header; `properties` is a mapping of property names to values."""
    properties, flags, kinds = dict(properties), 0, []
    for place, (name, kind) in enumerate(PROPERTIES):
        if name in properties:
            flags |= 1 << (15 - place)
            kinds.append((name, kind))
    head = struct.pack(">HHQH", class_id, weight, size, flags)
    return head + encode_fields(kinds, properties)


def decode_method(payload):
    """`(name, [(field, value)])` of a method payload; unknown ids give a name made of the numbers."""
    reader = Reader(payload)
    ids = (reader.unpack("H"), reader.unpack("H"))
    if ids not in BY_ID:
        return f"method-{ids[0]}.{ids[1]}", [("payload", text(payload[4:]))]
    name, fields = BY_ID[ids]
    values, bits, place = [], 0, 8
    for field, kind in fields:
        if kind == "bit":
            if place == 8:
                bits, place = reader.unpack("B"), 0
            values.append((field, bits >> place & 1))
            place += 1
        else:
            place = 8
            values.append((field, reader.field(kind)))
    if reader.at < len(payload):
        values.append(("surplus_bytes", text(payload[reader.at:])))
    return name, values


def decode_header(payload):
    """`(class id, weight, size, [(property, value)])` of a content header."""
    reader = Reader(payload)
    class_id, weight, size, flags = (reader.unpack(code) for code in "HHQH")
    properties = []
    for place, (name, kind) in enumerate(PROPERTIES):
        if flags & 1 << (15 - place):
            properties.append((name, reader.field(kind)))
    if flags & 3:
        properties.append(("surplus_flags", flags & 3))
    if reader.at < len(payload):
        properties.append(("surplus_bytes", text(payload[reader.at:])))
    return class_id, weight, size, properties
