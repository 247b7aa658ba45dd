"""Clients and a back end that do everything a panel counts, again and again, until they are told to stop."""

import asyncio
import json
import random
import socket
import time

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from stage import CHANNELS_MAX, fetch, token

MEMBERS = 24
# Enough to fill what a socket and an outbox hold in a few publications.
LARGE = "x" * 30_000
PAUSE_SECONDS = 0.2
# How long somebody who takes nothing holds out.
HOLD_SECONDS = 8


class Crowd:
    """What they are, by node. `nodes` may go and come back meanwhile."""

    def __init__(self, nodes):
        self.nodes, self.tasks, self.deaf = nodes, [], []

    def start(self):
        """Everybody begins."""
        doings = [self.publisher, self.erring_back_end, self.returner, self.stranger, self.glutton]
        for node in self.nodes:
            self.tasks += [asyncio.create_task(self.again(doing, node, 0)) for doing in doings]
        for number in range(MEMBERS):
            node = self.nodes[number % len(self.nodes)]
            self.tasks.append(asyncio.create_task(self.again(self.member, node, number)))

    async def stop(self):
        """Everybody ends. Fails if somebody failed in another way than that of a network."""
        for task in self.tasks:
            task.cancel()
        for end in await asyncio.gather(*self.tasks, return_exceptions=True):
            if not isinstance(end, asyncio.CancelledError):
                raise end
        for deaf in self.deaf:
            deaf.close()

    async def again(self, doing, node, number):
        """Does it until the end. A node that stops takes nobody away for good."""
        while True:
            try:
                await asyncio.wait_for(doing(node, number), 30)
            except (OSError, WebSocketException, TimeoutError):
                pass
            await asyncio.sleep(PAUSE_SECONDS)

    async def member(self, node, number):
        """Somebody in a room, who now and then asks for this and that, and leaves in the end."""
        protocol = "?format=protobuf" if number % 12 == 11 else ""
        async with connect(node.public("/connection/websocket" + protocol)) as client:
            if protocol:
                # A connection that says nothing is closed as stale; it was one of this protocol.
                return await asyncio.sleep(2)
            await say(client, connect={"token": token(f"member-{number}")})
            room = f"room-{number % 4}"
            await say(client, subscribe={"channel": room})
            listening = asyncio.create_task(listen(client))
            for turn in range(random.randrange(5, 20)):
                await tell(client, publish={"channel": room, "data": {"turn": turn}})
                await tell(client, presence={"channel": room})
                await tell(client, presence_stats={"channel": room})
                await tell(client, history={"channel": "kept:a", "limit": 1})
                # What nobody may.
                await tell(client, subscribe={"channel": "nowhere:a"})
                await tell(client, rpc={"method": "a"})
                await asyncio.sleep(PAUSE_SECONDS)
            await tell(client, unsubscribe={"channel": room})
            listening.cancel()

    async def publisher(self, node, _):
        """A back end at work."""
        for turn in range(20):
            await call(node, "publish", {"channel": f"room-{turn % 4}", "data": turn})
            await call(node, "publish", {"channel": "kept:a", "data": turn, "idempotency_key": f"key-{turn // 2}-{id(node)}"})
            await call(node, "broadcast", {"channels": ["room-0", "kept:b"], "data": turn})
            publish = {"publish": {"channel": "room-1", "data": turn}}
            await call(node, "batch", {"commands": [publish, publish]})
            for channel in ["large", "oldest:a", "latest:a"]:
                await call(node, "publish", {"channel": channel, "data": LARGE})
        for method, request in [
            ("info", {}), ("channels", {}), ("presence", {"channel": "room-0"}), ("presence_stats", {"channel": "room-0"}),
            ("history", {"channel": "kept:a"}), ("subscribe", {"user": "member-1", "channel": "news"}),
            ("unsubscribe", {"user": "member-1", "channel": "news"}), ("disconnect", {"user": "member-2"}),
            ("refresh", {"user": "member-3", "expire_at": int(time.time()) + 600}),
            ("revocations", {"user": "nobody", "expire_at": int(time.time()) + 600}),
        ]:
            await call(node, method, request)

    async def erring_back_end(self, node, _):
        """One that is wrong about everything."""
        await call(node, "publish", {"channel": "nowhere:a", "data": 1})
        await call(node, "publish", {"channel": "room-0"})
        await call(node, "publish", {"channel": "room-0", "data": 1}, key="wrong")
        await call(node, "history", {"channel": "room-0"})

    async def returner(self, node, _):
        """Comes back to a history: right away, and with a position that nobody knows."""
        async with connect(node.public("/connection/websocket")) as client:
            await say(client, connect={"token": token("returner")})
            begun = (await say(client, subscribe={"channel": "kept:a"}))["subscribe"]
            await say(client, unsubscribe={"channel": "kept:a"})
            position = {"offset": max(begun.get("offset", 0) - 3, 0), "epoch": begun["epoch"]}
            await say(client, subscribe={"channel": "kept:a", "recover": True, **position})
            await say(client, unsubscribe={"channel": "kept:a"})
            lost = {"offset": 1, "epoch": "gone"}
            await say(client, subscribe={"channel": "kept:a", "recover": True, **lost})

    async def stranger(self, node, _):
        """Whoever is not let in."""
        for query in [f"?token={token('late', -60)}", "?token=nonsense", f"?token={token('x', secret='not it')}"]:
            await refused(node.public(f"/ws{query}&channels=room-0"))
        await refused(node.public(f"/ws?token={token('page')}"), origin="https://evil.example.com")
        async with connect(node.public("/connection/websocket")) as client:
            await client.send('{"id":1,"connect":{"token":"nonsense"}}')
            await client.wait_closed()
        async with connect(node.public("/connection/websocket")) as client:
            await client.send("garbage")
            await client.wait_closed()
        # More than anybody may have.
        async with connect(node.public("/connection/websocket")) as client:
            await say(client, connect={"token": token("greedy")})
            for extra in range(CHANNELS_MAX + 1):
                await say(client, subscribe={"channel": f"extra-{extra}"})

    async def glutton(self, node, _):
        """Clients that take nothing of what they asked for, until they are closed or have lost enough."""
        deaf = [await asyncio.to_thread(open_and_read_nothing, node, channel)
                for channel in ["large", "oldest:a", "latest:a"]]
        self.deaf += deaf
        await asyncio.sleep(HOLD_SECONDS)
        for one in deaf:
            self.deaf.remove(one)
            one.close()


def open_and_read_nothing(node, channel):
    """A socket with the least room that there is, subscribed."""
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.settimeout(10)
    deaf.connect(("127.0.0.1", node.public_port))
    head = [f"GET /ws?token={token('deaf')}&channels={channel} HTTP/1.1", "Host: 127.0.0.1", "Connection: Upgrade",
            "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "", ""]
    deaf.sendall("\r\n".join(head).encode())
    return deaf


async def call(node, method, request, **more):
    """Calls the server API, whatever comes of it."""
    return await asyncio.to_thread(node.api, method, request, **more)


async def refused(url, **more):
    """Asks for a connection that there is none for."""
    try:
        async with connect(url, **more):
            raise AssertionError(f"{url} is let in")
    except (OSError, WebSocketException):
        pass


async def tell(client, **command):
    """Says something; whoever listens hears the answer."""
    await client.send(json.dumps({"id": random.randrange(2, 1 << 30), **command}))


async def say(client, **command):
    """Says something and waits for the answer to it."""
    number = random.randrange(2, 1 << 30)
    await client.send(json.dumps({"id": number, **command}))
    while True:
        for line in (await client.recv()).split("\n"):
            if line == "{}":
                await client.send("{}")
            elif json.loads(line).get("id") == number:
                return json.loads(line)


async def listen(client):
    """Answers pings, and forgets the rest, until the connection ends, however that is."""
    try:
        async for text in client:
            if "{}" in text.split("\n"):
                await client.send("{}")
    except WebSocketException:
        pass


def scrape(node):
    """The metrics of a node as they are."""
    return fetch(node.internal("/metrics"))[1]
