"""Every pod of every shape fits the Pod Security Standard `restricted`, and pods and Services find each other."""

from collections.abc import Iterator

from .chart import HELMS, KUBERNETES, SHAPES, documents, of_kind

# The volumes that `restricted` takes, as far as this chart could want them.
VOLUMES = {"configMap", "csi", "emptyDir", "projected", "secret"}


def checks() -> Iterator[tuple[str, str]]:
    for shape in SHAPES:
        docs = documents(HELMS[-1], KUBERNETES[-1], shape)
        for name, pod in pods(docs):
            yield f"{shape.name} {name} is restricted", "\n".join(departures(pod))
            yield f"{shape.name} {name} trusts nothing around it", trust(pod)
        yield f"{shape.name} Services select pods, and their ports are there", "\n".join(lost_services(docs))
        yield f"{shape.name} no public Service leads to the internal port", leaks(docs)


def pods(docs) -> Iterator[tuple[str, dict]]:
    for document in docs:
        if document["kind"] == "Pod":
            yield document["metadata"]["name"], document
        elif document["kind"] in ("Deployment", "StatefulSet"):
            yield document["metadata"]["name"], document["spec"]["template"]


def departures(pod: dict) -> Iterator[str]:
    """What `restricted` would refuse."""
    spec = pod["spec"]
    for field in ("hostNetwork", "hostPID", "hostIPC", "initContainers"):
        if spec.get(field):
            yield f"{field} is set"
    context = spec["securityContext"]
    if not context.get("runAsNonRoot") or context.get("runAsUser") == 0 or context.get("sysctls"):
        yield "it may run as root, or sets sysctls"
    if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "it has no seccomp profile"
    for volume in spec.get("volumes", []):
        if not set(volume) - {"name"} <= VOLUMES:
            yield f"volume {volume} is of a kind that is refused"
    for container in spec["containers"]:
        yield from departures_of_container(container)


def departures_of_container(container: dict) -> Iterator[str]:
    own = container["securityContext"]
    if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
        yield f"{container['name']} may gain rights"
    if own.get("capabilities") != {"drop": ["ALL"]}:
        yield f"{container['name']} has capabilities"
    if own.get("readOnlyRootFilesystem") is not True:
        yield f"{container['name']} may write into its image"
    if any("hostPort" in port for port in container.get("ports", [])):
        yield f"{container['name']} takes a port of the host"
    if "lifecycle" in container:
        yield f"{container['name']} has a hook: drain.delay is that wait"


def trust(pod: dict) -> str:
    spec = pod["spec"]
    wrong = [field for field in ("automountServiceAccountToken", "enableServiceLinks") if spec.get(field) is not False]
    return f"{wrong} must be false" if wrong else ""


def lost_services(docs) -> Iterator[str]:
    for service in of_kind(docs, "Service"):
        selector = service["spec"]["selector"].items()
        chosen = [pod for _, pod in pods(docs) if selector <= pod["metadata"]["labels"].items()]
        if len(chosen) != 1:
            yield f"{service['metadata']['name']} selects {len(chosen)} kinds of pods"
            continue
        names = {port["name"] for container in chosen[0]["spec"]["containers"] for port in container.get("ports", [])}
        targets = {port["targetPort"] for port in service["spec"]["ports"]}
        if not targets <= names:
            yield f"{service['metadata']['name']} leads to {targets - names}, which no container has"


def leaks(docs) -> str:
    """Names of Services that can be reached from outside and lead to more than the clients' port."""
    exposed = [service for service in of_kind(docs, "Service") if service["spec"].get("type") in ("NodePort", "LoadBalancer")]
    exposed += [service for service in of_kind(docs, "Service") if service["metadata"]["name"] in backends(docs)]
    wrong = [s["metadata"]["name"] for s in exposed if [port["targetPort"] for port in s["spec"]["ports"]] != ["public"]]
    return ", ".join(wrong)


def backends(docs) -> set[str]:
    """The Services that ingresses and routes lead to."""
    names = set()
    for ingress in of_kind(docs, "Ingress"):
        for rule in ingress["spec"]["rules"]:
            names |= {path["backend"]["service"]["name"] for path in rule["http"]["paths"]}
    for route in of_kind(docs, "HTTPRoute"):
        for rule in route["spec"]["rules"]:
            names |= {backend["name"] for backend in rule["backendRefs"]}
    return names
