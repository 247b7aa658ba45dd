"""Metrics, rules and dashboard of Clarion against real nodes and a live Prometheus.

Everything is asked of servers that this starts: whether promtool approves of what the nodes say, and whether each expression
of dashboard and rules has a value while clients and a back end do all that is counted. What ends the waiting is how often
Prometheus has looked. CLARION_BIN is the gateway; the page that this draws goes to the directory that is its argument.
"""

import asyncio
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from crowd import Crowd, scrape
from plot import page
from queries import Prometheus, dashboard_expressions, operands, panels, substituted, variable_queries
from stage import MONITORING, Node, Stage, eventually

RUNBOOKS = MONITORING.parent.parent / "docs" / "runbooks"
# Looks of Prometheus at a node: with the crowd alone, and after a node has come back.
LOOKS_BEFORE, LOOKS_AFTER = 12, 6
# Metrics without a value here, and why. An expression that holds one must have none.
ABSENT = {"clarion_tls_cert_expiry_timestamp_seconds": "the nodes of this test have no certificate"}


class Results:
    """Counts what passes and what fails."""

    def __init__(self):
        self.passed, self.failed = 0, 0

    def check(self, what, problem):
        """One check; `problem` is empty if all is well."""
        if problem:
            self.failed += 1
            print(f"FAILED {what}: {problem}")
        else:
            self.passed += 1


def promtool(*arguments, text=None):
    """What promtool complains of; nothing if it does not."""
    done = subprocess.run(["promtool", *arguments], input=text, capture_output=True, text=True, check=False,
                          cwd=MONITORING)
    complaint = (done.stdout + done.stderr).strip()
    # Of metrics it also complains without failing.
    is_clean = done.returncode == 0 and (arguments[0] != "check" or arguments[1] != "metrics" or not complaint)
    return "" if is_clean else complaint or f"exit code {done.returncode}"


def check_files(results):
    """What can be said of the files alone."""
    made = subprocess.run([sys.executable, MONITORING / "dashboard.py"], capture_output=True, text=True, check=True).stdout
    is_current = made == (MONITORING / "dashboard.json").read_text()
    results.check("dashboard.json is what dashboard.py writes", "" if is_current else "make it anew")
    results.check("promtool check rules", promtool("check", "rules", "rules.yaml"))
    results.check("promtool test rules", promtool("test", "rules", "rules.test.yaml"))
    rules, tests = ((MONITORING / name).read_text() for name in ["rules.yaml", "rules.test.yaml"])
    alerts = re.findall(r"^ +- alert: (\w+)$", rules, re.MULTILINE)
    results.check("an alert has one rule", [name for name in alerts if alerts.count(name) > 1])
    results.check("every page has an alert", sorted({path.stem for path in RUNBOOKS.glob("Clarion*.md")} - set(alerts)))
    for name in alerts:
        results.check(f"{name} fires in a test", "" if f"- name: '{name} fires" in tests else "there is none")
        results.check(f"{name} is silent in a test", "" if f"- name: '{name} is silent" in tests else "there is none")
        results.check(f"{name} has a page", check_page(name, rules))


def check_page(name, rules):
    """What is wrong with the page of an alert."""
    path = RUNBOOKS / f"{name}.md"
    if not path.exists():
        return f"{path.name} is missing"
    text = path.read_text()
    if f"/runbooks/{name}.md" not in rules:
        return "the rule does not name it"
    parts = ["# " + name, "## What it means", "## Look at", "## Likely causes", "## What to do", "## When to escalate"]
    return ", ".join(f"no “{part}”" for part in parts if f"{part}\n" not in text)


def page_expressions():
    """The expressions that pages tell people to look at."""
    for path in sorted(RUNBOOKS.glob("Clarion*.md")):
        for block in re.findall(r"```promql\n(.*?)```", path.read_text(), re.DOTALL):
            yield from ((f"{path.name}", line) for line in block.splitlines() if line)


async def play(stage, results):
    """Nodes with all that happens to them. Answers Prometheus, and since when."""
    redis = await stage.redis()
    nodes = [Node(stage, "one", redis), Node(stage, "two", redis), Node(stage, "alone", {"type": "memory"})]
    for node in nodes:
        await node.start()
    start = time.time()
    prometheus = Prometheus(await stage.prometheus(nodes))
    crowd = Crowd(nodes)
    crowd.start()
    await looked(prometheus, nodes, LOOKS_BEFORE)
    for node in nodes:
        results.check(f"promtool check metrics of {node.name}", promtool("check", "metrics", text=scrape(node)))
    print(f"the crowd was looked at for {time.time() - start:.0f} s")
    # A deploy of one node.
    await nodes[1].stop()
    await nodes[1].start()
    print(f"a node was replaced after {time.time() - start:.0f} s")
    await looked(prometheus, nodes, LOOKS_AFTER)
    await crowd.stop()
    await looked(prometheus, nodes, 2)
    return prometheus, start


async def looked(prometheus, nodes, times):
    """Waits until Prometheus has looked at each node so many times more."""
    instances = [f"127.0.0.1:{node.internal_port}" for node in nodes]
    wanted = [prometheus.scrapes(instance) + times for instance in instances]
    for instance, count in zip(instances, wanted):
        await eventually(f"look {count} at {instance}", lambda: prometheus.scrapes(instance) >= count)


def check_expressions(results, prometheus, start):
    """Executes everything; answers the figures of the page."""
    end = time.time()
    for name, series, label in variable_queries():
        found = prometheus.ask(f"label/{label}/values", **{"match[]": substituted(series)})
        results.check(f"variable {name}", "" if found else "no values")
    count = 0
    for where, expression in [*dashboard_expressions(), *rule_expressions(results, prometheus), *page_expressions()]:
        count += 1
        results.check(where, problem_of(prometheus, substituted(expression), start, end))
    rows = {}
    for row, panel in panels():
        rows.setdefault(row, []).append((panel["title"], panel["fieldConfig"]["defaults"]["unit"], [
            (legend(target, labels), points)
            for target in panel["targets"]
            for labels, points in prometheus.samples(substituted(target["expr"]), start, end)
        ]))
    print(f"{count} expressions were executed over {end - start:.0f} s")
    return page(rows, start, end)


def legend(target, labels):
    """The name of a series, as the panel has it."""
    named = re.sub(r"{{(\w+)}}", lambda found: labels.get(found[1], ""), target["legendFormat"])
    return " ".join(labels.values()) or target["refId"] if named == "__auto" else named


def problem_of(prometheus, expression, start, end):
    """Why an expression is no good; empty if it is."""
    try:
        has_value = bool(prometheus.samples(expression, start, end))
    except AssertionError as error:
        return f"{error} in {expression}"
    if has_value == any(metric in expression for metric in ABSENT):
        return f"{'a' if has_value else 'no'} value of {expression}"
    return ""


def rule_expressions(results, prometheus):
    """Those that Prometheus has loaded, which also says whether it could evaluate them."""
    for group in prometheus.ask("rules")["groups"]:
        for rule in group["rules"]:
            results.check(f"evaluation of {rule['name']}", rule.get("lastError", ""))
            parts = operands(rule["query"]) if rule["type"] == "alerting" else [rule["query"]]
            yield from ((f"rule {rule['name']}", part) for part in parts)
            # As a whole it may be silent, but no error.
            results.check(f"rule {rule['name']} as a whole", error_of(prometheus, rule["query"]))


def error_of(prometheus, expression):
    """The error of an expression; empty if there is none."""
    try:
        prometheus.ask("query", query=expression)
    except AssertionError as error:
        return str(error)
    return ""


def main():
    """Everything, in about a minute."""
    results, began = Results(), time.monotonic()
    check_files(results)
    with Stage() as stage:
        prometheus, start = asyncio.run(play(stage, results))
        drawn = check_expressions(results, prometheus, start)
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "dashboard.html").write_text(drawn)
    print(f"{directory / 'dashboard.html'} shows the panels; {time.monotonic() - began:.0f} s")
    print(f"{results.passed} passed, {results.failed} failed")
    return 1 if results.failed else 0


if __name__ == "__main__":
    if "CLARION_BIN" not in os.environ or len(sys.argv) != 2:
        sys.exit("usage: CLARION_BIN=…/clarion test.py DIRECTORY")
    sys.exit(main())
