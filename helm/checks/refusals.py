"""Values that are wrong are refused, by Helm 3 and Helm 4, with a message that names them and says what to set."""

import re
from collections.abc import Iterator

from .chart import CHART, HELMS, KUBERNETES, REPOSITORY, template
from .generator import entries

# Below these anything goes that Kubernetes takes.
FREE = ("podSecurityContext", "securityContext", "resources", "redis.dev.resources", "global", "monitoring.dashboards.labels")
REDIS = {"type": "redis", "redis": {"address": "redis://redis.example.com:6379"}}


def checks() -> Iterator[tuple[str, str]]:
    for helm in HELMS:
        yield from typos(helm)
        for what, values, *words in CASES:
            done = template(helm, KUBERNETES[-1], values=values)
            missing = [word for word in words if word not in done.stderr]
            accepted = "it was accepted" if done.returncode == 0 else ""
            yield f"{helm} {what}", accepted or (f"{missing} not in: {done.stderr}" if missing else "")
        for what, values in FINE:
            done = template(helm, KUBERNETES[-1], values=values)
            yield f"{helm} accepts {what}", done.stderr if done.returncode else ""


def documented() -> list[tuple[str, ...]]:
    """Every key that a user may write, as its path; of lists those of their entries are not among them."""
    own = [entry.path for entry in entries((CHART / "values.yaml").read_text())]
    config = [("config", *entry.path) for entry in entries((REPOSITORY / "deploy" / "clarion.yaml").read_text())]
    free = [tuple(path.split(".")) for path in FREE]
    is_free = lambda path: any(path[: len(prefix)] == prefix and path != prefix for prefix in free)  # noqa: E731
    return [path for path in own + config if not is_free(path)]


def typos(helm: str) -> Iterator[tuple[str, str]]:
    """Each documented key with a letter too many, all in one rendering, which names each of them."""
    values: dict = {}
    paths = documented()
    for path in paths:
        level = values
        for key in path[:-1]:
            level = level.setdefault(key, {})
        level[f"{path[-1]}z"] = "typo"
    said = template(helm, KUBERNETES[-1], values=values).stderr
    named = set()
    for place, keys in re.findall(r"at '([^']*)': additional properties (.*) not allowed", said):
        named |= {f"{place}/{key}" for key in re.findall(r"'([^']*)'", keys)}
    for path in paths:
        key = f"/{'/'.join(path)}z"
        yield f"{helm} names {key}", "" if key in named else "it does not"


# What it is, the values, and words that the message has.
CASES = [
    ("three replicas on memory", {"replicas": 3}, "replicas is 3", "config.broker.type is memory", "set config.broker.type to redis"),
    (
        "an autoscaler on memory",
        {"autoscaling": {"mode": "hpa"}},
        "autoscaling.mode is hpa",
        "config.broker.type is memory",
        "or autoscaling.mode to none",
    ),
    ("a grace that is too short", {"terminationGracePeriodSeconds": 34}, "terminationGracePeriodSeconds is 34", "35 or more"),
    (
        "a grace that a longer drain outlasts",
        {"terminationGracePeriodSeconds": 75, "config": {"drain": {"delay": "500ms", "window": "1m30s"}}},
        "terminationGracePeriodSeconds is 75",
        "is 101",
    ),
    (
        "a deadline that is too short",
        {"replicas": 20, "config": {"broker": REDIS}, "rollout": {"progressDeadlineSeconds": 600}},
        "rollout.progressDeadlineSeconds is 600",
        "set it to 1100 or more",
    ),
    ("a drain that is no duration", {"config": {"drain": {"window": "20"}}}, "/config/drain/window", "does not match pattern"),
    ("two autoscalers as one", {"autoscaling": {"mode": "hpa,keda"}}, "/autoscaling/mode", "'none', 'hpa', 'keda'"),
    (
        "two autoscalers",
        {"config": {"broker": REDIS}, "autoscaling": {"mode": "hpa", "keda": {"serverAddress": "http://prometheus:9090"}}},
        "autoscaling.keda.serverAddress is set, but autoscaling.mode is hpa",
        "never two",
    ),
    ("keda without Prometheus", {"config": {"broker": REDIS}, "autoscaling": {"mode": "keda"}}, "autoscaling.keda.serverAddress is empty"),
    (
        "an autoscaler that may go to none",
        {"config": {"broker": REDIS}, "autoscaling": {"mode": "hpa", "minReplicas": 0}},
        "/autoscaling/minReplicas",
        "minimum",
    ),
    (
        "an autoscaler from more to fewer",
        {"config": {"broker": REDIS}, "autoscaling": {"mode": "hpa", "minReplicas": 11}},
        "autoscaling.minReplicas is 11, above autoscaling.maxReplicas, 10",
    ),
    (
        "a share of nothing",
        {"config": {"broker": REDIS}, "autoscaling": {"mode": "hpa"}, "resources": {"requests": {"cpu": None}}},
        "autoscaling.cpuPercent is a share of resources.requests.cpu, which is not set",
    ),
    (
        "an autoscaler that looks at nothing",
        {"config": {"broker": REDIS}, "autoscaling": {"mode": "hpa", "connectionsPerPod": 0, "cpuPercent": 0}},
        "connectionsPerPod, cpuPercent and memoryPercent are all 0",
    ),
    ("an unknown mode of Redis", {"redis": {"mode": "ring"}}, "/redis/mode", "'standalone', 'sentinel', 'cluster'"),
    ("Redis without an address", {"config": {"broker": {"type": "redis"}}}, "config.broker.redis.address is not set"),
    ("a cluster on memory", {"redis": {"mode": "cluster"}}, "redis.mode is set, but config.broker.type is memory"),
    (
        "sentinels that nobody named",
        {"config": {"broker": REDIS}, "redis": {"mode": "sentinel"}},
        "config.broker.redis.sentinel needs `master` and `addresses`",
    ),
    (
        "a cluster that is said to be none",
        {"config": {"broker": {"type": "redis", "redis": {**REDIS["redis"], "cluster": True}}}},
        "config.broker.redis.cluster is set, but redis.mode is standalone",
    ),
    (
        "a Redis to try out beside another",
        {"config": {"broker": REDIS}, "redis": {"dev": {"enabled": True}}},
        "config.broker.redis.address is set, and so is redis.dev.enabled",
    ),
    (
        "certificates without TLS",
        {"config": {"broker": REDIS}, "redis": {"tls": {"existingSecret": "ca"}}},
        "redis.tls.existingSecret would not be used",
        "rediss://",
    ),
    (
        "a password in an address",
        {"config": {"broker": {"type": "redis", "redis": {"address": "redis://user:word@redis:6379"}}}},
        "/config/broker/redis/address",
    ),
    (
        "a password twice",
        {"config": {"broker": {"type": "redis", "redis": {**REDIS["redis"], "password": "x"}}}, "redis": {"existingSecret": "users"}},
        "config.broker.redis.password is given, and so is redis.existingSecret",
    ),
    (
        "a token key twice",
        {"config": {"client": {"token": {"hmac_secret_key": "x" * 32}}}, "secrets": {"existingSecret": "keys"}},
        "config.client.token.hmac_secret_key is given, and so is secrets.existingSecret",
    ),
    ("a token key that is short", {"config": {"client": {"token": {"hmac_secret_key": "short"}}}}, "/config/client/token/hmac_secret_key"),
    (
        "an API key twice",
        {"config": {"api": {"keys": ["a-key-of-the-api"]}}, "secrets": {"existingSecret": "keys"}},
        "config.api.keys[0] is given, and so is secrets.existingSecret",
        "key_file",
    ),
    ("one port for clients and back ends", {"config": {"internal": {"port": 8000}}}, "config.internal.port is 8000, as is config.public.port"),
    ("a port that is none", {"config": {"public": {"port": 70000}}}, "/config/public/port", "maximum"),
    ("an internal port that nobody reaches", {"config": {"internal": {"address": "127.0.0.1"}}}, "config.internal.address is 127.0.0.1"),
    (
        "certificates asked of probes",
        {"config": {"internal": {"tls": {"cert_file": "/a", "key_file": "/b", "client_ca_file": "/c"}}}},
        "config.internal.tls.client_ca_file is set",
        "networkPolicy.enabled",
    ),
    ("one name for all nodes", {"config": {"node": {"name": "node"}}}, "config.node.name is node", "leave it out"),
    ("a broker that is none", {"config": {"broker": {"type": "kafka"}}}, "/config/broker/type", "'memory', 'redis'"),
    ("a namespace without a name", {"config": {"channel": {"namespaces": [{"presence": True}]}}}, "/config/channel/namespaces/0", "name"),
    (
        "an unknown option of a namespace",
        {"config": {"channel": {"namespaces": [{"name": "chat", "histroy_size": 10}]}}},
        "/config/channel/namespaces/0",
        "histroy_size",
    ),
    ("an unknown algorithm", {"config": {"client": {"token": {"algorithms": ["none"]}}}}, "/config/client/token/algorithms/0"),
    ("an unknown scope", {"config": {"api": {"keys": [{"name": "a", "key": "k", "scopes": ["admin"]}]}}}, "/config/api/keys/0"),
    ("a digest that is none", {"image": {"digest": "sha256:12"}}, "/image/digest"),
    ("an unknown preset", {"ingress": {"preset": "envoy"}}, "/ingress/preset", "'traefik'"),
    ("an ingress without a host", {"ingress": {"enabled": True}}, "ingress.hosts is empty"),
    ("a route without a gateway", {"httpRoute": {"enabled": True}}, "httpRoute.parentRefs is empty"),
    ("nothing that may be replaced", {"rollout": {"maxSurge": "0%"}}, "rollout.maxSurge and rollout.maxUnavailable are both 0"),
    ("two budgets", {"pdb": {"minAvailable": 1}}, "pdb.minAvailable and pdb.maxUnavailable are both set"),
    ("no pods at all", {"replicas": 0}, "/replicas", "minimum"),
    ("a service that is none", {"service": {"public": {"type": "ExternalName"}}}, "/service/public/type"),
    (
        "an alert that there is not",
        {"monitoring": {"prometheusRule": {"enabled": True, "disabled": ["ClarionDwon"]}}},
        "monitoring.prometheusRule.disabled names ClarionDwon, which is no alert; known are: Clarion",
    ),
    (
        "another alert that there is not",
        {"monitoring": {"prometheusRule": {"enabled": True, "overrides": {"Down": {"for": "1m"}}}}},
        "monitoring.prometheusRule.overrides names Down",
    ),
    (
        "several at once",
        {"replicas": 3, "terminationGracePeriodSeconds": 10, "httpRoute": {"enabled": True}},
        "replicas is 3",
        "terminationGracePeriodSeconds is 10",
        "httpRoute.parentRefs is empty",
    ),
]

# What is at the edge of that, and holds.
FINE = [
    ("a grace that just suffices", {"terminationGracePeriodSeconds": 35}),
    ("a drain at once", {"config": {"drain": {"delay": "0s", "window": "0s"}}, "terminationGracePeriodSeconds": 10}),
    ("a setting without a value", {"config": {"client": {"token": {"audience": None}}, "broker": None}}),
    ("values of another chart that has this one in it", {"global": {"imageRegistry": "registry.example.com"}}),
    ("no budget", {"config": {"broker": REDIS}, "replicas": 2, "pdb": {"enabled": False}}),
]
