"""`helm lint --strict` of each values file in ci/, by Helm 3 and Helm 4."""

from collections.abc import Iterator

from .chart import CHART, HELMS, KUBERNETES, SHAPES, TOOLS, run


def checks() -> Iterator[tuple[str, str]]:
    for helm in HELMS:
        for shape in SHAPES:
            done = run(TOOLS / "bin" / helm, "lint", "--strict", "--kube-version", KUBERNETES[-1], "--values", shape, CHART)
            yield f"{helm} {shape.name}", "" if done.returncode == 0 else done.stdout + done.stderr
