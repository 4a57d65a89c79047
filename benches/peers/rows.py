"""The rows of the table: which load, which figures of it, and what Leveret is to reach."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """One load. `name` is the scenario of `leveret perf`."""

    name: str
    title: str
    # Which rate counts: published or consumed.
    counts: str = "consumed"
    # What Leveret is to reach on a machine like the one in the page's history: messages per second, and
    # microseconds of CPU per message.
    goal_rate: float | None = None
    goal_cpu: float | None = None
    # For rows that measure latency instead: the median in microseconds, and the factor over the floor's p99.
    goal_p50: float | None = None
    goal_p99_factor: float | None = None
    latency: bool = field(default=False)

    def figures(self, summary):
        """The figures of one run that are kept."""
        cpu = summary["broker_cpu"]
        latency = summary["latency"] or summary["confirm_latency"] or {}
        return {
            "rate": summary[f"{self.counts}_per_second"],
            "cpu": cpu["us_per_message"] if cpu else None,
            "perf_cpu": summary["perf_cpu"]["us_per_message"],
            "p50": latency.get("p50"),
            "p99": latency.get("p99"),
            "peak_mib": summary["broker_memory"]["peak"] / 2**20 if summary["broker_memory"] else None,
        }


@dataclass(frozen=True)
class Start:
    """A figure of the start, not of a load."""

    name: str
    title: str
    unit: str
    goal: float


ROWS = [
    Row("transient-16-autoack", "transient 16 B, 1 to 1, auto-ack", goal_rate=5e6, goal_cpu=0.2),
    Row("transient-16-publish", "transient 16 B, publish only", "published", goal_rate=4e6, goal_cpu=0.25),
    Row("transient-1k-acks", "transient 1 KiB, 1 to 1, prefetch 2,000, acks every 200",
        goal_rate=600e3, goal_cpu=1.3),
    Row("durable-16-confirms", "durable 16 B, confirms (window 20,000), prefetch 10,000, acks every 2,000",
        goal_rate=1.5e6, goal_cpu=0.5),
    Row("durable-1k-confirms", "durable 1 KiB, confirms (2,000), prefetch 2,000, acks every 200",
        goal_rate=400e3, goal_cpu=2),
    Row("durable-1k-publish", "durable 1 KiB, confirms (2,000), publish only", "confirmed", goal_rate=240e3),
    Row("durable-64k-confirms", "durable 64 KiB, confirms (50), prefetch 50, acks every 10", goal_rate=10e3),
    Row("durable-128-single", "durable 128 B, one confirm at a time", "confirmed"),
    Row("fanout-10", "fanout to 10 queues, 256 B, auto-ack (deliveries)", goal_rate=3e6, goal_cpu=0.3),
    Row("many-20", "20 to 20 over 20 queues, 256 B, prefetch 500, acks every 50", goal_rate=2e6, goal_cpu=0.5),
    Row("latency-5k", "latency at 5,000/s, 256 B, auto-ack", latency=True, goal_p50=60, goal_p99_factor=1.0),
    Row("latency-2k-durable", "latency at 2,000/s, durable, confirms, acks each", latency=True,
        goal_p50=70, goal_p99_factor=1.2),
]

STARTS = [
    Start("start", "start to first connection, empty", "s", 0.05),
    Start("memory-idle", "resident memory, idle", "MiB", 20),
]

# One confirm at a time is to reach this part of the disk's own rate of one small fdatasync after another.
SINGLE_CONFIRM_SHARE = 0.85


def goal_rate(row, machine):
    """The rate that a row is to reach on `machine`; None where there is no such goal."""
    if row.name == "durable-128-single" and machine.get("disk_sync_ms"):
        return SINGLE_CONFIRM_SHARE * 1000 / machine["disk_sync_ms"]
    return row.goal_rate
