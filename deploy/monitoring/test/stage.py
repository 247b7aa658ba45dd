"""Real servers on free ports of this machine: Redis, gateways, Prometheus. All end with the `Stage`."""

import asyncio
import base64
import hashlib
import hmac
import itertools
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

MONITORING = Path(__file__).resolve().parent.parent
SECRET, API_KEY = "the secret of the clients of this test", "the-key-of-the-back-end"
# How long a fact may take before the test fails. Nothing takes that long when all is well.
PATIENCE_SECONDS = 60
# Subscriptions of a connection.
CHANNELS_MAX = 16

CONFIG = {
    "shards": 2,
    "public": {"address": "127.0.0.1"},
    "internal": {"address": "127.0.0.1"},
    "client": {
        "token": {"hmac_secret_key": SECRET},
        "allowed_origins": ["https://app.example.com"],
        "anonymous": False,
        "channels_max": CHANNELS_MAX,
        "send_buffer_bytes": 16384,
        "outbox_bytes_max": 131072,
        "message_bytes_max": 65536,
        "address_connections_max": 300,
    },
    "channel": {
        "without_namespace": {
            "allow_subscribe_for_client": True, "allow_publish_for_client": True, "presence": True, "join_leave": True,
            "force_push_join_leave": True, "allow_presence_for_client": True,
        },
        "namespaces": [
            {"name": "kept", "history_size": 20, "history_ttl": "5m", "force_recovery": True,
             "allow_subscribe_for_client": True, "allow_history_for_client": True},
            {"name": "oldest", "slow_consumer": "drop_oldest", "allow_subscribe_for_client": True},
            {"name": "latest", "slow_consumer": "latest", "allow_subscribe_for_client": True},
        ],
    },
    "api": {"keys": [API_KEY]},
    "cluster": {"heartbeat_interval": "1s", "node_ttl": "5s"},
    "drain": {"delay": "1s", "window": "5s"},
    "log": {"level": "error", "format": "json"},
}


async def eventually(what, holds):
    """What `holds` answers once it answers something true."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        answer = await asyncio.to_thread(holds)
        if answer:
            return answer
        await asyncio.sleep(0.1)
    raise AssertionError(f"{what}: not within {PATIENCE_SECONDS} s")


# Below those that the system gives to whoever connects somewhere: one of those may be taken before it is used.
PORTS = itertools.cycle(range(30_100, 32_700))


def free_port():
    """A port that nobody has, and that nobody else here is told."""
    for port in itertools.islice(PORTS, 2_600):
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
    raise AssertionError("no port is free")


def fetch(url, headers=None, body=None):
    """The status and the text of an answer, whatever it says."""
    request = urllib.request.Request(url, headers=headers or {}, data=body)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def token(user, seconds=3600, secret=SECRET):
    """A token of a client, good for so long."""
    def encode(value):
        text = value if isinstance(value, bytes) else json.dumps(value).encode()
        return base64.urlsafe_b64encode(text).rstrip(b"=").decode()
    signed = encode({"alg": "HS256"}) + "." + encode({"sub": user, "exp": int(time.time()) + seconds})
    return signed + "." + encode(hmac.digest(secret.encode(), signed.encode(), hashlib.sha256))


class Node:
    """A gateway; started again it has the same ports."""

    def __init__(self, stage, name, broker):
        self.stage, self.name = stage, name
        self.public_port, self.internal_port = free_port(), free_port()
        self.config = json.loads(json.dumps(CONFIG)) | {"node": {"name": name}, "broker": broker}
        self.config["public"]["port"], self.config["internal"]["port"] = self.public_port, self.internal_port
        self.process = None

    async def start(self):
        """Comes back when it lets clients in."""
        path = self.stage.directory / f"{self.name}.json"
        path.write_text(json.dumps(self.config))
        self.process = self.stage.launch(self.name, [os.environ["CLARION_BIN"], "serve", "--config", str(path)])
        await eventually(f"{self.name} to be ready", lambda: fetch(self.internal("/readyz"))[0] == 200)

    def internal(self, path):
        """An address of its internal listener."""
        return f"http://127.0.0.1:{self.internal_port}{path}"

    def public(self, path):
        """An address of its public listener."""
        return f"ws://127.0.0.1:{self.public_port}{path}"

    def api(self, method, request, key=API_KEY):
        """Calls the server API; answers the status and the text."""
        headers = {"x-api-key": key, "content-type": "application/json"}
        path = "/v1/revocations" if method == "revocations" else f"/api/{method}"
        return fetch(self.internal(path), headers, json.dumps(request).encode())

    async def stop(self):
        """Tells it to stop, and comes back when it has."""
        self.process.send_signal(signal.SIGTERM)
        await eventually(f"{self.name} to stop", lambda: self.process.poll() is not None)


class Stage:
    """Where all of it runs. A context, at whose end nothing is left."""

    def __init__(self):
        self.keeper = tempfile.TemporaryDirectory(prefix="clarion-monitoring-")
        self.directory = Path(self.keeper.name)
        self.processes = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.wait()
        self.keeper.cleanup()

    def launch(self, name, command):
        """Starts a program whose output goes to a file."""
        with open(self.directory / f"{name}.log", "a", encoding="utf-8") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.directory)
        self.processes.append(process)
        return process

    async def redis(self):
        """A Redis with nothing in it; answers what a node needs to know of it."""
        port = free_port()
        self.launch("redis", ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", ""])
        return {"type": "redis", "redis": {"address": f"redis://127.0.0.1:{port}"}}

    async def prometheus(self, nodes):
        """A Prometheus that looks at the nodes every second, with the rules of this directory; answers its address."""
        targets = [{
            "targets": [f"127.0.0.1:{node.internal_port}"], "labels": {"pod": node.name, "namespace": "test"},
        } for node in nodes]
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(MONITORING / "rules.yaml")],
            "scrape_configs": [{"job_name": "clarion", "static_configs": targets}],
        }
        # JSON is YAML.
        (self.directory / "prometheus.yml").write_text(json.dumps(config))
        address = f"http://127.0.0.1:{free_port()}"
        self.launch("prometheus", [
            "prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data",
            f"--web.listen-address={address.removeprefix('http://')}", "--log.level=warn",
        ])
        await eventually("Prometheus to be ready", lambda: fetch(f"{address}/-/ready")[0] == 200)
        return address
