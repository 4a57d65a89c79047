"""Processes and their children, read from /proc."""

import os
import time

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def family(pid):
    """The process and its living descendants."""
    children = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (fields := stat(int(name))):
            children.setdefault(int(fields[1]), []).append(int(name))
    members, at = [pid], 0
    while at < len(members):
        members += children.get(members[at], [])
        at += 1
    return members


def stat(pid):
    """The fields of /proc/PID/stat behind the name, the state first; None when the process has gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return None


def resident_bytes(pid):
    """Resident memory of a process and its descendants."""
    fields = (stat(member) for member in family(pid))
    return sum(int(found[21]) * PAGE_BYTES for found in fields if found)


def cpu_seconds(pid):
    """CPU time of a process and its descendants, ended ones included."""
    fields = (stat(member) for member in family(pid))
    return sum(sum(map(int, found[11:15])) for found in fields if found) / TICKS_PER_SECOND


def wait_until_calm(pid, seconds_max=20.0, share=0.1):
    """Waits until a process uses little CPU: work left over from one load must not fall into the next."""
    deadline = time.monotonic() + seconds_max
    while time.monotonic() < deadline:
        before = cpu_seconds(pid)
        time.sleep(0.5)
        if cpu_seconds(pid) - before <= share * 0.5:
            return
