"""The gateway itself accepts the configuration of every shape (with CLARION_BIN, or a binary that was built)."""

import base64
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import yaml

from .chart import HELMS, KUBERNETES, REPOSITORY, SHAPES, TOOLS, config_of, documents, of_kind, run
from .drift import AHEAD
from .secrets import files


def binary() -> Path | None:
    """A gateway: the one that is named, else one that cargo built."""
    named = os.environ.get("CLARION_BIN")
    built = [TOOLS.parent / profile / "clarion" for profile in ("debug", "release")]
    candidates = [Path(named)] if named else built
    return next((path for path in candidates if path.exists()), None)


def checks() -> Iterator[tuple[str, str]]:
    program = binary()
    if program is None:
        print("walk: NOT RUN: there is no gateway; build one, or name it in CLARION_BIN")
        return
    for shape in SHAPES:
        problems = complaints(program, documents(HELMS[-1], KUBERNETES[-1], shape))
        ahead = [line for line in problems if AHEAD.match(line)]
        if ahead and ahead == problems:
            print(f"walk: NOT RUN: {shape.name}: this gateway does not know its settings yet: {'; '.join(ahead)}")
            continue
        yield f"{shape.name}", "\n".join(problems)


def complaints(program: Path, docs) -> list[str]:
    """What `clarion checkconfig` says against the file of a ConfigMap, with every secret that it names in place."""
    config = config_of(docs)
    given = {name: base64.b64decode(text) for doc in of_kind(docs, "Secret") for name, text in doc["data"].items()}
    with tempfile.TemporaryDirectory() as directory:
        text = yaml.safe_dump(config)
        for path in files(config):
            name = Path(path).name
            # Of Secrets that somebody else manages there is the name alone.
            Path(directory, name).write_bytes(given.get(name, f"a secret for {name}, long enough 0123456789".encode()))
            text = text.replace(path, str(Path(directory, name)))
        file = Path(directory, "clarion.yaml")
        file.write_text(text)
        done = run("env", *environment(docs), program, "checkconfig", "--config", file)
    said = [line.removeprefix("error: ") for line in (done.stdout + done.stderr).strip().splitlines()]
    return [] if done.returncode == 0 else said or ["it failed"]


def environment(docs) -> list[str]:
    """The variables of the container, with what Kubernetes would put into them."""
    container = of_kind(docs, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0]
    texts = {entry["name"]: entry.get("value", "192.0.2.1") for entry in container["env"]}
    return [f"{name}={text.replace('$(POD_IP)', '192.0.2.1')}" for name, text in texts.items()]
