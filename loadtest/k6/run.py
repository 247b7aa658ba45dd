#!/usr/bin/env python3
"""Plays one script of this directory on a stage of its own, and ends everything that it started.

    CLARION_BIN=target/release/clarion loadtest/k6/run.py rolling
    CLARION_BIN=target/debug/clarion loadtest/k6/run.py average --small --out report

What follows the options goes to k6. Exit code 0: every promise was kept; 1: one was not; 2: used wrongly, or the
stage does not stand.
"""

import argparse
import dataclasses
import html
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from stage import plays
from stage.play import Stage
from stage.process import GUARD, Failed, Process

HERE = Path(__file__).resolve().parent
# No run is longer. One that hangs at the end, as some versions of k6 can, is killed much earlier.
K6_MAX = "26h"
# As of k6: a threshold was crossed.
THRESHOLD_CROSSED = 99
SIGNS = {True: "✓", False: "✗", None: " "}
# What it says of every timer when a threshold stops it.
INTERRUPTED = "was stopped because the VU iteration was interrupted"


@dataclasses.dataclass
class Script:
    """What a script needs beside k6."""

    play: Callable = plays.steady
    nodes: int = 1
    settings: dict = dataclasses.field(default_factory=dict)
    # The small form: settings of the environment, and of the nodes.
    small: dict = dataclasses.field(default_factory=dict)
    small_settings: dict = dataclasses.field(default_factory=dict)
    # To be stopped by a threshold is what it is for.
    is_search: bool = False


DRAIN = {"drain": {"delay": "5s", "window": "20s"}}
SCRIPTS = {
    "selftest": Script(plays.alone, nodes=0),
    "smoke": Script(nodes=2, settings={"client": {"ping_interval": "2s", "pong_timeout": "1s"}}, small={"DURATION": "6s"}),
    "average": Script(small={"CONNECTIONS": "500", "DURATION": "30s"}),
    "stress": Script(plays.crush, settings={"client": {"connections_max": 500}}, small={"DURATION": "20s"}),
    "fanout": Script(small={"DURATION": "20s", "PER_VU": "500"}),
    "spike_reconnect": Script(plays.spike, nodes=2, small={"CONNECTIONS": "500"}),
    "rolling": Script(plays.roll, nodes=3, settings=DRAIN, small={"CONNECTIONS": "150", "RATE": "40", "PAYLOAD_BYTES": "100"},
                      small_settings={"drain": {"delay": "1s", "window": "3s"}}),
    "slow_consumer": Script(plays.stall, settings={"client": {"outbox_bytes_max": 131_072}},
                            small={"CONNECTIONS": "100", "DURATION": "30s"}),
    "soak": Script(plays.soak, small={"CONNECTIONS": "200", "DURATION": "1m", "CHURN": "60"}),
    "breakpoint": Script(small={"CONNECTIONS": "100", "DURATION": "40s", "STEP": "20"}, is_search=True),
    "auth_storm": Script(small={"CONNECTIONS": "100", "DURATION": "20s"}),
}


@dataclasses.dataclass
class Result:
    """How a run ended."""

    code: int
    facts: list
    output: str
    # What `summary.json` has; `None` if k6 wrote none.
    summary: dict | None

    @property
    def broken(self):
        """The promises that were not kept."""
        verdicts = (self.summary or {}).get("verdicts", [])
        broken = [verdict["metric"] for verdict in verdicts if not verdict["ok"]]
        return broken + [fact.what for fact in self.facts if fact.holds is False]


def play(name, out, small=False, arguments=(), environment=None, **changes):
    """Plays `name` to its end and leaves its report in `out`. `changes` are fields of its `Script`."""
    script = dataclasses.replace(SCRIPTS[name], **changes)
    environment = {**os.environ, **(environment or {})}
    out.mkdir(parents=True, exist_ok=True)
    settings = script.small_settings or script.settings if small else script.settings
    defaults = script.small if small else {}
    is_island = "islands" in environment.get("PLANT", "").split(",")
    with tempfile.TemporaryDirectory(prefix="clarion-k6-") as directory:
        try:
            with Stage(Path(directory), script.nodes, settings, is_island) as stage:
                told = {**defaults, **environment, **stage.environment, "OUT": str(out.resolve())}
                told |= {} if small else dashboard(out)
                k6 = stage.own(start_k6(name, directory, told, arguments))
                facts = perform(script, stage, k6)
                code = k6.exit_code
        finally:
            for log in Path(directory).glob("*.log"):
                shutil.copy(log, out)
    return conclude(script, code, facts, out)


def conclude(script, code, facts, out):
    """The result of a run, of what k6 left behind and of what was seen on the stage, which the report is told too."""
    lines = (out / "k6.log").read_text(errors="replace").splitlines()
    output = "\n".join(line for line in lines if INTERRUPTED not in line)
    is_well = code == 0 or (script.is_search and code == THRESHOLD_CROSSED)
    failed = not is_well or any(fact.holds is False for fact in facts)
    file, page = out / "summary.json", out / "report.html"
    if not file.exists():  # k6 did not come to its end, and says why.
        return Result(1, facts, output, None)
    machine = f"{os.cpu_count()} CPUs, {platform.system()} {platform.release()}"
    stage = [dataclasses.asdict(fact) for fact in facts]
    summary = json.loads(file.read_text()) | {"machine": machine, "stage": stage}
    file.write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    page.write_text(page.read_text().replace("<!-- stage -->", html_of(machine, facts)))
    return Result(int(failed), facts, output, summary)


def html_of(machine, facts):
    """The facts as a part of the page."""
    rows = "".join(f"<tr><td>{html.escape(fact.what)}<td>{html.escape(fact.found)}<td>{SIGNS[fact.holds]}" for fact in facts)
    return f"<h2>The nodes</h2>\n<p>{html.escape(machine)}</p>\n<table>{rows}</table>"


def dashboard(out):
    """k6's own page of plots over time; a small run is too short for it."""
    file = str(out.resolve() / "dashboard.html")
    return {"K6_WEB_DASHBOARD": "true", "K6_WEB_DASHBOARD_EXPORT": file, "K6_WEB_DASHBOARD_PORT": "-1"}


def start_k6(name, directory, environment, arguments):
    """k6, killed if it does not come to an end."""
    k6 = environment.get("K6", str(HERE / ".venv/bin/k6"))
    # A stage on loopback is not reached through a proxy.
    environment = {**environment, "NO_PROXY": "127.0.0.1", "K6_NO_USAGE_REPORT": "true"}
    command = ["timeout", "-k", "10", K6_MAX, *GUARD, k6, "run", "--quiet", "--no-color", "--address", "", *arguments]
    return Process("k6", [*command, HERE / f"{name}.js"], directory, environment)


def perform(script, stage, k6):
    """Plays what happens, and waits for k6."""
    try:
        return script.play(stage, k6)
    except Failed as failure:
        return [plays.Fact("the play went as it should", str(failure), False)]
    finally:
        stage.course.done = True
        k6.wait(plays.GRACE_S + 180)


def printed(facts):
    """The facts as lines."""
    return "\n".join(f"  {SIGNS[fact.holds]} {fact.what}: {fact.found}" for fact in facts)


def interrupted(*_):
    """Ends as Ctrl-C does, so that everything is taken down."""
    raise KeyboardInterrupt


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=SCRIPTS)
    parser.add_argument("--small", action="store_true", help="in less than a minute, on a laptop")
    parser.add_argument("--out", type=Path, help="where the report goes; out/NAME beside this file")
    options, arguments = parser.parse_known_args()
    signal.signal(signal.SIGTERM, interrupted)
    out = options.out or HERE / "out" / options.name
    shutil.rmtree(out, ignore_errors=True)
    try:
        result = play(options.name, out, options.small, arguments)
    except Failed as failure:
        sys.exit(f"{failure}")
    print(result.output)
    print(printed(result.facts))
    print(f"\n{'passed' if result.code == 0 else 'failed'}; the report is in {out}")
    sys.exit(result.code)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
