"""A stage with nodes on it, and what the scripts are told of the course of a run."""

import http.server
import json
import os
import secrets
import threading
import urllib.parse

from .node import Node
from .process import Failed, until
from .servers import SLOTS, Ports, Proxy, Redis


class Course:
    """Answers the scripts, who ask by HTTP: what goes on, and whether the run is over."""

    def __init__(self):
        self.phase, self.done = "calm", False
        # What the scripts say of themselves when they ask: how many connections, how many seconds, the first channel.
        self.told = {}
        course = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                course.told = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
                body = json.dumps({"phase": course.phase, "done": course.done}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass  # Nobody wants to read that they ask.

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"

    def close(self):
        self._server.shutdown()
        self._server.server_close()


class Stage:
    """Nodes with a Redis and a load balancer, or one node alone. Leaving the block ends every process."""

    def __init__(self, directory, nodes, settings, islands=False):
        self.directory, self.settings, self.islands = directory, settings, islands
        self.secrets = {"secret": secrets.token_hex(32), "api_key": secrets.token_hex(16)}
        self.is_cluster = nodes > 1
        self.nodes, self._count, self._processes = [], nodes, []
        self._ports = Ports()
        self._started = 0
        self._slots = list(range(SLOTS))
        self._slot_of = {}

    def __enter__(self):
        try:
            self.course = Course()
            if self.is_cluster:
                self.redis = self.own(Redis(self.directory, self._ports.take()))
                self.proxy = self.own(Proxy(self.directory, self._ports))
            for _ in range(self._count):
                self.bring_in()
            self._until_acquainted()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.course.close()
        for process in reversed(self._processes):
            process.kill()

    def _until_acquainted(self):
        """A node learns of the others by their heartbeats; until then it cannot ask them for their channels."""
        if self.is_cluster and not self.islands:
            known = lambda: all(node.metric("clarion_cluster_nodes") == self._count for node in self.nodes)  # noqa: E731
            until("the nodes to know of each other", known)

    def own(self, process):
        """Has `process` end with the stage."""
        self._processes.append(process)
        return process

    def bring_in(self):
        """Starts one more node; clients are sent there once it is ready."""
        self._started += 1
        return self.start(f"node-{self._started}", (self._ports.take(), self._ports.take()))

    def start(self, name, ports):
        """Starts a node on these ports, of a new one or of one that has ended."""
        binary = os.environ.get("CLARION_BIN")
        if not binary:
            raise Failed("CLARION_BIN is not set: give the path of the clarion binary")
        shared = self.is_cluster and not self.islands
        redis = {"type": "redis", "redis": {"address": f"redis://127.0.0.1:{self.redis.port}"}} if shared else {"type": "memory"}
        node = self.own(Node(os.path.abspath(binary), self.directory, name, ports, self.secrets, self.settings | {"broker": redis}))
        self.nodes.append(node)
        if self.is_cluster:
            self._slot_of[name] = self._slots.pop(0)
            self.proxy.enter(self._slot_of[name], node)
        return node

    def take_out(self, node):
        """Nobody is sent to `node` any more; its clients stay."""
        self.nodes.remove(node)
        slot = self._slot_of.pop(node.name)
        self.proxy.leave(slot)
        self._slots.append(slot)

    def connections(self):
        return sum(node.connections() for node in self.nodes)

    def metric(self, name, **labels):
        return sum(node.metric(name, **labels) for node in self.nodes)

    def until_connected(self, k6):
        """Waits until as many clients are subscribed as the script says that it has."""
        def holds():
            if k6.exit_code is not None:
                raise Failed(f"k6 has ended with {k6.exit_code} before everybody was there")
            told = self.course.told
            return told and self.metric("clarion_subscriptions") >= int(told["connections"])
        until("everybody to be subscribed", holds, patience=120)

    @property
    def environment(self):
        """What the scripts need to know of it."""
        if not self.nodes:
            return {"STAGE_URL": self.course.url}
        first = self.nodes[0]
        public, api = (self.proxy.public, self.proxy.api) if self.is_cluster else (first.public, first.internal)
        return {
            "URL": f"ws://127.0.0.1:{public}",
            "API_URL": f"http://127.0.0.1:{api}",
            "API_KEY": self.secrets["api_key"],
            "SECRET": self.secrets["secret"],
            "STAGE_URL": self.course.url,
        }
