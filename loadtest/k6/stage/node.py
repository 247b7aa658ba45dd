"""A node of the gateway: its configuration, its process, and what it says of itself."""

import json
import re
import urllib.error
import urllib.request

from .process import Process

# Everything happens in `room`; `shut` is for refusals, `quiet` for features that are off.
NAMESPACES = [
    {"name": "room", "allow_subscribe_for_client": True, "allow_publish_for_subscriber": True,
     "presence": True, "join_leave": True, "allow_presence_for_subscriber": True,
     "history_size": 20_000, "history_ttl": "600s", "force_recovery": True, "allow_history_for_subscriber": True},
    {"name": "quiet", "allow_subscribe_for_client": True},
    {"name": "shut"},
]

# What the loopback is asked does not go through a proxy of the environment.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def merge(base, more):
    """`base` with `more` in it, level by level."""
    both = dict(base)
    for key, value in more.items():
        both[key] = merge(base[key], value) if isinstance(value, dict) and key in base else value
    return both


class Node(Process):
    """A node that is ready. `settings` are added to its configuration."""

    def __init__(self, binary, directory, name, ports, secrets, settings):
        self.public, self.internal = ports
        file = directory / f"{name}.json"
        file.write_text(json.dumps(merge(self._config(name, secrets), settings), indent=2))
        # Settings of whoever runs this are not those of the run.
        super().__init__(name, [binary, "serve", "--config", file], directory, environment={})
        self.until_up(self._is_ready)

    def _config(self, name, secrets):
        return {
            "node": {"name": name, "internal_address": f"127.0.0.1:{self.internal}"},
            "public": {"address": "127.0.0.1", "port": self.public},
            "internal": {"address": "127.0.0.1", "port": self.internal},
            "client": {"token": {"hmac_secret_key": secrets["secret"]}, "recovery_publications_max": 2000},
            "channel": {"namespaces": NAMESPACES},
            "api": {"keys": [secrets["api_key"]]},
            "cluster": {"heartbeat_interval": "1s"},
            "log": {"format": "text"},
        }

    def _get(self, path):
        with _direct.open(f"http://127.0.0.1:{self.internal}{path}", timeout=2) as answer:
            return answer.read().decode()

    def _is_ready(self):
        try:
            self._get("/readyz")
            return True
        except (urllib.error.URLError, OSError):
            return False

    def metric(self, name, **labels):
        """The value of a metric, summed over the labels that are not given."""
        total = 0.0
        for line in self._get("/metrics").splitlines():
            match = re.fullmatch(rf"{name}(?:{{(.*)}})? (\S+)", line)
            if match and all(f'{key}="{value}"' in (match[1] or "") for key, value in labels.items()):
                total += float(match[2])
        return total

    def connections(self):
        """How many clients it has; none if it does not answer any more."""
        try:
            return int(self.metric("clarion_connections"))
        except (urllib.error.URLError, OSError):
            return 0
