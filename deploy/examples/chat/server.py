"""The back end of a small chat: it signs people in, gives them tokens, and publishes what they say.

A page only listens to the gateway. What somebody writes comes here first, where it can be checked, kept or refused.
"""

import json
import os
import secrets
import sys
import time
import urllib.error
import urllib.request
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jwt

ROOMS = ["lobby", "kitchen", "garden"]
TOKEN_SECONDS = 600
BODY_BYTES_MAX = 16_384
SESSIONS_MAX = 10_000


def required(name: str, what: str) -> str:
    """The variable of the environment, or the end: a default would be a secret that everybody knows."""
    value = os.environ.get(name)
    if not value:
        sys.exit(f"server.py: {name} is not set: {what}")
    return value


TOKEN_SECRET = required("TOKEN_SECRET", "the secret that signs tokens, the gateway's client.token.hmac_secret_key")
API_KEY = required("API_KEY", "the key for publishing, one of the gateway's api.keys")
API_URL = os.environ.get("API_URL", "http://127.0.0.1:9000")
GATEWAY_URL = os.environ.get("GATEWAY_URL", "ws://127.0.0.1:8000")
PORT = int(os.environ.get("PORT", "8080"))

HERE = Path(__file__).parent
FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/chat.js": ("chat.js", "text/javascript"),
    "/style.css": ("style.css", "text/css"),
    "/centrifuge.js": ("node_modules/centrifuge/dist/centrifuge.js", "text/javascript"),
}
POLICY = (
    f"default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self' {GATEWAY_URL}; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

# Who is signed in: the value of the cookie and the name. A real back end has users with passwords, and a database.
sessions: dict[str, str] = {}


class Refused(Exception):
    """Ends a request with `status` and a sentence for the person."""

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status = status


def text(body: dict, field: str, longest: int) -> str:
    value = body.get(field)
    if not isinstance(value, str) or not 1 <= len(value.strip()) <= longest:
        raise Refused(400, f"{field}: 1 to {longest} characters, please.")
    return value.strip()


def publish(channel: str, data: dict) -> None:
    """Publishes by the server API of the gateway. Its errors come with status 200."""
    request = urllib.request.Request(
        f"{API_URL}/api/publish",
        data=json.dumps({"channel": channel, "data": data}).encode(),
        headers={"Content-Type": "application/json", "X-API-Key": API_KEY},
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            reply = json.load(response)
    except (OSError, ValueError) as error:
        reply = {"error": {"message": str(error)}}
    if "error" in reply:
        print(f"server.py: not published: {reply['error']['message']}", file=sys.stderr)
        raise Refused(502, "That was not sent. Please try again.")


def me(user: str | None) -> dict:
    return {"user": user, "rooms": ROOMS, "gateway": GATEWAY_URL} if user else {}


def token(user: str) -> dict:
    """What the page connects with. The SDK asks for a new one before this one ends."""
    claims = {"sub": user, "exp": int(time.time()) + TOKEN_SECONDS}
    return {"token": jwt.encode(claims, TOKEN_SECRET, algorithm="HS256")}


def say(user: str, body: dict) -> dict:
    room = body.get("room")
    if room not in ROOMS:
        raise Refused(404, "There is no such room.")
    publish(f"room:{room}", {"from": user, "text": text(body, "text", 2000), "at": int(time.time() * 1000)})
    return {}


class Handler(BaseHTTPRequestHandler):
    timeout = 10  # Seconds, for a client that sends nothing.

    def do_GET(self):
        if self.path in FILES:
            self.send_file(*FILES[self.path])
        else:
            self.answer({"/me": lambda: me(self.signed_in()), "/token": lambda: token(self.user())})

    def do_POST(self):
        self.answer({"/login": lambda: self.sign_in(text(self.body(), "name", 40)), "/say": lambda: say(self.user(), self.body())})

    def answer(self, routes: dict):
        try:
            if self.path not in routes:
                raise Refused(404, "There is nothing here.")
            self.send_json(200, routes[self.path]())
        except Refused as refusal:
            self.send_json(refusal.status, {"error": str(refusal)})

    def sign_in(self, name: str) -> dict:
        """Believes the name: put your own login here."""
        self.session = secrets.token_urlsafe(32)
        sessions[self.session] = name
        while len(sessions) > SESSIONS_MAX:
            sessions.pop(next(iter(sessions)))  # The oldest.
        return me(name)

    def signed_in(self) -> str | None:
        cookie = SimpleCookie(self.headers.get("Cookie", "")).get("session")
        return sessions.get(cookie.value) if cookie else None

    def user(self) -> str:
        user = self.signed_in()
        if user is None:
            raise Refused(401, "Please sign in.")
        return user

    def body(self) -> dict:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > BODY_BYTES_MAX:
            raise Refused(413, "That is too long.")
        try:
            body = json.loads(self.rfile.read(int(length)))
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise Refused(400, "A JSON object, please.")
        return body

    def send_json(self, status: int, value: dict):
        cookie = getattr(self, "session", None)
        # Not for scripts, and not sent by the pages of others.
        headers = {"Set-Cookie": f"session={cookie}; HttpOnly; SameSite=Strict; Path=/"} if cookie else {}
        self.send(status, json.dumps(value).encode(), "application/json", {**headers, "Cache-Control": "no-store"})

    def send_file(self, name: str, kind: str):
        self.send(200, (HERE / name).read_bytes(), kind, {"Content-Security-Policy": POLICY})

    def send(self, status: int, content: bytes, kind: str, headers: dict):
        self.send_response(status)
        for name, value in {**headers, "Content-Type": kind, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass  # Nothing of each request: what fails says so itself.


if __name__ == "__main__":
    if not (HERE / FILES["/centrifuge.js"][0]).exists():
        sys.exit("server.py: the SDK for the page is missing: ./install.sh brings it")
    server = ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
    print(f"The chat is at http://127.0.0.1:{server.server_port}/", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
