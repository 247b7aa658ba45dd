"""Redis and HAProxy of our own. They keep nothing, and listen on loopback."""

import os
import resource
import shutil
import socket
from pathlib import Path

from .process import Failed, Process

# How many nodes the load balancer has places for: those that serve, and the next one while an old one drains.
SLOTS = 6


def program(name):
    """Where `name` is; daemons are in directories that are not in everybody's path."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not found:
        raise Failed(f"{name} is missing: loadtest/k6/install.sh installs it")
    return found


class Ports:
    """Hands out ports that nobody listens on, below those that the kernel gives to outgoing connections."""

    FIRST, END = 10_000, 32_768

    def __init__(self):
        self._next = self.FIRST + os.getpid() * 61 % (self.END - self.FIRST)

    def take(self):
        for _ in range(self.FIRST, self.END):
            port, self._next = self._next, self._next + 1
            if self._next >= self.END:
                self._next = self.FIRST
            with socket.socket() as probe:
                try:
                    probe.bind(("127.0.0.1", port))
                    return port
                except OSError:
                    continue
        raise Failed("every port of this machine is taken")


def answers(port):
    """Whether somebody accepts there."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


class Redis(Process):
    """A server that loses everything when it ends."""

    def __init__(self, directory, port):
        command = [program("redis-server"), "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no"]
        super().__init__("redis", command, directory)
        self.port = port
        self.until_up(lambda: answers(port))

    def commands_processed(self):
        """How many commands it has carried out."""
        with socket.create_connection(("127.0.0.1", self.port), 2) as line:
            line.sendall(b"INFO stats\r\n")
            text = line.recv(65536).decode()
        return int(text.split("total_commands_processed:")[1].split()[0])


class Proxy(Process):
    """HAProxy: clients and the server API, each by least connections. It is told who is there, as by an orchestrator."""

    def __init__(self, directory, ports):
        self.public, self.api = ports.take(), ports.take()
        self._socket = Path(directory) / "haproxy.sock"
        file = Path(directory) / "haproxy.cfg"
        file.write_text(self._config())
        super().__init__("haproxy", [program("haproxy"), "-db", "-f", file], directory)
        self.until_up(lambda: answers(self.public))

    def enter(self, slot, node):
        """Clients and calls are sent to `node` from now on."""
        for group, port in (("nodes", node.public), ("apis", node.internal)):
            self._tell(f"set server {group}/{slot} addr 127.0.0.1 port {port}")
            self._tell(f"set server {group}/{slot} state ready")

    def leave(self, slot):
        """Nobody is sent to this place any more; what is there stays."""
        for group in ("nodes", "apis"):
            self._tell(f"set server {group}/{slot} state maint")

    def _tell(self, command):
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(5)
            line.connect(str(self._socket))
            line.sendall(f"{command}\n".encode())
            answer = line.recv(4096).decode().strip()
        if answer and "changed" not in answer and "no need to change" not in answer:
            raise Failed(f"HAProxy answers `{command}` with: {answer}")

    def _config(self):
        # Two open files for each connection, and some of its own.
        connections = min(20_000, (resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 200) // 2)
        servers = "".join(f"    server {slot} 127.0.0.1:1 disabled\n" for slot in range(SLOTS))
        return f"""global
    stats socket {self._socket} mode 600 level admin
    maxconn {connections}

defaults
    mode http
    balance leastconn
    option redispatch 1
    retries 3
    timeout connect 2s
    timeout client 30s
    timeout server 30s
    timeout queue 5s
    timeout tunnel 1h

frontend clients
    bind 127.0.0.1:{self.public}
    default_backend nodes

frontend calls
    bind 127.0.0.1:{self.api}
    default_backend apis

backend nodes
{servers}
backend apis
{servers}"""
