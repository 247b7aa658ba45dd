"""Subscribers that stop reading: k6 takes whatever comes, so these are sockets of our own."""

import base64
import hashlib
import hmac
import json
import socket
import struct
import time

# What the kernel keeps for a socket that nobody reads: as little as it allows.
RECEIVE_BUFFER_BYTES = 4096


class Stalled:
    """`count` clients that subscribe to `channel` and read nothing from then on. Leaving the block closes them."""

    def __init__(self, port, secret, channel, count):
        self._sockets = [self._subscriber(port, secret, channel, index) for index in range(count)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for line in self._sockets:
            line.close()

    @staticmethod
    def _subscriber(port, secret, channel, index):
        line = socket.socket()
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        line.settimeout(10)
        line.connect(("127.0.0.1", port))
        head = (f"GET /connection/websocket HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\n"
                "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
        line.sendall(head.encode())
        _read_until(line, b"\r\n\r\n")
        connect = {"id": 1, "connect": {"token": token(secret, f"stalled-{index}")}}
        subscribe = {"id": 2, "subscribe": {"channel": channel}}
        line.sendall(_text(f"{json.dumps(connect)}\n{json.dumps(subscribe)}"))
        _read_until(line, b'"subscribe":')
        return line


def _read_until(line, what):
    seen = b""
    while what not in seen:
        piece = line.recv(4096)
        if not piece:
            raise ConnectionError(f"the gateway ends the connection, after {seen[-200:]!r}")
        seen += piece


def _text(text):
    """A text frame of a client (RFC 6455 §5.2), masked with zeros."""
    data = text.encode()
    length = bytes([0x80 | len(data)]) if len(data) < 126 else bytes([0x80 | 126]) + struct.pack(">H", len(data))
    return b"\x81" + length + bytes(4) + data


def token(secret, user):
    """A connection token (RFC 7519, HS256)."""
    def encode(part):
        return base64.urlsafe_b64encode(part).rstrip(b"=")

    claims = {"sub": user, "exp": int(time.time()) + 3600}
    signed = b".".join(encode(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
    return (signed + b"." + encode(hmac.digest(secret.encode(), signed, hashlib.sha256))).decode()
