"""Compares what two brokers said, given the list of intended differences.

`intended_differences.toml` holds `[[difference]]` tables:

- `conversation`: a full name, or `conversations`: a list of them;
- `rabbitmq` and `leveret`: two texts, of which the first is replaced by the second wherever it
  occurs in RabbitMQ's replies; or two lists of whole lines, of which the first is replaced, as a
  run of neighbouring lines, by the second;
- `stream`: for lists only, the stream ("connection.channel") meant, where several could be; with it
  `rabbitmq` may be empty, and the lines of `leveret` follow at the end of that stream;
- `reason`: why the difference is wanted.
"""

import difflib
import tomllib
from dataclasses import dataclass


@dataclass(frozen=True)
class Difference:
    conversation: str
    rabbitmq: object
    leveret: object
    stream: str | None
    reason: str

    def apply(self, streams):
        """RabbitMQ's streams with this difference applied, or None if it does not occur."""
        if isinstance(self.rabbitmq, str):
            return self._apply_text(streams)
        if not self.rabbitmq:
            return {**streams, self.stream: streams.get(self.stream, []) + self.leveret}
        for name in [self.stream] if self.stream else sorted(streams):
            lines, wanted = streams.get(name, []), self.rabbitmq
            for at in range(len(lines) - len(wanted) + 1):
                if lines[at:at + len(wanted)] == wanted:
                    changed = lines[:at] + self.leveret + lines[at + len(wanted):]
                    return {**streams, name: changed}
        return None

    def _apply_text(self, streams):
        if not any(self.rabbitmq in line for lines in streams.values() for line in lines):
            return None
        return {
            name: [line.replace(self.rabbitmq, self.leveret) for line in lines]
            for name, lines in streams.items()
        }


def load_differences(path):
    """All intended differences by conversation; raises ValueError on a malformed entry."""
    found = {}
    for number, entry in enumerate(tomllib.loads(path.read_text()).get("difference", []), 1):
        names = entry.get("conversations") or [entry.get("conversation")]
        for name in names:
            difference = Difference(
                name, entry.get("rabbitmq"), entry.get("leveret"), entry.get("stream"),
                entry.get("reason", ""))
            kinds = {type(difference.rabbitmq), type(difference.leveret)}
            if not name or not difference.reason or kinds not in ({str}, {list}):
                raise ValueError(f"{path.name}: difference {number} is malformed")
            nothing = not difference.rabbitmq and not difference.stream
            if difference.rabbitmq == difference.leveret or nothing:
                raise ValueError(f"{path.name}: difference {number} changes nothing")
            found.setdefault(name, []).append(difference)
    return found


def without_empty(streams):
    return {name: lines for name, lines in streams.items() if lines}


def expected_of(streams, differences):
    """What Leveret should say, given RabbitMQ's streams, and complaints about stale entries."""
    complaints = []
    for difference in differences:
        changed = difference.apply(streams)
        if changed is None:
            complaints.append(
                f"a listed difference does not occur in RabbitMQ's replies: {difference.rabbitmq!r}")
        else:
            streams = changed
    return without_empty(streams), complaints


def compare(rabbitmq, leveret, differences):
    """Complaints, each of one or more lines; none if all is as it should be."""
    expected, complaints = expected_of(without_empty(rabbitmq), differences)
    leveret = without_empty(leveret)
    if leveret == expected:
        return complaints
    for difference in differences:
        others = [other for other in differences if other is not difference]
        if expected_of(without_empty(rabbitmq), others)[0] == leveret:
            complaints.append(
                f"a listed difference did not occur, Leveret answers as RabbitMQ does: "
                f"{difference.rabbitmq!r}")
            return complaints
    for name in sorted(expected.keys() | leveret.keys()):
        complaints += _stream_diff(name, expected.get(name, []), leveret.get(name, []))
    return complaints


def _stream_diff(name, expected, got):
    if expected == got:
        return []
    lines = list(difflib.ndiff(expected, got))
    shown = [line.rstrip("\n") for line in lines]
    return ["\n".join([f"connection.channel {name} (- expected, + Leveret)", *shown])]
