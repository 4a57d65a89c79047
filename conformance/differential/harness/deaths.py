"""The headers of dead letters, brought to one form before they are compared.

RabbitMQ 3.10 lacks `x-last-death-*`, sorts the headers of a message that died, sorts the fields of a death
that is not the first of its message, and puts `original-expiration` last; 4.3 does none of that. What 4.3
does (and Leveret) is compared with raw frames in `tests/protocol/dead_letters.rs`; here everything else is.
"""

_FIELDS = ["original-expiration", "count", "reason", "queue", "time", "exchange", "routing-keys"]


def one_form(header):
    """A content header with the headers of a dead letter in RabbitMQ 4.3's form, sorted."""
    class_id, weight, size, properties = header
    properties = [(name, _headers(value) if name == "headers" else value) for name, value in properties]
    return class_id, weight, size, properties


def _headers(table):
    found = {key: value for key, _, value in table}
    deaths = found.get("x-death")
    if not isinstance(deaths, list) or "x-first-death-reason" not in found:
        return table  # Not by the broker's hand.
    deaths = [(kind, _fields(entry)) for kind, entry in deaths]
    table = [(key, kind, deaths if key == "x-death" else value) for key, kind, value in table]
    last = {key: value for key, _, value in deaths[0][1]}
    for field in ("exchange", "queue", "reason"):
        if f"x-last-death-{field}" not in found:
            table.append((f"x-last-death-{field}", "S", last[field]))
    return sorted(table, key=lambda entry: entry[0])


def _fields(table):
    return sorted(table, key=lambda entry: _FIELDS.index(entry[0]) if entry[0] in _FIELDS else 99)
