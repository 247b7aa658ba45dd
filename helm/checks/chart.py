"""The chart, and the programs that render it."""

import json
import os
import subprocess
from functools import lru_cache
from pathlib import Path

import yaml

HELM = Path(__file__).resolve().parent.parent
REPOSITORY = HELM.parent
CHART = HELM / "clarion"
TOOLS = Path(os.environ["TOOLS"])
HELMS = ("helm3", "helm4")
KUBERNETES = ("1.29.0", "1.33.0", "1.35.0")
SHAPES = sorted((CHART / "ci").glob("*-values.yaml"))


def run(*command: object, given: str | None = None) -> subprocess.CompletedProcess:
    """Runs a program without failing; with `given` on its standard input."""
    words = [str(word) for word in command]
    return subprocess.run(words, input=given, capture_output=True, text=True, timeout=300, check=False)


def template(helm: str, kubernetes: str, *more: object, values: object = None) -> subprocess.CompletedProcess:
    """`helm template`, with `values` laid over everything if there are any."""
    given = None if values is None else json.dumps(values)
    stdin = () if values is None else ("--values", "-")
    where = ("--kube-version", kubernetes, "--namespace", "live")
    return run(TOOLS / "bin" / helm, "template", "demo", CHART, *where, *more, *stdin, given=given)


# The parser in C is ten times as fast, where there is one.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@lru_cache(maxsize=None)
def documents(helm: str, kubernetes: str, shape: Path) -> tuple[dict, ...]:
    """What a values file of ci/ renders to."""
    done = template(helm, kubernetes, "--values", shape)
    if done.returncode != 0:
        raise ValueError(done.stderr)
    return tuple(document for document in yaml.load_all(done.stdout, LOADER) if document)


def rendered(values: dict) -> list[dict]:
    """What values render to, for the newest Kubernetes and Helm."""
    done = template(HELMS[-1], KUBERNETES[-1], values=values)
    if done.returncode != 0:
        raise ValueError(done.stderr)
    return [document for document in yaml.load_all(done.stdout, LOADER) if document]


def of_kind(docs: tuple[dict, ...] | list[dict], kind: str) -> list[dict]:
    return [document for document in docs if document["kind"] == kind]


def config_of(docs: tuple[dict, ...] | list[dict]) -> dict:
    """The configuration file in the ConfigMap."""
    maps = [document for document in of_kind(docs, "ConfigMap") if "clarion.yaml" in document["data"]]
    return yaml.load(maps[0]["data"]["clarion.yaml"], LOADER)
