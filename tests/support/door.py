"""A door in front of the real registry, which lets in those who say the right name and password."""

from __future__ import annotations

import base64
import binascii
import contextlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests
from serving import answering


class Door(ThreadingHTTPServer):
    """`accepts` is given `NAME:PASSWORD`, `asked` has the paths, and whether who asked was let in."""

    daemon_threads = True

    def __init__(self, registry: str, accepts: Callable[[str], bool], port: int) -> None:
        super().__init__(("127.0.0.1", port), _Visit)
        self.registry = registry
        self.accepts = accepts
        self.asked: list[tuple[str, bool]] = []

    @property
    def name(self) -> str:
        """What images behind it have as their registry."""
        return f"127.0.0.1:{self.server_address[1]}"


class _Visit(BaseHTTPRequestHandler):
    server: Door
    timeout = 30

    def do_GET(self) -> None:
        let_in = self.server.accepts(_login(self.headers.get("Authorization", "")))
        self.server.asked.append((self.path, let_in))
        if not let_in:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="private"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        accept = {"Accept": self.headers.get("Accept", "*/*")}
        url = f"http://{self.server.registry}{self.path}"
        answer = requests.request(self.command, url, headers=accept, timeout=30)
        self.send_response(answer.status_code)
        for name in ("Content-Type", "Docker-Content-Digest", "Content-Length"):
            if name in answer.headers:
                self.send_header(name, answer.headers[name])
        self.end_headers()
        self.wfile.write(answer.content)

    do_HEAD = do_GET  # noqa: N815  http.server's name for it

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing: what was asked is kept."""


def _login(header: str) -> str:
    scheme, _, encoded = header.partition(" ")
    try:
        return base64.b64decode(encoded, validate=True).decode() if scheme == "Basic" else ""
    except (binascii.Error, UnicodeDecodeError):
        return ""


@contextlib.contextmanager
def door_to(registry: str, accepts: Callable[[str], bool], port: int = 0) -> Iterator[Door]:
    """One in threads of its own, which end with the block; at any port, or that one. Raises OSError."""
    door = Door(registry, accepts, port)
    with answering(door):
        yield door
