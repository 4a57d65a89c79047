#!/usr/bin/env python3
"""The differential test: the same raw AMQP conversations with RabbitMQ and with Leveret.

    run.py [--leveret PATH] [--only PATTERN] [-v]      compare Leveret with RabbitMQ
    run.py --rabbitmq-only [--only PATTERN] [-v]       show what RabbitMQ says
    run.py --rabbitmq-twice                            RabbitMQ with itself: nothing may differ
    run.py --record                                    write recordings/*.json from RabbitMQ
    run.py --recorded                                  compare Leveret with the recordings

Ends with `N passed, N failed`; the exit code is 0 only if none failed. README.md says more.
"""

import argparse
import fnmatch
import importlib
import json
import os
import shutil
import signal
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from harness import brokers, compare, conversation  # noqa: E402

RECORDINGS = HERE / "recordings"
DIFFERENCES = HERE / "intended_differences.toml"
PARALLEL = 16


def main():
    # A terminated run stops its brokers too: SystemExit runs the `finally` blocks.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = parse_options()
    names = load_conversations(options.only)
    if not names:
        print(f"no conversation matches {options.only!r}")
        return 2
    differences = compare.load_differences(DIFFERENCES)
    unknown = sorted(differences.keys() - conversation.REGISTRY.keys())
    failures = {name: ["intended_differences.toml names it, but there is no such conversation"]
                for name in unknown}
    if options.rabbitmq_only or options.record or options.rabbitmq_twice:
        failures |= run_rabbitmq(options, names, differences)
    else:
        failures |= run_comparison(options, names, differences)
    return report(names, failures, options)


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--leveret", metavar="PATH", help="the broker's binary")
    parser.add_argument("--against", metavar="HOST:PORT",
                        help="compare a running broker (user guest) in place of a started Leveret")
    parser.add_argument("--against-limited", metavar="HOST:PORT",
                        help="with --against: the broker for the user `limited`, if another")
    parser.add_argument("--only", metavar="PATTERN", default="*",
                        help="conversations to run, e.g. 'tx/*' or '*redeclare*'")
    parser.add_argument("--rabbitmq-only", action="store_true", help="show what RabbitMQ says")
    parser.add_argument("--rabbitmq-twice", action="store_true",
                        help="run all twice with RabbitMQ; any difference fails")
    parser.add_argument("--record", action="store_true", help="write recordings/*.json")
    parser.add_argument("--recorded", action="store_true",
                        help="use the recordings even where RabbitMQ is installed")
    parser.add_argument("--timeout", type=float, default=5, metavar="SECONDS",
                        help="how long Leveret may take for a reply (default 5); RabbitMQ gets "
                             "four times as long, since its replies are the measure")
    parser.add_argument("-v", "--verbose", action="store_true", help="print whole conversations")
    options = parser.parse_args()
    if options.record and options.only != "*":
        parser.error("--record writes whole files: not with --only")
    return options


def load_conversations(pattern):
    for file in sorted((HERE / "conversations").glob("*.py")):
        importlib.import_module(f"conversations.{file.stem}")
    patterns = [pattern, f"{pattern}/*", f"*/{pattern}"]
    return [name for name in sorted(conversation.REGISTRY)
            if any(fnmatch.fnmatch(name, each) for each in patterns)]


def run_all(names, endpoint, timeout_s):
    """Transcripts by name; a conversation that breaks gives the traceback as its only reply."""

    def one(name):
        try:
            return name, conversation.run(name, endpoint, timeout_s)
        except Exception:
            transcript = conversation.Transcript()
            transcript.heard("broken", "", traceback.format_exc())
            return name, transcript

    # The slow ones (those that wait for the broker's own delays) first.
    names = sorted(names, key=lambda name: not name.startswith("handshake"))
    with ThreadPoolExecutor(PARALLEL) as pool:
        return dict(pool.map(one, names))


def run_rabbitmq(options, names, differences):
    version = brokers.rabbitmq_version()
    if not version and not brokers.install_rabbitmq():
        shout("rabbitmq-server is not installed and could not be installed")
        return {name: ["RabbitMQ is not there"] for name in names}
    rabbitmq = brokers.RabbitMQ().start()
    try:
        endpoint = rabbitmq.ready()
        began = time.monotonic()
        first = run_all(names, endpoint, 4 * options.timeout)
        print(f"RabbitMQ {version}: {len(names)} conversations in {time.monotonic() - began:.1f} s")
        second = run_all(names, endpoint, 4 * options.timeout) if options.rabbitmq_twice else first
    finally:
        rabbitmq.stop()
    failures = check_rabbitmq(first, differences)
    for name in names:
        if first[name].streams != second[name].streams:
            complaints = compare.compare(first[name].streams, second[name].streams, [])
            failures.setdefault(name, []).extend(complaints)
        if options.rabbitmq_only:
            print_log(name, first[name])
    if options.record and not failures:
        record(version, first)
    return failures


def check_rabbitmq(transcripts, differences):
    """RabbitMQ must answer everything, and each listed difference must occur."""
    failures = {}
    for name, transcript in transcripts.items():
        complaints = compare.expected_of(transcript.streams, differences.get(name, []))[1]
        if transcript.timed_out or "broken." in transcript.streams:
            complaints += ["the conversation is wrong, RabbitMQ did not answer:",
                           *transcript.log]
        if complaints:
            failures[name] = complaints
    return failures


def run_comparison(options, names, differences):
    rabbitmq = leveret = None
    version = brokers.rabbitmq_version()
    if not options.recorded and not version and brokers.install_rabbitmq():
        version = brokers.rabbitmq_version()
    live = version and not options.recorded
    try:
        if live:
            rabbitmq = brokers.RabbitMQ().start()
        else:
            shout("NOT compared with a running RabbitMQ, only with its recorded replies"
                  + ("" if options.recorded else ": rabbitmq-server could not be installed"))
        leveret, endpoint = start_leveret(options)
        ours = run_all(names, endpoint, options.timeout)
        failures = ended_by_itself(leveret)
        if live:
            transcripts = run_all(names, rabbitmq.ready(), 4 * options.timeout)
            failures |= check_rabbitmq(transcripts, differences)
            theirs = {name: each.streams for name, each in transcripts.items()}
            failures |= check_recordings(version, theirs)
        else:
            theirs = load_recordings()
    finally:
        for broker in filter(None, (rabbitmq, leveret)):
            broker.stop()
    for name in names:
        if options.verbose:
            print_log(name, ours[name])
        if name not in theirs:
            failures.setdefault(name, []).append("no recording of it: run with --record")
            continue
        complaints = compare.compare(theirs[name], ours[name].streams, differences.get(name, []))
        if complaints:
            failures.setdefault(name, []).extend(
                [*complaints, "the whole conversation with Leveret:\n" + "\n".join(ours[name].log)])
    return failures


def start_leveret(options):
    if options.against:
        addresses = {"default": options.against, "limited": options.against_limited}
        return None, brokers.Endpoint({
            profile: (address.rsplit(":", 1)[0], int(address.rsplit(":", 1)[1]))
            for profile, address in addresses.items() if address})
    leveret = brokers.Leveret(options.leveret or find_leveret())
    try:
        return leveret, leveret.ready()
    except Exception:
        leveret.stop()
        raise


def find_leveret():
    root = HERE.parents[1]
    target = Path(os.environ.get("CARGO_TARGET_DIR", root / "target"))
    for path in (target / "release" / "leveret", target / "debug" / "leveret"):
        if path.exists():
            return str(path)
    found = shutil.which("leveret")
    if not found:
        sys.exit("no leveret binary: build it, or give --leveret PATH")
    return found


def ended_by_itself(leveret):
    if leveret is None:
        return {}
    return {f"({name})": [f"the broker ended by itself:\n{output}"]
            for name, output in leveret.alive().items()}


def record(version, transcripts):
    RECORDINGS.mkdir(exist_ok=True)
    subjects = {}
    for name, transcript in transcripts.items():
        subjects.setdefault(name.split("/")[0], {})[name] = transcript.streams
    for subject, found in subjects.items():
        content = {"rabbitmq_version": version, "conversations": dict(sorted(found.items()))}
        text = json.dumps(content, indent=1, ensure_ascii=True, sort_keys=True)
        (RECORDINGS / f"{subject}.json").write_text(text + "\n")
    print(f"recorded {len(transcripts)} conversations of {len(subjects)} subjects")


def load_recordings():
    found = {}
    for file in RECORDINGS.glob("*.json"):
        found |= json.loads(file.read_text())["conversations"]
    return found


def check_recordings(version, theirs):
    """A recording that the same version of RabbitMQ contradicts is out of date."""
    failures = {}
    for file in RECORDINGS.glob("*.json"):
        recording = json.loads(file.read_text())
        if recording["rabbitmq_version"] != version:
            continue
        for name, streams in recording["conversations"].items():
            if name in theirs and streams != theirs[name]:
                failures[f"{name} (recording)"] = [
                    "the recording is out of date: run with --record",
                    *compare.compare(streams, theirs[name], [])]
    return failures


def print_log(name, transcript):
    print(f"--- {name}")
    for line in transcript.log:
        print(f"    {line}")


def report(names, failures, options):
    for name in sorted(failures):
        print(f"\nFAILED {name}")
        for complaint in failures[name]:
            print("    " + complaint.replace("\n", "\n    "))
    if options.verbose:
        for name in names:
            print(f"{'FAILED' if name in failures else 'passed'} {name}")
    passed = len(set(names) - failures.keys())
    print(f"\n{passed} passed, {len(failures)} failed")
    return 1 if failures else 0


def shout(message):
    line = "!" * 100
    print(f"{line}\n!! {message}\n{line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
