"""One run of `leveret perf` against one broker."""

import json
import subprocess
import sys

import processes

# Beside its load a run declares, drains, closes and deletes.
OVERHEAD_SECONDS_MAX = 300


class Runner:
    """Runs loads with the options of the command line."""

    def __init__(self, leveret, options, folder):
        self.leveret, self.options, self.json = leveret, options, folder / "summary.json"

    def run(self, name, broker, scenario, extra=(), plot=None, seconds=None):
        """Loads `broker`. Returns the summary, or None when the load failed: what failed is said at once."""
        processes.wait_until_calm(broker.pid)
        seconds = seconds or self.options.seconds
        command = [str(self.leveret), "perf", "--uri", broker.uri, "--broker-pid", str(broker.pid), "--quiet",
                   "--scenario", scenario, "--seconds", str(seconds), f"--json={self.json}", *extra]
        if "--warm-up" not in extra:
            command += ["--warm-up", str(self.options.warm_up)]
        if plot:
            plot.parent.mkdir(parents=True, exist_ok=True)
            command += ["--plot", str(plot)]
        both_sides = not {"publish", "single", "fill", "drain"} & set(scenario.split("-"))
        if self.options.check and both_sides:
            command.append("--check")
        self.json.unlink(missing_ok=True)
        try:
            limit = seconds + self.options.warm_up + OVERHEAD_SECONDS_MAX
            done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
        except subprocess.TimeoutExpired:
            print(f"{name} {broker.name}: no end after {limit:.0f} s", file=sys.stderr)
            return None
        summary = json.loads(self.json.read_text(encoding="utf-8")) if self.json.exists() else None
        if done.returncode != 0:
            errors = (summary or {}).get("errors") or []
            said = "; ".join(errors + [(summary or {}).get("check") and done.stdout or done.stderr.strip()])
            print(f"{name} {broker.name}: exit code {done.returncode}: {said}", file=sys.stderr)
            return None
        return summary
