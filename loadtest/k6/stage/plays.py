"""What happens on a stage while k6 follows. Each play begins when everybody is there, ends the course, and answers with
what it has seen: promises (`holds` is not `None`) and figures (it is)."""

import dataclasses
import time

from .process import until
from .stalled import Stalled

# How much later than SIGTERM a load balancer hears of it: endpoints are told of by another way than processes.
ENDPOINT_LAG_S = 1
# How long a node may take beyond its delay and its window.
GRACE_S = 15
LOOK_AGAIN_S = 0.05
CLOSED = "clarion_connections_closed_total"


@dataclasses.dataclass
class Fact:
    """One line of the result."""

    what: str
    found: str
    holds: bool | None = None


def steady(stage, k6):
    """Nothing happens; the last two thirds are the event, for scripts that bring one of their own."""
    length = begin(stage, k6)
    k6.wait(length / 3)
    stage.course.phase = "event"
    k6.wait(length * 2 / 3)
    return nodes_at_end(stage)


def seconds(setting):
    """A duration of the configuration of a node, which is in whole seconds here."""
    return float(setting.removesuffix("s"))


def begin(stage, k6):
    """Waits until everybody is there; for how many seconds the run is to go on."""
    stage.until_connected(k6)
    return float(stage.course.told["seconds"])


def nodes_at_end(stage):
    """What every run says of the nodes."""
    return [
        Fact("nodes that still run", f"{sum(node.exit_code is None for node in stage.nodes)} of {len(stage.nodes)}",
             all(node.exit_code is None for node in stage.nodes)),
        Fact("CPU of the nodes", f"{sum(node.cpu_seconds() for node in stage.nodes):.1f} s"),
        Fact("memory of the nodes", f"{sum(node.resident_bytes() for node in stage.nodes) / 2**20:.0f} MiB"),
    ]


def roll(stage, k6):
    """Every node is replaced in turn, as Kubernetes does it."""
    begin(stage, k6)
    time.sleep(2)
    stage.course.phase = "event"
    window = seconds(stage.settings["drain"]["window"])
    facts = [fact for old in list(stage.nodes) for fact in _replace(stage, old, window)]
    time.sleep(2)
    return facts + nodes_at_end(stage)


def _replace(stage, old, window):
    stage.bring_in()
    had, told_at = old.connections(), time.monotonic()
    old.terminate()
    closes, end = [], told_at + seconds(stage.settings["drain"]["delay"]) + window + GRACE_S
    while old.exit_code is None and time.monotonic() < end:
        if old in stage.nodes and time.monotonic() > told_at + ENDPOINT_LAG_S:
            stage.take_out(old)
        closes.append((time.monotonic(), old.connections()))
        time.sleep(LOOK_AGAIN_S)
    closes.append((time.monotonic(), 0 if old.exit_code is not None else had))
    spread = spread_of(closes, had)
    return [
        Fact(f"{old.name}: exit code", f"{old.exit_code}", old.exit_code == 0),
        Fact(f"{old.name}: {had} connections moved over", f"{spread:.1f} s of {window:.0f} s", spread >= window / 2),
    ]


def spread_of(closes, had):
    """From when all were still there until when none was: what is seen late makes it longer, never shorter."""
    full = max((at for at, count in closes if count >= had), default=closes[0][0])
    empty = min((at for at, count in closes if count == 0), default=closes[-1][0])
    return max(0.0, empty - full)


def spike(stage, k6):
    """Every node is killed in the same moment and starts again; all clients come back at once."""
    begin(stage, k6)
    time.sleep(2)
    everybody = int(stage.course.told["connections"])
    commands = stage.redis.commands_processed()
    stage.course.phase = "event"
    killed_at = time.monotonic()
    old = list(stage.nodes)
    for node in old:
        node.kill()
        stage.take_out(node)
    for node in old:
        stage.start(f"{node.name}-again", (node.public, node.internal))
    up_at = time.monotonic()
    back = [(share, _back(stage, share * everybody, killed_at)) for share in (0.95, 1)]
    time.sleep(2)
    return [
        Fact("nodes were away", f"{up_at - killed_at:.1f} s"),
        *(Fact(f"{share:.0%} of {everybody} are back", f"{after:.1f} s after the kill") for share, after in back),
        Fact("handshakes sent away", f"{stage.metric('clarion_handshakes_rejected_total'):.0f}"),
        Fact("commands to Redis", f"{stage.redis.commands_processed() - commands}"),
        *nodes_at_end(stage),
    ]


def _back(stage, count, since):
    until(f"{count:.0f} clients to be back", lambda: stage.metric("clarion_subscriptions") >= count, patience=120)
    return time.monotonic() - since


def stall(stage, k6):
    """One subscriber for twenty connections joins and reads nothing."""
    length = begin(stage, k6)
    time.sleep(length / 3)
    told, node = stage.course.told, stage.nodes[0]
    count = max(1, int(told["connections"]) // 20)
    end = time.monotonic() + length * 2 / 3
    with Stalled(node.public, stage.secrets["secret"], told["channel"], count):
        stage.course.phase = "event"
        until("those who do not read to be closed", lambda: node.metric(CLOSED) >= count, patience=length + 60)
        time.sleep(max(0, end - time.monotonic()))
        slow, all_closed = node.metric(CLOSED, code="3008"), node.metric(CLOSED)
    return [
        Fact(f"of {count} who do not read, closed with 3008", f"{slow:.0f}", slow == count),
        Fact("others closed", f"{all_closed - slow:.0f}", all_closed == slow),
        *nodes_at_end(stage),
    ]


def soak(stage, k6):
    """Watches memory and open files of a node while clients come and go."""
    length = begin(stage, k6)
    node, samples, end = stage.nodes[0], [], time.monotonic() + length
    stage.course.phase = "event"
    while time.monotonic() < end:
        samples.append((time.monotonic(), node.resident_bytes(), node.open_files() - node.connections()))
        time.sleep(min(5, length / 30))
    # Whoever is on its way back has no connection: the fewest in each half are what stays.
    half = len(samples) // 2
    files = [min(extra for _, _, extra in part) for part in (samples[:half], samples[half:])]
    return [
        Fact("open files beside connections, before and after", f"{files[0]}, {files[1]}", files[1] <= files[0] + 16),
        Fact("memory grows by", f"{slope(samples[half:]) * 60 / 2**20:.2f} MiB/min in the second half"),
        *nodes_at_end(stage),
    ]


def slope(samples):
    """Bytes per second, by least squares."""
    if len(samples) < 2:
        return 0.0
    middle_t = sum(at for at, _, _ in samples) / len(samples)
    middle_b = sum(size for _, size, _ in samples) / len(samples)
    above = sum((at - middle_t) * (size - middle_b) for at, size, _ in samples)
    return above / sum((at - middle_t) ** 2 for at, _, _ in samples)


def crush(stage, k6):
    """Twice as many come as there is room for."""
    until("the script to say how long", lambda: "seconds" in stage.course.told)
    room = stage.settings["client"]["connections_max"]
    until(f"{room} connections", lambda: stage.connections() >= room, patience=120)
    stage.course.phase = "event"
    end, most = time.monotonic() + float(stage.course.told["seconds"]), 0
    while time.monotonic() < end:
        most = max(most, stage.connections())
        time.sleep(0.2)
    rejected = stage.metric("clarion_handshakes_rejected_total", reason="connections_max")
    return [
        Fact(f"connections at a time, of {room}", f"{most}", most <= room),
        Fact("sent away because it is full", f"{rejected:.0f}", rejected > 0),
        *nodes_at_end(stage),
    ]


def alone(stage, k6):
    """The script says when it is over."""
    until("the end of k6", lambda: k6.exit_code is not None, patience=3600)
    return nodes_at_end(stage)
