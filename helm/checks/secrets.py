"""Secrets that are given in values are in a Secret and in nothing else, and the file that nodes read leads there."""

import base64
import json
from collections.abc import Iterator

from .chart import config_of, of_kind, rendered

CANARIES = {
    "token-key": "canary-of-the-token-key-0123456789abcdef",
    "token-previous-keys": "canary-of-an-older-token-key-0123456789abcdef",
    "subscription-token-key": "canary-of-the-subscription-key-0123456789abcdef",
    "subscription-token-previous-keys": "canary-of-an-older-subscription-key-0123456789",
    "api-key-0": "canary-of-the-first-api-key",
    "api-key-shop": "canary-of-the-api-key-of-the-shop",
    "redis-password": "canary-of-the-password-of-redis",
    "sentinel-password": "canary-of-the-password-of-sentinels",
}


def values() -> dict:
    def token(prefix):
        return {"hmac_secret_key": CANARIES[f"{prefix}-key"], "hmac_previous_secret_keys": [CANARIES[f"{prefix}-previous-keys"]]}

    sentinel = {"master": "clarion", "addresses": ["sentinel.example.com"], "password": CANARIES["sentinel-password"]}
    return {
        "config": {
            "client": {"token": token("token"), "subscription_token": token("subscription-token")},
            "api": {"keys": [CANARIES["api-key-0"], {"name": "shop", "key": CANARIES["api-key-shop"]}]},
            "broker": {"type": "redis", "redis": {"password": CANARIES["redis-password"], "sentinel": sentinel}},
        },
        "redis": {"mode": "sentinel"},
        "replicas": 3,
        "monitoring": {name: {"enabled": True} for name in ("serviceMonitor", "prometheusRule", "dashboards")},
    }


def files(tree: object) -> list[str]:
    """Every path that a `…_file` key of a configuration names."""
    if isinstance(tree, list):
        return [path for item in tree for path in files(item)]
    if not isinstance(tree, dict):
        return []
    own = [value for key, value in tree.items() if key.endswith("_file")]
    return own + [path for value in tree.values() for path in files(value)]


def checks() -> Iterator[tuple[str, str]]:
    docs = rendered(values())
    entries = {name: base64.b64decode(text).decode() for doc in of_kind(docs, "Secret") for name, text in doc["data"].items()}
    others = json.dumps([document for document in docs if document["kind"] != "Secret"])
    paths = files(config_of(docs))
    for name, canary in CANARIES.items():
        yield f"{name} is in the Secret", "" if entries.get(name) == canary else f"it has {sorted(entries)}"
        shown = canary in others or base64.b64encode(canary.encode()).decode() in others
        yield f"{name} is nowhere else", "it is shown" if shown else ""
        path = f"/etc/clarion/secrets/{name}"
        yield f"{name} is read from its file", "" if path in paths else f"{path} is not among {paths}"
    yield "nothing is made up where all is given", "" if set(entries) == set(CANARIES) else str(sorted(entries))
    yield from environments(docs)
    yield from made_up()


def environments(docs) -> Iterator[tuple[str, str]]:
    """No variable comes from a Secret, and no argument has one."""
    for document in docs:
        spec = document.get("spec", {}).get("template", document).get("spec", {})
        for container in spec.get("containers", []):
            variables = json.dumps([container.get("env", []), container.get("envFrom", [])])
            problem = "it has secretKeyRef or secretRef" if "secret" in variables.lower() else ""
            yield f"the environment of {document['kind']} {document['metadata']['name']}", problem


def made_up() -> Iterator[tuple[str, str]]:
    """Keys that are given nowhere: long, each its own, and other ones each time."""
    first, second = (of_kind(rendered({}), "Secret")[0]["data"] for _ in range(2))
    texts = [base64.b64decode(text).decode() for text in (*first.values(), *second.values())]
    yield "keys are made up", "" if set(first) == {"token-key", "api-key"} else str(sorted(first))
    yield "each is its own", "" if len(set(texts)) == 4 else "some are the same"
    short = [text for text in texts if len(text) < 48]
    yield "each is long", "one is short" if short else ""
