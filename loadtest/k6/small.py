#!/usr/bin/env python3
"""Every verb and a roll in small, judged by counts; and whether what is planted is found. `make k6-small` runs it."""

import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import run
from stage import plays
from stage.process import Process, until

HERE = Path(__file__).resolve().parent
# A roll as short as can be, for faults that it has to show.
SHORT = {"nodes": 2, "small_settings": {"drain": {"delay": "1s", "window": "1s"}}}
# Who misses something on purpose is not waited for.
PLANTED = {"SETTLE": "3s", "DURATION": "2s"}


class Wrong(Exception):
    """What a case found instead."""


def passes(name):
    """The script keeps every promise."""
    def case(out):
        result = run.play(name, out, small=True)
        if result.code != 0:
            raise Wrong(f"{result.broken}\n{result.output}\n{run.printed(result.facts)}")
    return case


def is_found(name, plant, *metrics, **changes):
    """The script fails when this is planted, and says so by these metrics."""
    def case(out):
        result = run.play(name, out, small=True, environment={**PLANTED, "PLANT": plant}, **changes)
        if result.code != 1 or not set(metrics) <= set(result.broken):
            raise Wrong(f"exit code {result.code}, broken: {result.broken}, not {metrics}\n{result.output}")
    return case


def measures_spread(_):
    """A paced drain is told from one that closes everything at once."""
    paced = [(0.0, 50), (1.0, 50), (2.0, 30), (3.0, 10), (4.0, 0), (4.1, 0)]
    at_once = [(0.0, 50), (1.0, 50), (1.1, 0), (4.1, 0)]
    found = [plays.spread_of(closes, 50) for closes in (paced, at_once)]
    if [round(seconds, 1) for seconds in found] != [3.0, 0.1]:
        raise Wrong(f"{found}")


def leaves_nothing_behind(out):
    """A run that is killed takes its processes with it."""
    with tempfile.TemporaryDirectory() as directory:
        # A script that asks no stage goes on for as long as it is set to.
        lonely = ["-e", "STAGE_URL=", "-e", "DURATION=2m"]
        command = [sys.executable, HERE / "run.py", "average", "--small", "--out", out, *lonely]
        runner = Process("run", command, directory, {**os.environ, "TMPDIR": directory})
        try:
            # The last to be started, and guarded before it gets its name.
            until("k6 to run", lambda: "k6" in map(name_of, descendants(runner.pid)), patience=30)
            started = descendants(runner.pid)
            os.kill(runner.pid, signal.SIGKILL)
            until("its processes to end", lambda: not any(map(is_running, started)), patience=10)
        finally:
            runner.kill()


def descendants(pid):
    """The processes that `pid` has started, and those that they have."""
    try:
        files = Path(f"/proc/{pid}/task").glob("*/children")
        children = [int(child) for file in files for child in file.read_text().split()]
    except OSError:  # It has ended meanwhile.
        return []
    return children + [other for child in children for other in descendants(child)]


def name_of(pid):
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return None


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


CASES = {
    "the judge finds what it is for": passes("selftest"),
    "a paced drain is told from another": measures_spread,
    "smoke: every verb": passes("smoke"),
    "rolling: every node is replaced, and nothing is lost": passes("rolling"),
    "a publication that is dropped, repeated or late is found": is_found(
        "smoke", "drop,repeat,swap", "clarion_gap", "clarion_dup", "clarion_out_of_order"),
    "clients that do not recover are found": is_found("rolling", "forget", "clarion_gap", **SHORT),
    "nodes that do not know of each other are found": is_found("rolling", "islands", "clarion_unrecovered", **SHORT),
    "a run that is killed leaves no process behind": leaves_nothing_behind,
}


def holds(what, case):
    """Plays one case and says how it went."""
    begun_at = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="clarion-k6-") as out:
        try:
            case(Path(out))
        except Exception as failure:  # Whatever it is, the other cases are played all the same.
            print(f"  ✗ {what}\n{failure if isinstance(failure, Wrong) else traceback.format_exc()}", flush=True)
            return False
    print(f"  ✓ {what} ({time.monotonic() - begun_at:.0f} s)", flush=True)
    return True


def main():
    signal.signal(signal.SIGTERM, run.interrupted)
    verdicts = [holds(what, case) for what, case in CASES.items()]
    print(f"k6: {sum(verdicts)} passed, {len(verdicts) - sum(verdicts)} failed")
    sys.exit(0 if all(verdicts) else 1)


if __name__ == "__main__":
    main()
