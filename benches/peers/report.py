"""The page and the pictures, from the figures."""

import json
import statistics

import chart
import deep
import rows

NAMES = {"floor": "floor", "rabbitmq": "RabbitMQ", "leveret": "Leveret"}
NOTES = ("<!-- by hand: kept when the page is written again -->", "<!-- end of what is by hand -->")
NOTES_DEFAULT = "## What limits each figure\n\nNot looked into yet."


class Results:
    """All figures, kept from run to run in results.json."""

    def __init__(self, out):
        self.path = out / "results.json"
        found = json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() else {}
        self.machine = found.get("machine", {})
        self.versions = found.get("versions", {})
        self.rows = found.get("rows", {})

    def put(self, row, broker, runs):
        """Replaces the figures of a row: a list of dictionaries, one for each run."""
        self.rows.setdefault(row, {})[broker] = runs

    def median(self, row, broker, figure):
        """The median of a figure over the runs; None when it was not measured."""
        values = [run[figure] for run in self.rows.get(row, {}).get(broker, []) if run.get(figure) is not None]
        return statistics.median(values) if values else None

    def save(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        found = {"machine": self.machine, "versions": self.versions, "rows": self.rows}
        self.path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def write(results, out):
    """Writes the page OUT.md and the bar charts in OUT/."""
    page = out.with_name(out.name + ".md")
    notes = notes_of(page.read_text(encoding="utf-8")) if page.exists() else NOTES_DEFAULT
    for figure, title in [("rate", "messages per second"), ("cpu", "broker CPU per message, microseconds")]:
        bars = [(row.title, {name: results.median(row.name, name, figure) for name in NAMES})
                for row in rows.ROWS if not row.latency]
        (out / f"peers-{figure}.svg").write_text(chart.bars(title, bars, NAMES), encoding="utf-8")
    parts = [heading(results), throughput(results), charts(out), latencies(results), starts(results),
             deep_rows(results), f"{NOTES[0]}\n{notes}\n{NOTES[1]}", own_machine(), plots(out)]
    page.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")


def notes_of(text):
    _, found, rest = text.partition(NOTES[0])
    return rest.partition(NOTES[1])[0].strip() if found else NOTES_DEFAULT


def heading(results):
    machine = results.machine
    runs = max((len(runs) for found in results.rows.values() for runs in found.values()), default=0)
    lines = ["# Performance", "",
             "Written by `benches/peers/run`; see there for how. Broker and load generator (`leveret perf`) share the "
             f"machine. Medians of up to {runs} runs. CPU is the broker's own time per message delivered, or published "
             "where nothing is consumed. The floor is `benches/peers/relay.rs`, a relay that cuts frames and forwards "
             "them, and does nothing else. RabbitMQ's classic queues do not sync to disk before they confirm; "
             "Leveret does.", ""]
    if machine:
        lines += ["| | |", "|---|---|",
                  f"| machine | {machine['cores']} x {machine['processor']}, {machine['memory_gib']} GiB |",
                  f"| system | {machine['system']} |",
                  f"| disk | {machine['disk_sync_ms']} ms per small fdatasync, "
                  f"{machine['disk_mib_per_second']} MiB/s sequential |"]
    for broker in ("leveret", "rabbitmq"):
        if results.versions.get(broker):
            lines.append(f"| {NAMES[broker]} | {results.versions[broker]} |")
    if machine:
        lines.append(f"| measured | {machine['date']} |")
    return "\n".join(lines)


def throughput(results):
    lines = ["## Throughput", "",
             "| load | floor | RabbitMQ | Leveret | times RabbitMQ | CPU, part of RabbitMQ's | goal |",
             "|---|---|---|---|---|---|---|"]
    for row in rows.ROWS:
        if row.latency:
            continue
        cells = [speed(results, row, broker) for broker in NAMES]
        ratios = [ratio(results, row.name, figure) for figure in ("rate", "cpu")]
        goal = rows.goal_rate(row, results.machine)
        goal = " ".join([rate_text(goal) if goal else "", cost_text(row.goal_cpu)]).strip()
        lines.append(f"| {row.title} | {' | '.join(cells)} | {ratios[0]} | {ratios[1]} | {goal} |")
    return "\n".join(lines)


def speed(results, row, broker):
    rate = results.median(row.name, broker, "rate")
    if rate is None:
        return ""
    return f"{rate_text(rate)} {cost_text(results.median(row.name, broker, 'cpu'))}".strip()


def ratio(results, row, figure):
    leveret, rabbitmq = (results.median(row, broker, figure) for broker in ("leveret", "rabbitmq"))
    if not leveret or not rabbitmq:
        return ""
    share = leveret / rabbitmq
    return f"{share:.1f}" if share >= 1 else f"1/{1 / share:.0f}" if share < 0.2 else f"{share:.2f}"


def rate_text(rate):
    if rate >= 1e6:
        return f"{rate / 1e6:.2f} M/s"
    return f"{rate / 1e3:.0f} k/s" if rate >= 1e5 else f"{rate / 1e3:.1f} k/s"


def cost_text(us):
    if us is None:
        return ""
    return f"({us:.2f} us)" if us < 10 else f"({us:.0f} us)"


def latencies(results):
    lines = ["## Latency", "", "From publishing to delivery, in microseconds: median / 99th percentile.", "",
             "| load | floor | RabbitMQ | Leveret | goal |", "|---|---|---|---|---|"]
    for row in rows.ROWS:
        if not row.latency:
            continue
        cells = []
        for broker in NAMES:
            p50, p99 = (results.median(row.name, broker, figure) for figure in ("p50", "p99"))
            cells.append(f"{p50:.0f} / {p99:.0f}" if p50 is not None and p99 is not None else "")
        floor = results.median(row.name, "floor", "p99")
        p99 = f"{row.goal_p99_factor * floor:.0f}" if floor else f"floor x {row.goal_p99_factor}"
        lines.append(f"| {row.title} | {' | '.join(cells)} | {row.goal_p50:.0f} / {p99} |")
    return "\n".join(lines)


def starts(results):
    lines = ["## Start and rest", "", "| | RabbitMQ | Leveret | goal |", "|---|---|---|---|"]
    for row in rows.STARTS:
        cells = []
        for broker in ("rabbitmq", "leveret"):
            value = results.median(row.name, broker, "value")
            cells.append("" if value is None else f"{value:.3g} {row.unit}")
        lines.append(f"| {row.title} | {' | '.join(cells)} | {row.goal:.3g} {row.unit} |")
    return "\n".join(lines)


def deep_rows(results):
    lines = ["## Deep and wide", "", "| load | figure | RabbitMQ | Leveret | goal |", "|---|---|---|---|---|"]
    for row in deep.ROWS:
        found = results.rows.get(row.name)
        title = row.title
        labels = [label for runs in (found or {}).values() for run in runs for label in run]
        for label in dict.fromkeys(labels):
            cells = []
            for broker in ("rabbitmq", "leveret"):
                value = results.median(row.name, broker, label)
                cells.append("" if value is None else f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}")
            lines.append(f"| {title} | {label} | {' | '.join(cells)} | {row.goals.get(label, '')} |")
            title = ""
    return "\n".join(lines) if len(lines) > 4 else ""


def charts(out):
    return (f"![messages per second]({out.name}/peers-rate.svg)\n\n"
            f"![broker CPU per message]({out.name}/peers-cpu.svg)")


def own_machine():
    return """## On your own machine

```
benches/peers/run                      # this page: RabbitMQ has to be installed, Debian's package will do
benches/peers/run --deep               # the deep and wide rows as well
leveret perf --list-scenarios          # what each load is, as options
leveret perf --uri amqp://user:password@host:5672/%2f --scenario durable-1k-confirms --check
```

`leveret perf` measures any AMQP 0-9-1 broker. Where a machine is noisy, ratios and CPU per message tell more than
rates."""


def plots(out):
    found = [row for row in rows.ROWS if (out / f"{row.name}.svg").exists()]
    if not found:
        return ""
    lines = ["## Over time", "", "Leveret in the last round, the warm-up included.", ""]
    return "\n".join(lines + [f"- [{row.title}]({out.name}/{row.name}.svg)" for row in found])
