"""What every test file needs: a gateway of its own, tokens for it, a line that can be cut, and waiting for facts.

The tests know the gateway by its command line, its configuration file and its sockets only.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import os
import secrets
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

from centrifuge import Client, ClientEventHandler, SubscriptionEventHandler

# How long a fact may take before the test fails. Nothing waits this long when all is well.
DEADLINE_S = 15

# What the loopback is asked does not go through a proxy of the environment.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class TestCase(unittest.IsolatedAsyncioTestCase):
    """One whose tests end when what they set going in the background has ended: the SDK closes its sockets there."""

    async def asyncSetUp(self):
        self.addAsyncCleanup(self._settle)

    async def _settle(self):
        if rest := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(rest, timeout=DEADLINE_S)


class Inbox:
    """A queue between callbacks and tests: `put` from an event, `await next()` in order."""

    def __init__(self):
        self._queue = asyncio.Queue()
        self.put = self._queue.put

    async def next(self, what):
        """The oldest item not yet taken; `what` names it in the failure."""
        try:
            return await asyncio.wait_for(self._queue.get(), DEADLINE_S)
        except TimeoutError:
            raise AssertionError(f"{what}: not within {DEADLINE_S} s") from None

    @property
    def is_empty(self):
        return self._queue.empty()


def listen(handler, *names):
    """Lets every event of an SDK's `handler` wait in `inboxes.<name>`."""
    inboxes = SimpleNamespace()
    for name in names:
        inbox = Inbox()
        setattr(inboxes, name, inbox)
        setattr(handler, f"on_{name}", inbox.put)
    return inboxes


class Line:
    """A TCP line to a loopback port that can be cut and mended. Ends with the test that laid it."""

    def __init__(self, far_port):
        self._far_port = far_port
        self._is_cut = False
        self._writers = set()
        self._under_way = set()

    @classmethod
    async def to(cls, test, port):
        line = cls(port)
        line._server = await asyncio.start_server(line._forward, "127.0.0.1", 0)
        line.port = line._server.sockets[0].getsockname()[1]
        test.addAsyncCleanup(line._end)
        return line

    def cut(self):
        """Breaks off what is connected and whatever tries to, until `mend`."""
        self._is_cut = True
        for writer in self._writers:
            writer.transport.abort()

    def mend(self):
        self._is_cut = False

    async def _end(self):
        self._server.close()
        self.cut()
        await asyncio.gather(*self._under_way)

    async def _forward(self, near_reader, near):
        if self._is_cut:
            return near.transport.abort()
        self._under_way.add(asyncio.current_task())
        far_reader, far = await asyncio.open_connection("127.0.0.1", self._far_port)
        ends = {near, far}
        self._writers |= ends
        await asyncio.gather(self._pipe(near_reader, far), self._pipe(far_reader, near))
        self._writers -= ends

    async def _pipe(self, reader, writer):
        try:
            while some := await reader.read(65_536):
                writer.write(some)
                await writer.drain()
        except ConnectionError:
            pass  # A cut line: that is what it is for.
        finally:
            writer.close()


class Gateway:
    """One `clarion serve`. Ends with the test case that started it."""

    @classmethod
    def serve(cls, case, **options):
        """Starts one for all tests of `case`, with `options` for the namespace `kept` besides its history."""
        gateway = cls()
        directory = tempfile.TemporaryDirectory(prefix="clarion-")
        case.addClassCleanup(directory.cleanup)
        case.addClassCleanup(gateway._kill)
        gateway._start(Path(directory.name), options)
        return gateway

    def __init__(self):
        self.port, self._internal_port = _free_ports(2)
        self._secret, self.api_key = secrets.token_hex(32), secrets.token_hex(16)
        self.api_url = f"http://127.0.0.1:{self._internal_port}/api"
        self._process = None

    def _config(self, options):
        """Permissive test settings."""
        open_to_clients = {"allow_subscribe_for_client": True, "allow_publish_for_client": True}
        history = {"history_size": 5, "history_ttl": "10m", "allow_history_for_subscriber": True}
        return {
            "public": {"address": "127.0.0.1", "port": self.port},
            "internal": {"address": "127.0.0.1", "port": self._internal_port},
            "client": {"allowed_origins": [], "token": {"hmac_secret_key": self._secret}},
            "api": {"keys": [self.api_key]},
            "channel": {
                "namespaces": [
                    {"name": "open", **open_to_clients},
                    {"name": "kept", **open_to_clients, **history, "force_recovery": True, **options},
                ]
            },
        }

    def _start(self, directory, options):
        binary = os.environ.get("CLARION_BIN")
        if not binary:
            raise RuntimeError("CLARION_BIN is not set: give the path of the clarion binary")
        file, log = directory / "clarion.yaml", directory / "clarion.log"
        file.write_text(json.dumps(self._config(options)))  # JSON is YAML.
        with log.open("wb") as output:
            command = [binary, "serve", "--config", file]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        end = time.monotonic() + DEADLINE_S
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"clarion is not ready:\n{log.read_text()}")
            time.sleep(0.02)

    def _is_ready(self):
        try:
            return _direct.open(f"http://127.0.0.1:{self._internal_port}/readyz").status == 200
        except urllib.error.URLError:
            return False

    def _kill(self):
        if self._process:
            self._process.kill()
            self._process.wait()

    def api(self, method, **body):
        """Calls the server API and returns the result; an error of the API is a failure."""
        headers = {"X-API-Key": self.api_key, "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.api_url}/{method}", json.dumps(body).encode(), headers)
        with _direct.open(request) as response:
            return json.load(response)["result"]

    def token(self, user, seconds=600, **more):
        """A connection token for `user` that expires in so many seconds, with more claims."""

        def encode(part):
            return base64.urlsafe_b64encode(part).rstrip(b"=")

        claims = {"sub": user, "exp": int(time.time()) + seconds, **more}
        signed = b".".join(encode(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
        signature = hmac.digest(self._secret.encode(), signed, hashlib.sha256)
        return b".".join((signed, encode(signature))).decode()

    async def connect(self, test, user, port=None, **options):
        """A client of the SDK for `user` that is connected, and ends with `test`; its events as inboxes.

        `port` is that of a line to the gateway; `options` are those of the SDK.
        """
        handler = ClientEventHandler()
        states = ("connecting", "connected", "disconnected", "error")
        events = listen(handler, *states, "subscribed", "publication", "unsubscribed")
        address = f"ws://127.0.0.1:{port or self.port}/connection/websocket"
        settings = {"token": self.token(user), "min_reconnect_delay": 0.02, "max_reconnect_delay": 0.1}
        client = Client(address, events=handler, proxy=None, **{**settings, **options})
        test.addAsyncCleanup(client.disconnect)
        await client.connect()
        await events.connecting.next("connecting")
        return client, events


async def subscribe(client, channel):
    """A subscription that has begun; its events as inboxes, `first` what came with its beginning."""
    handler = SubscriptionEventHandler()
    events = listen(handler, "subscribing", "subscribed", "unsubscribed", "publication", "join", "leave", "error")
    subscription = client.new_subscription(channel, events=handler)
    await subscription.subscribe()
    await events.subscribing.next("subscribing")
    events.first = await events.subscribed.next(f"subscribed to {channel}")
    return subscription, events


def _free_ports(count):
    """Loopback ports that were free a moment ago."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports
