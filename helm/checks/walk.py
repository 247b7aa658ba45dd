"""The gateway itself accepts the configuration of every shape (with CLARION_BIN, or a binary that was built)."""

import base64
import os
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import yaml

from .chart import HELMS, KUBERNETES, REPOSITORY, SHAPES, TOOLS, config_of, documents, of_kind, rendered, run
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
    if run(program, "test", "--help").returncode != 0:
        print("walk: NOT RUN: this gateway has no `clarion test` yet")
        return
    yield from round_trip(program, "")
    yield from round_trip(program, "s")


def round_trip(program: Path, protection: str) -> Iterator[tuple[str, str]]:
    """A gateway with the configuration of a chart answers its probes, and passes its `helm test`; with TLS if `protection` is `s`."""
    tls = {"tls": {"cert_file": "/tls/tls.crt", "key_file": "/tls/tls.key"}} if protection else {}
    ports = {"public": {"port": free_port(), **tls}, "internal": {"port": free_port(), **tls}}
    token = {"audience": "clarion", "issuer": "example"}
    docs = rendered({"config": {**ports, "drain": {"delay": "0s", "window": "0s"}, "client": {"token": token}}})
    variables = dict(word.split("=", 1) for word in environment(docs))
    container = of_kind(docs, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0]
    with tempfile.TemporaryDirectory() as directory:
        file = mount(docs, directory)
        in_place = {"/etc/clarion/config/clarion.yaml": file, "/etc/clarion/secrets": directory}
        arguments = placed(container["args"], in_place)
        gateway = subprocess.Popen([program, *arguments], env={**os.environ, **variables}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                path = container[probe]["httpGet"]["path"]
                yield f"{probe} at {path}", unanswered(f"http{protection}://127.0.0.1:{ports['internal']['port']}{path}")
            hosts = {
                "demo-clarion-internal:9000": f"127.0.0.1:{ports['internal']['port']}",
                "demo-clarion:8000": f"127.0.0.1:{ports['public']['port']}",
            }
            test = placed(of_kind(docs, "Pod")[0]["spec"]["containers"][0]["args"], in_place | hosts)
            done = run(program, *test)
            yield f"helm test by ws{protection}", done.stdout + done.stderr if done.returncode else ""
        finally:
            gateway.terminate()
            code = gateway.wait(60)
        yield "it ends when it is told to", "" if code == 0 else f"exit code {code}"


def placed(words: list[str], places: dict[str, str]) -> list[str]:
    """Words with names of the cluster replaced by those of this machine."""
    for name, place in places.items():
        words = [word.replace(name, str(place)) for word in words]
    return words


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def unanswered(url: str) -> str:
    """Why a probe does not succeed; it has twenty seconds."""
    deadline, problem = time.monotonic() + 20, ""
    # Kubernetes does not look at certificates either.
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5, context=anybody) as answer:
                return "" if answer.status == 200 else f"status {answer.status}"
        except OSError as error:
            problem = str(error)
            time.sleep(0.05)
    return problem


def complaints(program: Path, docs) -> list[str]:
    """What `clarion checkconfig` says against the file of a ConfigMap, with every secret that it names in place."""
    with tempfile.TemporaryDirectory() as directory:
        done = run("env", *environment(docs), program, "checkconfig", "--config", mount(docs, directory))
    said = [line.removeprefix("error: ") for line in (done.stdout + done.stderr).strip().splitlines()]
    return [] if done.returncode == 0 else said or ["it failed"]


def mount(docs, directory: str) -> Path:
    """The file of a ConfigMap in a directory, with every secret that it names beside it."""
    config = config_of(docs)
    given = {name: base64.b64decode(text) for doc in of_kind(docs, "Secret") for name, text in doc["data"].items()}
    text = yaml.safe_dump(config)
    for path in files(config):
        name = Path(path).name
        # Of Secrets that somebody else manages there is the name alone.
        stand_in = certificates().get(Path(path).suffix, f"a secret for {name}, long enough 0123456789")
        Path(directory, name).write_bytes(given.get(name, stand_in.encode()))
        text = text.replace(path, str(Path(directory, name)))
    file = Path(directory, "clarion.yaml")
    file.write_text(text)
    return file


@lru_cache(maxsize=None)
def certificates() -> dict[str, str]:
    """A certificate that signs itself and its key, by the ends of their files' names."""
    with tempfile.TemporaryDirectory() as directory:
        certificate, key = Path(directory, "tls.crt"), Path(directory, "tls.key")
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        run("openssl", "req", "-x509", *curve, "-subj", "/CN=example.com", "-keyout", key, "-out", certificate)
        return {".crt": certificate.read_text(), ".key": key.read_text()}


def environment(docs) -> list[str]:
    """The variables of the container, with what Kubernetes would put into them."""
    container = of_kind(docs, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0]
    texts = {entry["name"]: entry.get("value", "192.0.2.1") for entry in container["env"]}
    return [f"{name}={text.replace('$(POD_IP)', '192.0.2.1')}" for name, text in texts.items()]
