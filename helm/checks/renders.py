"""Each values file in ci/, rendered by Helm 3 and 4 for each Kubernetes, is valid, and the same by both."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product

from .chart import HELMS, KUBERNETES, SHAPES, documents
from .schemas import problem_of


def checks() -> Iterator[tuple[str, str]]:
    every = list(product(HELMS, KUBERNETES, SHAPES))
    with ThreadPoolExecutor(2) as pool:
        # Rendering waits for Helm: two at a time. What is rendered is kept.
        list(pool.map(lambda arguments: attempt(*arguments), every))
    for helm, kubernetes, shape in every:
        yield f"{shape.name} by {helm} for {kubernetes}", attempt(helm, kubernetes, shape) or validity(helm, kubernetes, shape)
    for kubernetes, shape in product(KUBERNETES, SHAPES):
        one, other = (comparable(documents(helm, kubernetes, shape)) for helm in HELMS)
        differing = [name for name in one.keys() | other.keys() if one.get(name) != other.get(name)]
        yield f"{shape.name} is the same by both for {kubernetes}", ", ".join(differing)
    yield "a field that Kubernetes does not know is found", "" if problem_of(BROKEN, "1.33.0") else "it was not"
    for broken in BROKEN_CUSTOM:
        kind = json.loads(broken)["kind"]
        yield f"a field that {kind} does not have is found", "" if "typo" in problem_of(broken, "1.33.0") else "it was not"


def attempt(helm, kubernetes, shape) -> str:
    try:
        documents(helm, kubernetes, shape)
        return ""
    except ValueError as error:
        return str(error)


def validity(helm, kubernetes, shape) -> str:
    docs = documents(helm, kubernetes, shape)
    # A text, so that what was looked at once is known: most objects are the same in many renderings.
    problems = [problem_of(json.dumps(document, sort_keys=True), kubernetes) for document in docs]
    return "\n".join(problem for problem in problems if problem)


def comparable(docs) -> dict:
    """Objects by name; of Secrets, whose content is made up each time, what entries they have."""

    def content(document):
        return {**document, "data": sorted(document["data"])} if document["kind"] == "Secret" else document

    return {(document["kind"], document["metadata"]["name"]): content(document) for document in docs}


BROKEN = json.dumps({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "typo"}, "spec": {"prots": []}})
BROKEN_CUSTOM = [
    json.dumps({"apiVersion": api, "kind": kind, "metadata": {"name": "broken"}, "spec": {"typo": 1}})
    for api, kind in (
        ("gateway.networking.k8s.io/v1", "HTTPRoute"),
        ("keda.sh/v1alpha1", "ScaledObject"),
        ("monitoring.coreos.com/v1", "ServiceMonitor"),
        ("monitoring.coreos.com/v1", "PrometheusRule"),
    )
]
