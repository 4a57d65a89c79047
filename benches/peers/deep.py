"""The rows that nobody measures: deep queues, and many of everything.

Each row is a short story of loads, and says what memory and time it took. The relay has no part in it: it keeps
nothing.
"""

import os
import sys
import time
from dataclasses import dataclass
from typing import Callable

import brokers
import processes

# The longest time to live and the longest delay of the scenarios that wait, and some.
LONGEST_WAIT_SECONDS = 365


@dataclass(frozen=True)
class Deep:
    """One story. `tell(peer, runner, options)` returns figures by label, or None when a load failed."""

    name: str
    title: str
    tell: Callable
    # What Leveret is to reach, by label.
    goals: dict[str, str]


def measure(row, peer, runner, options, results):
    """Takes one row with one broker."""
    if peer.name == "floor":
        return
    print(f"{row.name} {peer.name} ...", file=sys.stderr)
    # What earlier rows left behind in memory and on disk is not this row's.
    peer.stop()
    peer.clear()
    peer.start()
    try:
        figures = row.tell(peer, runner, options)
    except brokers.StartError as error:
        print(f"{row.name} {error}", file=sys.stderr)
        return
    if figures is None:
        return
    for label, value in figures.items():
        print(f"{row.name:22} {peer.name:9} {label:34} {value:,.2f}", file=sys.stderr)
    results.put(row.name, peer.name, [figures])
    results.save()


def deep_1k(peer, runner, options):
    figures = fill(peer, runner, options, "deep-1k-fill", options.deep_messages)
    if figures is None:
        return None
    flow = runner.run("deep-1k", peer, "deep-1k-flow", seconds=max(30, options.seconds))
    figures |= restarts(peer)
    drain = runner.run("deep-1k", peer, "deep-1k-drain", ("--warm-up", "0"), seconds=60)
    if not flow or not drain:
        return None
    return figures | {
        "published at the tail, k/s": flow["published_per_second"] / 1e3,
        "consumed at the head, k/s": flow["consumed_per_second"] / 1e3,
        "memory meanwhile, MiB": flow["broker_memory"]["peak"] / 2**20,
        "consumed alone, k/s": rate_while_busy(drain) / 1e3,
        "memory meanwhile (alone), MiB": drain["broker_memory"]["peak"] / 2**20,
    }


def deep_16(peer, runner, options):
    figures = fill(peer, runner, options, "deep-16-fill", options.deep_tiny_messages)
    return figures and figures | restarts(peer)


def fill(peer, runner, options, scenario, messages):
    extra = ("--messages", str(messages), "--warm-up", "0")
    filled = runner.run(scenario, peer, scenario, extra, seconds=options.deep_seconds)
    return filled and {
        "messages stored, million": filled["confirmed"] / 1e6,
        "filled at, k/s": filled["confirmed_per_second"] / 1e3,
        "memory while filling, MiB": filled["broker_memory"]["peak"] / 2**20,
    }


def rate_while_busy(run):
    """Messages consumed per second as long as there were any: a short queue is empty before the time is up."""
    rates = [second["consumed_per_second"] for second in run["series"] if second["consumed_per_second"] > 0]
    # The queue ran empty somewhere within the last one.
    full = rates[:-1] or rates or [0]
    return sum(full) / len(full)


def restarts(peer):
    peer.stop()
    stopped = peer.start()
    peer.stop(kill=True)
    killed = peer.start()
    memory = peer.idle_memory() / 2**20
    return {"restart, s": stopped, "restart after kill -9, s": killed, "memory after it, MiB": memory}


def wide_queues(peer, runner, options):
    before = peer.idle_memory()
    one = runner.run("wide-queues", peer, "wide-queues", ("--queue-count", "1"))
    many = runner.run("wide-queues", peer, "wide-queues")
    if not one or not many:
        return None
    return {
        "k/s with 1 queue": one["consumed_per_second"] / 1e3,
        "k/s with 10,000 queues": many["consumed_per_second"] / 1e3,
        "CPU with 1 queue, us": one["broker_cpu"]["us_per_message"],
        "CPU with 10,000 queues, us": many["broker_cpu"]["us_per_message"],
        "memory of a queue, KiB": (many["broker_memory"]["before"] - before) / 10_000 / 1024,
    }


def wide_connections(peer, runner, options):
    run = runner.run("wide-connections", peer, "wide-connections")
    return run and {
        "memory of a connection, KiB": run["idle"]["broker_bytes_each"] / 1024,
        "10,000 opened in, s": run["idle"]["open_seconds"],
        "latency p99 beside them, us": run["latency"]["p99"],
    }


def topic(peer, runner, options):
    before = peer.idle_memory()
    runs = {name: runner.run("topic", peer, name) for name in ("topic-10", "topic-100k", "topic-100k-churn")}
    if not all(runs.values()):
        return None
    few, many, churn = (run["broker_cpu"]["us_per_message"] for run in runs.values())
    return {
        "CPU with 10 bindings, us": few,
        "CPU with 100,000, us": many,
        "CPU with 100,000 under churn, us": churn,
        "k/s with 10 bindings": runs["topic-10"]["consumed_per_second"] / 1e3,
        "k/s with 100,000": runs["topic-100k"]["consumed_per_second"] / 1e3,
        "k/s with 100,000 under churn": runs["topic-100k-churn"]["consumed_per_second"] / 1e3,
        "times the cost of 10": many / few,
        "times the cost of 10, churn": churn / few,
        "bindings churned per second": runs["topic-100k-churn"]["churned_per_second"],
        "memory of a binding, bytes": (runs["topic-100k"]["broker_memory"]["before"] - before) / 100_000,
    }


def publishers(peer, runner, options):
    one = runner.run("publishers", peer, "publishers-1")
    many = runner.run("publishers", peer, "publishers-1000")
    if not one or not many:
        return None
    return {
        "k/s with 1 publisher": one["consumed_per_second"] / 1e3,
        "k/s with 1,000 publishers": many["consumed_per_second"] / 1e3,
        "share of one's rate": many["consumed_per_second"] / one["consumed_per_second"],
        "CPU with 1 publisher, us": one["broker_cpu"]["us_per_message"],
        "CPU with 1,000 publishers, us": many["broker_cpu"]["us_per_message"],
    }


def unacked(peer, runner, options):
    processes.wait_until_calm(peer.pid)
    few = runner.run("unacked", peer, "unacked-1m-random", ("--hold-unacked", "1000", "--warm-up", "3"))
    before = peer.idle_memory()
    # Slow brokers need their time until a million is out.
    many = runner.run("unacked", peer, "unacked-1m-random", ("--warm-up", "60"))
    if not few or not many:
        return None
    return {
        "k/s with 1,000 unacked": few["consumed_per_second"] / 1e3,
        "k/s with a million": many["consumed_per_second"] / 1e3,
        "CPU with 1,000 unacked, us": few["broker_cpu"]["us_per_message"],
        "CPU with a million, us": many["broker_cpu"]["us_per_message"],
        "memory at most, MiB": many["broker_memory"]["peak"] / 2**20,
        "memory of an unacked message, bytes": (many["broker_memory"]["after"] - before) / 1e6,
    }


def waits(peer, runner, options, scenario, few=100_000):
    """Messages that go by themselves when their time has come: what each costs to keep and to see off."""
    figures, peak = {}, 0
    for label, messages in (("few", few), ("many", options.deep_messages)):
        extra = ("--messages", str(messages), "--warm-up", "0")
        filled = runner.run(scenario, peer, scenario, extra, seconds=options.deep_seconds)
        if not filled:
            return None
        before = processes.cpu_seconds(peer.pid)
        # Every time is up six minutes after the last one came, at the latest.
        deadline = time.monotonic() + LONGEST_WAIT_SECONDS
        while time.monotonic() < deadline:
            peak = max(peak, processes.resident_bytes(peer.pid))
            time.sleep(0.2)
        processes.wait_until_calm(peer.pid, seconds_max=600)
        spent = processes.cpu_seconds(peer.pid) - before
        figures[f"CPU to store one of {label}, us"] = filled["broker_cpu"]["us_per_message"]
        figures[f"CPU to see one of {label} off, us"] = spent / messages * 1e6
        peak = max(peak, filled["broker_memory"]["peak"])
    return figures | {"memory at most, MiB": peak / 2**20}


def expiry_in_order(peer, runner, options):
    return waits(peer, runner, options, "expiry-in-order-fill")


def expiry_random(peer, runner, options):
    return waits(peer, runner, options, "expiry-random-fill")


def delayed(peer, runner, options):
    return waits(peer, runner, options, "delayed-fill")


def priorities(peer, runner, options):
    return compared(peer, runner, "priorities", {"1 level": "priority-1", "10 levels": "priority-10"})


def groups(peer, runner, options):
    return compared(peer, runner, "groups", {"10 keys": "groups-10", "100,000 keys": "groups-100k"})


def compared(peer, runner, row, scenarios):
    """The same load in two sizes: it must not cost more in the larger one."""
    runs = {label: runner.run(row, peer, scenario) for label, scenario in scenarios.items()}
    if not all(runs.values()):
        return None
    figures = {f"CPU with {label}, us": run["broker_cpu"]["us_per_message"] for label, run in runs.items()}
    figures |= {f"k/s with {label}": run["consumed_per_second"] / 1e3 for label, run in runs.items()}
    return figures


def stream_replay(peer, runner, options):
    figures = fill(peer, runner, options, "stream-1k-fill", options.deep_messages)
    if figures is None:
        return None
    extra = ("--consume-messages", str(options.deep_messages), "--warm-up", "0")
    for label in ("warm", "cold"):
        if label == "cold":
            peer.stop()
            forget_pages(peer.folder)
            peer.start()
        run = runner.run("stream-replay", peer, "stream-1k-replay-drain", extra, seconds=options.deep_seconds)
        if not run:
            return None
        figures[f"replayed {label}, MB/s"] = rate_while_busy(run) * 1024 / 1e6
        figures[f"CPU of a message, {label}, us"] = run["broker_cpu"]["us_per_message"]
        figures[f"memory meanwhile ({label}), MiB"] = run["broker_memory"]["peak"] / 2**20
    peer.stop()
    figures["the disk alone, MB/s"] = disk_rate(peer.folder)
    peer.start()
    return figures


def files_of(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def forget_pages(folder):
    """Takes what was read or written out of the page cache."""
    os.sync()
    for path in files_of(folder):
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def disk_rate(folder):
    """How fast the largest files are read one after the other, without the page cache, in MB/s."""
    forget_pages(folder)
    largest = sorted(files_of(folder), key=lambda path: path.stat().st_size, reverse=True)[:8]
    started, read = time.monotonic(), 0
    for path in largest:
        with open(path, "rb", buffering=0) as file:
            while piece := file.read(1 << 20):
                read += len(piece)
    return read / 1e6 / (time.monotonic() - started)


ROWS = [
    Deep("deep-1k", "10 million of 1 KiB in one durable queue", deep_1k,
         {"memory while filling, MiB": "200", "memory meanwhile, MiB": "200", "restart, s": "3",
          "restart after kill -9, s": "3"}),
    Deep("deep-16", "100 million of 16 B in one durable queue", deep_16, {"memory while filling, MiB": "250"}),
    Deep("wide-queues", "10,000 queues with a message each in flight", wide_queues, {"memory of a queue, KiB": "2"}),
    Deep("wide-connections", "10,000 idle connections", wide_connections, {"memory of a connection, KiB": "16"}),
    Deep("topic", "100,000 bindings on one topic exchange", topic,
         {"times the cost of 10": "2", "times the cost of 10, churn": "2"}),
    Deep("publishers", "1,000 publishers to one queue", publishers, {"share of one's rate": "at least 0.7"}),
    Deep("unacked", "a million unacknowledged, acknowledged at random", unacked, {}),
    Deep("expiry-in-order", "10 million that expire in the order of arrival", expiry_in_order,
         {"memory at most, MiB": "250"}),
    Deep("expiry-random", "10 million that expire in any order", expiry_random, {"memory at most, MiB": "250"}),
    Deep("delayed", "10 million delayed messages, due in any order", delayed, {"memory at most, MiB": "250"}),
    Deep("priorities", "10 levels of priority beside 1", priorities, {}),
    Deep("groups", "message groups with 100,000 keys beside 10", groups, {}),
    Deep("stream-replay", "10 million of 1 KiB in a stream, read from the beginning", stream_replay,
         {"memory meanwhile (cold), MiB": "200"}),
]
