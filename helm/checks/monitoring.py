"""Alerts and the dashboard are those of the project, and what values change of them is still what Prometheus takes."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import yaml

from .chart import CHART, LOADER, REPOSITORY, TOOLS, of_kind, rendered, run

MONITORING = REPOSITORY / "deploy" / "monitoring"
COPIES = {"rules.yaml": MONITORING / "rules.yaml", "dashboard.json": MONITORING / "dashboard.json"}


def checks() -> Iterator[tuple[str, str]]:
    for name, original in COPIES.items():
        yield f"files/{name} is deploy/monitoring/{name}", copy_problem(CHART / "files" / name, original)
    own = yaml.load((CHART / "files" / "rules.yaml").read_text(), LOADER)["groups"]
    yield "rules are rendered as they are", "" if groups({}) == own else "they are not"
    yield "Prometheus takes them", promtool(groups({}))
    names = [rule["alert"] for group in own for rule in group["rules"] if "alert" in rule]
    for name in names:
        left = [rule.get("alert") for group in groups({"disabled": [name]}) for rule in group["rules"]]
        yield f"{name} can be disabled", "" if name not in left and len(left) == count(own) - 1 else str(left)
    yield "all can be disabled", "" if all("alert" not in rule for group in groups({"disabled": names}) for rule in group["rules"]) else "some are left"
    yield from overrides(names[0])
    board = [doc for doc in of_kind(rendered(wanted("dashboards", {})), "ConfigMap") if "clarion.json" in doc["data"]][0]
    text = (CHART / "files" / "dashboard.json").read_text()
    yield "the dashboard is rendered byte by byte", "" if board["data"]["clarion.json"] == text else "it is not"
    yield "the dashboard is JSON with a title", "" if json.loads(text).get("title") else "it has none"


def copy_problem(copy: Path, original: Path) -> str:
    """Why the copy is not the original. Without an original it must say that it stands in for one."""
    if not original.exists():
        return "" if "PLACEHOLDER" in copy.read_text() else f"there is no {original.relative_to(REPOSITORY)}"
    return "" if copy.read_bytes() == original.read_bytes() else f"cp {original.relative_to(REPOSITORY)} {copy.relative_to(REPOSITORY)}"


def wanted(what: str, more: dict) -> dict:
    return {"monitoring": {what: {"enabled": True, **more}}}


def groups(more: dict) -> list[dict]:
    """The groups of the PrometheusRule with those values."""
    return of_kind(rendered(wanted("prometheusRule", more)), "PrometheusRule")[0]["spec"]["groups"]


def count(found: list[dict]) -> int:
    return sum(len(group["rules"]) for group in found)


def promtool(found: list[dict]) -> str:
    """What promtool finds wrong with rules; empty if nothing."""
    program = shutil.which("promtool") or TOOLS / "bin" / "promtool"
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump({"groups": found}, file)
        file.flush()
        done = run(program, "check", "rules", file.name)
    is_whole = f"{count(found)} rules found" in done.stdout
    return "" if done.returncode == 0 and is_whole else done.stdout + done.stderr


def overrides(name: str) -> Iterator[tuple[str, str]]:
    """What each of the values does to an alert, and to the others."""
    changed = groups(
        {
            "alertLabels": {"team": "chat", "severity": "page"},
            "runbookBaseUrl": "https://wiki.example.com/clarion/",
            "overrides": {name: {"for": "7m", "expr": "vector(1) > 2", "labels": {"severity": "none"}, "annotations": {"note": "n"}}},
        }
    )
    yield "Prometheus takes what is overridden", promtool(changed)
    alerts = {rule["alert"]: rule for group in changed for rule in group["rules"] if "alert" in rule}
    own = alerts[name]
    yield "for is overridden", "" if own["for"] == "7m" else own["for"]
    yield "expr is overridden", "" if own["expr"] == "vector(1) > 2" else own["expr"]
    yield "labels of the alert win", "" if own["labels"]["severity"] == "none" else str(own["labels"])
    yield "annotations are added", "" if own["annotations"]["note"] == "n" and len(own["annotations"]) > 1 else str(own["annotations"])
    others = [rule for alert, rule in alerts.items() if alert != name]
    lacking = [rule["alert"] for rule in alerts.values() if rule["labels"]["team"] != "chat"]
    lacking += [rule["alert"] for rule in others if rule["labels"]["severity"] != "page"]
    yield "labels are added to every alert", ", ".join(lacking)
    base = "https://wiki.example.com/clarion/"
    elsewhere = [rule["alert"] for rule in alerts.values() if not rule["annotations"]["runbook_url"].startswith(base)]
    elsewhere += [rule["alert"] for rule in alerts.values() if "/" in rule["annotations"]["runbook_url"][len(base) :]]
    yield "runbooks are where they are said to be", ", ".join(elsewhere)
