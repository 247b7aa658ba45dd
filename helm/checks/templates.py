"""The tests of templates (helm-unittest), each counted as it counts them."""

import re
from collections.abc import Iterator

from .chart import CHART, TOOLS, run


def checks() -> Iterator[tuple[str, str]]:
    done = run(TOOLS / "bin" / "helm-unittest", "--strict", "--file", "tests/*_test.yaml", CHART)
    said = done.stdout + done.stderr
    totals = re.search(r"^Tests:.*?(\d+) passed.*?(\d+) total", said, re.MULTILINE)
    passed, total = (int(totals[1]), int(totals[2])) if totals else (0, 0)
    for number in range(passed):
        yield f"test {number + 1}", ""
    if done.returncode != 0 or passed != total or total == 0:
        yield f"{total} tests", said
