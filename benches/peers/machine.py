"""What the figures were measured on."""

import datetime
import os
import platform
import statistics
import time
from pathlib import Path

SYNCS = 300
SEQUENTIAL_BYTES = 512 << 20


def describe(folder):
    """Processor, memory, system, and the disk that `folder` is on."""
    sync_ms = small_sync_ms(folder)
    return {
        "date": datetime.date.today().isoformat(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "disk_sync_ms": round(sync_ms, 3),
        "disk_mib_per_second": round(sequential_mib_per_second(folder)),
    }


def processor():
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def small_sync_ms(folder):
    """Median time of one small write with fdatasync after another, as a log does it."""
    times = []
    path = folder / "sync.probe"
    with open(path, "wb", buffering=0) as file:
        # A log is written into space that is there already.
        file.write(bytes(SYNCS * 512))
        os.fsync(file.fileno())
        file.seek(0)
        for _ in range(SYNCS):
            started = time.monotonic()
            file.write(bytes(512))
            os.fdatasync(file.fileno())
            times.append((time.monotonic() - started) * 1e3)
    path.unlink()
    return statistics.median(times)


def sequential_mib_per_second(folder):
    piece = os.urandom(1 << 20)
    path = folder / "sequential.probe"
    started = time.monotonic()
    with open(path, "wb", buffering=0) as file:
        for _ in range(SEQUENTIAL_BYTES // len(piece)):
            file.write(piece)
        os.fdatasync(file.fileno())
    seconds = time.monotonic() - started
    path.unlink()
    return SEQUENTIAL_BYTES / 2**20 / seconds
