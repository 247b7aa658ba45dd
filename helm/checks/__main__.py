"""Runs every check and counts.

A check is a pair: what should hold, and what is wrong, empty if nothing is. Modules yield them, so that one failure hides no other.
"""

import sys
import time
from collections.abc import Iterator

from . import drift, lint, monitoring, pods, refusals, renders, secrets, templates, walk

MODULES = (templates, lint, renders, pods, secrets, refusals, monitoring, drift, walk)


def outcomes(module) -> Iterator[tuple[str, str]]:
    """The checks of a module; what it stumbles over is one that fails."""
    try:
        yield from module.checks()
    except Exception as error:  # noqa: BLE001 (whatever it is, the others go on)
        yield "runs to its end", f"{type(error).__name__}: {error}"


def main() -> int:
    passed = failed = 0
    for module in MODULES:
        name, began = module.__name__.rsplit(".", 1)[-1], time.monotonic()
        good = bad = 0
        for what, problem in outcomes(module):
            if problem:
                bad += 1
                print(f"FAILED {name}: {what}\n    {problem.strip().replace(chr(10), chr(10) + '    ')}", flush=True)
            else:
                good += 1
        summary = (module.__doc__ or "").splitlines()[0]
        print(f"{name}: {good} passed, {bad} failed in {time.monotonic() - began:.0f} s. {summary}", flush=True)
        passed, failed = passed + good, failed + bad
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
