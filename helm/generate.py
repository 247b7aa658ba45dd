#!/usr/bin/env python3
"""Writes what is said twice: the reference of `config` into values.yaml, and the tables of values into the chart's README.

Both come from the comments in values.yaml and in deploy/clarion.yaml. With `--check` nothing is written: exit code 1 and
the names of files that are not as they would be written.
"""

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

HELM = Path(__file__).resolve().parent
CHART = HELM / "clarion"
SETTINGS = HELM.parent / "deploy" / "clarion.yaml"

# `  key: value   # comment`, where the value may hold a `#` that no space precedes.
LINE = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z_]+):(?P<value>.*?)(?:(?:^|\s+)# (?P<comment>.*))?$")


@dataclass
class Entry:
    """A key of a YAML file with the comment behind it."""

    path: tuple[str, ...]
    value: object
    comment: str


def entries(text: str) -> list[Entry]:
    """Every key of a file in which each is on a line of its own, or in braces."""
    tree = yaml.safe_load(text)
    found, parents = [], []
    for line in text.splitlines():
        match = LINE.match(line)
        if not match:
            continue
        depth = len(match["indent"]) // 2
        parents[depth:] = [match["key"]]
        value = tree
        for key in parents:
            value = value[key]
        found.append(Entry(tuple(parents), value, match["comment"] or ""))
    return found


def rows(text: str, prefix: str = "") -> list[str]:
    """Lines of a table: a key with a value, or a heading for those below it."""
    listed, lines = entries(text), []
    for index, entry in enumerate(listed):
        below = [other for other in listed[index + 1 :] if other.path[: len(entry.path)] == entry.path]
        above = [other for other in listed[:index] if entry.path[: len(other.path)] == other.path]
        # What is below a value that is described as a whole is part of it.
        if any(is_whole(other, listed) for other in above):
            continue
        if below and not is_whole(entry, listed):
            if entry.comment:
                lines.append(row(prefix, entry, ""))
        else:
            lines.append(row(prefix, entry, f"`{json.dumps(entry.value)}`"))
    return lines


def is_whole(entry: Entry, listed: list[Entry]) -> bool:
    """Whether a comment is there for all that is below the key, none of which has one."""
    below = [other for other in listed if other.path[: len(entry.path)] == entry.path and other is not entry]
    return bool(entry.comment and below) and not any(other.comment for other in below)


def row(prefix: str, entry: Entry, default: str) -> str:
    comment = entry.comment.replace("|", "\\|")
    return f"| `{prefix}{'.'.join(entry.path)}` | {default} | {comment} |"


def reference(settings: str) -> str:
    """The settings as comments, without what the file says about itself at its top."""
    body = settings[settings.index("\nnode:") + 1 :].rstrip()
    lines = ["config:"] + ["  " + line for line in body.splitlines()]
    return "\n".join(("# " + line).rstrip() for line in lines)


def between(text: str, begin: str, end: str, body: str) -> str:
    """`text` with `body` between the lines that begin with `begin` and `end`."""
    pattern = re.compile(rf"({re.escape(begin)}[^\n]*\n).*?({re.escape(end)})", re.DOTALL)
    return pattern.sub(lambda match: f"{match[1]}{body}\n{match[2]}", text)


def generated() -> dict[Path, str]:
    """Every file with its content as it should be."""
    settings = SETTINGS.read_text()
    values_file, readme_file = CHART / "values.yaml", CHART / "README.md"
    values = between(values_file.read_text(), "# BEGIN reference", "# END reference", reference(settings))
    head = "| Value | Default | |\n|---|---|---|\n"
    own = head + "\n".join(rows(values))
    config = head + "\n".join(rows(settings, "config."))
    readme = between(readme_file.read_text(), "<!-- BEGIN values", "<!-- END values", own)
    readme = between(readme, "<!-- BEGIN config", "<!-- END config", config)
    return {values_file: values, readme_file: readme}


def main() -> int:
    stale = {file: text for file, text in generated().items() if file.read_text() != text}
    if "--check" not in sys.argv:
        for file, text in stale.items():
            file.write_text(text)
        return 0
    for file in stale:
        print(f"{file.relative_to(HELM.parent)} is not as helm/generate.py writes it: run it")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
